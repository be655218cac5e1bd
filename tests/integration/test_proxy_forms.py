"""Multipart bodies: the model is found wherever it stands, and the rest streams by."""

import pytest

from tests.fakes.upstream import upstream
from tests.fakes.wire import chunk, until
from tests.fakes.worker import Gateway, Response, gateway, request

BOUNDARY = b"----boundary4711"
KIND = b"Content-Type: multipart/form-data; boundary=" + BOUNDARY
END = b"--" + BOUNDARY + b"--\r\n"
TRANSCRIBE = "/v1/audio/transcriptions"
MIB = 1024 * 1024


def part(name: bytes, value: bytes, more: bytes = b"") -> bytes:
    return (
        b"--"
        + BOUNDARY
        + b'\r\nContent-Disposition: form-data; name="'
        + name
        + b'"'
        + more
        + b"\r\n\r\n"
        + value
        + b"\r\n"
    )


def file(size: int) -> bytes:
    return part(b"file", b"RIFF" + bytes(range(256)) * (size // 256), b'; filename="a.wav"\r\nContent-Type: audio/wav')


MODEL = part(b"model", b"alias")
SMALL = [part(b"model", b"alias") + file(1000) + END, file(1000) + part(b"model", b"alias") + part(b"x[]", b"1") + END]
ROUTES = [
    {"models": ["alias"], "upstreams": [{"upstream": "main", "upstream_model": "whisper-large-v3"}]},
    {"models": ["*"], "upstreams": ["main"]},
]


async def send(gw: Gateway, body: bytes, *, chunks: int = 0) -> Response:
    client = await gw.connect()
    if chunks:
        pieces = b"".join(chunk(body[at : at + chunks]) for at in range(0, len(body), chunks)) + b"0\r\n\r\n"
        await client.send_all(request("POST", TRANSCRIBE, pieces, KIND, b"Transfer-Encoding: chunked", length=False))
    else:
        await client.send_all(request("POST", TRANSCRIBE, body, KIND))
    return await client.response()


@pytest.mark.parametrize("chunks", [0, 7, 4096])
@pytest.mark.parametrize("number", [0, 1])
async def test_as_it_came(number: int, chunks: int) -> None:
    body = SMALL[number]
    async with upstream() as up, gateway(up) as gw:
        assert (await send(gw, body, chunks=chunks)).status == 200
        assert up.last.body == body
        assert up.last.header(b"content-type") == KIND[14:]
        assert up.last.header(b"content-length") == (None if chunks else b"%d" % len(body))
        line = gw.access[0]
        assert (line["model"], line["bytes_in"], line["operation"]) == ("alias", len(body), "createTranscription")


@pytest.mark.parametrize("chunks", [0, 4096])
@pytest.mark.parametrize("number", [0, 1])
async def test_with_another_name_for_the_model(number: int, chunks: int) -> None:
    body = SMALL[number]
    async with upstream() as up, gateway(up, routes=ROUTES) as gw:
        assert (await send(gw, body, chunks=chunks)).status == 200
        renamed = body.replace(MODEL, part(b"model", b"whisper-large-v3"))
        assert up.last.body == renamed
        assert up.last.header(b"content-length") == (None if chunks else b"%d" % len(renamed))


async def test_the_model_after_a_large_file() -> None:
    body = file(10 * MIB) + MODEL + END
    async with upstream() as up, gateway(up, routes=ROUTES) as gw:
        assert (await send(gw, body)).status == 200
        assert up.last.body == body.replace(MODEL, part(b"model", b"whisper-large-v3"))


async def test_a_large_file_after_the_model_is_not_held() -> None:
    most = 0

    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        body = MODEL + file(32 * MIB) + END
        client.send(request("POST", TRANSCRIBE, None, KIND, b"Content-Length: %d" % len(body)))
        for at in range(0, len(body), 1 << 20):
            await client.send_all(body[at : at + (1 << 20)])
            most = max(most, gw.budget_used)
        assert (await client.response()).status == 200
        assert up.last.body == body
        assert most < 2 * MIB


async def test_a_model_too_far_behind() -> None:
    async with upstream() as up, gateway(up, bodies={"form_search_mib": 1}) as gw:
        found = await send(gw, file(2 * MIB) + MODEL + END)
        assert found.status == 400
        assert "field 'model'" in found.error["message"]
        assert not up.requests
        assert (await send(gw, file(MIB // 2) + MODEL + END)).status == 200


async def test_no_model_is_for_the_upstream_to_complain_about() -> None:
    async with upstream() as up, gateway(up, routes=ROUTES) as gw:
        body = file(1000) + END
        assert (await send(gw, body)).status == 200
        assert up.last.body == body


async def test_two_models_before_anything_went_up() -> None:
    async with upstream() as up, gateway(up) as gw:
        found = await send(gw, MODEL + MODEL + file(100) + END)
        assert (found.status, found.error["code"]) == (400, "duplicate_member")
        await up.emptied()


async def test_a_second_model_behind_a_large_file_stops_the_request() -> None:
    async with upstream() as up, gateway(up) as gw:
        found = await send(gw, MODEL + file(8 * MIB) + MODEL + END)
        assert (found.status, found.error["code"]) == (400, "duplicate_member")
        await up.emptied()
        assert not up.requests[0].complete


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"Content-Type: application/x-www-form-urlencoded", b"model=whisper-1"),
        (b"Content-Type: multipart/form-data", SMALL[0]),
        (b"Content-Type: multipart/form-data; boundary=" + b"x" * 200, SMALL[0]),
        (KIND, b"no form"),
        (KIND, file(100)),
    ],
)
async def test_forms_that_cannot_be_read(kind: bytes, body: bytes) -> None:
    async with upstream() as up, gateway(up) as gw:
        found = await gw.ask(TRANSCRIBE, body, kind)
        assert (found.status, found.error["type"]) == (400, "invalid_request_error")
        assert not up.requests


@pytest.mark.parametrize(
    "kinds",
    [
        [KIND, b"Content-Type: multipart/form-data; boundary=other"], [KIND, b"Content-Type: application/json"],
        [b"Content-Type: multipart/form-data; boundary=other; boundary=" + BOUNDARY], [b"Content-Type: multipart/form-data; boundary=\xe9"],
    ],
)  # fmt: skip
async def test_a_form_whose_boundary_could_be_read_in_two_ways(kinds: list[bytes]) -> None:
    """What the gateway takes for the end of a part must be that for the upstream too, or each sees another model."""
    async with upstream() as up, gateway(up, routes=ROUTES) as gw:
        found = await gw.ask(TRANSCRIBE, SMALL[0], *kinds)
        assert (found.status, found.error["type"]) == (400, "invalid_request_error")
        assert not up.requests


async def test_a_compressed_form_cannot_be_looked_into() -> None:
    async with upstream() as up, gateway(up) as gw:
        assert (await gw.ask(TRANSCRIBE, SMALL[0], KIND, b"Content-Encoding: gzip")).status == 415
        assert not up.requests


async def test_forms_without_a_model_stream_by_unread() -> None:
    async with upstream() as up, gateway(up) as gw:
        body = b"whatever this is"
        assert (await gw.ask("/v1/files", body, KIND)).status == 200
        assert up.last.body == body
        assert (await gw.ask("/v1/images/edits", b'{"model":"m"}')).status == 200
        assert gw.access[-1]["model"] == "m"


async def test_what_is_held_is_taken_from_the_budget() -> None:
    async with upstream() as up, gateway(up, bodies={"budget_mib": 4}) as gw:
        client = await gw.connect()
        client.send(request("POST", TRANSCRIBE, None, KIND, b"Content-Length: %d" % (64 * MIB)))
        await client.send_all(file(8 * MIB))
        found = await client.response()
        assert (found.status, found.error["code"]) == (503, "server_is_overloaded")
        client = await gw.connect()
        client.send(request("POST", TRANSCRIBE, None, KIND, b"Content-Length: %d" % (64 * MIB)))
        await client.send_all(file(2 * MIB))
        await until(lambda: gw.budget_used > 2 * MIB)
        client.close()
        await until(lambda: not gw.budget_used)
        assert not up.requests
