"""A month of events, folded into a database of either kind: how fast, how large it gets, and whether it adds up.

Single events older than a week are deleted as the month goes by, and PostgreSQL's tables are vacuumed, as its autovacuum
does where it is not turned off.
"""

import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import structlog
from sqlalchemy import Table, delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.testing import capture_logs

from gateway.clock import ManualClock
from gateway.control.ledger.consumer import MOST, Consumer
from gateway.control.sql.database import Database, insert_into
from gateway.control.sql.ledger_tables import (
    cost_days,
    cost_dimensions,
    cost_hours,
    usage_days,
    usage_dimensions,
    usage_events,
    usage_hours,
    usage_minutes,
    usage_set_aside,
)
from gateway.control.sql.tables import organizations
from gateway.values import UsageEvent
from tests.fakes.admin_api import ADMIN_KEY, AdminApi, admin_api
from tests.fakes.events import ORG
from tests.fakes.ledger import Counted
from tests.fakes.many_events import BEGINS, DAYS, KEYS, MadeStream, key_id, many_events
from tests.fakes.measuring import Measured
from tests.fakes.redis_servers import Server

KEPT_S = 7 * 86_400
LIMIT_MS = 200.0
ROUNDS = 15
GRAINS = (usage_minutes, usage_hours, usage_days, cost_hours, cost_days)
TABLES = (*GRAINS, usage_dimensions, cost_dimensions, usage_events, usage_set_aside)
DELETED_EVERY, VACUUMED_EVERY = 20_000, 300_000  # events; an hour, and a day, of ten millions


class Watched(Database):
    """One that notes how long each transaction took, in seconds: so long others wait for SQLite's only connection."""

    def __init__(self, engine: Any) -> None:
        super().__init__(engine)
        self.took: list[float] = []

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        began = time.perf_counter()
        async with super().transaction() as connection:
            yield connection
        self.took.append(time.perf_counter() - began)


