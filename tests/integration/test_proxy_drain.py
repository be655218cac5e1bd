"""A worker that is told to stop: what is under way ends in order, or with an error at the deadline."""

import asyncio
import socket

import pytest

from tests.fakes.upstream import SSE_HEAD, Exchange, answer, silent, upstream
from tests.fakes.wire import chunk, soon, until
from tests.fakes.worker import Client, CutError, gateway, request

CHAT = "/v1/chat/completions"


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_nothing_new_is_accepted_and_idle_connections_close() -> None:
    async with upstream() as up, gateway(up, timeouts={"drain_idle_s": 0.1}, tidy=False) as gw:
        idle = [await gw.connect() for _ in range(3)]
        for client in idle:
            assert (await client.ask()).status == 200
        assert up.open
        await soon(gw.worker.drain(5.0))
        for client in idle:
            assert await client.closed() == b""
        with pytest.raises(OSError):
            await gw.connect()
        await up.emptied()


async def test_requests_on_open_connections_are_still_served_and_are_the_last() -> None:
    async with upstream() as up, gateway(up, timeouts={"drain_idle_s": 5.0}, tidy=False) as gw:
        client, other = await gw.connect(), await gw.connect()
        assert (await client.ask()).header(b"connection") is None
        await other.ask()
        draining = asyncio.ensure_future(gw.worker.drain(5.0))
        await until(lambda: gw.worker.server.draining)
        for each, body in ((client, None), (other, b'{"model":"m"}')):
            found = await each.ask(CHAT, body)
            assert (found.status, found.header(b"connection")) == (200, b"close")
            assert await each.closed() == b""
        await soon(draining)
        assert len(up.wires) >= 2  # connections are made while draining, but not kept
        await up.emptied()


async def test_a_connection_that_was_accepted_before_and_made_after_knows_it_too() -> None:
    """Between the two a turn of the loop may pass, and with it the order to drain."""
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    async with upstream() as up, gateway(up, timeouts={"drain_idle_s": 0.1}, tidy=False) as gw:
        accepted, other = gw.worker.server(), await gw.connect()  # without the other the drain would be over
        draining = asyncio.ensure_future(gw.worker.drain(5.0))
        await until(lambda: gw.worker.server.draining)
        await loop.connect_accepted_socket(lambda: accepted, ours)
        _, client = await loop.create_connection(Client, sock=theirs)
        found = await client.ask()
        assert (found.status, found.header(b"connection")) == (200, b"close")
        assert await client.closed() == b""
        other.close()
        await soon(draining)


async def test_what_is_under_way_may_end() -> None:
    go_on = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.whole()
        exchange.send(SSE_HEAD + chunk(b"data: 1\n\n"))
        await go_on.wait()
        exchange.send(chunk(b"data: 2\n\n") + b"0\r\n\r\n")

    async with upstream(script) as up, gateway(up, timeouts={"drain_idle_s": 0.1}, tidy=False) as gw:
        client, uploading = await gw.connect(), await gw.connect()
        client.send(request("POST", CHAT, b"{}"))
        assert (await client.head()).header(b"connection") is None  # it did not know yet
        uploading.send(request("POST", CHAT, None, b"Content-Length: 2"))
        await until(lambda: gw.in_flight == 2)
        draining = asyncio.ensure_future(gw.worker.drain(5.0))
        await until(lambda: gw.worker.server.draining)
        uploading.send(b"{}")
        assert (await uploading.head()).header(b"connection") == b"close"
        go_on.set()
        assert [await client.chunked() for _ in range(3)] == [b"data: 1\n\n", b"data: 2\n\n", b""]
        await soon(draining)
        assert [line["ended"] for line in gw.access] == ["complete"] * 2


