"""Clients that leave: their upstream requests end within half a second, and nothing of them is left."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.fakes.upstream import SSE_HEAD, Exchange, Upstream, answer, silent, upstream
from tests.fakes.wire import chunk, soon, until
from tests.fakes.worker import Client, gateway, request

pytestmark = pytest.mark.alone  # it measures time

CHAT = "/v1/chat/completions"
MIB = 1024 * 1024
PROMPTLY_S = 0.5


async def headless(exchange: Exchange) -> None:
    await exchange.whole()
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-")
    await exchange.gone()


async def streaming(exchange: Exchange) -> None:
    await exchange.whole()
    exchange.send(SSE_HEAD + chunk(b"data: 1\n\n"))
    await exchange.gone()


async def flooding(exchange: Exchange) -> None:
    exchange.send(SSE_HEAD)
    while not exchange.wire.ended.is_set():
        await exchange.wire.has_room()
        exchange.send(chunk(b"x" * 65536))


async def not_reading(exchange: Exchange) -> None:
    """Neither reads nor notices: it looks whether the connection still stands only when it is over."""
    exchange.wire.stop_reading()
    await exchange.gone()


async def _before_the_head(client: Client, up: Upstream) -> None:
    client.send(request("POST", CHAT, b"{}"))
    exchange = await up.request()
    await until(lambda: exchange.complete)


async def _in_the_stream(client: Client, up: Upstream) -> None:
    client.send(request("POST", CHAT, b"{}"))
    await client.head()
    assert await client.chunked()


async def _in_the_stream_unread(client: Client, up: Upstream) -> None:
    client.send(request("GET", "/v1/models"))
    await client.head()
    client.stop_reading()
    await until(lambda: not up.wires[0].room.is_set())


async def _in_the_upload(client: Client, up: Upstream) -> None:
    client.send(request("POST", "/v1/files", None, b"Content-Type: text/x", b"Content-Length: 10000") + b"x" * 5000)
    exchange = await up.request()
    await until(lambda: len(exchange.body) == 5000)


PHASES: list[tuple[Callable[[Exchange], Awaitable[None]], Callable[[Client, Upstream], Awaitable[None]]]] = [
    (silent, _before_the_head),
    (headless, _before_the_head),
    (streaming, _in_the_stream),
    (flooding, _in_the_stream_unread),
    (silent, _in_the_upload),
]


@pytest.mark.parametrize("way", ["close", "reset"])
@pytest.mark.parametrize(("script", "phase"), PHASES)
async def test_the_upstream_notices_at_once(
    script: Callable[[Exchange], Awaitable[None]], phase: Callable[[Client, Upstream], Awaitable[None]], way: str
) -> None:
    async with upstream(script) as up, gateway(up) as gw:
        client = await gw.connect()
        await phase(client, up)
        left_at = asyncio.get_running_loop().time()
        client.read_on()  # else its goodbye would wait with it
        getattr(client, way)()
        await soon(up.wires[0].ended.wait())
        assert up.wires[0].ended_at - left_at < PROMPTLY_S
        line = (await gw.lines())[0]
        assert line["ended"] == "client_left"
        await gw.idle()
        assert not len(gw.worker._destinations["main"].pool)
        assert not gw.worker._tasks._running - {t for t in gw.worker._tasks._running if t.get_name() == "sweep"}


async def test_while_the_upstream_does_not_take_what_the_client_sends() -> None:
    """Nobody reads from the client then. A reset is seen in any case; a goodbye in order stands behind the data."""
    async with upstream(not_reading) as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(request("POST", "/v1/files", None, b"Content-Type: text/x", b"Content-Length: %d" % (64 * MIB)))
        sending = asyncio.ensure_future(client.send_all(b"x" * 64 * MIB))
        await until(lambda: gw.worker.server.connections and gw.worker.server.connections[0].unread)
        sending.cancel()
        left_at = asyncio.get_running_loop().time()
        client.reset()
        await until(lambda: not gw.in_flight)
        assert asyncio.get_running_loop().time() - left_at < PROMPTLY_S
        up.wires[0].read_on()
        await up.emptied()
        assert gw.access[0]["ended"] == "client_left"


@pytest.mark.parametrize("way", ["close", "reset"])
async def test_while_its_body_is_not_read_yet(way: str) -> None:
    async with upstream() as up, gateway(up) as gw:
        gw.keys.gate.clear()
        client = await gw.connect()
        client.send(request("POST", CHAT, None, b"Content-Length: %d" % MIB))
        await until(lambda: gw.keys.asked)
        client.send(b" " * 200_000)
        await until(lambda: gw.worker.server.connections[0].unread)
        left_at = asyncio.get_running_loop().time()
        getattr(client, way)()
        await until(lambda: not gw.in_flight)
        assert asyncio.get_running_loop().time() - left_at < PROMPTLY_S
        gw.keys.gate.set()
        assert not up.requests


async def test_while_waiting_for_the_budget() -> None:
    async with upstream(silent) as up, gateway(up, bodies={"budget_mib": 4, "json_mib": 3}) as gw:
        first = await gw.connect()
        first.send(request("POST", CHAT, b"{}" + b" " * (2 * MIB)))
        await up.request()
        waiting = [await gw.connect() for _ in range(3)]
        for client in waiting:
            client.send(request("POST", CHAT, None, b"Content-Length: %d" % (2 * MIB)))
        await until(lambda: len(gw.worker.budget._large) == 3)
        for client in waiting:
            client.close()
        await until(lambda: gw.in_flight == 1)
        assert not gw.worker.budget._large
        assert [line["ended"] for line in gw.access] == ["client_left"] * 3
        first.close()
        await up.emptied()


async def test_while_connecting() -> None:
    """The connection that was being made is not left over, nor is its place in the pool."""
    gate = asyncio.Event()
    options = {"base_url": "", "max_connections": 1}
    async with upstream() as up, gateway({"main": options | {"base_url": up.url}}) as gw:
        pool = gw.worker._destinations["main"].pool
        resolve = pool._resolve

        async def slowly() -> object:
            await gate.wait()
            return await resolve()

        pool._resolve = slowly  # type: ignore[method-assign, assignment]
        client = await gw.connect()
        client.send(request("POST", CHAT, b"{}"))
        await until(lambda: pool._connecting)
        second = await gw.connect()
        second.send(request("GET", "/v1/models"))
        await until(lambda: len(pool._waiters))
        client.close()
        await until(lambda: gw.in_flight == 1)
        gate.set()
        assert (await second.response()).status == 200
        assert len(up.wires) == 1


async def test_while_waiting_for_a_place() -> None:
    async with upstream(silent) as up, gateway({"main": {"base_url": up, "max_connections": 1}}) as gw:
        first = await gw.connect()
        first.send(request("GET", "/v1/models"))
        await up.request()
        pool = gw.worker._destinations["main"].pool
        for _ in range(3):
            client = await gw.connect()
            client.send(request("GET", "/v1/models"))
            await until(lambda: any(not w.done() for w in pool._waiters))
            client.close()
            await until(lambda: gw.in_flight == 1)
        up.script = _ok
        first.close()
        assert (await gw.ask()).status == 200


async def _ok(exchange: Exchange) -> None:
    exchange.send(answer())


async def test_while_its_key_is_looked_up() -> None:
    async with upstream() as up, gateway(up) as gw:
        gw.keys.gate.clear()
        first, second = await gw.connect(), await gw.connect()
        first.send(request("GET", "/v1/models"))
        await until(lambda: gw.keys.asked)
        second.send(request("GET", "/v1/models"))
        await until(lambda: gw.in_flight == 2)
        first.close()
        await until(lambda: gw.in_flight == 1)
        gw.keys.gate.set()
        assert (await second.response()).status == 200  # it waited for the same answer
        assert len(gw.keys.asked) == 1
        assert len(up.requests) == 1


async def test_just_as_the_answer_is_complete() -> None:
    """The upstream's connection may be another request's by then: it must not be broken off."""
    async with upstream() as up, gateway(up) as gw:

        async def hasty() -> None:
            client = await gw.connect()
            client.send(request("GET", "/v1/models"))
            await client.head()
            client.reset()

        async def patient() -> None:
            assert (await gw.ask()).status == 200

        for _ in range(15):
            await asyncio.gather(*(hasty() if n % 2 else patient() for n in range(20)))
        assert not up.errors


async def test_very_many_at_once() -> None:
    async with upstream(streaming) as up, gateway(up) as gw:
        clients = [await gw.connect() for _ in range(200)]
        for client in clients:
            client.send(request("POST", CHAT, b"{}"))
        for client in clients:
            await client.head()
        for client in clients:
            client.close()
        left_at = asyncio.get_running_loop().time()
        await up.emptied()
        assert max(wire.ended_at for wire in up.wires) - left_at < PROMPTLY_S
        await gw.idle()


async def test_pipelined_requests_of_a_client_that_has_left_are_not_begun() -> None:
    async with upstream(silent) as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(request("GET", "/v1/models") * 5)
        await up.request()
        client.close()
        await until(lambda: not gw.worker.server.connections)
        await gw.idle()
        assert len(up.requests) == 1
