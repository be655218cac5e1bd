"""What upstreams do wrong, and what the client is told: the truth, and never a clean end for half an answer."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.ports import free_port
from tests.fakes.tls_front import self_signed
from tests.fakes.upstream import Exchange, silent, upstream
from tests.fakes.worker import Response, gateway, request

Script = Callable[[Exchange], Awaitable[None]]
CHAT = "/v1/chat/completions"


async def outcome(script: Script, *, body: bytes | None = b"{}", **sections: Any) -> tuple[Response, dict[str, Any]]:
    """What a client gets, and the access line about it."""
    async with upstream(script) as up, gateway(up, **sections) as gw:
        found = await gw.ask(CHAT, body)
        assert len(up.requests) == 1  # a request that was sent is not sent again
        return found, (await gw.lines())[0]


async def test_nobody_listens() -> None:
    async with gateway(f"http://127.0.0.1:{free_port()}/v1") as gw:
        found = await gw.ask(CHAT, b"{}")
        assert (found.status, found.error["code"]) == (502, "upstream_unreachable")
        line = gw.access[0]
        assert (line["ended"], line["error"], line["upstream"]) == ("upstream_failed", "upstream_unreachable", "main")
        assert "attempts" not in line
        assert gw.metric("gateway_errors_total", error="upstream_unreachable") == 1


async def test_nobody_of_that_name() -> None:
    async with gateway("http://no-such-host.invalid/v1") as gw:
        assert (await gw.ask(CHAT, b"{}")).error["code"] == "upstream_unreachable"


async def test_connecting_takes_too_long() -> None:
    with FullBacklog() as port:
        async with gateway(f"http://127.0.0.1:{port}/v1", timeouts={"connect_s": 0.1}) as gw:
            assert (await gw.ask(CHAT, b"{}")).error["code"] == "upstream_unreachable"


class FullBacklog:
    """A port whose queue of connections is full, so that further ones hang."""

    def __enter__(self) -> int:
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(0)
        port: int = self._listening.getsockname()[1]
        self._waiting = []
        for _ in range(8):
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
            self._waiting.append(waiting)
        return port

    def __exit__(self, *_: object) -> None:
        for each in (*self._waiting, self._listening):
            each.close()


async def test_tls(tmp_path: Path) -> None:
    made = self_signed(tmp_path)
    cert = str(made.cert)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.cert, made.key)
    async with upstream(tls=context) as up:
        async with gateway({"main": {"base_url": up, "tls": {"ca_file": cert}}}) as gw:
            assert (await gw.ask(CHAT, b'{"a":"' + b"x" * 500_000 + b'"}')).status == 200
            assert len(up.last.body) == 500_008
        async with gateway({"main": {"base_url": up, "tls": {"verify": False}}}) as gw:
            assert (await gw.ask()).status == 200
        async with gateway(up) as gw:  # trusts the system's authorities only
            assert (await gw.ask()).error["code"] == "upstream_unreachable"
        async with gateway(
            {"main": {"base_url": up.url.replace("127.0.0.1", "0.0.0.0"), "tls": {"ca_file": cert}}}
        ) as gw:
            assert (await gw.ask()).error["code"] == "upstream_unreachable"  # another name than the certificate's
        async with upstream() as plain, gateway(plain.url.replace("http", "https"), timeouts={"connect_s": 0.2}) as gw:
            assert (await gw.ask()).error["code"] == "upstream_unreachable"
            plain.errors.clear()
        assert len(up.requests) == 2


async def cut_before_the_head(exchange: Exchange) -> None:
    await exchange.whole()
    exchange.wire.close()


async def reset_before_the_head(exchange: Exchange) -> None:
    await exchange.whole()
    exchange.wire.reset()


async def cut_in_the_head(exchange: Exchange) -> None:
    await exchange.whole()
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Ty")
    exchange.wire.close()


@pytest.mark.parametrize("script", [cut_before_the_head, reset_before_the_head, cut_in_the_head])
async def test_cut_before_there_is_an_answer(script: Script) -> None:
    found, line = await outcome(script)
    assert (found.status, found.error["code"]) == (502, "upstream_cut")
    assert (line["ended"], line["error"], line["attempts"]) == ("upstream_failed", "upstream_cut", 1)


@pytest.mark.parametrize(
    "words",
    [
        b"hello\r\n\r\n", b"HTTP/1.1 abc OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nBad Header: x\r\n\r\n", b"\x00\x01\x02\x03",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nXYZ\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"y" * 400_000, b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: a\nY: b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : b\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n",
    ],
)  # fmt: skip
async def test_answers_that_are_no_http(words: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.whole()
        exchange.send(words)
        await exchange.gone()

    found, line = await outcome(script)
    assert (found.status, found.error["code"]) == (502, "upstream_malformed")
    assert (line["ended"], line["error"], line["bytes_out"]) == (
        "upstream_failed",
        "upstream_malformed",
        len(found.body),
    )


async def test_no_answer_in_time() -> None:
    found, line = await outcome(silent, timeouts={"response_s": 0.1})
    assert (found.status, found.error["code"]) == (504, "upstream_timeout")
    assert line["ended"] == "upstream_failed"


async def test_the_time_for_an_answer_begins_with_the_end_of_the_request() -> None:
    async with upstream() as up, gateway(up, timeouts={"response_s": 0.6}) as gw:
        client = await gw.connect()
        client.send(request("POST", "/v1/files", None, b"Content-Type: text/x", b"Content-Length: 8"))
        started = asyncio.get_running_loop().time()
        for _ in range(8):
            client.send(b"x")
            await asyncio.sleep(0.15)
        assert asyncio.get_running_loop().time() - started > 1.1
        assert (await client.response()).status == 200
