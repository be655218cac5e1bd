"""Whatever bytes come from a client: each connection ends by itself, with an answer or without, no mistake of ours is logged, no
secret is told, nothing that is no request goes upstream, and the next client is served. Whatever bytes come from an
upstream: its client gets one well-framed answer or can tell that it is none, and the next answer is the right one."""

import asyncio
import contextlib
import random
from contextlib import AsyncExitStack
from typing import Any

import pytest
import uvloop
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fakes.frames import handshake
from tests.fakes.upstream import Exchange, Upstream, answer, upstream
from tests.fakes.wire import soon
from tests.fakes.worker import KEY, SECRETS, CutError, Gateway, chunked_request, gateway, request

FORM = b"Content-Type: multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n'
SEEDS = [
    request("GET", "/v1/models?limit=2&after=a%20b"),
    request("POST", "/v1/chat/completions", b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}'),
    chunked_request("/v1/chat/completions", [b'{"model":', b'"m"}'], b"Trailer: X"),
    chunked_request("/v1/files", [b"abc", b"def"], b"Content-Type: application/octet-stream"),
    request("POST", "/v1/audio/transcriptions", PART, FORM),
    request("POST", "/v1/chat/completions", b"\x28\xb5\x2f\xfd\x04\x00\x11\x00\x00{}", b"Content-Encoding: zstd"),
    request("POST", "/v1/files", b"x" * 50, b"Expect: 100-continue", b"Content-Type: text/plain"),
    request("GET", f"http://user:{KEY}@host/v1/models", None, b"Connection: close, X-A", b"X-A: 1"),
    request("DELETE", "/v1/organization/projects/p?x=1"),
    request("OPTIONS", "/v1/models", None, b"Origin: http://o", b"Access-Control-Request-Method: GET", key=None),
    handshake("/v1/realtime?model=m", b"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key." + KEY.encode()),
    request("GET", "/v1/models") * 3,
]  # fmt: skip
WORDS = [
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\x00", b" ", b":", b"\xff", b"\xe2\x82", b"/", b"..", b"%2e", b"%00", b"?", b"0\r\n\r\n",
    b"HTTP/1.0", b"HTTP/9.9", b"Content-Length: 5\r\n", b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n", b"Content-Length: -1\r\n", b"Content-Type: multipart/form-data; boundary=\xe9\xff\r\n",
    b"Content-Encoding: gzip\r\n", b"Upgrade: websocket\r\n", b"Expect: 100-continue\r\n", b"api-key: \xff\xfe\r\n", b"X: y\r\n folded\r\n",
    b"Authorization: Basic \xff==\r\n", b"ffffffffffffffff\r\n", b"Host: a\r\nHost: b\r\n", b"{" * 40, b'"model":1,', b"sk-gw-" + b"x" * 40,
    b"x-request-id: \xff\r\n", b"Connection: upgrade\r\n", b"Origin: \xff\r\n", b"Sec-WebSocket-Key: \xff\r\n",
]  # fmt: skip
HURRY = {"client_headers_s": 0.2, "client_body_s": 0.2, "client_keepalive_s": 0.2, "response_s": 2.0}
LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


ANSWERS = [
    answer(b'{"ok":true}', (b"x-request-id", b"req_1")),
    answer(chunks=[b"data: 1\n\n", b"data: 2\n\n"], kind=b"text/event-stream"),
    answer(b"", status=b"204 No Content").replace(b"Content-Length: 0\r\n", b""),
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + answer(b"late"),
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n",
    answer(b"first") + answer(b"second"),
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
]


def mutated(chance: random.Random, seeds: list[bytes]) -> bytes:
    """One of these with some mistakes in it, or nothing of the kind at all."""
    if chance.random() < 0.05:
        return chance.randbytes(chance.randrange(1, 200))
    data = chance.choice(seeds)
    for _ in range(chance.randrange(0, 4)):
        at, size = chance.randrange(len(data) + 1), chance.choice([0, 1, 1, 2, 5, 30])
        match chance.randrange(4):
            case 0:
                data = data[:at] + chance.choice(WORDS) + data[at + size :]
            case 1:
                data = data[:at] + chance.randbytes(size) + data[at + size :]
            case 2:
                data = data[:at] + data[at + size :]
            case _:
                line = data.find(b"\r\n", at) + 2  # between two lines
                data = data[:line] + chance.choice(WORDS) + data[line:]
    return data if chance.random() < 0.9 else data[: chance.randrange(len(data) + 1)]


