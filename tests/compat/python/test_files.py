"""Files and uploads: of all kinds of sources, large ones, in parts; read whole, streamed, by range."""

import array
import hashlib
import io
from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI

MIB = 1 << 20


def pattern(size: int) -> bytes:
    """Bytes of which no two places look alike."""
    return array.array("Q", range(size // 8)).tobytes()


async def test_a_file_comes_back_as_it_was(client: AsyncOpenAI) -> None:
    data = bytes(range(256)) * 1000
    made = await client.files.create(file=("dätei.bin", data), purpose="user_data")
    assert (made.bytes, made.filename, made.purpose) == (256_000, "dätei.bin", "user_data")
    assert await client.files.retrieve(made.id) == made
    assert (await client.files.wait_for_processing(made.id)).status == "processed"
    assert (await client.files.content(made.id)).content == data
    assert (await client.files.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(made.id)


async def test_files_from_each_kind_of_source(client: AsyncOpenAI, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"a": 1}\n')
    for source in (path, io.BytesIO(b'{"a": 1}\n'), ("name.txt", b'{"a": 1}\n', "text/plain", {"x-part": "header"})):
        made = await client.files.create(file=source, purpose="assistants")
        assert made.bytes == 9
    empty = await client.files.create(file=("empty", b""), purpose="user_data")
    assert (await client.files.content(empty.id)).content == b""


async def test_files_are_listed_in_pages(client: AsyncOpenAI) -> None:
    made = [(await client.files.create(file=(f"{n}", b"x"), purpose="vision")).id for n in range(5)]
    page = await client.files.list(limit=2, purpose="vision")
    assert [file.id for file in page.data] == made[:2:-1]
    assert page.has_next_page()
    following = await page.get_next_page()
    assert [file.id for file in following.data] == made[2:0:-1]
    listed = [file.id async for file in client.files.list(limit=2, purpose="vision")]
    assert listed[:5] == made[::-1]


async def test_a_large_file_goes_up_and_down(client: AsyncOpenAI, tmp_path: Path) -> None:
    source, target = tmp_path / "up", tmp_path / "down"
    source.write_bytes(pattern(32 * MIB))
    made = await client.files.create(file=source, purpose="user_data")
    assert made.bytes == 32 * MIB
    async with client.files.with_streaming_response.content(made.id) as response:
        assert response.headers["content-length"] == str(32 * MIB)
        await response.stream_to_file(target)
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(source.read_bytes()).digest()


async def test_a_part_of_a_file(client: AsyncOpenAI) -> None:
    data = pattern(4096)
    made = await client.files.create(file=("a", data), purpose="batch")
    part = await client.files.content(made.id, extra_headers={"range": "bytes=100-199"})
    assert part.response.status_code == 206
    assert part.response.headers["content-range"] == "bytes 100-199/4096"
    assert part.content == data[100:200]
    with pytest.raises(openai.APIStatusError) as caught:
        await client.files.content(made.id, extra_headers={"range": "bytes=5000-"})
    assert caught.value.status_code == 416


async def test_uploads_in_parts(client: AsyncOpenAI, tmp_path: Path) -> None:
    path = tmp_path / "whole.bin"
    path.write_bytes(pattern(20 * MIB))
    upload = await client.uploads.upload_file_chunked(
        file=path, mime_type="application/octet-stream", purpose="user_data", part_size=6 * MIB
    )
    assert upload.status == "completed"
    assert upload.file is not None
    content = await client.files.content(upload.file.id)
    assert content.content == path.read_bytes()


async def test_an_upload_step_by_step(client: AsyncOpenAI) -> None:
    upload = await client.uploads.create(bytes=6, filename="a.txt", mime_type="text/plain", purpose="batch")
    parts = [await client.uploads.parts.create(upload.id, data=io.BytesIO(text)) for text in (b"456", b"123")]
    checksum = hashlib.md5(b"123456").hexdigest()
    done = await client.uploads.complete(upload.id, part_ids=[part.id for part in parts[::-1]], md5=checksum)
    assert done.file is not None
    assert (await client.files.content(done.file.id)).content == b"123456"


async def test_an_upload_is_cancelled(client: AsyncOpenAI) -> None:
    upload = await client.uploads.create(bytes=10, filename="a", mime_type="text/plain", purpose="batch")
    assert (await client.uploads.cancel(upload.id)).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        await client.uploads.parts.create(upload.id, data=io.BytesIO(b"123"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_text_by_the_older_method(client: AsyncOpenAI) -> None:
    made = await client.files.create(file=("a.txt", "Größe".encode()), purpose="user_data")
    assert await client.files.retrieve_content(made.id) == "Größe"
