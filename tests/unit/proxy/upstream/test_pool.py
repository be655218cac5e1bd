"""The pool of connections: never more than its limit, and no place is ever lost, whoever gives up when."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import OVERLOADED, UPSTREAM_UNREACHABLE, GatewayError
from gateway.proxy.upstream.connection import UpstreamConnection
from gateway.proxy.upstream.pool import Address, Pool
from tests.fakes.ports import free_port
from tests.fakes.upstream import Upstream, upstream
from tests.fakes.wire import soon, until


def pool_to(up: Upstream, limit: int | None = None, connect_s: float = 5.0) -> Pool:
    return Pool(Address(host="127.0.0.1", port=up.port), limit=limit, connect_s=connect_s)


async def test_the_newest_idle_connection_is_taken() -> None:
    async with upstream() as up:
        pool = pool_to(up)
        first, second = await pool.connect(), await pool.connect()
        pool.release(first)
        pool.release(second)
        assert (len(pool), pool.idle) == (2, 2)
        assert pool.take() is second
        assert second.reused
        assert pool.take() is first
        assert pool.take() is None
        pool.close()
        for connection in (first, second):
            pool.release(connection)  # it keeps none any more
        await up.emptied()
        await until(lambda: not len(pool))


async def test_a_connection_that_has_gone_or_has_something_to_say_is_not_taken() -> None:
    async with upstream() as up:
        pool = pool_to(up)
        pool.release(await pool.connect())
        await until(lambda: up.wires)
        up.wires[0].send(b"goodbye")
        up.wires[0].close()
        assert pool.take(sure=True) is None or not pool.idle  # the loop may have read it already
        await until(lambda: not len(pool))
        pool.release(await pool.connect())
        pool.sweep(asyncio.get_running_loop().time() + 1000)
        assert pool.take() is None
        await up.emptied()
        pool.close()


async def test_nobody_there() -> None:
    pool = Pool(Address(host="127.0.0.1", port=free_port()), limit=1)
    for _ in range(3):  # the place is given back each time
        with pytest.raises(GatewayError) as caught:
            await pool.connect()
        assert caught.value.kind is UPSTREAM_UNREACHABLE
    assert len(pool) == 0


async def test_at_the_limit_a_connection_that_comes_free_is_handed_over_in_order() -> None:
    async with upstream() as up:
        pool = pool_to(up, limit=1)
        held = await pool.connect()
        waiting = [asyncio.ensure_future(pool.connect()) for _ in range(3)]
        await until(lambda: len(pool._waiters) == 3)
        waiting[0].cancel()
        for task in waiting[1:]:
            assert not task.done()
            pool.release(held)
            assert await soon(task) is held
        pool.release(held)
        assert pool.idle == 1
        assert len(up.wires) == 1
        pool.close()


@pytest.mark.parametrize("broken", [False, True])
async def test_who_gives_up_just_as_its_turn_comes_gives_it_back(broken: bool) -> None:
    async with upstream() as up:
        pool = pool_to(up, limit=1)
        held = await pool.connect()
        waiting, behind = (asyncio.ensure_future(pool.connect()) for _ in range(2))
        await until(lambda: len(pool._waiters) == 2)
        if broken:
            pool.forget(held)  # a place comes free, and no connection
            held.close()
        else:
            pool.release(held)
        waiting.cancel()
        assert ((await soon(behind)) is held) == (not broken)
        assert waiting.cancelled()
        assert (len(pool), pool._connecting) == (1, 0)
        pool.close()


async def test_at_the_limit_for_too_long() -> None:
    async with upstream() as up:
        pool = pool_to(up, limit=1, connect_s=0.05)
        held = await pool.connect()
        with pytest.raises(GatewayError) as caught:
            await pool.connect()
        assert caught.value.kind is OVERLOADED
        held.close()
        await until(lambda: not len(pool))
        pool.release(await pool.connect())
        pool.close()


@given(st.integers(0, 1 << 30), st.integers(1, 3), st.integers(2, 8))
@settings(max_examples=25)
def test_no_place_is_lost(seed: int, limit: int, users: int) -> None:
    """Users that connect, wait, give up, are cancelled at any point, and leave a connection whole or broken."""
    asyncio.run(_crowd(random.Random(seed), limit, users))


async def _crowd(chance: random.Random, limit: int, users: int) -> None:
    async with upstream() as up:
        pool = pool_to(up, limit=limit)
        busy: set[UpstreamConnection] = set()

        async def user() -> None:
            for _ in range(4):
                connection = pool.take() or await pool.connect()
                assert connection not in busy
                busy.add(connection)
                try:
                    assert sum(each.transport is not None for each in busy) <= limit
                    await asyncio.sleep(chance.choice([0, 0, 0.001]))
                finally:
                    busy.discard(connection)
                    if connection.transport is None or chance.random() < 0.3:
                        connection.close()
                    else:
                        pool.release(connection)

        tasks = [asyncio.ensure_future(user()) for _ in range(users)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            assert len(pool) + pool._connecting <= limit
            if chance.random() < 0.1:
                chance.choice(tasks).cancel()
            if up.wires and chance.random() < 0.05:
                chance.choice(up.wires).transport.abort()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [r for r in results if isinstance(r, Exception)], results
        await until(lambda: not pool._connecting)
        async with asyncio.timeout(5):
            again = [pool.take() or await pool.connect() for _ in range(limit)]
        assert len(set(again)) == limit
        for connection in again:
            connection.close()
        pool.close()
        await until(lambda: not len(pool))
