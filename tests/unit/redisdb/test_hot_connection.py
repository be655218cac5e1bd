"""The pipelining connection against a server that answers when the test says so."""

import asyncio

import pytest
from structlog.testing import capture_logs

from gateway.clock import ManualClock, SystemClock
from gateway.redisdb.address import Access
from gateway.redisdb.breaker import Breaker, State
from gateway.redisdb.command import Script, pack
from gateway.redisdb.failures import HotLost, HotReplyError, HotTimeout, HotUnavailable
from gateway.redisdb.hot_connection import MAX_WAITING, Greeting, backoff_s
from gateway.values import Secret
from tests.fakes.redis_servers import eventually
from tests.unit.redisdb.wires import FAR, FakeServer, bulk, connected, get, outcome, ticks


async def test_calls_of_one_tick_go_out_in_one_write() -> None:
    server = FakeServer()
    async with connected(server, server.connection()) as connection:
        before = server.last.writes
        calls = [get(connection, str(n)) for n in range(16)]
        await ticks()
        assert server.last.writes == before + 1
        server.last.wire.data_received(server.last.answer())
        assert [call.result() for call in calls] == [b"%d" % n for n in range(16)]


async def test_a_call_that_is_cancelled_before_it_is_sent_is_not_sent() -> None:
    server = FakeServer()
    async with connected(server, server.connection()) as connection:
        first, second = get(connection, "1"), get(connection, "2")
        first.cancel()
        await ticks()
        assert server.last.commands == [[b"GET", b"2"]]
        server.last.wire.data_received(server.last.answer())
        assert second.result() == b"2"


async def test_a_late_reply_is_dropped_and_the_next_call_gets_its_own() -> None:
    server, clock = FakeServer(), ManualClock()
    async with connected(server, server.connection(clock=clock)) as connection:
        late = get(connection, "1", clock.monotonic() + 0.01)
        await ticks()
        clock.advance(0.011)
        assert await outcome(late) is HotTimeout
        second = get(connection, "2", clock.monotonic() + 1)
        await ticks()
        server.last.wire.data_received(server.last.answer())
        assert second.result() == b"2"
        assert len(server.transports) == 1


async def test_a_reply_that_stays_away_costs_the_connection() -> None:
    server, clock = FakeServer(), ManualClock()
    async with connected(server, server.connection(clock=clock, stall_s=0.05)) as connection:
        late = get(connection, "1", clock.monotonic() + 0.01)
        await ticks()
        clock.advance(0.011)
        assert await outcome(late) is HotTimeout
        clock.advance(0.05)
        await eventually(lambda: len(server.transports) == 2)


async def test_what_has_arrived_while_the_loop_was_held_up_is_not_late() -> None:
    server, clock = FakeServer(), ManualClock()
    async with connected(server, server.connection(clock=clock)) as connection:
        loop = asyncio.get_running_loop()
        call = get(connection, "1", clock.monotonic() + 0.01)
        await ticks()
        server.last.arrive()
        clock.advance(0.1)  # the timer will find itself 90 ms late
        loop.call_later(0.0101, lambda: server.last.read(server.last.answer()))
        assert await outcome(call) == b"1"


async def test_one_hold_up_after_the_other() -> None:
    """Each call's reply has come before the loop gets to read it."""
    server, clock = FakeServer(), ManualClock()
    async with connected(server, server.connection(clock=clock)) as connection:
        for number in range(10):
            call = get(connection, str(number), clock.monotonic() + 0.01)
            await ticks()
            server.last.arrive()
            clock.advance(0.1)
            await asyncio.sleep(0.005)  # it looks, and the reply has not been read
            clock.advance(0.1)
            server.last.read(server.last.answer())
            assert await outcome(call) == b"%d" % number


async def test_replies_to_others_do_not_put_a_deadline_off_for_ever() -> None:
    server, clock = FakeServer(), ManualClock()
    async with connected(server, server.connection(clock=clock)) as connection:
        call = get(connection, "1", clock.monotonic() + 0.01)
        await ticks()
        server.last.arrive()  # and is never read: as if there were always another one
        for _ in range(20):
            clock.advance(0.1)
            await asyncio.sleep(0.002)
        assert await outcome(call) is HotTimeout


async def test_what_was_sent_late_because_the_loop_was_held_up_has_time_to_be_answered() -> None:
    server, clock = FakeServer(), ManualClock()
    async with connected(server, server.connection(clock=clock)) as connection:
        calls = [get(connection, str(number), clock.monotonic() + 0.01) for number in range(2)]
        clock.advance(0.1)  # nothing has been sent yet
        await asyncio.sleep(0.012)  # it looks
        assert not calls[0].done()
        server.last.wire.data_received(server.last.answer(count=1))
        assert await outcome(calls[0]) == b"0"
        clock.advance(0.011)
        assert await outcome(calls[1]) is HotTimeout


