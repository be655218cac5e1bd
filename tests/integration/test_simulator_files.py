"""The simulator's files, uploads and batches, through the official client in its strict mode."""

import hashlib
import io
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from openai.types import Batch

from gateway.simulator import tokens
from gateway.simulator.options import SimulatorOptions
from tests.unit.simulator.kit import Simulation, simulation

MIB = 1 << 20


@pytest.fixture
async def sim() -> AsyncIterator[Simulation]:
    async with simulation() as running:
        yield running


async def test_a_file_comes_back_as_it_was(sim: Simulation) -> None:
    client = sim.client()
    data = bytes(range(256)) * 1000
    made = await client.files.create(file=("data.bin", data), purpose="user_data")
    assert (made.bytes, made.filename, made.purpose, made.status) == (256_000, "data.bin", "user_data", "processed")
    assert await client.files.retrieve(made.id) == made
    content = await client.files.content(made.id)
    assert content.content == data
    record = await sim.last()
    assert (record.operation, record.bytes_sent) == ("downloadFile", 256_000)
    assert (await client.files.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError) as caught:
        await client.files.retrieve(made.id)
    assert caught.value.message.endswith(f"No such File object: {made.id}")


@pytest.mark.parametrize(
    ("span", "first", "end"),
    [("bytes=0-9", 0, 10), ("bytes=90-", 90, 100), ("bytes=-7", 93, 100), ("bytes=50-500", 50, 100)],
)
async def test_parts_of_a_file(sim: Simulation, span: str, first: int, end: int) -> None:
    data = bytes(range(100))
    made = await sim.client().files.create(file=("a", data), purpose="batch")
    url = f"{sim.url}/v1/files/{made.id}/content"
    async with sim.session.get(url, headers=sim.headers | {"range": span}) as response:
        assert response.status == 206
        assert response.headers["content-range"] == f"bytes {first}-{end - 1}/100"
        assert await response.read() == data[first:end]
    async with sim.session.get(url, headers=sim.headers | {"range": "bytes=100-"}) as response:
        assert (response.status, response.headers["content-range"]) == (416, "bytes */100")


async def test_files_are_listed_in_pages(sim: Simulation) -> None:
    client = sim.client()
    made = [await client.files.create(file=(f"{n}", b"x"), purpose="batch" if n % 2 else "vision") for n in range(6)]
    ids = [file.id for file in made]
    assert [file.id async for file in client.files.list(limit=2)] == ids[::-1]
    assert [file.id async for file in client.files.list(limit=2, order="asc")] == ids
    assert [file.id async for file in client.files.list(purpose="batch")] == ids[5::-2]
    page = await client.files.list(limit=2, after=ids[3])
    assert [file.id for file in page.data] == [ids[2], ids[1]]
    assert page.has_more


async def test_wrong_files(sim: Simulation) -> None:
    client = sim.client()
    with pytest.raises(openai.BadRequestError) as caught:
        await client.files.create(file=("a", b"x"), purpose="nonsense")  # type: ignore[arg-type]
    assert caught.value.param == "purpose"
    status, _, body = await sim.post("/files", {"purpose": "batch"})
    assert (status, body["error"]["param"]) == (400, "file")


