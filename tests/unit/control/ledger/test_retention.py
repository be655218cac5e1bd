"""What is too old goes, in batches or as whole months, and what is kept says the same as before; over both databases."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
import structlog
from sqlalchemy import Table, func, select, text
from structlog.testing import capture_logs

from gateway.clock import ManualClock
from gateway.control.jobs.retention import Retention
from gateway.control.ledger.partitions import partition
from gateway.control.ledger.retention import Kept, Removed, kept, remove_old
from gateway.control.sql.ledger_tables import (
    cost_days,
    cost_hours,
    usage_days,
    usage_events,
    usage_hours,
    usage_minutes,
)
from gateway.settings.model import Ledger as Settings
from gateway.values import Cost, UsageEvent
from tests.fakes.events import AT_US
from tests.fakes.events import event as plain
from tests.fakes.ledger import DAY_S, Ledger, ledger
from tests.fakes.redis_servers import Server

TABLES = (usage_minutes, usage_hours, usage_days, cost_hours, cost_days, usage_events)
FOR_EVER = 1000 * DAY_S
AT = AT_US // 1_000_000  # 8:00 on the 15th of January 2027


@pytest.fixture
async def book(valkey: Server, registry_url: str) -> AsyncIterator[Ledger]:
    async with ledger(valkey, registry_url) as made:
        yield made


def event(number: int | str, days: float) -> UsageEvent:
    """One that costs something, so many days old."""
    made = plain(number, at_us=AT_US - int(days * DAY_S * 1_000_000))
    costs = (Cost("gpt-4o-mini, input_tokens", "token", 321, 100),)
    line = msgspec.structs.replace(made.lines[0], nano_usd=100, costs=costs)
    return msgspec.structs.replace(made, lines=(line,))


async def came(book: Ledger, events: Sequence[UsageEvent]) -> None:
    await book.came(*events)
    consumer = book.consumer(most=2_000, keep_s=FOR_EVER)
    while await consumer.step():
        pass
    await consumer.release()


async def counts(book: Ledger) -> dict[str, int]:
    async with book.database.transaction() as connection:
        return {
            table.name: await connection.scalar(select(func.count()).select_from(table)) or 0 for table in TABLES
        }  # fmt: skip


async def partitions(book: Ledger, table: Table) -> set[str]:
    children = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass(:name)")
    async with book.database.transaction() as connection:
        return set(await connection.scalars(children, {"name": table.name}))


def is_postgres(book: Ledger) -> bool:
    return book.database.url.get_backend_name() == "postgresql"


async def test_each_grain_is_kept_for_its_own_time(book: Ledger) -> None:
    """At 8 o'clock what is older than N days is what was before the day that N days ago it was."""
    ages = {
        "now": 0,
        "events": 7.3,
        "no_events": 7.4,
        "minutes": 32.3,
        "no_minutes": 32.4,
        "hours": 400.3,
        "old": 400.4,
    }
    await came(book, [event(name, days) for name, days in ages.items()])
    before = {table: await book.rows(table) for table in TABLES[:-1]}
    removed = await remove_old(book.database, kept(Settings()), AT)
    assert await book.events() == ["req_events", "req_now"]
    assert {table.name: number for table, number in zip(TABLES, (4, 12, 14, 12, 14, 2), strict=True)} == await counts(
        book
    )
    for table in (usage_days, cost_days):
        assert await book.rows(table) == before[table]
    for table in (usage_minutes, usage_hours, cost_hours):
        now = await book.rows(table)
        assert now.items() <= before[table].items()
        assert min(before[table].keys() - now.keys()) < min(now)
    assert removed.rows["usage_events"] == 5
    if not is_postgres(book):
        assert removed.rows == {"usage_minutes": 3, "usage_hours": 2, "cost_hours": 2, "usage_events": 5}
    assert not await remove_old(book.database, kept(Settings()), AT)


async def test_rows_go_a_few_at_a_time(book: Ledger) -> None:
    events = [event(f"{minute}/{number}", 40 + minute / 1440) for minute in range(5) for number in range(4)]
    await came(book, [*events, event("now", 0)])
    tables = (Kept(usage_days, 32), Kept(usage_events, 7))
    removing = asyncio.create_task(remove_old(book.database, tables, AT, at_once=3))
    seen = set()
    while not removing.done():
        seen.add((await counts(book))["usage_events"])
        await asyncio.sleep(0)
    assert (await removing).rows == {"usage_days": 2, "usage_events": 20}
    assert seen & set(range(3, 21)), "others get at the database meanwhile"
    assert await book.events() == ["req_now"]


