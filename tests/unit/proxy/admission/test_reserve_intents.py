"""Calls that Redis may not know of are noted before they go upstream, for as long as nobody else knows of them."""

import asyncio

import pytest

from gateway.accounts.answers import Admitted, Closed
from gateway.redisdb.failures import RedisFailure
from tests.unit.proxy.admission.kit import ORG, Stand
from tests.unit.proxy.admission.test_reserve import AWAY, EVENT, FAILURES, RPM, RUNNING, SLOW, admitted


@pytest.mark.parametrize("answer", [*[failure for failure, _ in FAILURES], Closed(42)])
async def test_what_redis_may_not_know_of_is_noted(answer: RedisFailure | Closed) -> None:
    stand = Stand(answer)
    stand.limit(RPM)
    stand.seen.wall = 1.5
    grant = await admitted(stand)
    (event,) = stand.intents.kept.values()
    assert (event.id, event.at_us, event.unconfirmed) == ("req_1", 1_500_000, True)
    assert event.lines[0].nano_usd == grant.estimate.taking.nano_usd > 0
    stand.admission.end(grant, EVENT, True)
    assert stand.intents.kept, "until its event has arrived"


async def test_calls_without_an_event_are_noted_no_longer() -> None:
    for sent in (True, False):
        stand = Stand(AWAY)
        stand.limit(RPM)
        stand.admission.end(await admitted(stand), None, sent)
        assert not stand.intents.kept


async def test_what_nobody_can_tell_is_noted_for_as_long_as_the_worker_lives() -> None:
    stand = Stand(AWAY)
    stand.limit(RPM)
    stand.admission.abandon(await admitted(stand))
    assert stand.intents.kept


async def test_what_redis_knows_is_not_noted() -> None:
    stand = Stand(Admitted(42, None, None))
    stand.admission.end(await admitted(stand), None, False)
    assert not stand.intents.kept


async def test_what_costs_nothing_that_is_known_is_not_noted() -> None:
    stand = Stand(AWAY)
    stand.limit(RPM)
    assert await stand.reserve("")
    assert not stand.intents.kept


async def test_a_client_that_leaves_while_its_call_is_noted() -> None:
    stand = Stand(SLOW)
    stand.limit(RUNNING)
    stand.intents.block = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(stand.reserve())
    while not stand.intents.kept:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not stand.intents.kept
    assert not stand.holds
    assert await stand.ends() == [("cancel", ORG, ("req_1",))]
    stand.intents.block = None
    stand.redis.replies.append(AWAY)
    await admitted(stand)
