"""Answers as they arrive: byte for byte in any chunking, each piece at once, and no faster than the client takes it."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.upstream import SSE_HEAD, Exchange, Upstream, upstream
from tests.fakes.wire import chunk, soon, until
from tests.fakes.worker import Client, gateway, request

STREAM = request("POST", "/v1/chat/completions", b'{"model":"m","stream":true}')
ASKING = request("POST", "/v1/chat/completions", b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}')
LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}

pieces = st.lists(
    st.binary(max_size=40) | st.sampled_from([b"data: {}\n\n", b"\r\n", b": ping\n\n", b"0\r\n\r\n"]), max_size=8
)
cuts = st.lists(st.integers(0, 30), max_size=12)


def framed(body: list[bytes], framing: str) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    if framing == "length":
        return head + b"Content-Length: %d\r\n\r\n" % sum(map(len, body)) + b"".join(body)
    if framing == "chunked":
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunk(p) for p in body if p) + b"0\r\n\r\n"
    return head + b"Connection: close\r\n\r\n" + b"".join(body)


async def _dripping(exchange: Exchange, wire_bytes: bytes, sizes: list[int]) -> None:
    """Sends bytes cut into pieces of these sizes, each with its own way through the event loop."""
    at = 0
    for size in sizes:
        exchange.send(wire_bytes[at : at + size])
        at += size
        await asyncio.sleep(0)
    exchange.send(wire_bytes[at:])


@pytest.mark.parametrize("loop", LOOPS)
def test_any_body_in_any_chunking_and_framing(loop: str) -> None:
    """One worker for all examples: each must also leave the connections in order for the next."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        stack = AsyncExitStack()

        async def begin() -> tuple[Upstream, Client]:
            up = await stack.enter_async_context(upstream())
            gw = await stack.enter_async_context(gateway(up))
            return up, await gw.connect()

        up, client = runner.run(begin())

        @given(pieces, st.sampled_from(["length", "chunked", "close"]), cuts)
        @settings(max_examples=100, deadline=None)
        def check(body: list[bytes], framing: str, sizes: list[int]) -> None:
            async def script(exchange: Exchange) -> None:
                await exchange.whole()
                await _dripping(exchange, framed(body, framing), sizes)
                if framing == "close":
                    exchange.wire.close()

            async def example() -> None:
                up.script = script
                client.send(STREAM)
                found = await client.response()
                assert found.body == b"".join(body)
                assert found.header(b"x-accel-buffering") == b"no"

            runner.run(example())

        try:
            check()
        finally:
            runner.run(stack.aclose())


class Gated:
    """A stream whose next piece is sent only when the test says so."""

    def __init__(self) -> None:
        self.exchange: asyncio.Future[Exchange] = asyncio.get_running_loop().create_future()

    async def script(self, exchange: Exchange) -> None:
        await exchange.whole()
        exchange.send(SSE_HEAD)
        self.exchange.set_result(exchange)
        await exchange.gone()


@pytest.mark.parametrize("asking", [True, False], ids=["as it comes", "whole events, for usage is taken out"])
async def test_each_piece_arrives_before_the_next_is_sent(asking: bool) -> None:
    gated = Gated()
    async with upstream(gated.script) as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(ASKING if asking else STREAM)
        exchange = await soon(gated.exchange)
        found = await client.head()  # before there is any body
        assert found.header(b"content-type") == b"text/event-stream; charset=utf-8"
        for number in range(50):
            event = b"data: %d\n\n" % number
            exchange.send(chunk(event))
            assert await soon(client.chunked()) == event
        for part in (b"da", b"ta: half", b"\n") if asking else ():  # also pieces of an event
            exchange.send(chunk(part))
            assert await soon(client.chunked()) == part
        exchange.send(b"0\r\n\r\n")
        assert await soon(client.chunked()) == b""
        assert (await gw.lines())[0]["stream"] is True


async def test_the_head_does_not_wait_for_the_body() -> None:
    async def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
        await exchange.gone()

    async with upstream(script) as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(request("GET", "/v1/files/f/content"))
        assert (await client.head()).status == 200