async def test_calls_wait_for_the_connection_until_their_deadline() -> None:
    server = FakeServer()
    connection = server.connection()
    assert await outcome(get(connection, "1", soon(0.02))) is HotUnavailable
    patient = get(connection, "2")
    async with connected(server, connection):
        await eventually(lambda: server.last.commands == [[b"GET", b"2"]])
        server.last.wire.data_received(server.last.answer())
        assert patient.result() == b"2"


def soon(seconds: float) -> float:
    return SystemClock.monotonic() + seconds


@pytest.mark.parametrize("why", ["full", "away"])
async def test_only_so_many_calls_wait(why: str) -> None:
    server = FakeServer()
    async with connected(server, server.connection()) as connection:
        if why == "away":
            server.away = True
            server.last.abort()
            await ticks()
        else:
            server.last.wire.pause_writing()
        waiting = [get(connection, str(n)) for n in range(MAX_WAITING)]
        assert await outcome(get(connection, "one more")) is HotUnavailable
        server.away = False
        server.last.wire.resume_writing()
        await eventually(lambda: len(server.last.commands) == MAX_WAITING)
        server.last.wire.data_received(server.last.answer())
        assert [call.result() for call in waiting[:2]] == [b"0", b"1"]


async def test_a_script_that_the_server_does_not_know_is_sent_to_it_once() -> None:
    server, script = FakeServer(), Script.of("s", "return 1")
    packed = pack(("EVALSHA", script.sha1, 0))
    async with connected(server, server.connection()) as connection:
        call = connection.send(packed, FAR, script)
        await ticks()
        server.last.wire.data_received(server.last.answer(lambda _: b"-NOSCRIPT No matching script.\r\n"))
        assert [command[0] for command in server.last.commands] == [b"SCRIPT", b"EVALSHA"]
        server.last.wire.data_received(server.last.answer(lambda _: b"-NOSCRIPT No matching script.\r\n"))
        assert not server.last.commands
        assert await outcome(call) is HotReplyError


async def test_an_error_is_the_callers_alone() -> None:
    server = FakeServer()
    async with connected(server, server.connection()) as connection:
        calls = [get(connection, "bad"), get(connection, "good")]
        await ticks()
        server.last.wire.data_received(server.last.answer(lambda c: b"-ERR no\r\n" if c[-1] == b"bad" else bulk(c)))
        assert [await outcome(call) for call in calls] == [HotReplyError, b"good"]


async def test_a_server_that_is_no_primary_any_more_is_left() -> None:
    server = FakeServer()
    async with connected(server, server.connection()) as connection:
        calls = [get(connection, "1"), get(connection, "2")]
        await ticks()
        after = get(connection, "3")
        server.last.wire.data_received(server.last.answer(lambda _: b"-READONLY no\r\n", count=1))
        assert [await outcome(call) for call in calls] == [HotLost, HotLost]
        await eventually(lambda: len(server.transports) == 2 and server.last.commands == [[b"GET", b"3"]])
        server.last.wire.data_received(server.last.answer())
        assert after.result() == b"3", "what was not sent yet goes to the next one"


async def test_what_is_no_primary_is_not_used() -> None:
    server = FakeServer()
    server.role = b"slave"
    connection = server.connection(greeting=Greeting(primary=True))
    connection.start()
    try:
        await eventually(lambda: len(server.transports) > 2)
        assert await outcome(get(connection, "1", soon(0.02))) is HotUnavailable
        server.role = b"master"
        call = get(connection, "2")
        await eventually(lambda: server.last.commands == [[b"GET", b"2"]])
        server.last.wire.data_received(server.last.answer())
        assert call.result() == b"2"
    finally:
        await connection.aclose()


async def test_the_greeting() -> None:
    greeting = Greeting(Access("u", Secret("p"), db=3), [Script.of("s", "return 1")], primary=True)
    assert greeting.commands() == [
        ("AUTH", "u", "p"),
        ("PING",),
        ("SELECT", 3),
        ("SCRIPT", "LOAD", "return 1"),
        ("ROLE",),
    ]
    assert Greeting(Access(password=Secret("p"))).commands() == [("AUTH", "p"), ("PING",)]
    assert "qqq" not in repr(Greeting(Access(password=Secret("qqq"))))


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 400 Bad Request\r\n", b"+OK\r\n", b"-ERR max number of clients\r\n"])
async def test_what_nobody_asked_for_breaks_the_connection(garbage: bytes) -> None:
    server = FakeServer()
    async with connected(server, server.connection()):
        server.last.wire.data_received(garbage)
        await eventually(lambda: len(server.transports) == 2)


