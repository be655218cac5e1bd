"""What is sent twice, and what never is; and where a call goes when its first upstream cannot be reached."""

import asyncio

import pytest

from tests.fakes.ports import free_port
from tests.fakes.upstream import OK, Exchange, answer, closing, upstream
from tests.fakes.wire import chunk, until
from tests.fakes.worker import Gateway, gateway, request

CHAT = "/v1/chat/completions"


def pool_of(gw: Gateway, name: str = "main") -> int:
    return gw.worker._destinations[name].pool.idle


async def test_a_connection_that_was_closed_while_idle_is_not_used() -> None:
    async with upstream() as up, gateway(up) as gw:
        for number in range(1, 4):
            assert (await gw.ask(CHAT, b"{}")).status == 200
            assert pool_of(gw) == 1
            up.wires[-1].close()
            await until(lambda: pool_of(gw) == 0)
            assert len(up.requests) == len(up.wires) == number
        assert gw.metric("gateway_upstream_retries_total", upstream="main") == 0


async def stale(exchange: Exchange) -> None:
    """Answers the first request on each connection and breaks it off at the second."""
    exchange.wire.first = not hasattr(exchange.wire, "first")  # type: ignore[attr-defined]
    if exchange.wire.first:  # type: ignore[attr-defined]
        exchange.send(answer())
    else:
        exchange.wire.reset()


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PUT", "OPTIONS"])
async def test_what_may_be_repeated_is_repeated_once(method: str) -> None:
    async with upstream(stale) as up, gateway(up) as gw:
        assert (await gw.ask()).status == 200
        assert (await gw.ask(method=method)).status == 200
        assert [r.method.decode() for r in up.requests] == ["GET", method, method]
        assert up.requests[1].head == up.requests[2].head
        assert gw.access[1]["attempts"] == 2
        assert gw.metric("gateway_upstream_retries_total", upstream="main") == 1
        up.script = closing()
        found = await gw.ask(method=method)
        assert found.status == 502
        assert len(up.requests) == 5  # once on the old connection, once on a new one


async def test_a_post_that_was_sent_is_not_repeated() -> None:
    async with upstream(stale) as up, gateway(up) as gw:
        assert (await gw.ask()).status == 200
        found = await gw.ask(CHAT, b"{}")
        assert (found.status, found.error["code"]) == (502, "upstream_cut")
        assert len(up.requests) == 2
        assert gw.access[1]["attempts"] == 1


async def test_nothing_is_repeated_on_a_fresh_connection() -> None:
    async with upstream(closing()) as up, gateway(up) as gw:
        assert (await gw.ask()).status == 502
        assert len(up.requests) == 1


async def test_nothing_is_repeated_once_an_answer_has_begun() -> None:
    async def script(exchange: Exchange) -> None:
        if len(up.requests) == 1:
            return exchange.send(answer())
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        return exchange.wire.close()

    async with upstream(script) as up, gateway(up) as gw:
        await gw.ask()
        client = await gw.connect()
        client.send(request("GET", "/v1/models"))
        await client.closed()
        assert len(up.requests) == 2


async def test_a_post_is_sent_again_if_nothing_of_it_was() -> None:
    """The goodbye is on its way through the kernel when the request comes: the loop has not read it yet."""
    async with upstream() as up, gateway(up) as gw:
        for body in (b"{}", b'{"a":"' + b"x" * 100_000 + b'"}'):
            assert (await gw.ask()).status == 200
            connection = gw.worker._destinations["main"].pool._idle[0]
            assert connection.transport is not None
            connection.transport.close()  # what the loop does on reading it, before it tells us
            assert (await gw.ask(CHAT, body)).status == 200
        assert gw.access[1]["attempts"] == 1


async def test_uploads_look_twice_before_they_use_an_old_connection() -> None:
    async with upstream() as up, gateway(up) as gw:
        for piece in (b"abc", b"x" * 500_000):
            assert (await gw.ask()).status == 200
            await until(lambda: pool_of(gw) == 1)
            up.wires[-1].transport.close()
            client = await gw.connect()
            client.send(request("POST", "/v1/files", None, b"Content-Type: text/x", b"Transfer-Encoding: chunked"))
            client.send(chunk(piece) + b"0\r\n\r\n")
            assert (await client.response()).status == 200
            assert bytes(up.last.body) == piece


async def test_idle_connections_are_closed_in_time() -> None:
    async with upstream() as up, gateway({"main": {"base_url": up, "keepalive_s": 0.1}}) as gw:
        await asyncio.gather(*(gw.ask() for _ in range(5)))
        assert up.open
        await up.emptied()
        await until(lambda: not len(gw.worker._destinations["main"].pool))


ROUTE = [{"models": ["*"], "upstreams": ["first", "second"]}]


async def test_the_next_upstream_if_the_first_cannot_be_reached() -> None:
    async with (
        upstream() as up,
        gateway({"first": f"http://127.0.0.1:{free_port()}/v1", "second": up}, routes=ROUTE) as gw,
    ):
        for target, body in ((CHAT, b'{"model":"m"}'), ("/v1/models", None)):
            assert (await gw.ask(target, body)).status == 200
        assert (await gw.ask("/v1/files", b"upload", b"Content-Type: text/x")).status == 200
        assert bytes(up.last.body) == b"upload"
        assert [line["upstream"] for line in gw.access] == ["second"] * 3


async def test_no_other_upstream_once_the_first_could_be_reached() -> None:
    scripts = [
        closing(),
        closing(answer(b"{}", status=b"500 No")),
        closing(answer(b"{}", status=b"503 No")),
        closing(b"junk\r\n\r\n"),
    ]
    async with (
        upstream() as second,
        upstream() as first,
        gateway({"first": first, "second": second}, routes=ROUTE) as gw,
    ):
        for script, status in zip(scripts, (502, 500, 503, 502), strict=True):
            first.script = script
            assert (await gw.ask(CHAT, b"{}")).status == status
        assert len(first.requests) == 4
        assert not second.requests


async def test_none_can_be_reached() -> None:
    gone = {name: f"http://127.0.0.1:{free_port()}/v1" for name in ("first", "second")}
    async with gateway(gone, routes=ROUTE) as gw:
        assert (await gw.ask(CHAT, b"{}")).error["code"] == "upstream_unreachable"
        assert gw.access[0]["upstream"] == "second"


async def test_an_upstream_that_accepts_and_hangs_up_at_once() -> None:
    async with upstream(OK) as up, gateway(up) as gw:
        up.accepting = False
        for body in (None, b"{}"):
            found = await gw.ask(CHAT, body)
            assert found.status == 502
        assert len(up.wires) <= 4  # not for ever
        up.accepting = True
        assert (await gw.ask()).status == 200


async def test_an_upstream_that_comes_back() -> None:
    port = free_port()
    async with gateway(f"http://127.0.0.1:{port}/v1") as gw:
        assert (await gw.ask()).status == 502
        async with upstream(port=port):
            assert (await gw.ask()).status == 200
        assert (await gw.ask()).status == 502
