"""Budgets under concurrency: what is admitted, what is spent, and by how much a limit is passed, to the nano-dollar."""

import asyncio
import random
import signal

import pytest

from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import Gateway
from tests.fakes.measuring import Measured, Size
from tests.fakes.paid_calls import (
    BODY,
    DURABLE,
    MOST,
    NANO,
    RESERVED,
    Caller,
    all_ended,
    caller,
    cost,
    dollars,
    events,
    folded,
    limited,
    paid,
    spent,
)
from tests.fakes.redis_servers import VALKEY, Server, StartServer, eventually

pytestmark = [pytest.mark.proof, pytest.mark.timeout(300)]
FOUR = {"count": 4, "standby": False}
SPENT = "project_spend_limit_exceeded"


def budget(nano_usd: int, reserve: str = "strict") -> dict[str, object]:
    return {"spend": {"total": dollars(nano_usd)}, "reserve": reserve}


def start_some(start: StartGateway, number: int, **settings: object) -> list[Gateway]:
    return [start(**settings) for _ in range(number)]


@pytest.mark.parametrize("gateways", [1, 2], ids=["one gateway", "two gateways"])
async def test_strict_admits_what_fits(
    gateways: int, start_gateway: StartGateway, start_server: StartServer, size: Size, measured: Measured
) -> None:
    """Each call costs exactly what it reserved, so the budget is spent exactly, and nothing beyond it."""
    number, fit = size(small=200, full=1000), size(small=20, full=100)
    server = start_server(VALKEY, *DURABLE)
    async with paid() as upstream:
        started = start_some(start_gateway, gateways, workers=FOUR, **limited(server, upstream, budget(fit * RESERVED)))
        async with caller(*started) as calls:
            said = await calls.round(number, upstream)
        await all_ended(server)
        assert {one.status for one in said} == {200, 429}
        assert {one.code for one in said if one.status == 429} == {SPENT}
        admitted = sum(one.status == 200 for one in said)
        measured(f"strict, {gateways} gateway(s): admitted of {number}", admitted, "calls", f"{fit}")
        measured(f"strict, {gateways} gateway(s): overspent", spent(server) - fit * RESERVED, "nano-USD", "0")
        assert admitted == len(upstream.book) == fit
        assert spent(server) == fit * RESERVED == upstream.nano_usd
        check_events(server, upstream.book.keys())


def check_events(server: Server, ids: object) -> None:
    found = folded(events(server))
    assert found.keys() == ids
    assert not [event for event in found.values() if event.unconfirmed]
    assert cost(found) == spent(server)