async def test_the_breaker_counts_a_broken_connection_once_and_late_calls_each() -> None:
    server, clock, seen = FakeServer(), ManualClock(), list[State]()
    breaker = Breaker(3, 1.0, clock, seen.append)
    async with connected(server, server.connection(clock=clock, breaker=breaker)) as connection:
        due = clock.monotonic() + 0.01
        lost = [get(connection, str(n), due) for n in range(16)]
        await ticks()
        server.last.abort()
        assert {await outcome(call) for call in lost} == {HotLost}
        assert seen == []
        await eventually(lambda: len(server.transports) == 2 and server.last.greeted)
        await ticks()
        late = [get(connection, str(n), due) for n in range(2)]
        await ticks()
        clock.advance(0.011)
        assert [await outcome(call) for call in late] == [HotTimeout, HotTimeout]
        assert seen == ["open"]
        assert await outcome(get(connection, "no")) is HotUnavailable
        server.last.wire.data_received(server.last.answer())
        assert seen == ["open"], "late replies are no evidence"
        clock.advance(1.0)
        probe, other = get(connection, "probe"), get(connection, "other")
        await ticks()
        assert server.last.commands == [[b"GET", b"probe"]]
        server.last.wire.data_received(server.last.answer())
        assert (probe.result(), await outcome(other)) == (b"probe", HotUnavailable)
        assert seen == ["open", "half_open", "closed"]


async def test_late_replies_do_not_hide_that_calls_are_late() -> None:
    server, clock, seen = FakeServer(), ManualClock(), list[State]()
    breaker = Breaker(3, 1.0, clock, seen.append)
    async with connected(server, server.connection(clock=clock, breaker=breaker)) as connection:
        for n in range(3):
            assert seen == []
            call = get(connection, str(n), clock.monotonic() + 0.01)
            await ticks()
            clock.advance(0.011)
            assert await outcome(call) is HotTimeout
            server.last.wire.data_received(server.last.answer())
        assert seen == ["open"]


async def test_a_server_that_does_not_serve_opens_the_breaker_and_nothing_ran() -> None:
    server, clock = FakeServer(), ManualClock()
    breaker = Breaker(2, 1.0, clock, lambda _: None)
    async with connected(server, server.connection(clock=clock, breaker=breaker)) as connection:
        for n in range(2):
            call = get(connection, str(n))
            await ticks()
            server.last.wire.data_received(server.last.answer(lambda _: b"-LOADING in memory\r\n"))
            assert await outcome(call) is HotUnavailable
        assert breaker.state == "open"


async def test_no_timer_is_left_when_nothing_is_outstanding() -> None:
    server, clock = FakeServer(), ManualClock()
    async with connected(server, server.connection(clock=clock)) as connection:
        call = get(connection, "1", clock.monotonic() + 0.01)
        await ticks()
        server.last.wire.data_received(server.last.answer())
        assert call.result() == b"1"
        await eventually(lambda: connection._timer is None)


async def test_after_closing_everything_fails_at_once() -> None:
    server = FakeServer()
    connection = server.connection()
    async with connected(server, connection):
        sent = get(connection, "1")
        await ticks()
        server.last.wire.pause_writing()
        waiting = get(connection, "2")
    assert [await outcome(call) for call in (sent, waiting, get(connection, "3"))] == [
        HotLost,
        HotUnavailable,
        HotUnavailable,
    ]


async def test_a_failure_to_connect_is_said_once_a_reason() -> None:
    server = FakeServer()
    server.away = True
    with capture_logs() as logs:
        connection = server.connection()
        connection.start()
        assert await outcome(get(connection, "1", soon(0.1))) is HotUnavailable
        server.away = False
        await eventually(lambda: [line["event"] for line in logs] == ["redis_hot_unreachable", "redis_hot_connected"])
        await connection.aclose()
    assert logs[0]["why"] == "ConnectionRefusedError: away"


def test_backoff_doubles_up_to_half_a_second() -> None:
    for failures, longest in ((1, 0.01), (2, 0.02), (4, 0.08), (9, 0.5), (10_000, 0.5)):
        assert all(longest / 2 <= backoff_s(failures) <= longest for _ in range(100))
