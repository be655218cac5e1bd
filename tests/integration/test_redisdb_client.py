"""The client against real servers."""

import asyncio
import traceback
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from gateway.redisdb import subscription
from gateway.redisdb.client import Client, connect
from gateway.redisdb.command import Script
from gateway.redisdb.failures import RedisLost, RedisMisconfigured, RedisReplyError
from gateway.redisdb.server_check import check_server
from gateway.redisdb.subscription import Connected, Disconnected, Message
from gateway.settings.model import Redis
from gateway.values import Secret
from tests.fakes.ports import free_port
from tests.fakes.redis_proxy import dropping_replies_to
from tests.fakes.redis_servers import Server, StartServer, cluster_options, eventually

INCREASE = Script.of("increase", "return redis.call('INCRBY', KEYS[1], ARGV[1])")


@asynccontextmanager
async def client_of(settings: Redis) -> AsyncIterator[Client]:
    client = connect(settings)
    try:
        yield client
    finally:
        await client.aclose()


async def test_commands_scripts_and_pipelines(redis_server: Server) -> None:
    async with client_of(redis_server.settings()) as client:
        assert await client.execute("SET", "k", b"\xff") is True
        assert await client.execute("GET", "k") == b"\xff"
        assert await client.script(INCREASE, ["n"], [2]) == 2
        redis_server.command("SCRIPT", "FLUSH")
        assert await client.script(INCREASE, ["n"], [2]) == 4
        assert await client.pipeline([("INCR", "n"), ("GET", "k")]) == [5, b"\xff"]
        with pytest.raises(RedisReplyError, match="WRONGTYPE"):
            await client.pipeline([("LPUSH", "n", 1), ("INCR", "n")])
        assert await client.execute("GET", "n") == b"6"


async def test_over_tcp_with_a_user_and_a_database(redis_binary: Path, start_server: StartServer) -> None:
    server = start_server(redis_binary, port=free_port())
    server.command("ACL", "SETUSER", "gate", "on", ">s3cret", "~*", "&*", "+@all")
    server.command("SET", "k", "in 0")
    settings = server.settings(username="gate", password=Secret("s3cret"))
    async with client_of(settings) as client:
        assert await client.execute("GET", "k") == b"in 0"
    async with client_of(Redis(url=Secret(f"redis://gate:s3cret@127.0.0.1:{server.port}/1"))) as client:
        assert await client.execute("GET", "k") is None
    async with client_of(server.settings(username="gate", password=Secret("wr0ng"))) as client:
        with pytest.raises(RedisReplyError) as refusal:
            await client.execute("PING")
        assert "wr0ng" not in repr(refusal.value)


async def test_a_blocking_read_may_take_its_time(redis_server: Server) -> None:
    async with client_of(redis_server.settings()) as client:
        pop = asyncio.ensure_future(client.execute("BLPOP", "list", 0, timeout_s=30))
        await eventually(lambda: redis_server.info("clients")["blocked_clients"] == "1")
        redis_server.command("RPUSH", "list", "x")
        assert (await pop)[1] == b"x"
        with pytest.raises(RedisLost, match="no answer in time"):
            await client.execute("BLPOP", "list", 0, timeout_s=0.05)
        assert await client.execute("PING") is True, "the connection that had to be given up is not used again"


async def test_nothing_is_repeated_when_the_reply_is_lost(redis_server: Server, tmp_path: Path) -> None:
    """redis-py's own default would run this eleven times."""
    async with (
        dropping_replies_to(b"INCR", redis_server, tmp_path) as path,
        client_of(Redis(url=Secret(f"unix://{path}"))) as client,
    ):
        assert await client.execute("PING") is True
        with pytest.raises(RedisLost):
            await client.execute("INCR", "ran")
        with pytest.raises(RedisLost):
            await client.pipeline([("INCR", "ran")])
    assert redis_server.command("GET", "ran") == b"2"


async def test_more_callers_than_connections_wait(redis_server: Server) -> None:
    async with client_of(redis_server.settings()) as client:
        await asyncio.gather(*(client.execute("INCR", "n") for _ in range(200)))
        assert await client.execute("GET", "n") == b"200"


async def test_a_server_that_is_away(redis_server: Server) -> None:
    async with client_of(redis_server.settings()) as client:
        await client.execute("PING")
        redis_server.kill()
        with pytest.raises(RedisLost):
            await client.execute("PING")
        with pytest.raises(RedisLost):
            await client.execute("PING")
        redis_server.start()
        assert await client.execute("PING") is True


def as_logged(error: BaseException) -> str:
    """The traceback's last words; its other lines are source code."""
    return "".join(line for line in traceback.format_exception(error) if not line.startswith("  File"))