async def test_whole_months_are_dropped(book: Ledger) -> None:
    """In PostgreSQL. A month of which a day is still kept loses rows only; what comes again later has a place."""
    if not is_postgres(book):
        pytest.skip("SQLite has no partitions")
    months = {name: partition(usage_minutes, (AT - days * DAY_S) // 60) for name, days in (("new", 0), ("old", 70))}
    days = (0, 32, 33, 45, 70, 75)
    await came(book, [event(number, number) for number in days])
    consumer = book.consumer(keep_s=FOR_EVER)
    await book.came(event("again", 70))
    await consumer.step()
    assert months == {"new": "usage_minutes_2027_01", "old": "usage_minutes_2026_11"}
    removed = await remove_old(book.database, kept(Settings()), AT)
    assert "usage_minutes_2026_11" in removed.partitions
    assert "usage_minutes_2026_12" not in removed.partitions
    assert removed.rows["usage_minutes"] == 2
    left = await partitions(book, usage_minutes)
    assert {"usage_minutes_2026_12", "usage_minutes_2027_01"} <= left
    assert "usage_minutes_2026_11" not in left
    assert {"usage_hours_2026_11", "cost_hours_2026_11"} <= (await partitions(book, usage_hours)) | (
        await partitions(book, cost_hours)
    )
    await book.came(event("late", 70))
    with pytest.raises(Exception, match="no partition"):
        await consumer.step()
    assert await consumer.step() == 1, "it makes what was dropped meanwhile"
    assert months["old"] in await partitions(book, usage_minutes)


async def test_a_partition_that_is_read_is_waited_for_and_then_left(
    book: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_postgres(book):
        pytest.skip("SQLite has no partitions")
    await came(book, [event(1, 70)])
    monkeypatch.setattr("gateway.control.ledger.partitions._LOCK_S", 0.01)
    async with book.database.transaction() as connection:
        await connection.execute(select(usage_minutes))
        with pytest.raises(Exception, match="lock timeout"):
            await remove_old(book.database, kept(Settings()), AT)
    assert (await remove_old(book.database, kept(Settings()), AT)).partitions


async def test_what_is_set_aside_as_late_brings_no_month_back(book: Ledger) -> None:
    await came(book, [event(1, 0), event(2, 70)])
    await remove_old(book.database, kept(Settings()), AT)
    before = await counts(book)
    consumer = book.consumer()
    await book.came(event(2, 70), event(3, 70))
    assert await consumer.step() == 2
    assert await counts(book) == before
    assert [reason for reason, _ in await book.aside()] == ["late", "late"]
    if is_postgres(book):
        assert partition(usage_minutes, (AT - 70 * DAY_S) // 60) not in await partitions(book, usage_minutes)


async def test_an_event_that_is_folded_once_its_minutes_are_gone(book: Ledger) -> None:
    """Settings had it so for a while: hours and days get what it has all the same, and its minute goes with the next
    round."""
    first, second = event(1, 3), event(2, 3)
    await came(book, [first])
    short = (Kept(usage_minutes, 2),)
    await remove_old(book.database, short, AT)
    assert await book.rows(usage_minutes) == {}
    await book.folded(second)
    hours = await book.rows(usage_hours)
    assert {values[:2] for values in hours.values()} == {(2, 642)}
    assert {values[:2] for values in (await book.rows(usage_days)).values()} == {(2, 642)}
    await remove_old(book.database, short, AT)
    assert await book.rows(usage_minutes) == {}
    assert await book.rows(usage_hours) == hours


async def test_the_job_removes_once_an_hour_and_says_what() -> None:
    class Folds:
        holds = False

    clock, folding, asked = ManualClock(1000.0), Folds(), []
    found = [Removed({"usage_minutes": 3}, ("usage_hours_2026_01",)), Removed({}, ())]

    async def remove(now: float) -> Removed:
        asked.append(now)
        return found.pop(0)

    job = Retention(remove, folding, clock, structlog.get_logger())
    with capture_logs() as logged:
        await job.look()
        folding.holds = True
        for seconds in (60, 60, 3539, 1, 60):
            clock.advance(seconds)
            await job.look()
    assert asked == [1060.0, 4660.0]
    said = {"rows": {"usage_minutes": 3}, "partitions": ["usage_hours_2026_01"]}
    assert logged == [{"event": "usage_removed", "log_level": "info", **said}]
