"""The client and the hot calls behind sentinels, while the primary changes."""

import time
from contextlib import aclosing
from pathlib import Path

import pytest
import structlog

from gateway.clock import SystemClock
from gateway.redisdb.address import Address
from gateway.redisdb.client import Client, connect
from gateway.redisdb.command import Script
from gateway.redisdb.failures import HotError, RedisFailure, RedisLost
from gateway.redisdb.hot import HotRedis
from gateway.redisdb.server_check import check_server
from gateway.redisdb.subscription import Connected, Disconnected, Message
from gateway.settings.model import Redis, Sentinel
from gateway.values import Secret
from tests.fakes.ports import free_port
from tests.fakes.redis_sentinel import PASSWORD, SENTINEL_PASSWORD, SERVICE, Watched
from tests.fakes.redis_servers import VALKEY, Server, StartServer, eventually

INCREASE = Script.of("increase", "return redis.call('INCRBY', KEYS[1], ARGV[1])")


def address(server: Server) -> Address:
    return Address("127.0.0.1", server.port)


async def serves(client: Client) -> bool:
    try:
        return bool(await client.execute("INCR", "n"))
    except RedisFailure:
        return False


async def serves_hot(hot: HotRedis) -> bool:
    try:
        return bool(await hot.script(INCREASE, ["n"], [1]))
    except HotError:
        return False


@pytest.mark.parametrize("how", ["asked to", "killed"])
async def test_the_primary_changes(redis_binary: Path, start_server: StartServer, how: str) -> None:
    """Asked to change, the old primary stays and takes writes for ten seconds more; killed, it does not."""
    if how == "asked to" and redis_binary != VALKEY:
        pytest.skip("it takes five seconds, and one kind of server tells enough")
    watched = Watched(redis_binary, start_server)
    old, new = watched.servers
    settings = watched.settings(deadline_ms=200, breaker_open_s=0.1, allow_volatile=True)
    client = connect(settings)
    hot = HotRedis(client, settings, clock=SystemClock(), log=structlog.get_logger(), scripts=[INCREASE])
    await hot.start()
    try:
        assert await client.primary() == address(old)
        assert "noeviction" not in str(await check_server(client, allow_volatile=True))
        await eventually(lambda: serves_hot(hot))
        assert await serves(client)
        async with aclosing(client.subscribe("news")) as events:
            assert await anext(events) == Connected()
            if how == "killed":
                old.kill()
                assert await anext(events) == Disconnected()
            else:
                watched.sentinels[0].command("SENTINEL", "FAILOVER", SERVICE)
            await eventually(lambda: is_primary(client, new), within_s=20)
            assert await eventually(lambda: counts_in(new, hot)), "and not for ten seconds more in the old one"
            assert await eventually(lambda: serves(client))
            before = int(new.command("GET", "n"))
            assert await hot.script(INCREASE, ["n"], [1]) == before + 1
            assert await client.execute("INCR", "n") == before + 2
            if how == "killed":
                assert await anext(events) == Connected()
                new.command("PUBLISH", "news", "hello")
                assert await anext(events) == Message(b"hello")
    finally:
        await hot.aclose()
        await client.aclose()


async def counts_in(server: Server, hot: HotRedis) -> bool:
    before = server.command("GET", "n")
    return await serves_hot(hot) and server.command("GET", "n") != before


async def is_primary(client: Client, server: Server) -> bool:
    try:
        return await client.primary() == address(server)
    except RedisLost:
        return False


async def test_no_sentinel_answers() -> None:
    nodes = [f"127.0.0.1:{free_port()}" for _ in range(3)]
    sentinel = Sentinel(nodes=nodes, service=SERVICE, password=Secret(SENTINEL_PASSWORD))
    client = connect(Redis(sentinel=sentinel, password=Secret(PASSWORD)))
    began = time.monotonic()
    try:
        for call in (client.primary(), client.execute("PING")):
            with pytest.raises(RedisLost, match="no sentinel") as failure:
                await call
            assert PASSWORD not in repr(failure.value)
            assert SENTINEL_PASSWORD not in repr(failure.value)
    finally:
        await client.aclose()
    assert time.monotonic() - began < 2
