"""What is too old goes: minutes, hours and single events. Days stay, and so do dimensions, which days need.

Whole UTC days go, an hour later than they could, so that clocks that differ do not matter: nothing is removed that a
consumer could still fold into or ask for. On PostgreSQL a month goes as a table; all else goes by rows, a few
thousand a transaction, because SQLite has one connection only.
"""

import asyncio
from collections.abc import Sequence

import msgspec
from sqlalchemy import Table, delete, select, tuple_

from gateway.control.ledger.buckets import MINUTE_S
from gateway.control.ledger.partitions import drop_before
from gateway.control.sql.database import Database
from gateway.control.sql.ledger_tables import (
    PARTITIONED,
    cost_hours,
    usage_events,
    usage_hours,
    usage_minutes,
    usage_refusals,
)
from gateway.settings.model import Ledger

AT_ONCE = 5_000  # rows in a transaction
_DAY_S = 86_400
_LATE_S = 3600
_PAUSE_S = 0.02  # between two transactions: others get the connection


class Kept(msgspec.Struct, frozen=True):
    """How long rows of a table are kept. The table has a column `at`, in minutes since 1970."""

    table: Table
    days: int


class Removed(msgspec.Struct, frozen=True):
    """rows: how many, by table, of those that lost some. partitions: tables that were dropped whole."""

    rows: dict[str, int]
    partitions: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.rows or self.partitions)


def kept(settings: Ledger) -> tuple[Kept, ...]:
    """What is not kept for ever."""
    return (
        Kept(usage_minutes, settings.minutes_days),
        Kept(usage_hours, settings.hours_days),
        Kept(cost_hours, settings.hours_days),
        Kept(usage_events, settings.events_days),
        Kept(usage_refusals, settings.events_days),
    )


async def remove_old(database: Database, tables: Sequence[Kept], now: float, *, at_once: int = AT_ONCE) -> Removed:
    """Removes what is older than it is kept, now being seconds since 1970. Harmless if several do it at once. What was
    removed stays so if it ends with an error. Raises SQLAlchemyError."""
    rows: dict[str, int] = {}
    partitions: list[str] = []
    for one in tables:
        before = _first_kept(now, one.days)
        if one.table in PARTITIONED:
            async with database.transaction() as connection:
                partitions += await drop_before(connection, one.table, before)
        count = 0
        while some := await _delete_some(database, one.table, before, at_once):
            count += some
            await asyncio.sleep(_PAUSE_S)
        if count:
            rows[one.table.name] = count
    return Removed(rows, tuple(partitions))


def _first_kept(now: float, days: int) -> int:
    """The minute since 1970 before which all goes: where a day begins."""
    at = int(now) - days * _DAY_S - _LATE_S
    return (at - at % _DAY_S) // MINUTE_S


async def _delete_some(database: Database, table: Table, before: int, at_once: int) -> int:
    key = tuple(table.primary_key.columns)
    old = select(*key).where(table.c.at < before).order_by(table.c.at).limit(at_once)
    async with database.transaction() as connection:
        return (await connection.execute(delete(table).where(tuple_(*key).in_(old)))).rowcount
