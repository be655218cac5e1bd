"""Calls, cancellations, deadlines, full buffers and broken connections in any order."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.clock import ManualClock
from gateway.redisdb.failures import HotLost, HotTimeout, HotUnavailable
from gateway.redisdb.hot_connection import HotConnection
from tests.fakes.redis_servers import eventually
from tests.unit.redisdb.wires import FakeServer, connected, get, outcome, ticks

Step = tuple[str, int]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.integers(1, 4)),
        st.tuples(st.just("cancel"), st.integers(0, 3)),
        st.tuples(st.just("tick"), st.just(0)),
        st.tuples(st.just("answer"), st.integers(1, 5)),
        st.tuples(st.just("some bytes"), st.integers(1, 40)),
        st.tuples(st.just("pause"), st.just(0)),
        st.tuples(st.just("resume"), st.just(0)),
        st.tuples(st.just("break"), st.just(0)),
        st.tuples(st.just("deadline"), st.just(0)),
    ),
    max_size=60,
)


class Interleaving:
    """Runs steps, and keeps what came of each call."""

    def __init__(self, server: FakeServer, connection: HotConnection, clock: ManualClock) -> None:
        self.server = server
        self.connection = connection
        self.clock = clock
        self.calls: list[asyncio.Future[object]] = []
        self.on_the_way = b""
        self.ever_sent: list[bytes] = []

    async def step(self, what: str, number: int) -> None:
        transport = self.server.last
        match what:
            case "call":
                self.call(number)
            case "cancel" if number < len(self.calls):  # one of the latest
                self.calls[-1 - number].cancel()
            case "tick":
                await ticks()
            case "answer":
                self.on_the_way += self.take(number)
            case "some bytes":
                now, self.on_the_way = self.on_the_way[:number], self.on_the_way[number:]
                transport.wire.data_received(now)
            case "pause":
                transport.wire.pause_writing()
            case "resume":
                transport.wire.resume_writing()
            case "break":
                await self.break_it()
            case "deadline":
                self.clock.advance(0.011)
                await asyncio.sleep(0.012)  # the timer is real; which calls are late is decided by the clock above

    def call(self, count: int) -> None:
        due, first = self.clock.monotonic() + 0.01, len(self.calls)
        self.calls += [get(self.connection, str(n), due) for n in range(first, first + count)]

    async def break_it(self) -> None:
        self.take(None)
        self.on_the_way = b""
        connections = len(self.server.transports)
        self.server.last.abort()
        await eventually(lambda: len(self.server.transports) > connections and self.server.last.greeted)
        await ticks()

    def take(self, count: int | None) -> bytes:
        self.ever_sent += [command[-1] for command in self.server.last.commands[:count]]
        return self.server.last.answer(count=count)

    async def finish(self) -> list[object]:
        self.server.last.wire.resume_writing()
        await ticks()
        self.server.last.wire.data_received(self.on_the_way + self.take(None))
        await ticks()
        return [await outcome(call) for call in self.calls]


async def interleave(steps: list[Step]) -> tuple[list[object], list[bytes]]:
    server, clock = FakeServer(), ManualClock()
    async with connected(server, server.connection(clock=clock)) as connection:
        run = Interleaving(server, connection, clock)
        for what, number in steps:
            await run.step(what, number)
        return await run.finish(), run.ever_sent


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_whatever_happens_each_call_gets_its_own_reply_or_an_error_and_is_sent_at_most_once(steps: list[Step]) -> None:
    outcomes, sent = asyncio.run(interleave(steps))
    assert len(sent) == len(set(sent))
    disturbed = {what for what, _ in steps}
    for number, found in enumerate(outcomes):
        word = b"%d" % number
        if found == "cancelled":
            assert "cancel" in disturbed
        elif found is HotLost:
            assert "break" in disturbed
        elif found is HotTimeout:
            assert "deadline" in disturbed
        elif found is HotUnavailable:
            assert "deadline" in disturbed
            assert word not in sent
        else:
            assert found == word
            assert word in sent