async def one(gw: Gateway, data: bytes, cuts: list[int]) -> bytes:
    """Sends the bytes in pieces, and returns all that comes until the worker hangs up."""
    client = await gw.connect()
    at = 0
    for cut in sorted(cuts):
        client.send(data[at:cut])
        at = max(at, cut)
        await asyncio.sleep(0)
    client.send(data[at:])
    await client.closed()
    gw.clients.remove(client)
    return bytes(client.raw)


class Bench:
    """One worker for all examples."""

    def __init__(self, stack: AsyncExitStack, up: Upstream, control: Upstream, gw: Gateway) -> None:
        self.stack = stack
        self.up = up
        self.control = control
        self.gw = gw

    @classmethod
    async def begin(cls, **timeouts: float) -> "Bench":
        stack = AsyncExitStack()
        up, control = await stack.enter_async_context(upstream()), await stack.enter_async_context(upstream())
        settings: dict[str, Any] = {"control_url": control.url.removesuffix("/v1"), "cors": {"origins": ["*"]}}
        gw = await stack.enter_async_context(gateway(up, timeouts=HURRY | timeouts, **settings))
        gw.worker.server._limits["parting"] = 0.1
        return cls(stack, up, control, gw)

    async def round(self, seed: int) -> None:
        chance = random.Random(seed)
        sent = [mutated(chance, SEEDS) for _ in range(30)]
        cuts = [[chance.randrange(len(data) + 1) for _ in range(chance.choice([0, 0, 1, 4]))] for data in sent]
        answers = await soon(asyncio.gather(*map(one, [self.gw] * len(sent), sent, cuts)))
        for data, found in zip(sent, answers, strict=True):
            assert found == b"" or found.startswith(b"HTTP/1.1 "), (data, found)
            for secret in SECRETS:
                assert secret.encode() not in found, (data, found)
        assert not [line for line in self.gw.log if line["level"] == "error"], self.gw.log
        assert not any(secret.encode() in self.gw.everything_said() for secret in SECRETS)
        assert not any(line["status"] == 500 for line in self.gw.access), self.gw.access
        assert not self.up.errors + self.control.errors
        assert all(exchange.target.startswith(b"/v1/") for exchange in self.up.requests)
        assert (await self.gw.ask()).status == 200
        await self.gw.idle()
        self.gw.captured.lines.clear()
        self.up.requests.clear()

    async def answered(self, seed: int) -> None:
        """Each of some clients sends two requests on one connection; the first gets an answer with mistakes."""
        chance = random.Random(seed)
        answers = {b"/v1/models?%d" % n: mutated(chance, ANSWERS) for n in range(30)}

        async def script(exchange: Exchange) -> None:
            found = answers.get(exchange.target)
            if found is None:
                return exchange.send(answer(exchange.target))
            exchange.send(found)  # at once: what comes later than its answer, nobody can tell from the next one
            return exchange.wire.close() if chance.random() < 0.3 else None

        async def client(target: str, method: str) -> None:
            client = await self.gw.connect()
            with contextlib.suppress(CutError, EOFError):
                found = await client.ask(target, method=method)
                assert found.status >= 200
                if found.header(b"connection") != b"close":
                    found = await client.ask(target + "&right")
                    assert found.body == target.encode() + b"&right"
            client.close()
            await client.closed()
            self.gw.clients.remove(client)

        self.up.script = script
        methods = ["GET", "GET", "HEAD", "POST"]
        await soon(asyncio.gather(*(client(target.decode(), chance.choice(methods)) for target in answers)))
        assert not [line for line in self.gw.log if line["level"] == "error"], self.gw.log
        assert not any(line["status"] == 500 for line in self.gw.access), self.gw.access
        assert (await self.gw.ask()).body == b"/v1/models"
        await self.gw.idle()
        self.gw.captured.lines.clear()
        self.up.errors.clear()  # what it hears when it is cut off
        self.up.requests.clear()


@pytest.mark.parametrize("loop", LOOPS)
def test_arbitrary_answers(loop: str) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        bench = runner.run(Bench.begin(response_s=0.2, between_bytes_s=0.2))

        @given(st.integers(0, 1 << 32))
        @settings(max_examples=6)
        def check(seed: int) -> None:
            runner.run(bench.answered(seed))

        try:
            check()
        finally:
            runner.run(bench.stack.aclose())


@pytest.mark.parametrize("loop", LOOPS)
def test_arbitrary_bytes(loop: str) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        bench = runner.run(Bench.begin())

        @given(st.integers(0, 1 << 32))
        @settings(max_examples=8)
        @example(1)  # a Content-Type with bytes that are no text
        @example(56820034)  # a key before the host of a target in absolute form
        def check(seed: int) -> None:
            runner.run(bench.round(seed))

        try:
            check()
        finally:
            runner.run(bench.stack.aclose())