async def test_what_the_upstream_says_about_buffering_stands() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.whole()
        exchange.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Accel-Buffering: yes\r\nContent-Length: 0\r\n\r\n"
        )

    async with upstream(script) as up, gateway(up) as gw:
        assert (await gw.ask("/v1/chat/completions", b"{}")).values(b"x-accel-buffering") == [b"yes"]


async def _flood(exchange: Exchange, piece: bytes, pieces: int) -> None:
    """Sends as fast as the gateway reads."""
    await exchange.whole()
    exchange.send(SSE_HEAD)
    for _ in range(pieces):
        await exchange.wire.has_room()
        exchange.send(chunk(piece))
    exchange.send(b"0\r\n\r\n")


@pytest.mark.parametrize("asking", [True, False], ids=["as it comes", "usage is taken out"])
async def test_a_slow_reader_pauses_the_upstream_and_holds_little_memory(asking: bool) -> None:
    piece, number = b"data: " + b"x" * 65528 + b"\n\n", 1024
    sent = 0

    async def script(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.whole()
        exchange.send(SSE_HEAD)
        for _ in range(number):
            await exchange.wire.has_room()
            exchange.send(chunk(piece))
            sent += 1
        exchange.send(b"0\r\n\r\n")

    async with upstream(script) as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(ASKING if asking else STREAM)
        await client.head()
        client.stop_reading()
        await _settled(lambda: sent)
        assert sent < number
        connection = gw.worker.server.connections[0]
        assert connection.transport is not None
        held = connection.transport.get_write_buffer_size()
        assert held < 512 * 1024
        source = next(iter(gw.worker._destinations["main"].pool._all))
        assert source._held
        client.read_on()
        total = 0
        while data := await soon(client.chunked()):
            total += len(data)
        assert total == len(piece) * number
        await gw.idle()
        assert (await gw.ask("/v1/models")).status == 200


async def _settled(value: Callable[[], int]) -> None:
    """Waits until a value has not changed for a while: the only way to see that something is standing still."""
    last, same = value(), 0
    while same < 20:
        await asyncio.sleep(0.005)
        last, same = value(), same + 1 if value() == last else 0


async def test_a_slow_reader_does_not_slow_others() -> None:
    async with upstream(lambda e: _flood(e, b"x" * 65536, 500)) as up, gateway(up) as gw:
        slow = await gw.connect()
        slow.send(STREAM)
        await slow.head()
        slow.stop_reading()

        async def quick(client: Client) -> int:
            client.send(STREAM)
            await client.head()
            total = 0
            while data := await soon(client.chunked()):
                total += len(data)
            return total

        assert await quick(await gw.connect()) == 500 * 65536


async def test_a_hundred_streams_at_once_do_not_mix() -> None:
    async def script(exchange: Exchange) -> None:
        name = json.loads(await exchange.whole())["model"]
        exchange.send(SSE_HEAD)
        for number in range(20):
            exchange.send(chunk(f"data: {name} {number}\n\n".encode()))
            await asyncio.sleep(0)
        exchange.send(b"0\r\n\r\n")

    async def one(name: str) -> None:
        client = await gw.connect()
        body = json.dumps({"model": name, "stream": True}).encode()
        found = await client.ask("/v1/chat/completions", body)
        assert found.body == b"".join(f"data: {name} {n}\n\n".encode() for n in range(20))

    async with upstream(script) as up, gateway(up) as gw:
        await asyncio.gather(*(one(f"m{n}") for n in range(100)))


async def test_an_open_stream_outlasts_nothing() -> None:
    """Streams that are silent for longer than a second are left alone."""
    gated = Gated()
    async with (
        upstream(gated.script) as up,
        gateway(up, timeouts={"client_headers_s": 0.05, "client_body_s": 0.05, "client_keepalive_s": 0.05}) as gw,
    ):
        client = await gw.connect()
        client.send(STREAM)
        exchange = await soon(gated.exchange)
        await client.head()
        sweeps = gw.worker._loop.time() + 0.6
        await until(lambda: gw.worker._loop.time() > sweeps)
        exchange.send(chunk(b"data: late\n\n"))
        assert await soon(client.chunked()) == b"data: late\n\n"
