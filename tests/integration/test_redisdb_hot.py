"""The hot calls against real servers that stop, die, forget and come back."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvloop

from gateway.clock import SystemClock
from gateway.redisdb.breaker import State
from gateway.redisdb.client import connect
from gateway.redisdb.command import Script
from gateway.redisdb.failures import HotError, HotLost, HotReplyError, HotTimeout, HotUnavailable
from gateway.redisdb.hot import HotRedis
from gateway.settings.model import Redis
from gateway.values import Secret
from tests.fakes.ports import free_port
from tests.fakes.redis_proxy import dropping_replies_to
from tests.fakes.redis_servers import VALKEY, Server, StartServer, eventually

INCREASE = Script.of("increase", "return redis.call('INCRBY', KEYS[1], ARGV[1])")
PATIENT: dict[str, Any] = {"deadline_ms": 5000}  # for tests that are not about the deadline, on machines that are busy


@asynccontextmanager
async def hot_of(settings: Redis, **more: Any) -> AsyncIterator[HotRedis]:
    client = connect(settings)
    hot = HotRedis(client, settings, clock=SystemClock(), log=structlog.get_logger(), scripts=[INCREASE], **more)
    await hot.start()
    try:
        yield hot
    finally:
        await hot.aclose()
        await client.aclose()


async def works(hot: HotRedis) -> bool:
    try:
        return bool(await hot.call("k", "PING") == b"PONG")
    except HotError:
        return False


async def scenario(settings: Redis) -> list[Any]:
    async with hot_of(settings) as hot:
        return [
            await hot.call("h", "HSET", "h", "v", 1, "d", b"\xff"),
            await hot.call("h", "HMGET", "h", "v", "d", "none"),
            await hot.script(INCREASE, ["n"], [3]),
            await hot.script(INCREASE, ["n"], ["4"]),
            hot.state,
        ]


EXPECTED = [2, [b"1", b"\xff", None], 3, 7, "closed"]


async def test_calls_and_scripts(redis_server: Server) -> None:
    assert await scenario(redis_server.settings(**PATIENT)) == EXPECTED


def test_on_uvloop(redis_server: Server) -> None:
    assert uvloop.run(scenario(redis_server.settings(**PATIENT))) == EXPECTED


def test_on_uvloop_over_tcp(start_server: StartServer) -> None:
    server = start_server(VALKEY, port=free_port())
    assert uvloop.run(scenario(server.settings(**PATIENT))) == EXPECTED


async def test_over_tcp_with_a_user_and_a_database(redis_binary: Path, start_server: StartServer) -> None:
    server = start_server(redis_binary, port=free_port())
    server.command("ACL", "SETUSER", "gate", "on", ">s3cret", "~*", "&*", "+@all", "-client")
    async with hot_of(Redis(url=Secret(f"redis://gate:s3cret@127.0.0.1:{server.port}/1"), **PATIENT)) as hot:
        assert await hot.call("k", "SET", "k", "v") == b"OK"
        assert server.command("EXISTS", "k") == 0
        assert server.info("keyspace")["db1"].startswith("keys=1,")


async def test_a_wrong_password_is_a_server_away_and_is_not_said(
    redis_binary: Path, start_server: StartServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server = start_server(redis_binary)
    server.command("ACL", "SETUSER", "gate", "on", ">s3cret", "~*", "+@all")
    async with hot_of(server.settings(username="gate", password=Secret("wr0ng"))) as hot:
        with pytest.raises(HotUnavailable):
            await hot.call("k", "PING")
    said = capsys.readouterr().out
    assert "WRONGPASS" in said
    assert "wr0ng" not in said


async def test_calls_of_one_tick_reach_the_server_in_one_read(redis_server: Server) -> None:
    async with hot_of(redis_server.settings(**PATIENT)) as hot:
        assert await works(hot)
        before = int(redis_server.info("stats")["total_reads_processed"])
        assert await asyncio.gather(*(hot.script(INCREASE, ["n"], [1]) for _ in range(100))) == [*range(1, 101)]
        after = int(redis_server.info("stats")["total_reads_processed"])
        assert after - before < 10


async def test_cancelled_calls_do_not_mix_up_the_others(redis_server: Server) -> None:
    shuffled = random.Random(7)
    async with hot_of(redis_server.settings(**PATIENT)) as hot:
        calls = []
        for n in range(2_000):
            calls.append(asyncio.ensure_future(hot.call("k", "ECHO", n)))
            if shuffled.random() < 0.3:
                calls[shuffled.randrange(len(calls))].cancel()
            if shuffled.random() < 0.1:
                await asyncio.sleep(0)
        found = await asyncio.gather(*calls, return_exceptions=True)
        wrong = [
            (n, it) for n, it in enumerate(found) if not isinstance(it, asyncio.CancelledError) and it != b"%d" % n
        ]
        assert wrong == []
        assert sum(isinstance(it, bytes) for it in found) > 1_000


async def test_a_script_that_was_forgotten_is_sent_again(redis_server: Server) -> None:
    async with hot_of(redis_server.settings(**PATIENT)) as hot:
        assert await hot.script(INCREASE, ["n"], [1]) == 1
        redis_server.command("SCRIPT", "FLUSH")
        again = await asyncio.gather(*(hot.script(INCREASE, ["n"], [1]) for _ in range(20)))
        assert sorted(again) == [*range(2, 22)]
        unknown = Script.of("new", "return 'never loaded'")
        assert await hot.script(unknown, ["n"]) == b"never loaded"


async def test_a_failing_script_is_not_repeated(redis_server: Server) -> None:
    half = Script.of("half", "redis.call('INCR', KEYS[1]) return redis.call('LPUSH', KEYS[1], 'x')")
    async with hot_of(redis_server.settings(**PATIENT)) as hot:
        with pytest.raises(HotReplyError, match="WRONGTYPE"):
            await hot.script(half, ["n"])
        assert await hot.call("n", "GET", "n") == b"1"


async def test_a_server_that_hangs_costs_a_caller_its_deadline(redis_server: Server) -> None:
    async with hot_of(redis_server.settings(deadline_ms=100, breaker_failures=1000)) as hot:
        await eventually(lambda: works(hot))
        redis_server.pause()
        began = time.monotonic()
        found = await asyncio.gather(*(hot.call("n", "INCR", "n") for _ in range(10)), return_exceptions=True)
        assert {type(it) for it in found} == {HotTimeout}
        assert 0.09 < time.monotonic() - began < 1
        redis_server.resume()
        await eventually(lambda: works(hot))
        assert redis_server.command("GET", "n") == b"10", "a call that timed out may run all the same"
        assert int(redis_server.info("stats")["total_connections_received"]) > 1


async def test_each_call_to_a_server_that_hangs_has_its_own_deadline(redis_server: Server) -> None:
    """Also one that is sent when all before it have failed, and is the only one that waits."""
    async with hot_of(redis_server.settings(deadline_ms=50)) as hot:
        await eventually(lambda: works(hot))
        redis_server.pause()
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(HotTimeout):
                await hot.call("k", "PING")
            assert time.monotonic() - began < 0.5
        redis_server.resume()


async def test_a_server_that_hangs_for_long_costs_the_connection(redis_server: Server) -> None:
    async with hot_of(redis_server.settings(deadline_ms=20, breaker_failures=1000)) as hot:
        await eventually(lambda: works(hot))
        redis_server.pause()
        await eventually(lambda: is_lost(hot))
        redis_server.resume()
        await eventually(lambda: works(hot))


async def is_lost(hot: HotRedis) -> bool:
    """Whether a call finds no connection, rather than one without answers."""
    try:
        await hot.call("k", "PING")
    except HotUnavailable:
        return True
    except HotError:
        pass
    return False


async def test_the_breaker_closes_without_calls(redis_server: Server) -> None:
    """What nobody calls would be shown as away for ever, though it came back long ago."""
    settings = redis_server.settings(deadline_ms=30, breaker_failures=3, breaker_open_s=0.1)
    seen: list[State] = []
    async with hot_of(settings, on_state=lambda _, state: seen.append(state)) as hot:
        await eventually(lambda: works(hot))
        redis_server.pause()
        await eventually(lambda: asks_until(hot, "open"))
        await eventually(lambda: seen.count("half_open") > 1)
        redis_server.resume()
        await eventually(lambda: hot.state == "closed")
        redis_server.kill()
        await eventually(lambda: asks_until(hot, "open"))
        redis_server.start()
        await eventually(lambda: hot.state == "closed")


async def asks_until(hot: HotRedis, state: State) -> bool:
    if hot.state != state:
        await works(hot)
    return hot.state == state


async def test_the_breaker_opens_and_closes_with_the_server(redis_server: Server) -> None:
    seen: list[tuple[str, State]] = []
    settings = redis_server.settings(deadline_ms=30, breaker_failures=3, breaker_open_s=0.2)
    async with hot_of(settings, on_state=lambda name, state: seen.append((name, state))) as hot:
        await eventually(lambda: works(hot))
        redis_server.pause()
        await asyncio.gather(*(hot.call("k", "PING") for _ in range(5)), return_exceptions=True)
        assert (hot.state, hot.states) == ("open", {"primary": "open"})
        began = time.monotonic()
        with pytest.raises(HotUnavailable, match="breaker"):
            await hot.call("k", "PING")
        assert time.monotonic() - began < 0.02
        redis_server.resume()
        await eventually(lambda: works(hot))
        assert hot.state == "closed"
    states = [state for _, state in seen]
    assert (states[0], states[-2:]) == ("open", ["half_open", "closed"])


async def test_after_a_restart_calls_work_again(redis_server: Server) -> None:
    settings = redis_server.settings(deadline_ms=200, breaker_open_s=0.05)
    async with hot_of(settings) as hot:
        await eventually(lambda: works(hot))
        redis_server.kill()
        with pytest.raises(HotError):
            await hot.call("k", "PING")
        redis_server.start()
        await eventually(lambda: works(hot))
        assert await hot.script(INCREASE, ["n"], [1]) == 1


async def test_a_server_that_is_away_is_known_to_be_before_anybody_calls(redis_server: Server) -> None:
    async with hot_of(redis_server.settings(breaker_failures=1000)) as hot:
        await eventually(lambda: hot.trouble is None)
        redis_server.kill()
        await eventually(lambda: hot.trouble == "it is not connected")
        redis_server.start()
        await eventually(lambda: hot.trouble is None)
        assert await works(hot)


async def test_calls_wait_for_a_server_that_is_starting(start_server: StartServer) -> None:
    server = start_server(start=False)
    async with hot_of(server.settings(**PATIENT)) as hot:
        call = asyncio.ensure_future(hot.script(INCREASE, ["n"], [1]))
        server.start()
        assert await call == 1


async def test_what_was_in_flight_when_the_connection_broke_is_lost_and_not_repeated(
    redis_server: Server, tmp_path: Path
) -> None:
    async with dropping_replies_to(b"EVALSHA", redis_server, tmp_path) as path:
        settings = Redis(url=Secret(f"unix://{path}"), **PATIENT)
        async with hot_of(settings) as hot:
            assert await works(hot)
            calls = [hot.script(INCREASE, ["n"], [1]) for _ in range(3)]
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(it) for it in found} == {HotLost}
            assert await hot.call("n", "GET", "n") == b"3"


async def test_kill_9_of_the_server_with_calls_in_flight(redis_server: Server) -> None:
    async with hot_of(redis_server.settings(**PATIENT)) as hot:
        assert await works(hot)
        redis_server.pause()
        calls = [asyncio.ensure_future(hot.script(INCREASE, ["n"], [1])) for _ in range(10)]
        await asyncio.sleep(0)
        redis_server.kill()
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(it) for it in found} == {HotLost}
        redis_server.start()
        assert await hot.script(INCREASE, ["n"], [1]) == 1


async def test_a_primary_that_becomes_a_replica_is_left(redis_server: Server) -> None:
    async with hot_of(redis_server.settings(deadline_ms=5000, breaker_failures=1000)) as hot:
        assert await works(hot)
        redis_server.command("REPLICAOF", "127.0.0.1", free_port())
        with pytest.raises(HotLost, match="not a primary"):
            await hot.script(INCREASE, ["n"], [1])
        redis_server.command("REPLICAOF", "NO", "ONE")
        assert await hot.script(INCREASE, ["n"], [1]) == 1


async def test_no_error_shows_an_argument(redis_server: Server) -> None:
    async with hot_of(redis_server.settings(**PATIENT)) as hot:
        with pytest.raises(HotReplyError) as failure:
            await hot.call("k", "NOSUCH", "qqq-argument")
        assert "qqq" not in repr(failure.value)


async def test_more_than_the_socket_takes_at_once(redis_server: Server) -> None:
    large = b"x" * 100_000
    async with hot_of(redis_server.settings(**PATIENT)) as hot:
        calls = [hot.call("k", "ECHO", large + b"%d" % n) for n in range(300)]
        assert await asyncio.gather(*calls) == [large + b"%d" % n for n in range(300)]
