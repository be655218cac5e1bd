"""The client and the hot calls in a real cluster whose slots move and whose servers die."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.clock import SystemClock
from gateway.redisdb.client import Client, connect, slot_of
from gateway.redisdb.command import Script
from gateway.redisdb.failures import HotError, HotUnavailable, RedisFailure, RedisMisconfigured
from gateway.redisdb.hot import HotRedis
from gateway.redisdb.server_check import check_server
from gateway.redisdb.subscription import Connected, Disconnected, Message
from gateway.settings.model import Redis
from gateway.values import Secret
from tests.fakes.ports import free_port
from tests.fakes.redis_cluster import Cluster
from tests.fakes.redis_servers import VALKEY, Server, StartServer, eventually

INCREASE = Script.of("increase", "return redis.call('INCRBY', KEYS[1], ARGV[1])")


@pytest.fixture(scope="module")
def shared_cluster(redis_binary: Path, start_module_server: StartServer) -> Cluster:
    return Cluster(redis_binary, start_module_server)  # it takes two seconds to agree that it is one


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Cluster:
    for node in shared_cluster.nodes:
        node.command("FLUSHALL")
        node.command("CONFIG", "RESETSTAT")
        node.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    return shared_cluster


def settings_of(node: Server, **more: Any) -> Redis:
    return node.settings(cluster=True, **({"deadline_ms": 5000} | more))


@asynccontextmanager
async def both(settings: Redis) -> AsyncIterator[tuple[Client, HotRedis]]:
    client = connect(settings)
    hot = HotRedis(client, settings, clock=SystemClock(), log=structlog.get_logger(), scripts=[INCREASE])
    await hot.start()
    try:
        yield client, hot
    finally:
        await hot.aclose()
        await client.aclose()


def key_of(cluster: Cluster, owner: Server, prefix: str = "") -> str:
    """A key that `owner` serves."""
    keys = (f"{prefix}{n}" for n in range(1000))
    return next(key for key in keys if cluster.owner(slot_of(key)) is owner)


async def test_each_key_goes_to_its_server(cluster: Cluster) -> None:
    async with both(settings_of(cluster.nodes[1])) as (client, hot):
        for node in cluster.nodes:
            key = key_of(cluster, node)
            assert await hot.script(INCREASE, [key], [2]) == 2
            assert await hot.call(key, "GET", key) == b"2"
            assert await client.execute("GET", key) == b"2"
            assert await client.script(INCREASE, [key], [1]) == 3
            assert node.command("GET", key) == b"3"
        keys = [key_of(cluster, node) for node in cluster.nodes]
        assert await client.pipeline([("INCR", key) for key in keys]) == [4, 4, 4]
        assert hot.states == {f"127.0.0.1:{node.port}": "closed" for node in cluster.nodes}
        assert sum(node.errors("MOVED") for node in cluster.nodes) == 0


async def test_a_channel_reaches_all(cluster: Cluster) -> None:
    async with both(settings_of(cluster.nodes[0])) as (client, _), aclosing(client.subscribe("news")) as events:
        assert await anext(events) == Connected()
        for n, node in enumerate(cluster.nodes):
            node.command("PUBLISH", "news", n)
            assert await anext(events) == Message(b"%d" % n)
        await client.execute("PUBLISH", "news", "by the client")
        assert await anext(events) == Message(b"by the client")


async def test_the_check_looks_at_every_server(cluster: Cluster) -> None:
    for node in cluster.nodes:
        node.command("CONFIG", "SET", "appendonly", "yes")
    async with both(settings_of(cluster.nodes[0])) as (client, _):
        assert await check_server(client) == []
        cluster.nodes[2].command("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
        with pytest.raises(RedisMisconfigured, match="volatile-lru"):
            await check_server(client)


async def test_keys_of_different_servers_are_a_mistake(cluster: Cluster) -> None:
    async with both(settings_of(cluster.nodes[0])) as (client, hot):
        keys = [key_of(cluster, node) for node in cluster.nodes]
        with pytest.raises(HotError, match="CROSSSLOT"):
            await hot.script(INCREASE, keys, [1])
        with pytest.raises(RedisFailure) as failure:
            await client.execute("MGET", *keys)
        assert keys[0] not in str(failure.value)


async def test_while_and_after_a_slot_moves(cluster: Cluster) -> None:
    here, there = cluster.nodes[0], cluster.nodes[2]
    tag = key_of(cluster, here, "in a slot of this test's own")
    slot, old, new = slot_of(tag), f"{{{tag}}}old", f"{{{tag}}}new"
    async with both(settings_of(cluster.nodes[1])) as (client, hot):
        assert await hot.script(INCREASE, [old], [1]) == 1
        cluster.begin_move(slot, there)
        assert await hot.script(INCREASE, [old], [1]) == 2, "still here"
        assert await hot.script(INCREASE, [new], [1]) == 1, "already there"
        assert here.errors("ASK") == 1
        there.command("SCRIPT", "FLUSH")
        with pytest.raises(HotUnavailable):  # ASKING is good for one command, which was spent on NOSCRIPT
            await hot.script(INCREASE, [new], [1])
        assert await hot.script(INCREASE, [new], [1]) == 2
        assert await hot.script(INCREASE, [old], [1]) == 3
        with pytest.raises(HotUnavailable, match="TRYAGAIN"):
            await hot.call(tag, "MGET", old, new)
        cluster.end_move(slot, there)
        assert await hot.script(INCREASE, [old], [1]) == 4
        assert here.errors("MOVED") == 1
        assert await asyncio.gather(*(hot.script(INCREASE, [old], [1]) for _ in range(10))) == [*range(5, 15)]
        assert here.errors("MOVED") == 1, "it is remembered"
        assert await client.execute("GET", old) == b"14"


async def test_a_replica_that_takes_over_is_found(start_server: StartServer) -> None:
    cluster = Cluster(VALKEY, start_server, replica=True)
    dead, heir = cluster.nodes[0], cluster.nodes[3]
    key = key_of(cluster, dead)
    other = key_of(cluster, cluster.nodes[1])
    settings = settings_of(dead, deadline_ms=200, breaker_open_s=0.1)

    async def works(hot: HotRedis, key: str) -> bool:
        try:
            return bool(await hot.script(INCREASE, [key], [1]))
        except HotError:
            return False

    async def serves(client: Client) -> bool:
        try:
            return bool(await client.execute("INCR", key))
        except RedisFailure:
            return False

    async with both(settings) as (client, hot), aclosing(client.subscribe(key)) as events:
        await eventually(lambda: works(hot, key))
        assert await anext(events) == Connected()
        dead.command("WAIT", 1, 5000)
        dead.kill()
        assert not await works(hot, key)
        assert await works(hot, other), "one that is dead does not take the others along"
        assert await anext(events) == Disconnected()
        await eventually(lambda: works(hot, key), within_s=20)
        assert await anext(events) == Connected()
        await eventually(lambda: serves(client))
        assert int(heir.command("GET", key)) >= 2
        await eventually(lambda: f"127.0.0.1:{dead.port}" not in hot.states)
        assert hot.state == "closed"


async def test_a_cluster_that_is_away_at_the_start_is_found_when_it_comes(start_server: StartServer) -> None:
    port = free_port()
    async with both(Redis(url=Secret(f"redis://127.0.0.1:{port}"), cluster=True)) as (client, hot):
        with pytest.raises(HotUnavailable):
            await hot.call("k", "PING")
        # A cluster of one, which at first serves nothing.
        bus = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
        server = start_server(VALKEY, *bus, port=port)
        for _ in range(2):
            with pytest.raises(RedisFailure):
                await client.execute("GET", "k")
            with pytest.raises(RedisFailure):
                await client.slots()
        server.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)

        async def works() -> bool:
            try:
                return bool(await hot.call("k", "SET", "k", "v"))
            except HotError:
                return False

        await eventually(works)
