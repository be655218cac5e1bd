"""Tables by month, on PostgreSQL: what is too old goes as whole tables, and no index grows for ever.

A partition is made when the first row of its month comes. SQLite has none of this; its tables are ordered by time.
"""

import datetime as dt
from collections.abc import Iterable

from sqlalchemy import Table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.ledger.buckets import MINUTE_S
from gateway.control.sql.ledger_tables import FILL, usage_minutes

_LOCK_S = 5  # others wait behind whoever waits to drop a table
Made = tuple[str, int]
"""A table's name, and where the month begins, in minutes since 1970."""


def month_of(minute: int) -> tuple[int, int]:
    """Where the month of a minute since 1970 begins, and where it ends, in minutes since 1970 UTC."""
    begins = dt.datetime.fromtimestamp(minute * MINUTE_S, dt.UTC).replace(day=1, hour=0, minute=0, second=0)
    ends = (begins + dt.timedelta(days=31)).replace(day=1)
    return int(begins.timestamp()) // MINUTE_S, int(ends.timestamp()) // MINUTE_S


class Partitions:
    """Those of some tables. Remembers which there are."""

    def __init__(self) -> None:
        self._there: set[tuple[str, int]] = set()

    async def make(self, connection: AsyncConnection, table: Table, minutes: Iterable[int]) -> list[Made]:
        """Makes those that rows of these minutes need; returns what to `keep` once the transaction is done. Raises
        SQLAlchemyError."""
        if connection.dialect.name != "postgresql":
            return []
        made: list[Made] = []
        for begins, ends in sorted({month_of(minute) for minute in set(minutes)}):
            if (table.name, begins) not in self._there:
                made_of = f"{partition(table, begins)} PARTITION OF {table.name} FOR VALUES FROM ({begins}) TO ({ends})"
                fill = 100 if table is usage_minutes else FILL
                await connection.execute(text(f"CREATE TABLE IF NOT EXISTS {made_of} WITH (fillfactor = {fill})"))
                made.append((table.name, begins))
        return made

    def keep(self, made: Iterable[Made]) -> None:
        self._there.update(made)

    def forget(self) -> None:
        """Some may have been dropped."""
        self._there.clear()


async def drop_before(connection: AsyncConnection, table: Table, minute: int) -> list[str]:
    """Drops those that end at this minute since 1970 or before; returns their names. Whoever reads the table is waited
    for, for a few seconds. Raises SQLAlchemyError."""
    if connection.dialect.name != "postgresql":
        return []
    children = text(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = to_regclass(:parent) ORDER BY c.relname"
    )
    found = await connection.scalars(children, {"parent": table.name})
    old = [name for name in found if (ends := _end_of(table, name)) is not None and ends <= minute]
    if old:
        await connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_S}s'"))
        await connection.execute(text(f"DROP TABLE {', '.join(old)}"))
    return old


def _end_of(table: Table, name: str) -> int | None:
    """Where the month of the partition of this name ends, in minutes since 1970; None if it is not named as ours."""
    try:
        month = dt.datetime.strptime(name.removeprefix(f"{table.name}_"), "%Y_%m").replace(tzinfo=dt.UTC)
    except ValueError:
        return None
    return month_of(int(month.timestamp()) // MINUTE_S)[1]


def partition(table: Table, begins: int) -> str:
    """The name of the one whose month begins at this minute since 1970."""
    month = dt.datetime.fromtimestamp(begins * MINUTE_S, dt.UTC)
    return f"{table.name}_{month:%Y_%m}"
