"""What a hot call costs: `./test tests/integration/test_redisdb_cost.py -s` prints CPU microseconds a call.

It is held against the least that Python can do on the same machine in the same second, a protocol that only sends and
receives: absolute times say more about the neighbours than about the code.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast

import hiredis
import pytest
import structlog
import uvloop

from gateway.clock import SystemClock
from gateway.redisdb.client import connect
from gateway.redisdb.command import Arg, Script, pack
from gateway.redisdb.hot import HotRedis
from tests.fakes.redis_servers import Server

pytestmark = pytest.mark.alone  # it measures time

CALLERS, CALLS, ROUNDS = 16, 250, 20
SCRIPT = Script.of("three", "for i = 1, 3 do redis.call('INCRBY', KEYS[i], ARGV[1]) end return {1, 2, 'ok'}")
KEYS = ("{o}:1", "{o}:2", "{o}:3")
ARGS: tuple[Arg, ...] = (1, "abc", 12345)


class Bare(asyncio.Protocol):
    """No deadlines, no errors, no reconnecting."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.waiting: deque[asyncio.Future[Any]] = deque()
        self.batch: list[bytes] = []
        self.reader = hiredis.Reader()
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not False:
            self.waiting.popleft().set_result(reply)

    def call(self, packed: bytes) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = self.loop.create_future()
        self.waiting.append(future)
        if not self.batch:
            self.loop.call_soon(self.flush)
        self.batch.append(packed)
        return future

    def flush(self) -> None:
        assert self.transport is not None
        self.transport.write(b"".join(self.batch))
        self.batch = []


async def cpu_us(call: Callable[[], Awaitable[Any]]) -> float:
    async def caller() -> None:
        for _ in range(CALLS):
            await call()

    began = time.process_time()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return (time.process_time() - began) / (CALLERS * CALLS) * 1e6


async def measure(server: Server) -> tuple[float, float]:
    settings = server.settings(deadline_ms=5000)
    client = connect(settings)
    hot = HotRedis(client, settings, clock=SystemClock(), log=structlog.get_logger(), scripts=[SCRIPT])
    await hot.start()
    await hot.script(SCRIPT, KEYS, ARGS)
    loop = asyncio.get_running_loop()
    _, bare = await loop.create_unix_connection(Bare, str(server.socket))
    hot_us, bare_us = [], []
    for _ in range(ROUNDS):
        hot_us.append(await cpu_us(lambda: hot.script(SCRIPT, KEYS, ARGS)))
        bare_us.append(await cpu_us(lambda: bare.call(pack(("EVALSHA", SCRIPT.sha1, 3, *KEYS, *ARGS)))))
    assert bare.transport is not None
    bare.transport.close()
    await hot.aclose()
    await client.aclose()
    return min(hot_us), min(bare_us)


def test_a_hot_call_costs_little_more_than_the_least_possible(valkey: Server) -> None:
    hot, bare = uvloop.run(measure(valkey))
    print(f"\n{CALLERS} callers on uvloop, CPU us a call: hot {hot:.1f}, bare protocol {bare:.1f}")  # noqa: T201
    assert hot < 2.5 * bare
