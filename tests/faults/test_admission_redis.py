"""Redis dies, stands still, is slow or forgets everything, under load: what the settings say of that holds, nobody
waits for it, and no usage is lost or made up."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.values import UsageEvent
from tests.fakes.events import KEYS, ORG
from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import KEY, OTHER_KEY, Gateway
from tests.fakes.kept_events import events_so_far
from tests.fakes.measuring import Measured, Size
from tests.fakes.paid_calls import (
    BODY,
    DURABLE,
    MOST,
    Caller,
    Paid,
    Said,
    all_ended,
    caller,
    cost,
    folded,
    limited,
    paid,
    spent,
    waiting,
)
from tests.fakes.redis_proxy import slowing
from tests.fakes.redis_servers import VALKEY, Server, StartServer, eventually, eventually_blocking

pytestmark = [pytest.mark.proof, pytest.mark.timeout(600)]
SPENDING = "sk-gw-test-KEYEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEE5"
RATED, FREE = KEY, OTHER_KEY
A_SECOND, AT_ONCE = 20, 40
DEADLINE_S = 0.05
WORKERS = 2
EARLY, LATE = MOST - 1, MOST - 2  # max_tokens of calls that end while Redis is away, and when it is back
HELD = 10  # of each
PAUSE_S = 0.02
PATIENCE_S = 3.0  # what takes longer hangs
UNAVAILABLE = "limit_check_unavailable"


class Stand:
    """A gateway under load. said: what callers with each key were answered."""

    def __init__(self, gateway: Gateway, upstream: Paid, server: Server, calls: Caller) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self.server = server
        self.calls = calls
        self.said: dict[str, list[Said]] = {RATED: [], SPENDING: [], FREE: []}
        self.held: list[asyncio.Future[Said]] = []
        self.forgotten: list[UsageEvent] = []  # the stream, when Redis was emptied
        self.ended = False

    async def load(self, key: str) -> None:
        while not self.ended:
            self.said[key].append(await self.calls.call(key=key))
            await asyncio.sleep(PAUSE_S)  # how often they call

    async def admitted(self, most: int, key: str) -> Said:
        """A call that is held upstream. A worker's first one may find a slow way to Redis, and be refused."""
        while True:
            said = await self.calls.call(most, key)
            if said.code != UNAVAILABLE or self.ended:
                return said

    def during(self, key: str, begin: float, end: float) -> list[Said]:
        """Calls that began and ended between these."""
        return [one for one in self.said[key] if begin <= one.began and one.ended <= end]

    async def served(self, key: str, within_s: float = 20) -> None:
        """Waits until one more call is answered with 200."""
        before = self.number(key)
        await eventually(lambda: self.number(key) > before, within_s=within_s)

    def number(self, key: str) -> int:
        return sum(one.status == 200 for one in self.said[key])


