"""The read model as a worker asks and hears it, and what it does with words that it does not understand."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from gateway.clock import ManualClock
from gateway.credentials import digest
from gateway.keyspace import Keyspace
from gateway.proxy.auth.keys import KeyCache, KeysAwayError
from gateway.proxy.auth.read_model import ReadModel
from gateway.proxy.auth.revocation import Revocation
from gateway.proxy.http.exchanges import Exchanges
from gateway.redisdb.failures import HotTimeout
from gateway.redisdb.subscription import Connected, Disconnected, Message
from gateway.tasks import Tasks
from gateway.telemetry.logging import make_logger
from gateway.telemetry.metrics import Metrics
from gateway.values import Principal
from tests.fakes.wire import soon, until

PRINCIPAL = Principal("key_1", "proj_1", "user_1", "org-1", version=7)
KEY = digest("sk-gw-one")


class Redis:
    """What stands in Redis, and what is said there."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}
        self.failure: Exception | None = None
        self.published = True
        self.said: asyncio.Queue[Connected | Disconnected | Message | None] = asyncio.Queue()
        self.metrics = Metrics()
        me: Any = self
        self.model = ReadModel(me, me, Keyspace("gw"), self.metrics)

    async def call(self, name: str, *command: str) -> Any:
        if self.failure is not None:
            raise self.failure
        if command == ("EXISTS", "gw:published"):
            return int(self.published)
        assert command == ("HMGET", name, "v", "d")
        found = self.stored.get(name)
        return [None, None] if found is None else [b"7", found]

    async def subscribe(self, channel: str) -> AsyncIterator[Connected | Disconnected | Message]:
        assert channel == "gw:invalidate"
        while (event := await self.said.get()) is not None:
            yield event
        raise RuntimeError("a mistake of ours")

    def counted(self, result: str) -> float:
        self.metrics.flush()
        return self.metrics.registry.get_sample_value("gateway_key_lookups_total", {"result": result}) or 0.0


async def test_asking() -> None:
    redis = Redis()
    redis.stored[f"gw:key:{KEY.hex()}"] = msgspec.json.encode(PRINCIPAL)
    assert await redis.model.fetch(KEY) == PRINCIPAL
    assert await redis.model.fetch(digest("another")) is None
    redis.failure = HotTimeout("slow")
    with pytest.raises(KeysAwayError):
        await redis.model.fetch(KEY)
    assert [redis.counted(result) for result in ("found", "unknown", "failed")] == [1, 1, 1]


async def test_a_redis_that_was_told_no_keys_does_not_say_that_a_key_is_wrong() -> None:
    redis = Redis()
    redis.published = False
    with pytest.raises(KeysAwayError):
        await redis.model.fetch(KEY)
    redis.stored[f"gw:key:{KEY.hex()}"] = msgspec.json.encode(PRINCIPAL)
    assert await redis.model.fetch(KEY) == PRINCIPAL, "it is being told"
    redis.published = True
    assert await redis.model.fetch(digest("another")) is None


async def test_a_key_that_is_published_while_it_is_asked_for_is_found() -> None:
    redis = Redis()
    asked: list[str] = []
    call = redis.call

    async def and_then_published(name: str, *command: str) -> Any:
        asked.append(command[0])
        if asked == ["HMGET", "EXISTS"]:
            redis.stored[f"gw:key:{KEY.hex()}"] = msgspec.json.encode(PRINCIPAL)
        return await call(name, *command)

    redis.call = and_then_published  # type: ignore[method-assign]
    assert await redis.model.fetch(KEY) == PRINCIPAL
    assert asked == ["HMGET", "EXISTS", "HMGET"]


async def test_what_a_newer_control_plane_writes_is_still_read() -> None:
    redis = Redis()
    redis.stored[f"gw:key:{KEY.hex()}"] = msgspec.json.encode({**msgspec.to_builtins(PRINCIPAL), "limits": [1]})
    assert await redis.model.fetch(KEY) == PRINCIPAL


JUNK = [b"", b"x" * 64, b"\xff" * 64, b"junk", KEY.hex().encode()[:-1], KEY.hex().encode() + b"0"]


async def test_hearing() -> None:
    redis = Redis()
    heard: asyncio.Queue[bytes | bool] = asyncio.Queue()

    async def listen() -> None:
        async for change in redis.model.changes():
            heard.put_nowait(change)

    listening = asyncio.ensure_future(listen())
    events: list[Connected | Disconnected | Message] = [
        Connected(),
        *map(Message, JUNK),
        Message(KEY.hex().encode()),
        Disconnected(),
    ]
    for event in events:
        redis.said.put_nowait(event)
    assert [await soon(heard.get()) for _ in range(3)] == [True, KEY, False]
    assert heard.empty()
    listening.cancel()


async def test_who_hears_no_more_believes_nothing_for_long() -> None:
    """Whatever ends the listening: a cache that goes on as if it heard of revocations would be wrong for a minute."""
    redis = Redis()
    cache = KeyCache(redis.model.fetch, ManualClock())
    tasks = Tasks()
    log = make_logger("worker", "info", ManualClock(), write=lambda _: None)
    listening = asyncio.ensure_future(Revocation(redis.model, cache, Exchanges(1, 1), tasks, log).listen())
    redis.said.put_nowait(Connected())
    await until(lambda: cache.subscribed)
    redis.said.put_nowait(None)
    with pytest.raises(RuntimeError):
        await listening
    assert not cache.subscribed