async def test_large_files_go_to_disk_piece_by_piece(sim: Simulation) -> None:
    size, piece = 200 * MIB, bytes(MIB)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(size // MIB):
            yield piece

    form = aiohttp.FormData()
    form.add_field("purpose", "user_data")
    form.add_field("file", pieces(), filename="big.bin", content_type="application/octet-stream")
    before = peak_kib()
    async with sim.session.post(f"{sim.url}/v1/files", data=form, headers=sim.headers) as response:
        made = await response.json()
    assert made["bytes"] == size
    read = 0
    async with sim.session.get(f"{sim.url}/v1/files/{made['id']}/content", headers=sim.headers) as response:
        async for part in response.content.iter_any():
            read += len(part)
    assert read == size
    assert peak_kib() - before < 60 * 1024


def peak_kib() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


async def test_uploads_are_put_together(sim: Simulation) -> None:
    data = b"".join(n.to_bytes(4, "big") for n in range(400_000))

    def work(client: openai.OpenAI) -> Any:
        return client.uploads.upload_file_chunked(
            file=data,
            filename="whole.bin",
            bytes=len(data),
            mime_type="application/octet-stream",
            purpose="user_data",
            part_size=600_000,
            md5=hashlib.md5(data).hexdigest(),
        )

    upload = await sim.threaded(work)
    assert (upload.status, upload.file.bytes, upload.file.filename) == ("completed", len(data), "whole.bin")
    assert (await sim.client().files.content(upload.file.id)).content == data


async def test_uploads_that_are_wrong_or_cancelled(sim: Simulation) -> None:
    client = sim.client()
    upload = await client.uploads.create(bytes=10, filename="a", mime_type="text/plain", purpose="batch")
    assert upload.status == "pending"
    part = await client.uploads.parts.create(upload.id, data=io.BytesIO(b"123"))
    assert part.upload_id == upload.id
    with pytest.raises(openai.BadRequestError):
        await client.uploads.complete(upload.id, part_ids=[part.id])
    with pytest.raises(openai.NotFoundError):
        await client.uploads.complete(upload.id, part_ids=["part_unknown"])
    assert (await client.uploads.cancel(upload.id)).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        await client.uploads.parts.create(upload.id, data=io.BytesIO(b"123"))


def chat_line(custom_id: str, model: str = "gpt-4o-mini+tokens=7", **body: Any) -> Any:
    asked = {"model": model, "messages": [{"role": "user", "content": f"Hello from {custom_id}"}]}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": asked | body}


async def started(sim: Simulation, lines: Iterable[Any], endpoint: Any = "/v1/chat/completions", **extra: Any) -> Batch:
    client = sim.client()
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    file = await client.files.create(file=("in.jsonl", text.encode()), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", metadata={"a": "b"}, **extra
    )


async def finished(sim: Simulation, batch: Batch) -> Batch:
    await sim.records()
    return await sim.client().batches.retrieve(batch.id)


async def output(sim: Simulation, file_id: str | None) -> list[Any]:
    assert file_id is not None
    return [json.loads(line) for line in (await sim.client().files.content(file_id)).text.splitlines()]


async def test_a_batch_runs(sim: Simulation) -> None:
    lines = [chat_line(f"task-{n}") for n in range(20)] + [
        chat_line("bad", model="nope"),
        chat_line("down", "gpt-4o+500"),
    ]
    batch = await started(sim, lines)
    assert (batch.status, batch.request_counts and batch.request_counts.total) == ("validating", 0)
    done = await finished(sim, batch)
    assert done.status == "completed"
    assert done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (22, 20, 2)
    assert (done.model, done.metadata) == ("gpt-4o-mini", {"a": "b"})
    results = await output(sim, done.output_file_id)
    assert [row["custom_id"] for row in results] == [f"task-{n}" for n in range(20)]
    bodies = [row["response"]["body"] for row in results]
    assert all(tokens.count(body["choices"][0]["message"]["content"]) == 7 for body in bodies)
    failures = await output(sim, done.error_file_id)
    assert [(row["custom_id"], row["response"]["status_code"]) for row in failures] == [("bad", 404), ("down", 500)]
    assert done.usage is not None
    assert done.usage.output_tokens == 140
    assert done.usage.total_tokens == sum(body["usage"]["total_tokens"] for body in bodies)


async def test_each_line_of_a_batch_is_in_the_book(sim: Simulation) -> None:
    batch = await started(sim, [chat_line("one"), chat_line("two"), chat_line("off", "gpt-4o+503")])
    records = [record for record in await sim.records() if record.batch]
    assert [(r.transport, r.operation, r.parent) for r in records] == [("batch", "createChatCompletion", batch.id)] * 3
    assert [(r.status, r.ended, r.usage.output_tokens) for r in records] == [
        (200, "complete", 7),
        (200, "complete", 7),
        (503, "error", 0),
    ]
    results = await output(sim, (await finished(sim, batch)).output_file_id)
    assert [row["response"]["request_id"] for row in results] == [record.request_id for record in records[:2]]
    created = next(record for record in await sim.records() if record.operation == "createBatch")
    assert (created.object_id, created.usage.total_tokens) == (batch.id, 0)


@pytest.mark.parametrize(
    ("lines", "code", "line"),
    [
        (["not json"], "invalid_json_line", 1),
        ([chat_line("a"), chat_line("a")], "duplicate_custom_id", 2),
        ([chat_line("a") | {"url": "/v1/embeddings"}], "mismatched_endpoint", 1),
        ([{"custom_id": "a"}], "missing_required_parameter", 1),
        ([], "empty_file", None),
    ],
)
async def test_a_batch_of_nonsense_fails(sim: Simulation, lines: list[Any], code: str, line: int | None) -> None:
    batch = await finished(sim, await started(sim, lines))
    assert batch.status == "failed"
    assert batch.errors is not None
    found = (batch.errors.data or [])[0]
    assert (found.code, found.line) == (code, line)
    assert batch.failed_at is not None


async def test_a_batch_is_cancelled(sim: Simulation) -> None:
    batch = await started(sim, [chat_line(f"{n}", "gpt-4o+tokens=3+delay=20ms") for n in range(200)])
    client = sim.client()
    while batch.request_counts is None or batch.request_counts.completed < 3:
        batch = await client.batches.retrieve(batch.id)
    assert (await client.batches.cancel(batch.id)).status == "cancelling"
    done = await finished(sim, batch)
    assert done.status == "cancelled"
    assert done.request_counts is not None
    assert 3 <= done.request_counts.completed < 200
    assert len(await output(sim, done.output_file_id)) == done.request_counts.completed
    with pytest.raises(openai.ConflictError):
        await client.batches.cancel(batch.id)


async def test_a_batch_is_cancelled_while_it_is_validated(sim: Simulation) -> None:
    batch = await started(sim, [chat_line(f"{n}", "gpt-4o+tokens=3+delay=1s") for n in range(10_000)])
    assert (await sim.client().batches.cancel(batch.id)).status == "cancelling"
    assert (await finished(sim, batch)).status == "cancelled"


async def test_a_batch_expires_half_way(sim: Simulation) -> None:
    lines = [chat_line(f"{n}") for n in range(6)]
    batch = await finished(sim, await started(sim, lines, extra_headers={"x-simulator-fault": "expire"}))
    assert batch.status == "expired"
    assert len(await output(sim, batch.output_file_id)) == 3
    assert {row["error"]["code"] for row in await output(sim, batch.error_file_id)} == {"batch_expired"}


async def test_batches_of_embeddings_and_lists(sim: Simulation) -> None:
    line = {"custom_id": "e", "method": "POST", "url": "/v1/embeddings"}
    body = {"model": "text-embedding-3-small", "input": "some text"}
    first = await started(sim, [line | {"body": body}], "/v1/embeddings")
    second = await started(sim, [line | {"body": body}], "/v1/embeddings")
    done = await finished(sim, first)
    assert done.usage is not None
    assert done.usage.input_tokens == done.usage.total_tokens == tokens.count("some text")
    assert [batch.id async for batch in sim.client().batches.list(limit=1)] == [second.id, first.id]


async def test_a_stopped_simulator_leaves_nothing_behind(tmp_path: Path) -> None:
    async with simulation(SimulatorOptions(step_s=10)) as sim:
        await started(sim, [chat_line("a")])
    async with simulation(SimulatorOptions(data=tmp_path)) as sim:
        await sim.client().files.create(file=("a", b"kept"), purpose="batch")
    assert [path.read_bytes() for path in (tmp_path / "files").iterdir()] == [b"kept"]
    assert not list((tmp_path / "incoming").iterdir())
