"""The same request to the upstream itself and through the gateway: the same answer, but for what is documented.

What differs between any two answers is evened out first: ids, times and the state of rate limits. What the gateway may
change: framing and other hop-by-hop headers, its own `x-request-id` where the upstream sends none, and
`X-Accel-Buffering: no` on event streams.
"""

import gzip
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest

from gateway.proxy.http.headers import HOP_BY_HOP
from gateway.simulator import media
from tests.compat.stand import UPSTREAM_KEY, Gate

HELLO: Any = [{"role": "user", "content": "Hello! Größe: 🎈"}]
_IDS = re.compile(rb"\b(chatcmpl|cmpl|resp|msg|req|file|img|rs|fc|call|modr|item)([-_])[A-Za-z0-9]{8,}")
_TIMES = re.compile(rb'("[a-z_]*(?:created|_at)":\s?)\d{10}(?:\.\d+)?')
_CHANGING = re.compile(r"date|openai-processing-ms|x-request-id")
_OWN = re.compile(r"x-ratelimit-(limit|remaining|reset)-(requests|tokens)")  # each says its own: of the client, of all


class Answer(msgspec.Struct, frozen=True):
    """An answer with what always differs evened out. headers: in order, names as they were written."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes

    def named(self, name: str) -> list[str]:
        return [value for given, value in self.headers if given.lower() == name]


def _even(body: bytes) -> bytes:
    return _TIMES.sub(rb"\g<1>0", _IDS.sub(rb"\1\2", body))


async def _read(response: aiohttp.ClientResponse) -> Answer:
    headers = []
    for raw_name, raw_value in response.raw_headers:
        name, value = raw_name.decode(), raw_value.decode()
        if name.lower().encode() not in HOP_BY_HOP and not _OWN.fullmatch(name.lower()):
            headers.append((name, "…" if _CHANGING.fullmatch(name.lower()) else value))
    body = await response.content.read()
    if response.headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)  # ids are packed in it
    return Answer(response.status, response.reason or "", headers, _even(body))


class Twice:
    """Makes each request twice."""

    def __init__(self, session: aiohttp.ClientSession, upstream: str, gate: Gate) -> None:
        self._session = session
        self._ways = ((upstream, UPSTREAM_KEY), (gate.url, gate.keys["raw"]))

    async def ask(self, method: str, path: str, **request: Any) -> tuple[Answer, Answer]:
        """→ the upstream's answer, and the gateway's."""
        answers = []
        headers = request.pop("headers", {})
        for url, key in self._ways:
            own = {"Authorization": f"Bearer {key}"} | headers
            async with self._session.request(method, f"{url}/v1{path}", headers=own, **request) as response:
                answers.append(await _read(response))
        return answers[0], answers[1]


@pytest.fixture
async def twice(simulator_url: str, gate: Gate) -> AsyncIterator[Twice]:
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(auto_decompress=False, cookie_jar=jar) as session:
        yield Twice(session, simulator_url, gate)


def alike(direct: Answer, through: Answer) -> None:
    assert (through.status, through.reason, through.body) == (direct.status, direct.reason, direct.body)
    assert through.headers == direct.headers


CHAT = {"model": "gpt-4o", "messages": HELLO}
PLAIN = [
    ("/chat/completions", CHAT),
    ("/chat/completions", CHAT | {"model": "o3", "n": 2, "logprobs": True, "top_logprobs": 2}),
    ("/chat/completions", CHAT | {"model": "gpt-4o+gzip"}),
    ("/chat/completions", CHAT | {"model": "gpt-4o+huge=2"}),
    ("/chat/completions", CHAT | {"model": "gpt-4o+drip=64:1ms"}),
    ("/chat/completions", CHAT | {"model": "gpt-4o+malformed_json"}),
    ("/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "Once"}),
    ("/embeddings", {"model": "text-embedding-3-small", "input": "x", "encoding_format": "base64"}),
    ("/moderations", {"input": "What a day"}),
    ("/images/generations", {"model": "gpt-image-1", "prompt": "x"}),
    ("/audio/speech", {"model": "tts-1", "voice": "alloy", "input": "Hello"}),
    ("/responses", {"model": "gpt-4o", "input": "Hello"}),
    # Refusals
    ("/chat/completions", {"model": "gpt-4o"}),
    ("/chat/completions", CHAT | {"model": "nope"}),
    ("/chat/completions", CHAT | {"model": "gpt-4o+429"}),
    ("/chat/completions", CHAT | {"model": "gpt-4o+503"}),
    ("/something/new", {"a": 1}),
]


@pytest.mark.parametrize(("path", "body"), PLAIN)
async def test_plain_answers(twice: Twice, path: str, body: Any) -> None:
    direct, through = await twice.ask("POST", path, json=body)
    alike(direct, through)
    assert through.named("content-length") or through.named("content-encoding")


STREAMS = [
    ("/chat/completions", CHAT),
    ("/chat/completions", CHAT | {"stream_options": {"include_usage": True}}),
    ("/chat/completions", CHAT | {"model": "gpt-4o+chunks=300"}),
    ("/chat/completions", CHAT | {"model": "gpt-4o+gzip"}),
    ("/chat/completions", CHAT | {"model": "gpt-4o+drip=7:0"}),
    # Half an event: half of a longer one, where usage was asked for, is longer too.
    ("/chat/completions", CHAT | {"model": "gpt-4o+malformed_json", "stream_options": {"include_usage": True}}),
    ("/chat/completions", CHAT | {"model": "gpt-4o+error_event"}),
    ("/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "Once"}),
    ("/responses", {"model": "o3", "input": "Hello", "reasoning": {"summary": "auto"}}),
    ("/responses", {"model": "gpt-4o+error_event", "input": "Hello"}),
    ("/images/generations", {"model": "gpt-image-1", "prompt": "x", "partial_images": 2}),
    ("/audio/speech", {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "Hello", "stream_format": "sse"}),
]


@pytest.mark.parametrize(("path", "body"), STREAMS)
async def test_streams(twice: Twice, path: str, body: Any) -> None:
    """The whole body is the same, byte for byte: comments, spaces, `[DONE]` and line ends too."""
    direct, through = await twice.ask("POST", path, json=body | {"stream": True})
    assert (through.status, through.body) == (direct.status, direct.body)
    edited = path == "/chat/completions" and "stream_options" not in body  # and compressed no more, if it was
    headers = [header for header in direct.headers if not (edited and header[0] == "Content-Encoding")]
    assert through.headers == [*headers, ("X-Accel-Buffering", "no")]
    assert not through.named("content-length")


async def test_forms(twice: Twice) -> None:
    boundary = "----compat"
    parts = [
        b'Content-Disposition: form-data; name="model"\r\n\r\nwhisper-1',
        b'Content-Disposition: form-data; name="response_format"\r\n\r\nverbose_json',
        b'Content-Disposition: form-data; name="timestamp_granularities[]"\r\n\r\nword',
        b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
        + media.wav(1.0),
    ]
    body = b"".join(b"--%b\r\n%b\r\n" % (boundary.encode(), part) for part in parts) + b"--%b--\r\n" % boundary.encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    direct, through = await twice.ask("POST", "/audio/transcriptions", data=body, headers=headers)
    alike(direct, through)
    assert json.loads(through.body)["words"]


async def test_reading(twice: Twice, simulator_url: str) -> None:
    form = aiohttp.FormData({"purpose": "user_data"})
    form.add_field("file", bytes(range(256)) * 16, filename="dätei.bin")
    async with aiohttp.ClientSession() as session:
        key = {"Authorization": f"Bearer {UPSTREAM_KEY}"}
        async with session.post(f"{simulator_url}/v1/files", data=form, headers=key) as response:
            made = (await response.json())["id"]
    for span, status in (("", 200), ("bytes=5-99", 206), ("bytes=-1", 206), ("bytes=9999-", 416), ("lines=1-2", 200)):
        direct, through = await twice.ask("GET", f"/files/{made}/content", headers={"Range": span} if span else {})
        alike(direct, through)
        assert through.status == status
    for path in (
        f"/files/{made}",
        "/models",
        "/models/gpt-4o",
        "/models/ft%3Anope",
        "/files?limit=1&order=desc",
        "/nothing",
    ):
        alike(*await twice.ask("GET", path))


@pytest.mark.parametrize(
    ("method", "path"), [("HEAD", "/models"), ("PUT", "/models"), ("PATCH", "/files"), ("OPTIONS", "/x")]
)
async def test_other_methods(twice: Twice, method: str, path: str) -> None:
    alike(*await twice.ask(method, path))