async def test_streams_end_with_an_error_event_at_the_deadline() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.whole()
        exchange.send(SSE_HEAD + chunk(b"data: 1\n\n"))
        await exchange.gone()

    async with upstream(script) as up, gateway(up, tidy=False) as gw:
        client = await gw.connect()
        client.send(request("POST", CHAT, b"{}"))
        found = await client.head()
        began = now()
        await soon(gw.worker.drain(0.1))
        assert now() - began < 1.0
        with pytest.raises(CutError) as caught:
            await client._body(found, "POST")
        assert b'data: {"error":{' in caught.value.body
        assert b'"code":"server_is_shutting_down"' in caught.value.body
        await up.emptied()
        line = gw.access[0]
        assert (line["ended"], line["error"]) == ("cut", "draining")
        warnings = [entry["event"] for entry in gw.log if entry["level"] == "warning"]
        assert [event for event in warnings if event != "model_without_price"] == ["drain_deadline_passed"]


async def test_what_has_no_answer_yet_gets_one_at_the_deadline() -> None:
    """Whatever it waits for: its key, its body, memory, a connection, the upstream."""
    options = {"base_url": "", "max_connections": 1}
    async with (
        upstream(silent) as up,
        upstream() as hanging,
        gateway(
            {"main": options | {"base_url": up.url}, "slow": hanging},
            routes=[{"models": ["slow"], "upstreams": ["slow"]}, {"models": ["*"], "upstreams": ["main"]}],
            bodies={"budget_mib": 4, "json_mib": 3},
            tidy=False,
        ) as gw,
    ):
        pool = gw.worker._destinations["slow"].pool

        async def never() -> object:
            return await asyncio.get_running_loop().create_future()

        pool._resolve = never  # type: ignore[method-assign, assignment]
        sent = {
            "answer": request("POST", CHAT, b"{}" + b" " * (2 << 20)),
            "budget": request("POST", CHAT, None, b"Content-Length: %d" % (2 << 20)),
            "body": request("POST", CHAT, None, b"Content-Length: 100") + b"{",
            "upload": request("POST", "/v1/files", None, b"Content-Length: 100", b"Content-Type: text/x") + b"x",
            "connection": request("POST", CHAT, b'{"model":"slow"}'),
            "place": request("GET", "/v1/models"),
        }
        clients = {}
        for number, (what, data) in enumerate(sent.items(), 1):
            clients[what] = await gw.connect()
            clients[what].send(data)
            await until(lambda number=number: gw.in_flight == number)  # type: ignore[misc]
            if what == "answer":
                await up.request()
        await until(lambda: pool._connecting and gw.worker.budget._large)
        began = now()
        draining = asyncio.ensure_future(gw.worker.drain(0.2))
        for what, client in clients.items():
            found = await client.response()
            assert (found.status, found.error["code"]) == (503, "server_is_shutting_down"), what
            client.close()
        await soon(draining)
        assert now() - began < 1.5
        assert {line["error"] for line in gw.access} == {"draining"}
        assert gw.budget_used == 0


async def test_a_second_order_shortens_the_first() -> None:
    async with upstream(silent) as up, gateway(up, tidy=False) as gw:
        client = await gw.connect()
        client.send(request("POST", CHAT, b"{}"))
        await up.request()
        first = asyncio.ensure_future(gw.worker.drain(60.0))
        await until(lambda: gw.worker.server.draining)
        first.cancel()
        await asyncio.wait({first})
        began = now()
        second = asyncio.ensure_future(gw.worker.drain(0.1))
        assert (await client.response()).status == 503
        client.close()
        await soon(second)
        assert now() - began < 1.0


async def test_a_worker_that_is_closed_lets_go_of_everything() -> None:
    async with upstream(silent) as up, gateway(up, tidy=False) as gw:
        clients = [await gw.connect() for _ in range(5)]
        for client in clients[:3]:
            client.send(request("POST", CHAT, b"{}"))
        await up.request(3)
        await soon(gw.worker.close())
        for client in clients:
            await client.closed()
        await up.emptied()
        assert gw.in_flight == 0


async def test_no_connection_is_kept_after_its_exchange_while_draining() -> None:
    go_on = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await go_on.wait()
        exchange.send(answer())

    async with upstream(script) as up, gateway(up, tidy=False) as gw:
        client = await gw.connect()
        client.send(request("GET", "/v1/models"))
        await up.request()
        draining = asyncio.ensure_future(gw.worker.drain(5.0))
        await until(lambda: gw.worker.server.draining)
        assert up.open == 1
        go_on.set()
        assert (await client.response()).status == 200
        await up.emptied()
        await soon(draining)
