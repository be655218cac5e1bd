"""What the upstream served and what the ledger says of it, while workers, the control process and Redis are killed: each
call is there once, to the token and to the nano-dollar, and every sum is the sum of the calls."""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from sqlalchemy import Table

from gateway.control.sql.database import Database
from gateway.control.sql.ledger_tables import (
    USE,
    cost_days,
    cost_hours,
    usage_days,
    usage_hours,
    usage_minutes,
)
from gateway.redisdb.client import connect
from gateway.simulator.book import Record
from gateway.usage.fields import consistent
from gateway.values import UsageEvent
from tests.fakes.events import KEYS, ORG
from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import KEY, OTHER_KEY, Gateway
from tests.fakes.kept_events import events_so_far
from tests.fakes.ledger import Ledger
from tests.fakes.measuring import Measured, Size
from tests.fakes.mixed_calls import Callers, Mix, Outcome
from tests.fakes.paid_calls import all_ended
from tests.fakes.redis_servers import VALKEY, Server, StartServer, eventually
from tests.faults.test_metering_book import AT_ONCE, Served, check_price, check_refused, check_reported, silent
from tests.unit.simulator.kit import Simulation

pytestmark = [pytest.mark.proof, pytest.mark.timeout(1700)]
LEASE_S = 5
LOSES_S = 1.0  # what a machine that dies may take along, of a file that is written through every second
SETTLED_S = 0.25  # at most, after the last byte of an answer
APART_S = LOSES_S + 1.0  # between the death of a worker and that of a Redis that loses something
EVERY_S = 0.05
NEAR_S = 5.0  # what is told of a call that is lost


class Kill(msgspec.Struct, frozen=True):
    """Who was killed, and between which moments, by the clock of the calls."""

    whom: str
    after: float
    before: float


class Killer:
    """Kills one of a gateway's processes, or its Redis, and waits until all is well again."""

    def __init__(self, gateway: Gateway, server: Server, *, loses: bool) -> None:
        """loses: with Redis goes what it has written within the last second."""
        self._gateway = gateway
        self._server = server
        self._loses = loses
        self._sizes: list[tuple[float, int]] = []
        self.kills: list[Kill] = []

    async def watch(self) -> None:
        """How long the append-only file was, when."""
        while True:
            if (file := self._file()) is not None:
                self._sizes.append((time.monotonic(), file.stat().st_size))
            await asyncio.sleep(EVERY_S)

    def _file(self) -> Path | None:
        files = sorted((self._server.folder / "appendonlydir").glob("*.incr.aof"))
        return files[-1] if files else None

    async def kill(self, whom: str) -> None:
        after = time.monotonic()
        ready = len(self._gateway.events("process_ready", role=whom))
        if whom == "redis":
            await self._apart()
            after = time.monotonic()
            await asyncio.to_thread(self._server.kill)
        else:
            await asyncio.to_thread(self._gateway.kill, whom, "0" if whom == "worker" else None)
        self.kills.append(Kill(whom, after, time.monotonic()))
        if whom == "redis":
            await self._restart()
        else:
            await eventually(lambda: len(self._gateway.events("process_ready", role=whom)) > ready, within_s=30)

    async def _apart(self) -> None:
        """What Redis loses only workers know: not if one of them dies within the same second."""
        last = max((kill.before for kill in self.kills if kill.whom == "worker"), default=0.0)
        await eventually(lambda: not self._loses or time.monotonic() > last + APART_S)

    async def _restart(self) -> None:
        if self._loses:
            self._cut()
        await asyncio.to_thread(self._server.start)
        await eventually(lambda: self._gateway.metric("gateway_redis_up") == 2, within_s=30)
        await eventually(lambda: self._gateway.metric("gateway_usage_spool_bytes") == 0, within_s=30)

    def _cut(self) -> None:
        """Takes away what a dying machine would."""
        file, ago = self._file(), time.monotonic() - LOSES_S
        assert file is not None
        known = [size for at, size in self._sizes if at <= ago]
        with file.open("r+b") as opened:
            opened.truncate(known[-1] if known else 0)
        self._sizes.clear()


class Truth(msgspec.Struct, frozen=True):
    """All sides of a run. outcomes: by the name of the call."""

    records: Sequence[Record]
    events: Mapping[str, UsageEvent]
    outcomes: Mapping[str, Outcome]
    kills: Sequence[Kill]

    def hit(self, outcome: Outcome) -> list[Kill]:
        """The kills that a call lived through, or did not. It is under way until it is settled."""
        return [kill for kill in self.kills if outcome.began <= kill.before and kill.after <= outcome.ended + SETTLED_S]