@asynccontextmanager
async def under_load(start: StartGateway, server: Server, url: str = "", *, lease_s: float = 2) -> AsyncIterator[Stand]:
    """The load ends with the block, and all calls with it."""
    async with paid(held=False) as upstream:
        upstream.used = (BODY // 2, (MOST + 1) // 2)
        settings = limited(server, upstream, {})
        settings["redis"] = {"url": url or server.url, "prefix": KEYS.prefix}
        settings["limits"] = {"lease_s": lease_s}
        settings["workers"] = {"count": WORKERS}
        rates = {"requests_per_minute": {"limit": 60 * A_SECOND, "burst": AT_ONCE}}
        settings["projects"] = [
            {"id": "proj_a", "keys": [{"name": "rated", "secret": RATED}], "limits": rates},
            {"id": "proj_b", "keys": [{"name": "free", "secret": FREE}]},
            {"id": "proj_c", "keys": [{"name": "paid", "secret": SPENDING}], "limits": {"spend": {"month": 1000}}},
        ]
        gateway = await asyncio.to_thread(start, **settings)  # the way to Redis may lead through this loop
        gateway.secrets.add(SPENDING)
        async with caller(gateway, patience_s=200) as calls:
            stand = Stand(gateway, upstream, server, calls)
            for most in (EARLY, LATE):
                stand.held += [
                    asyncio.ensure_future(stand.admitted(most, key))
                    for key in (SPENDING, FREE)
                    for _ in range(HELD // 2)
                ]
            running = asyncio.gather(*(stand.load(key) for key in (*stand.said, *stand.said, *stand.said)))
            try:
                await eventually(lambda: len(upstream.came) > 100 and len(calls.said) > 200)
                await asyncio.to_thread(make_known, gateway, list(stand.said))
                yield stand
            finally:
                stand.ended = True
                for most in (EARLY, LATE):
                    upstream.gates[most].set()
                await asyncio.gather(running, *stand.held)


def make_known(gateway: Gateway, keys: list[str]) -> None:
    """A worker that has not seen a key cannot know it while Redis is away: each has to have seen all of them."""

    def known() -> bool:
        for key in keys:
            # On a connection of its own, which any worker may get; refused once the key is known.
            assert gateway.ask("/v1/realtime/calls", {}, key=key).status == 403
        return gateway.metric("gateway_cached_keys") == WORKERS * len(keys)

    eventually_blocking(known)


async def fault(
    stand: Stand, breaks: Callable[[], None], mends: Callable[[], None], seconds: float
) -> tuple[float, float]:
    """Redis is away for so long, in the middle of which calls end that began before. Returns when that was."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    breaks()
    await asyncio.sleep(seconds / 2)  # Redis is away for so long
    stand.upstream.gates[EARLY].set()
    await asyncio.sleep(seconds / 2)
    ended = loop.time()
    mends()
    await stand.served(SPENDING)
    await stand.served(RATED)
    stand.upstream.gates[LATE].set()
    return began, ended


def check_modes(stand: Stand, began: float, ended: float, measured: Measured, what: str) -> None:
    """Of calls that ran while Redis was away: rates go on about as they were, spend limits are closed, others served."""
    seconds = ended - began
    rated = stand.during(RATED, began, ended)
    passed = sum(one.status == 200 for one in rated)
    assert {(one.status, one.code) for one in rated if one.status not in {200, 429}} == set()
    measured(
        f"{what}: calls passed locally in {seconds:.1f} s", passed, "calls", f"<= {AT_ONCE + A_SECOND * seconds:.0f}"
    )
    assert 0.5 * A_SECOND * seconds <= passed <= AT_ONCE + A_SECOND * seconds + WORKERS
    paying = stand.during(SPENDING, began + 0.1, ended)
    assert {(one.status, one.code) for one in paying} == {(503, UNAVAILABLE)}
    assert all(one.headers["retry-after"] == "1" for one in paying)
    measured(f"{what}: calls refused because money cannot be counted", len(paying), "calls")
    free = stand.during(FREE, began, ended)
    assert {one.status for one in free} == {200}
    measured(f"{what}: calls without limits served", len(free), "calls")


async def check_all(stand: Stand, began: float, ended: float, measured: Measured, what: str) -> None:
    """Nobody waited, and what was used is known. began, ended: the loop's times."""
    said = [one for some in stand.said.values() for one in some]
    assert {one.status for one in said} <= {200, 429, 503}
    assert {one.status for one in said if one.code != UNAVAILABLE} == {200, 429}
    assert {one.result().status for one in stand.held} == {200}
    wall = time.time() - asyncio.get_running_loop().time()
    lines = [one for one in stand.gateway.events("request") if wall + began <= one["ts"] <= wall + ended]
    own = sorted(own_s(line) for line in lines)
    p99, most = own[int(len(own) * 0.99)], own[-1]
    limit_s = DEADLINE_S + 0.05
    measured(f"{what}: the gateway's own time, p99 of {len(own)}", 1000 * p99, "ms", f"<= {1000 * limit_s:.0f} ms")
    measured(f"{what}: the gateway's own time, most", 1000 * most, "ms")
    slow = [(line["ts"] - wall - began, own_s(line), line["status"], line["slot"]) for line in lines]
    assert p99 <= limit_s, [one for one in slow if one[1] > limit_s]
    assert max(most, *(one.took_s for one in said)) < PATIENCE_S, "nobody hangs"
    await check_usage(stand, measured, what)


def own_s(line: dict[str, Any]) -> float:
    """What a call spent in the gateway: until it went upstream, or until it was refused."""
    return float(line["own_us"] if line["status"] == 200 else line["duration_us"]) / 1e6


async def check_usage(stand: Stand, measured: Measured, what: str) -> None:
    """An event for each call that the upstream saw, and for no other."""
    upstream, server = stand.upstream, stand.server
    assert len(upstream.came) == len(set(upstream.came)) == len(upstream.book)

    def found() -> dict[str, UsageEvent]:
        there = events_so_far(server, stand.gateway)
        ids = {event.id for event in there}
        return folded([*(event for event in stand.forgotten if event.id not in ids), *there])

    await all_ended(server)
    try:
        await eventually(lambda: found().keys() >= upstream.book.keys(), within_s=20)
    finally:
        missing, extra = upstream.book.keys() - found().keys(), found().keys() - upstream.book.keys()
        measured(f"{what}: calls that the upstream saw", len(upstream.book), "calls")
        measured(f"{what}: of which no event is there", len(missing), "calls", "0")
        measured(f"{what}: events of calls that the upstream never saw", len(extra), "events", "0")
    assert not extra, [found()[name] for name in extra]
    flagged = [event for event in found().values() if event.unconfirmed]
    assert not flagged
    assert cost(found()) == upstream.nano_usd
    if not stand.forgotten:
        assert spent(server, "o") == upstream.nano_usd
    else:
        assert spent(server, "o") == cost(folded(events_so_far(server, stand.gateway)))


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_redis_away(
    how: str, start_gateway: StartGateway, start_server: StartServer, size: Size, measured: Measured
) -> None:
    server = start_server(VALKEY, *DURABLE)
    breaks, mends = (server.kill, server.start) if how == "killed" else (server.pause, server.resume)
    async with under_load(start_gateway, server) as stand:
        began, ended = await fault(stand, breaks, mends, size(small=3, full=60))
    check_modes(stand, began, ended, measured, f"Redis {how}")
    await check_all(stand, began, ended, measured, f"Redis {how}")


async def test_redis_slow(
    start_gateway: StartGateway, start_server: StartServer, size: Size, measured: Measured, tmp_path: Path
) -> None:
    server = start_server(VALKEY, *DURABLE)
    async with slowing(server, tmp_path) as way:

        def delay(seconds: float) -> Callable[[], None]:
            return lambda: setattr(way, "delay_s", seconds)

        async with under_load(start_gateway, server, way.url) as stand:
            began, ended = await fault(stand, delay(0.2), delay(0.0), size(small=3, full=60))
        try:
            check_modes(stand, began, ended, measured, "Redis slow")
            await check_all(stand, began, ended, measured, "Redis slow")
        finally:
            await asyncio.to_thread(stand.gateway.stop)


async def test_redis_emptied(start_gateway: StartGateway, start_server: StartServer, measured: Measured) -> None:
    """Spend limits are closed until what was spent is made from the ledger; all else goes on."""
    server = start_server(VALKEY, *DURABLE)
    loop = asyncio.get_running_loop()
    async with under_load(start_gateway, server) as stand:
        began = loop.time()
        stand.forgotten = waiting(empty(server))
        stand.upstream.gates[EARLY].set()
        await eventually(lambda: stand.gateway.events("spend_rebuilt"), within_s=20)
        rebuilt = loop.time()
        await stand.served(SPENDING)
        ended = loop.time()
        await eventually(lambda: "spend" not in away(stand.gateway))
        assert stand.gateway.readyz()[0] == 200
        stand.upstream.gates[LATE].set()
    paying = stand.during(SPENDING, began, ended)
    refused = [one for one in paying if one.status != 200]
    assert {(one.status, one.code) for one in refused} == {(503, UNAVAILABLE)}
    measured("Redis emptied: until what was spent was made from the ledger", rebuilt - began, "s")
    measured("Redis emptied: calls refused until then", len(refused), "calls")
    assert {one.status for one in stand.during(FREE, began, ended)} == {200}
    assert {one.status for one in stand.during(RATED, began, ended)} <= {200, 429}
    await check_all(stand, began, ended, measured, "Redis emptied")


def empty(server: Server) -> Sequence[Any]:
    """Empties it; returns what was in the usage stream at that moment."""
    script = "local found = redis.call('XRANGE', KEYS[1], '-', '+') redis.call('FLUSHALL') return found"
    found: Sequence[Any] = server.command("EVAL", script, 1, KEYS.usage(ORG))
    return found


def away(gateway: Gateway) -> dict[str, str]:
    found: dict[str, str] = gateway.readyz()[1]["away"]
    return found