class Month:
    """The ledger of a month while it is folded."""

    def __init__(self, database: Watched, count: int) -> None:
        self.database = database
        self.count = count
        self.clock = ManualClock(BEGINS)
        self.stream = MadeStream(many_events(count), self.clock)
        self.counted = Counted()
        log = structlog.get_logger()
        most = min(MOST, count // (4 * DAYS))  # of a few events a day, those of a quarter of a day
        self.consumer = Consumer(
            ORG, database, self.stream, self.clock, log, self.counted, keep_s=KEPT_S, after=_nobody, most=most
        )
        self.spent_s = self.cpu_s = self.deleting_s = 0.0

    async def fold(self) -> None:
        """All of it. spent_s, cpu_s: what the consumer took of time, and of this process' CPU."""
        deleted = vacuumed = done = 0
        while some := await self._step():
            done += some
            if done >= deleted + DELETED_EVERY:
                await self._delete()
                deleted = done
            if done >= vacuumed + VACUUMED_EVERY:
                await vacuum(self.database)
                vacuumed = done
        await self._delete()
        await vacuum(self.database)

    async def _step(self) -> int:
        began, began_cpu, made = time.perf_counter(), time.process_time(), self.stream.spent
        folded = await self.consumer.step()
        made_s, made_cpu_s = (after - before for before, after in zip(made, self.stream.spent, strict=True))
        self.spent_s += time.perf_counter() - began - made_s
        self.cpu_s += time.process_time() - began_cpu - made_cpu_s
        return folded

    async def _delete(self) -> None:
        """Single events that are too old."""
        began, before = time.perf_counter(), (int(self.clock.wall()) - KEPT_S) // 60
        async with Database.transaction(self.database) as connection:
            await connection.execute(delete(usage_events).where(usage_events.c.at < before))
        self.deleting_s += time.perf_counter() - began


async def _nobody(_: Sequence[UsageEvent]) -> None: ...


async def folded(url: str, count: int, measured: Measured, *, least: int) -> None:
    """Makes the ledger of a month of so many events. least: how many a second have to be folded."""
    database = await Watched.open(url)
    assert isinstance(database, Watched)
    async with database.transaction() as connection:
        made = insert_into(connection, organizations).values({"id": ORG, "version": 1})
        await connection.execute(made.on_conflict_do_nothing())
    month = Month(database, count)
    with capture_logs():
        await month.fold()
    assert month.counted.counts == {"folded": count}
    took = sorted(database.took)
    rate = count / month.spent_s
    measured(f"{count} events folded", rate, "events/s", f">= {least} events/s")
    measured("CPU of the consumer, without a database's server", month.cpu_s / count * 1e6, "µs/event")
    measured("a batch's transaction, p50", took[len(took) // 2] * 1000, "ms")
    measured("a batch's transaction, p99", took[int(len(took) * 0.99)] * 1000, "ms")
    measured("deleting single events older than 7 days", month.deleting_s / count * 1e6, "µs/event")
    await adds_up(database, count)
    await sized(database, count, measured)
    await database.close()
    assert rate >= least


def questions() -> dict[str, tuple[str, int]]:
    """What is asked, and how many buckets the answer has."""
    usage, day = "/organization/usage/completions", BEGINS + 10 * 86_400
    month = f"start_time={BEGINS}&end_time={BEGINS + DAYS * 86_400}"
    minutes = f"start_time={day}&end_time={day + 86_400}&bucket_width=1m&limit=1440"
    return {
        "31 daily buckets by project and model": (
            f"{usage}?{month}&bucket_width=1d&limit=31&group_by[]=project_id&group_by[]=model", DAYS),
        "1440 minute buckets of the busiest key": (f"{usage}?{minutes}&api_key_ids[]={key_id(0)}", 1440),
        "1440 minute buckets of a key in the middle": (f"{usage}?{minutes}&api_key_ids[]={key_id(KEYS // 2)}", 1440),
    }  # fmt: skip


async def answers(server: Server, url: str, folder: Path, measured: Measured) -> None:
    """How long whoever asks waits, on a socket, after a first time."""
    async with admin_api(server, url, folder) as api:
        api.clock.advance(BEGINS + DAYS * 86_400 - api.clock.wall())
        slow = {}
        for what, (path, buckets) in questions().items():
            assert len((await api.ask("GET", path)).body["data"]) == buckets
            took = [await _asked(api, path) for _ in range(ROUNDS)]
            measured(f"{what}, median of {ROUNDS}", statistics.median(took), "ms", f"< {LIMIT_MS:g} ms")
            measured(f"{what}, slowest", max(took), "ms")
            if statistics.median(took) >= LIMIT_MS:
                slow[what] = took
        assert slow == {}


async def _asked(api: AdminApi, path: str) -> float:
    """Milliseconds until an answer is there."""
    began = time.perf_counter()
    async with api.session.get(api.url + path, headers={"Authorization": f"Bearer {ADMIN_KEY}"}) as response:
        await response.read()
        assert response.status == 200
    return (time.perf_counter() - began) * 1000


async def adds_up(database: Database, count: int) -> None:
    """Each call is in each grain once, and all grains have the same sums."""
    async with database.transaction() as connection:
        for table, whole in ((usage_minutes, False), *((one, w) for one in (usage_hours, usage_days) for w in (0, 1))):
            assert await _sums(connection, table, usage_dimensions, bool(whole), "requests") == [count], table.name
        money = [
            await _sums(connection, table, cost_dimensions, whole, "nano_usd", "quantity")
            for table in (cost_hours, cost_days)
            for whole in (False, True)
        ]
        tokens = [
            await _sums(connection, table, usage_dimensions, False, "input_tokens", "cached_tokens", "output_tokens")
            for table in (usage_minutes, usage_hours, usage_days)
        ]
    assert money[0][0] > 0
    assert tokens[0][0] > 0
    assert money == money[:1] * 4
    assert tokens == tokens[:1] * 3


async def _sums(connection: AsyncConnection, table: Table, dimensions: Table, whole: bool, *names: str) -> list[int]:
    of = table.c.dimension == dimensions.c.id
    query = select(*(func.sum(table.c[name]) for name in names)).join_from(table, dimensions, of)
    return [int(one) for one in (await connection.execute(query.where(dimensions.c.whole == whole))).one()]


async def sized(database: Database, count: int, measured: Measured) -> None:
    """Rows and bytes. Then all single events are deleted."""
    async with database.transaction() as connection:
        for table in GRAINS:
            rows = await connection.scalar(select(func.count()).select_from(table)) or 0
            measured(f"rows of {table.name}", rows / count, "rows/event")
        for table in (usage_dimensions, cost_dimensions, usage_events):
            measured(
                f"rows of {table.name}", await connection.scalar(select(func.count()).select_from(table)) or 0, "rows"
            )
    measured("size with single events of 7 days", await size_mb(database), "MB")
    async with database.transaction() as connection:
        await connection.execute(
            text("TRUNCATE usage_events" if _is_postgresql(database) else "DELETE FROM usage_events")
        )
    size = await size_mb(database)
    measured("size without single events", size, "MB", "< 1000 MB")
    assert size < 1000


async def size_mb(database: Database) -> float:
    """Of what is in use, indexes included, in 10^6 bytes."""
    async with database.transaction() as connection:
        if _is_postgresql(database):
            return float(await connection.scalar(text("SELECT pg_database_size(current_database())")) or 0) / 1e6
        pages = await connection.scalar(text("PRAGMA page_count")) or 0
        free = await connection.scalar(text("PRAGMA freelist_count")) or 0
        return float(pages - free) * (await connection.scalar(text("PRAGMA page_size")) or 0) / 1e6


async def vacuum(database: Database) -> None:
    """What PostgreSQL does from time to time."""
    if not _is_postgresql(database):
        return
    url = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"VACUUM (ANALYZE) {', '.join(table.name for table in TABLES)}")
    finally:
        await connection.close()


def _is_postgresql(database: Database) -> bool:
    return database.url.get_backend_name() == "postgresql"
