"""What a batch adds to the rows of each grain: minutes, hours and days at once, so that all are right at any time."""

from collections.abc import Iterable, Mapping
from operator import add

import msgspec
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.ledger.bulk import insert_rows
from gateway.control.ledger.fold import CostDimension, Dimension, Folded
from gateway.control.ledger.interned import Numbers
from gateway.control.sql.ledger_tables import (
    MONEY,
    USE,
    cost_days,
    cost_hours,
    usage_days,
    usage_hours,
    usage_minutes,
)

HOUR, DAY = 60, 1440  # minutes
Sums = dict[tuple[int, int], tuple[int, ...]]
"""By start, in minutes since 1970, and number of the dimension."""

_values = msgspec.structs.astuple


def usage_rows(folded: Folded, numbers: Mapping[Dimension, Numbers]) -> dict[Table, Sums]:
    minutes: Sums = {}
    for (minute, dimension), use in folded.usage.items():
        _add(minutes, (minute, numbers[dimension].own), (use.requests, *_values(use.quantities)))
    hours = _with_whole(_longer(minutes, HOUR), numbers.values())
    return {usage_minutes: minutes, usage_hours: hours, usage_days: _longer(hours, DAY)}


def cost_rows(folded: Folded, numbers: Mapping[CostDimension, Numbers]) -> dict[Table, Sums]:
    own: Sums = {}
    for (minute, dimension), money in folded.costs.items():
        _add(own, (minute - minute % HOUR, numbers[dimension].own), (money.quantity, money.nano_usd))
    hours = _with_whole(own, numbers.values())
    return {cost_hours: hours, cost_days: _longer(hours, DAY)}


def _longer(rows: Sums, length: int) -> Sums:
    """The same by times of so many minutes."""
    longer: Sums = {}
    for (start, number), sums in rows.items():
        _add(longer, (start - start % length, number), sums)
    return longer


def _with_whole(rows: Sums, numbers: Iterable[Numbers]) -> Sums:
    """And the sums over users and keys."""
    whole_of = {one.own: one.whole for one in numbers}
    both = dict(rows)
    for (start, own), sums in rows.items():
        _add(both, (start, whole_of[own]), sums)
    return both


def _add(rows: Sums, place: tuple[int, int], sums: tuple[int, ...]) -> None:
    known = rows.get(place)
    rows[place] = sums if known is None else tuple(map(add, known, sums))


async def add_rows(connection: AsyncConnection, table: Table, rows: Sums) -> None:
    """Adds these to what the table has. In order, so that two who write do not wait for each other in a circle. Raises
    SQLAlchemyError."""
    names = USE if len(table.c) > len(MONEY) + 2 else MONEY
    values = [(*place, *(value or None for value in rows[place])) for place in sorted(rows)]
    await insert_rows(connection, table, values, adds=names)
