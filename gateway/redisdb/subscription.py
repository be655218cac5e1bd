"""A channel as a stream of events that says when it may have missed some."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, cast

import msgspec
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.client import PubSub
from redis.exceptions import RedisClusterException, RedisError

from gateway.redisdb.hot_connection import backoff_s

SILENCE_S = 5.0  # a connection that is silent for so long is asked whether it still lives, and has as long to answer


class Connected(msgspec.Struct, frozen=True):
    """From now on every message arrives. What was published before is gone: read the state anew."""


class Message(msgspec.Struct, frozen=True):
    payload: bytes


class Disconnected(msgspec.Struct, frozen=True):
    """From now on messages are missed, until Connected."""


Event = Connected | Message | Disconnected


LookAround = Callable[[], Awaitable[None]]
"""Learns where servers are. redis-py's errors."""


async def subscription(
    redis: "Redis | RedisCluster", channel: str, look_around: LookAround
) -> AsyncGenerator[Event, None]:
    """Reconnects for ever, with backoff. Connected comes first, when the server has confirmed the subscription."""
    failures = 0
    while True:
        connected = False
        try:
            async with aclosing(_one_connection(redis, channel, look_around)) as events:
                async for event in events:
                    connected, failures = True, 0
                    yield event
        except (RedisError, RedisClusterException, OSError, IndexError):
            pass  # a TimeoutError is an OSError; IndexError is redis-py's in a cluster that serves nothing
        if connected:
            yield Disconnected()
        failures += 1
        await asyncio.sleep(backoff_s(failures))


async def _one_connection(
    redis: "Redis | RedisCluster", channel: str, look_around: LookAround
) -> AsyncGenerator[Event, None]:
    async with asyncio.timeout(SILENCE_S):
        await look_around()  # the server of the last connection may be gone
    pubsub: PubSub = cast("Any", redis).pubsub()
    try:
        async with asyncio.timeout(SILENCE_S):
            await pubsub.subscribe(channel)
            while (await _next(pubsub, None) or {}).get("type") != "subscribe":
                pass
        yield Connected()
        asked = False
        while True:
            message = await _next(pubsub, SILENCE_S)
            if message is None:
                if asked:
                    raise TimeoutError
                await cast("Any", pubsub).ping()
            elif message["type"] == "message":
                yield Message(message["data"])
            asked = message is None
    finally:
        await pubsub.aclose()  # type: ignore[no-untyped-call]


async def _next(pubsub: PubSub, timeout_s: float | None) -> dict[str, Any] | None:
    message: dict[str, Any] | None = await cast("Any", pubsub).get_message(timeout=timeout_s)
    return message
