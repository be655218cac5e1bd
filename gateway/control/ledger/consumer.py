"""From the usage stream into SQL, each event once: across restarts, redelivery, several replicas, an emptied Redis.

A batch is one transaction: the lease is looked at and the position written, events whose id is known are left out, the
others are kept and added to minutes, hours and days. Then the stream is trimmed up to there.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import msgspec
from msgspec.structs import astuple
from sqlalchemy import bindparam, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.accounts.usage_stream import Entry
from gateway.clock import Clock
from gateway.control.ledger.bulk import insert_rows, select_by
from gateway.control.ledger.calls import upstream_key
from gateway.control.ledger.fold import CostDimension, Dimension, fold
from gateway.control.ledger.interned import Interned, Numbers
from gateway.control.ledger.partitions import Made, Partitions
from gateway.control.ledger.progress import LeaseLostError, Progress, advance, release, take
from gateway.control.ledger.rows import add_rows, cost_rows, usage_rows
from gateway.control.ledger.spending import month_rows, whose
from gateway.control.ledger.vector_stores import is_sound, note_stores
from gateway.control.sql.database import Database, insert_into
from gateway.control.sql.ledger_tables import (
    PARTITIONED,
    cost_dimensions,
    cost_months,
    usage_dimensions,
    usage_events,
    usage_set_aside,
)
from gateway.redisdb.positions import place
from gateway.telemetry.logging import Logger
from gateway.values import UsageEvent, UsageLine

MOST = 2_000  # events in a transaction, which keeps the registry waiting on SQLite
_DAY_S = 86_400
_MINUTE_US = 60_000_000
_LARGEST = 2**53  # of a quantity in one line
_OTHER = "gateways that share a Redis have a database each: the usage of all is in that of another one"
_SAID = 10  # of a batch's events that are set aside
_RENEW_S = 5.0


class Stream(Protocol):
    """The usage stream of an organization: `accounts.usage_stream.Outlet`. Methods raise RedisFailure."""

    async def claim(self, ledger: str) -> str | None:
        """The epoch of the counters; with another one, what was in Redis is not there any more. None: another ledger
        folds this stream."""

    async def read(self, after: str, most: int) -> list[Entry]:
        """The entries behind a position, or the first ones."""

    async def trim(self, position: str) -> None:
        """Removes all up to a position, and what is there itself."""

    async def waiting(self) -> int:
        """How many entries there are."""

    async def newest(self) -> str:
        """The position of the last entry that there ever was; empty if there is no stream."""


class Counts(Protocol):
    """Where it is counted what became of events."""

    def add(self, labels: tuple[str, ...], amount: float) -> None: ...


_Events = dict[str, tuple[UsageEvent, bytes]]
"""By id, with their JSON."""


class _Sorted(msgspec.Struct, frozen=True):
    """A batch, by what becomes of it. replaced: those that some of the fresh ones take the place of. known: how many
    were there already."""

    fresh: _Events
    replaced: Sequence[UsageEvent]
    known: int
    aside: Sequence[tuple[Entry, str]]

    @property
    def events(self) -> list[UsageEvent]:
        return [event for event, _ in self.fresh.values()]


class Unfolded(msgspec.Struct, frozen=True):
    """Events that are not in the ledger, and those there that some of them take the place of."""

    events: Sequence[UsageEvent]
    replaced: Sequence[UsageEvent]


class _New(msgspec.Struct, frozen=True):
    """What a transaction has made, to be remembered once it is done."""

    usage: Mapping[Dimension, Numbers]
    costs: Mapping[CostDimension, Numbers]
    partitions: Sequence[Made]


class Consumer:
    """Of one organization. after: is told of events once they are folded.

    keep_s: how long ids of events are kept; what comes later than that is set aside, for nobody could tell whether it
    has been before.
    """

    def __init__(  # noqa: PLR0917
        self,
        organization_id: str,
        database: Database,
        stream: Stream,
        clock: Clock,
        log: Logger,
        counts: Counts,
        *,
        keep_s: int,
        after: Callable[[Sequence[UsageEvent]], Awaitable[object]],
        most: int = MOST,
    ) -> None:
        self._organization_id = organization_id
        self._database = database
        self._stream = stream
        self._clock = clock
        self._log = log
        self._counts = counts
        self._keep_s = keep_s
        self._after = after
        self._most = most
        self._holder = secrets.token_hex(8)
        self._usage: Interned[Dimension] = Interned(organization_id, usage_dimensions)
        self._costs: Interned[CostDimension] = Interned(organization_id, cost_dimensions)
        self._partitions = Partitions()
        self._progress: Progress | None = None  # None: somebody else folds, as far as we know
        self._renewed_at = 0.0
        self._lock = asyncio.Lock()
        self._stands_by = False  # another ledger folds

    @property
    def holds(self) -> bool:
        """Whether it is us who folds."""
        return self._progress is not None and not self._stands_by

    @asynccontextmanager
    async def still(self) -> AsyncIterator[Progress | None]:
        """Nothing is folded meanwhile. How far it is; None if it is not us who folds."""
        async with self._lock:
            yield self._progress if self.holds else None

    async def step(self) -> int:
        """Folds a batch; returns how many entries that were, 0 if none waits or somebody else folds. Raises
        RedisFailure, SQLAlchemyError; then nothing is done."""
        async with self._lock:
            return await self._step()

    async def _step(self) -> int:
        progress = self._progress or await self._take()
        if progress is None:
            return 0
        epoch = await self._stream.claim(progress.ledger)
        self._stand_by(epoch is None)
        if epoch is None:
            return 0
        position = progress.position if epoch == progress.epoch else ""
        entries = await self._stream.read(position, self._most)
        if not entries and position and place(await self._stream.newest()) < place(position):
            position = ""  # the stream is another one, and its time has gone back
            entries = await self._stream.read(position, self._most)
        position = entries[-1].position if entries else position
        progress = Progress(progress.ledger, progress.fence, epoch, position)
        if not entries and progress == self._progress and self._clock.monotonic() < self._renewed_at + _RENEW_S:
            return 0
        try:
            await self._write(progress, entries)
        except LeaseLostError:
            self._progress = None
            self._log.warning("ledger_taken_over")
            return 0
        except SQLAlchemyError:
            self._partitions.forget()  # somebody may have dropped one
            raise
        return len(entries)

    def _stand_by(self, other: bool) -> None:
        if other and not self._stands_by:
            self._log.warning("ledger_stands_by", reason=_OTHER)
        self._stands_by = other

    async def release(self) -> None:
        """Lets others take over at once. Raises SQLAlchemyError."""
        progress, self._progress = self._progress, None
        if progress is not None:
            await release(self._database, self._organization_id, progress)

    async def _take(self) -> Progress | None:
        now = int(self._clock.wall())
        self._progress = await take(self._database, self._organization_id, self._holder, now)
        if self._progress is not None:
            self._log.info("ledger_taken", fence=self._progress.fence, position=self._progress.position)
        return self._progress

    async def _write(self, progress: Progress, entries: Sequence[Entry]) -> None:
        """One transaction. Raises LeaseLostError, SQLAlchemyError."""
        now = int(self._clock.wall())
        events, aside = self._judged(entries, now)
        async with self._database.transaction() as connection:
            await advance(connection, self._organization_id, progress, now)
            fresh, replaced = await _fresh(connection, events)
            batch = _Sorted(fresh, replaced, len(entries) - len(aside) - len(fresh), aside)
            new = await self._add(connection, batch)
            await note_stores(connection, self._organization_id, batch.events)
            await self._set_aside(connection, aside, now)
        self._usage.keep(new.usage)
        self._costs.keep(new.costs)
        self._partitions.keep(new.partitions)
        self._progress = progress
        self._renewed_at = self._clock.monotonic()
        self._count(batch)
        if entries:
            await self._after(batch.events)
            await self._stream.trim(progress.position)

    async def unfolded(self, connection: AsyncConnection, entries: Sequence[Entry]) -> Unfolded:
        """Which events folding these would add, and which it would subtract. Raises SQLAlchemyError."""
        events, _ = self._judged(entries, int(self._clock.wall()))
        fresh, replaced = await _fresh(connection, events)
        return Unfolded([event for event, _ in fresh.values()], replaced)

    def _judged(self, entries: Iterable[Entry], now: int) -> tuple[_Events, list[tuple[Entry, str]]]:
        """By id, one of each, those that can be folded; and the others, with why they cannot."""
        events: _Events = {}
        aside: list[tuple[Entry, str]] = []
        for entry in entries:
            event, reason = self._judgment(entry, now)
            if event is None:
                aside.append((entry, reason))
            elif entry.id not in events or _replaces(event, events[entry.id][0]):
                events[entry.id] = event, entry.json
        return events, aside

    def _judgment(self, entry: Entry, now: int) -> tuple[UsageEvent | None, str]:
        """The event, or why it cannot be folded."""
        try:
            event = entry.event()
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None, "unreadable"
        if not (all(map(_is_sound, event.lines)) and all(map(is_sound, event.stores))):
            return None, "unreadable"
        at = event.at_us // 1_000_000
        if at < now - self._keep_s:
            return None, "late"
        return (event, "") if at <= now + _DAY_S else (None, "ahead")

    async def _add(self, connection: AsyncConnection, batch: _Sorted) -> _New:
        await _keep_events(connection, batch)
        folded = fold(batch.events, batch.replaced)
        usage = await self._usage.numbers(connection, {dimension for _, dimension in folded.usage})
        items = {dimension for _, dimension in folded.costs}
        costs = await self._costs.numbers(connection, items | set(map(whose, items)))
        made: list[Made] = []
        months = {cost_months: month_rows(folded, costs)}
        for table, rows in (usage_rows(folded, usage) | cost_rows(folded, costs) | months).items():
            if table in PARTITIONED:
                made += await self._partitions.make(connection, table, (start for start, _ in rows))
            await add_rows(connection, table, rows)
        return _New(usage, costs, made)

    async def _set_aside(self, connection: AsyncConnection, aside: Iterable[tuple[Entry, str]], now: int) -> None:
        """Keeps what cannot be folded, so that it can be looked at."""
        common = {"organization_id": self._organization_id, "set_aside_at": now}
        rows = [{**common, "position": entry.position, "reason": why, "event": entry.json} for entry, why in aside]
        if rows:
            await connection.execute(insert_into(connection, usage_set_aside).on_conflict_do_nothing(), rows)

    def _count(self, batch: _Sorted) -> None:
        counts = {"folded": len(batch.fresh), "replaced": len(batch.replaced), "known": batch.known}
        for _, reason in batch.aside:
            counts[reason] = counts.get(reason, 0) + 1
        for what, number in counts.items():
            if number:
                self._counts.add((what,), number)
        for entry, reason in batch.aside[:_SAID]:
            self._log.error("usage_set_aside", reason=reason, id=entry.id, position=entry.position)


def _is_sound(line: UsageLine) -> bool:
    """Whether its numbers can be added up; what an upstream says may be anything."""
    numbers: list[int] = list(astuple(line.quantities))
    for cost in line.costs:
        numbers += cost.quantity, cost.nano_usd
    return min(numbers) >= 0 and max(numbers) < _LARGEST


def _replaces(event: UsageEvent, before: UsageEvent) -> bool:
    return before.unconfirmed and not event.unconfirmed


async def _fresh(connection: AsyncConnection, events: _Events) -> tuple[_Events, list[UsageEvent]]:
    """Those that are not there yet or take the place of an unconfirmed one; and these."""
    fresh, replaced = dict(events), []
    for id_, (unconfirmed, body) in (await _known(connection, list(events))).items():
        if unconfirmed and not events[id_][0].unconfirmed:
            replaced.append(msgspec.json.decode(body, type=UsageEvent))
        else:
            del fresh[id_]
    return fresh, replaced


async def _known(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, tuple[bool, bytes]]:
    """Of those that were folded before: whether they are unconfirmed, and if they are, their JSON."""
    query = "SELECT id, unconfirmed, CASE WHEN unconfirmed THEN event END FROM usage_events"
    found = await select_by(connection, query, usage_events.c.id, ids)
    return {id_: (bool(unconfirmed), body) for id_, unconfirmed, body in found}


async def _keep_events(connection: AsyncConnection, batch: _Sorted) -> None:
    again = {event.id for event in batch.replaced}
    rows = [
        (id_, event.at_us // _MINUTE_US, event.unconfirmed, body, upstream_key(event))
        for id_, (event, body) in batch.fresh.items()
    ]
    await insert_rows(connection, usage_events, [row for row in rows if row[0] not in again])
    names = [f"{column.name}_" for column in usage_events.c]
    if changed := [dict(zip(names, row, strict=True)) for row in rows if row[0] in again]:
        values: dict[str, Any] = {name: bindparam(f"{name}_") for name in ("at", "unconfirmed", "event", "upstream_id")}
        await connection.execute(
            update(usage_events).where(usage_events.c.id == bindparam("id_")).values(values), changed
        )