async def test_no_error_or_repr_shows_a_secret(redis_server: Server) -> None:
    settings = redis_server.settings(password=Secret("qqq-password"))
    async with client_of(settings) as client:
        assert "qqq" not in repr(client)
        assert "qqq" not in repr(client.target)
    async with client_of(redis_server.settings()) as client:
        for command in (("NOSUCH", "qqq-argument"), ("GET", "qqq-argument", "too many")):
            with pytest.raises(RedisReplyError) as failure:
                await client.execute(*command)
            assert "qqq" not in as_logged(failure.value)
        with pytest.raises(RedisReplyError) as failure:
            await client.pipeline([("NOSUCH", "qqq-argument")])
        assert "qqq" not in as_logged(failure.value)


async def test_a_channel_says_when_messages_may_have_been_missed(redis_server: Server) -> None:
    async with client_of(redis_server.settings()) as client, aclosing(client.subscribe("news")) as events:
        assert await anext(events) == Connected()
        redis_server.command("PUBLISH", "news", "one")
        redis_server.command("PUBLISH", "other", "not for us")
        redis_server.command("PUBLISH", "news", b"\xfftwo")
        assert [await anext(events), await anext(events)] == [Message(b"one"), Message(b"\xfftwo")]
        redis_server.kill()
        assert await anext(events) == Disconnected()
        after = asyncio.ensure_future(anext(events))
        redis_server.start()
        assert await after == Connected()
        redis_server.command("PUBLISH", "news", "three")
        assert await anext(events) == Message(b"three")


async def test_a_channel_waits_for_a_server_that_is_not_there_yet(start_server: StartServer) -> None:
    server = start_server(start=False)
    async with client_of(server.settings()) as client, aclosing(client.subscribe("news")) as events:
        first = asyncio.ensure_future(anext(events))
        server.start()
        assert await first == Connected()


async def test_a_silent_server_is_left(redis_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "SILENCE_S", 0.1)
    async with client_of(redis_server.settings()) as client, aclosing(client.subscribe("news")) as events:
        assert await anext(events) == Connected()
        following = asyncio.ensure_future(anext(events))
        await eventually(lambda: redis_server.calls("ping") >= 3)
        assert not following.done(), "one that answers is kept"
        redis_server.pause()
        assert await following == Disconnected()
        redis_server.resume()
        assert await anext(events) == Connected()


async def test_a_subscription_ends_with_its_consumer(redis_server: Server) -> None:
    async def consume(client: Client) -> None:
        async with aclosing(client.subscribe("news")) as events:
            async for _ in events:
                pass

    def subscribers() -> int:
        reply: list[int] = redis_server.command("PUBSUB", "NUMSUB", "news")
        return reply[1]

    async with client_of(redis_server.settings()) as client:
        task = asyncio.ensure_future(consume(client))
        await eventually(lambda: subscribers() == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: subscribers() == 0)


async def test_a_good_server_passes(redis_binary: Path, start_server: StartServer) -> None:
    server = start_server(redis_binary, "--appendonly", "yes")
    async with client_of(server.settings()) as client:
        assert await check_server(client) == []


async def test_snapshots_are_enough(redis_binary: Path, start_server: StartServer) -> None:
    server = start_server(redis_binary, "--save", "3600 1")
    async with client_of(server.settings()) as client:
        assert await check_server(client) == []


async def test_what_is_wrong_is_named_all_at_once(redis_binary: Path, start_server: StartServer) -> None:
    server = start_server(redis_binary, "--maxmemory-policy", "allkeys-lru")
    async with client_of(server.settings()) as client:
        with pytest.raises(RedisMisconfigured) as refusal:
            await check_server(client)
        for words in ("allkeys-lru", "noeviction", "appendonly", "redis.allow_volatile"):
            assert words in str(refusal.value)
        assert len(await check_server(client, allow_volatile=True)) == 2


async def test_a_service_that_hides_its_configuration_is_believed_with_a_warning(
    redis_binary: Path, start_server: StartServer
) -> None:
    server = start_server(redis_binary)
    server.command("ACL", "SETUSER", "gate", "on", "nopass", "~*", "&*", "+@all", "-config")
    async with client_of(server.settings(username="gate", password=Secret("any"))) as client:
        (warning,) = await check_server(client)
        assert "appendonly" in warning


async def test_a_node_of_a_cluster_must_be_called_one(redis_binary: Path, start_server: StartServer) -> None:
    server = start_server(redis_binary, *cluster_options(), "--appendonly", "yes", port=free_port())
    async with client_of(server.settings()) as client:
        with pytest.raises(RedisMisconfigured, match=r"set redis\.cluster to true"):
            await check_server(client)