@pytest.mark.parametrize("aof", ["always", "everysec"])
async def test_the_ledger_is_what_was_served(  # noqa: PLR0917 - fixtures
    aof: str, simulator_url: str, start_gateway: StartGateway, start_server: StartServer, size: Size, measured: Measured
) -> None:
    asks = Mix(seed=6).asks(size(small=500, full=20_000))
    server = start_server(VALKEY, "--appendonly", "yes", "--appendfsync", aof, "--aof-load-truncated", "yes")
    gateway = start_gateway(
        redis={"url": server.url, "prefix": KEYS.prefix},
        workers={"count": 2},
        limits={"lease_s": LEASE_S},
        projects=[
            {"id": "proj_a", "keys": [{"name": "one", "secret": KEY}], "limits": {"spend": {"month": 1_000_000}}},
            {"id": "proj_b", "keys": [{"name": "two", "secret": OTHER_KEY}]},
        ],
    )
    killer = Killer(gateway, server, loses=aof == "everysec")
    timeout = aiohttp.ClientTimeout(total=60)
    connector = aiohttp.TCPConnector(limit=AT_ONCE * 4)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        book = Simulation(simulator_url, session)
        before = len(await book.records())
        callers = [Callers(gateway.base_url, key, session) for key in (KEY, OTHER_KEY)]
        at_once = size(small=3, full=AT_ONCE // 2)
        calling = asyncio.gather(*(each.run(asks[number::2], at_once) for number, each in enumerate(callers)))
        watching = asyncio.ensure_future(killer.watch())
        dice = random.Random(1)
        whom = ["redis", "worker", "control"]
        while not calling.done():
            await some_more(calling, callers)
            if not calling.done():
                await killer.kill(whom[len(killer.kills) % 3] if len(killer.kills) < 3 else dice.choice(whom))
        await calling
        watching.cancel()
        await all_ended(server)
        await eventually(lambda: gateway.metric("gateway_usage_spool_bytes") == 0)
        await eventually(lambda: server.command("XLEN", KEYS.usage(ORG)) == 0, within_s=20)
        records = await book.records(before)
    total = int(server.command("HGET", f"{KEYS.base(ORG)}:spend", "t:o"))
    assert await asyncio.to_thread(gateway.stop) == 0
    events = events_so_far(server, gateway)
    outcomes = {name: one for each in callers for name, one in each.outcomes.items()}
    truth = Truth(records, {event.id: event for event in events}, outcomes, killer.kills)
    assert len(truth.events) == len(events), "an event is there twice"
    note(truth, aof, measured)
    served = check_calls(truth, {ask.name: ask for ask in asks})
    check_flags(truth, served, aof, measured)
    check_total(events, total)
    await check_sums(gateway, server, events)


async def some_more(calling: "asyncio.Future[Any]", callers: Sequence[Callers]) -> None:
    """Until some more calls have begun, or all are over."""

    def begun() -> int:
        return sum(len(each.outcomes) for each in callers)

    before = begun()
    await eventually(lambda: calling.done() or begun() > before + 40)


def note(truth: Truth, aof: str, measured: Measured) -> None:
    whom = Counter(kill.whom for kill in truth.kills)
    measured(f"{aof}: calls that the upstream saw", len(truth.records), "calls")
    for one in ("worker", "control", "redis"):
        measured(f"{aof}: kills of {one}", whom[one], "kills")
        assert whom[one]


def check_calls(truth: Truth, asks: Mapping[str, Any]) -> list[Served]:
    """Each call that the upstream saw has its event, and what either of them says is what it was. An event of a call that
    it never saw is what a worker had reserved when it was killed."""
    by_id = {str(record.incoming_request_id): record for record in truth.records}
    lost = by_id.keys() - truth.events.keys()
    if lost:
        pytest.fail("lost:\n" + "\n".join(told(truth, by_id[one]) for one in sorted(lost)))
    for id_ in truth.events.keys() - by_id.keys():
        assert truth.events[id_].unconfirmed, truth.events[id_]
    served = []
    for id_, record in by_id.items():
        name = str(record.client_request_id)
        served.append(Served(asks[name], truth.outcomes[name], record, truth.events[id_]))
    for one in served:
        if not truth.hit(one.outcome) and (one.ask.ends != "cut" or one.outcome.written):
            check_refused(one)  # where nothing of what was sent has arrived, nothing of it is known
        if one.reported or not (truth.hit(one.outcome) or one.ask.ends in {"leaves", "cut"}):
            check_reported(one)  # of a client that left, all may have been on its way already
        if not one.event.unconfirmed:
            check_price(one)
    return served


def told(truth: Truth, record: Record) -> str:
    """A call in words, with the kills around it."""
    outcome = truth.outcomes[str(record.client_request_id)]
    near = [
        f"{kill.whom} {kill.after - outcome.began:.3f} to {kill.before - outcome.began:.3f}"
        for kill in truth.kills
        if abs(kill.after - outcome.began) < NEAR_S
    ]
    what = f"{record.operation} {record.ended}, {outcome.status}, {outcome.ended - outcome.began:.3f} s"
    return f"{record.incoming_request_id}: {what}; seconds from its beginning to kills: {', '.join(near)}"


def check_flags(truth: Truth, served: Sequence[Served], aof: str, measured: Measured) -> None:
    """What is not as the upstream reported it has a reason: the client left, the upstream broke off, such answers say
    nothing, or the call was under way when somebody was killed."""
    flagged = [one for one in served if one.event.lines and not one.reported]
    broken = [one for one in flagged if one.ask.ends in {"leaves", "cut"} and not one.event.unconfirmed]
    quiet = [one for one in flagged if one.ask.ends == "whole" and not one.event.unconfirmed and silent(one)]
    rest = [one for one in flagged if one not in broken and one not in quiet]
    for one in rest:
        assert truth.hit(one.outcome), (one.outcome, truth.kills, one)
    never = len(truth.events) - len(truth.records)
    hit = sum(bool(truth.hit(outcome)) for outcome in truth.outcomes.values())
    measured(f"{aof}: calls under way at a kill", hit, "calls")
    measured(f"{aof}: calls flagged for a kill", len(rest) + never, "calls", f"<= {hit}")
    measured(f"{aof}: calls that are lost or there twice", 0, "calls", "0")
    assert len(rest) + never <= hit


def check_total(events: Iterable[UsageEvent], total: int) -> None:
    """What the counters in Redis say that was spent of all time is what the calls cost."""
    assert sum(line.nano_usd or 0 for event in events for line in event.lines) == total


async def check_sums(gateway: Gateway, server: Server, events: Sequence[UsageEvent]) -> None:
    """Every row of every grain is the sum of its calls, reckoned from their lines."""
    database = await Database.open(f"sqlite+aiosqlite:///{gateway.data_dir / 'registry.sqlite'}")
    client = connect(server.settings())
    book = Ledger(database, client)
    try:
        for table, minutes in ((usage_minutes, 1), (usage_hours, 60), (usage_days, 1440)):
            assert await usage_in(book, table) == usage_of(events, minutes, whole=table is not usage_minutes)
        for table, minutes in ((cost_hours, 60), (cost_days, 1440)):
            assert await costs_in(book, table) == costs_of(events, minutes)
    finally:
        await client.aclose()
        await database.close()


Sums = dict[tuple[Any, ...], list[int]]


def usage_of(events: Iterable[UsageEvent], minutes: int, *, whole: bool) -> Sums:
    found: Sums = defaultdict(lambda: [0] * len(USE))
    for event in events:
        seen: set[str] = set()
        for line in event.lines:
            if line.category is None:
                continue
            requests = int(line.category not in seen and line.category in {event.category, "web_search_calls"})
            seen.add(line.category)
            values = (requests, *msgspec.structs.astuple(consistent(line.quantities)))
            minute = event.at_us // 60_000_000
            model = line.response_model or line.upstream_model or line.request_model
            for key_id in (event.key_id, "") if whole else (event.key_id,):
                place = (minute - minute % minutes, event.project_id, key_id, line.category, model, line.service_tier)
                found[place] = [a + b for a, b in zip(found[place], values, strict=True)]
    return {place: sums for place, sums in found.items() if any(sums)}


async def usage_in(book: Ledger, table: Table) -> Sums:
    found: Sums = defaultdict(lambda: [0] * len(USE))
    for said, sums in (await book.rows(table)).items():
        at, project_id, _, key_id, _, category, model, _, tier, *_ = said
        place = (at, project_id, key_id, category, model, tier)
        found[place] = [a + b for a, b in zip(found[place], sums, strict=True)]
    return dict(found)


def costs_of(events: Iterable[UsageEvent], minutes: int) -> Sums:
    found: Sums = defaultdict(lambda: [0, 0])
    for event in events:
        minute = event.at_us // 60_000_000
        for line in event.lines:
            model = line.response_model or line.upstream_model or line.request_model
            rest = (line.nano_usd or 0) - sum(cost.nano_usd for cost in line.costs)
            costs = [(cost.item, cost.unit, cost.quantity, cost.nano_usd) for cost in line.costs]
            costs += [(f"{model}, reserved", "", 0, rest)] if rest else []
            for item, unit, quantity, nano_usd in costs:
                for key_id in (event.key_id, ""):
                    place = (minute - minute % minutes, event.project_id, key_id, item, unit)
                    found[place] = [found[place][0] + quantity, found[place][1] + nano_usd]
    return {place: sums for place, sums in found.items() if any(sums)}


async def costs_in(book: Ledger, table: Table) -> Sums:
    found: Sums = {}
    for (at, project_id, _, key_id, _, item, unit), sums in (await book.rows(table)).items():
        found[at, project_id, key_id, item, unit] = list(sums)
    return found
