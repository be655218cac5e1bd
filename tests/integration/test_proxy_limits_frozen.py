"""Limits while Redis does not answer: whatever it does later, calls are charged once, and nothing is held for ever."""

import asyncio
from pathlib import Path

import pytest

from gateway.limits import RateLimit, SpendLimit
from tests.fakes.limited import Limited, limited, own
from tests.fakes.redis_servers import StartServer, eventually
from tests.fakes.upstream import saying
from tests.fakes.wire import until
from tests.fakes.worker import request
from tests.integration.test_proxy_limits import ANSWERS, ASKED, CHAT, PRICE

RPM, RUNNING = RateLimit("requests_per_minute", 600), RateLimit("concurrent_requests", 10)
REFUSES = saying(b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")


async def thawed(stand: Limited) -> None:
    """Redis goes on, and has done all that it was asked to."""
    stand.server.resume()
    await eventually(stand.limits.leases.end_now)
    await stand.settled()
    answered = (await stand.gw.ask(CHAT, ASKED)).status  # behind all that was still in its sockets
    assert answered in {200, 400}
    await stand.settled()


@pytest.mark.parametrize(("script", "price"), [(ANSWERS, PRICE), (REFUSES, 0)])
async def test_calls_that_were_admitted_meanwhile_are_charged_once(
    script: object, price: int, start_server: StartServer, tmp_path: Path
) -> None:
    async with limited(start_server(), tmp_path, script, deadline_ms=500) as stand:  # type: ignore[arg-type]
        await stand.publish({"o": own(RPM, RUNNING)})
        await stand.gw.ask(CHAT, ASKED)
        await stand.settled()
        stand.server.pause()
        found = await asyncio.gather(*(stand.gw.ask(CHAT, ASKED) for _ in range(3)))
        assert {one.status for one in found} == {200 if price else 400}
        await stand.gw.idle()
        await thawed(stand)
        assert await stand.spent() == [5 * price] * 4
        events = stand.events()
        assert len({event.id for event in events}) == len(events) == 5
        assert not any(event.unconfirmed for event in events)
        assert stand.gw.metric("gateway_limits_without_redis_total", outcome="admitted") >= 1


async def test_calls_that_were_refused_meanwhile_cost_nothing(start_server: StartServer, tmp_path: Path) -> None:
    async with limited(start_server(), tmp_path, ANSWERS, deadline_ms=500) as stand:
        await stand.publish({"o": own(RUNNING, SpendLimit("day", 10**12))})
        await stand.gw.ask(CHAT, ASKED)
        await stand.settled()
        stand.server.pause()
        found = await asyncio.gather(*(stand.gw.ask(CHAT, ASKED) for _ in range(3)))
        assert {(one.status, one.error["code"]) for one in found} == {(503, "limit_check_unavailable")}
        await thawed(stand)
        assert await stand.spent() == [2 * PRICE] * 4
        assert len(stand.up.requests) == len(stand.events()) == 2


async def test_a_client_that_leaves_while_its_call_is_reserved(start_server: StartServer, tmp_path: Path) -> None:
    async with limited(start_server(), tmp_path, ANSWERS) as stand:
        await stand.publish({"o": own(RUNNING)})
        await stand.gw.ask(CHAT, ASKED)
        await stand.settled()
        stand.server.pause()
        client = await stand.gw.connect()
        client.send(request("POST", CHAT, ASKED))
        await until(lambda: stand.gw.in_flight)
        client.close()
        await stand.gw.idle()
        await thawed(stand)
        assert await stand.spent() == [2 * PRICE] * 4
        assert len(stand.up.requests) == len(stand.events()) == 2
        assert stand.gw.access[1]["ended"] == "client_left"
