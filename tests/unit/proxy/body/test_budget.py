"""The budget of buffered bodies: never exceeded, never leaking, whoever leaves when."""

import asyncio
import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import DRAINING, OVERLOADED, GatewayError
from gateway.proxy.body.budget import Budget, Share
from tests.fakes.wire import soon, until

KIB = 1024


async def test_taken_and_given_back() -> None:
    budget = Budget(1000 * KIB, 1.0)
    share = budget.take_now(100 * KIB)
    assert share is not None
    assert budget.used == 100 * KIB
    share.grow(50 * KIB)
    assert budget.used == 150 * KIB
    share.shrink(10 * KIB)
    assert (budget.used, share.size) == (10 * KIB, 10 * KIB)
    share.shrink(20 * KIB)
    assert share.size == 10 * KIB
    share.release()
    share.release()
    assert budget.used == 0


async def test_who_waits_gets_its_turn_in_order() -> None:
    budget = Budget(1000 * KIB, 5.0)
    held = [await budget.take(400 * KIB), await budget.take(400 * KIB)]
    waiting = [asyncio.ensure_future(budget.take(400 * KIB)) for _ in range(3)]
    await until(lambda: len(budget._large) == 3)
    assert budget.take_now(300 * KIB) is None  # there is a queue
    small = budget.take_now(50 * KIB)  # with a place of its own
    assert small is not None
    held[0].release()
    await until(waiting[0].done)
    assert not waiting[1].done()
    held[1].release()
    (await soon(waiting[0])).release()
    shares = [await soon(waiting[1]), await soon(waiting[2])]
    for share in (*shares, small):
        share.release()
    assert budget.used == 0


async def test_who_waits_too_long_is_refused() -> None:
    budget = Budget(1000 * KIB, 0.01)
    share = await budget.take(800 * KIB)
    with pytest.raises(GatewayError) as caught:
        await budget.take(500 * KIB)
    assert caught.value.kind is OVERLOADED
    with pytest.raises(GatewayError):
        await budget.take(2000 * KIB)  # never fits: not worth waiting
    with pytest.raises(GatewayError):
        share.grow(300 * KIB)
    share.release()
    assert budget.used == 0


async def test_all_waiting_can_be_ended() -> None:
    budget = Budget(1000 * KIB, 5.0)
    share = await budget.take(800 * KIB)
    waiting = [asyncio.ensure_future(budget.take(size * KIB)) for size in (500, 250, 600)]
    await until(lambda: len(budget._large) == 2 and len(budget._small) == 1)
    budget.end_waits(GatewayError(DRAINING))
    for task in waiting:
        with pytest.raises(GatewayError) as caught:
            await soon(task)
        assert caught.value.kind is DRAINING
    assert budget.used == share.size
    share.release()
    assert budget.used == 0


async def test_who_leaves_makes_room_for_who_stood_behind() -> None:
    budget = Budget(1000 * KIB, 5.0)
    share = await budget.take(500 * KIB)
    large = asyncio.ensure_future(budget.take(800 * KIB))
    behind = asyncio.ensure_future(budget.take(300 * KIB))
    await until(lambda: len(budget._large) == 2)
    large.cancel()
    (await soon(behind)).release()
    share.release()
    assert budget.used == 0


@given(st.integers(), st.integers(2, 12))
@settings(max_examples=60, deadline=None)
def test_nothing_leaks(seed: int, users: int) -> None:
    """Users that take, grow, shrink, wait, give up and are cancelled at any point, in any order."""
    asyncio.run(_crowd(random.Random(seed), users))


async def _crowd(chance: random.Random, users: int) -> None:
    budget = Budget(1000 * KIB, 0.02)
    most = 0
    shares: set[Share] = set()

    async def user() -> None:
        nonlocal most
        for _ in range(4):
            size = chance.choice([1, 10, 200, 257, 400, 700, 874]) * KIB
            try:
                share = await budget.take(size)
            except GatewayError:
                continue
            shares.add(share)
            try:
                most = max(most, budget.used)
                assert budget.used >= sum(s.size for s in shares)  # more, for who was let in may not have woken yet
                await asyncio.sleep(chance.choice([0, 0, 0.001]))
                with contextlib.suppress(GatewayError):
                    share.grow(chance.choice([1, 100, 300]) * KIB)
                most = max(most, budget.used)
                await asyncio.sleep(0)
                share.shrink(chance.randrange(size))
            finally:
                shares.discard(share)
                share.release()

    tasks = [asyncio.ensure_future(user()) for _ in range(users)]
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        if chance.random() < 0.1:
            chance.choice(tasks).cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [r for r in results if isinstance(r, Exception)], results
    assert (budget.used, list(budget._small), list(budget._large)) == (0, [], [])
    assert most <= budget.size
