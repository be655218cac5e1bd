"""What the ledger says has been spent, in the windows and under the names that the counters in Redis have.

Days come from days of costs; months and all time from `cost_months`, which has a row for each month in which somebody
spent anything. What was forgiven is taken off.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Select, Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.accounts.plan import subjects
from gateway.accounts.spend_audit import DAY_US, fields_at, month_name
from gateway.accounts.usage_stream import MARKER_S
from gateway.control.ledger.fold import CostDimension, Folded
from gateway.control.ledger.interned import Numbers
from gateway.control.ledger.partitions import month_of
from gateway.control.ledger.rows import DAY, Sums
from gateway.control.sql.database import insert_into
from gateway.control.sql.ledger_tables import cost_days, cost_dimensions, cost_months, spend_forgiven, usage_events
from gateway.values import UsageEvent

_MINUTE_US = 60_000_000
_MOST_IDS = 200_000
Spending = dict[str, int]
"""Nano-dollars by field."""


def whose(dimension: CostDimension) -> CostDimension:
    """The same without what for."""
    return CostDimension(dimension.project_id, dimension.user_id, dimension.key_id, "", "")


def month_rows(folded: Folded, numbers: Mapping[CostDimension, Numbers]) -> Sums:
    """What a batch adds to `cost_months`. numbers: also of `whose` each dimension is."""
    rows: Sums = {}
    for (minute, dimension), money in folded.costs.items():
        place = month_of(minute)[0], numbers[whose(dimension)].own
        _, known = rows.get(place, (0, 0))
        rows[place] = 0, known + money.nano_usd
    return rows


def spending_of(events: Iterable[UsageEvent], replaced: Iterable[UsageEvent] = ()) -> Spending:
    """What events amount to, less those that some of them take the place of."""
    found: Spending = {}
    for sign, some in ((1, events), (-1, replaced)):
        for event in some:
            nano_usd = sign * sum(line.nano_usd or 0 for line in event.lines)
            for field in fields_at(event.at_us, list(subjects(event.project_id, event.user_id, event.key_id).values())):
                found[field] = found.get(field, 0) + nano_usd
    return found


async def spending(
    connection: AsyncConnection, organization_id: str, at_us: int, *, days: int, lately: bool
) -> Spending:
    """By field: of the last so many days, of this month and the one before, and of all time. lately: only of those who
    have spent something in these days. Raises SQLAlchemyError."""
    today = at_us // DAY_US
    since = (today - days + 1) * DAY
    this_month, _ = month_of(at_us // _MINUTE_US)
    month, _ = month_of(this_month - 1)
    found: Spending = {}
    for at, project_id, user_id, key_id, nano_usd in await connection.execute(_sums(cost_days, organization_id, since)):
        _add(found, f"d{at // DAY}", subjects(project_id, user_id, key_id).values(), nano_usd)
    active = {field.partition(":")[2] for field in found}
    for at, project_id, user_id, key_id, nano_usd in await connection.execute(_sums(cost_months, organization_id, 0)):
        whom = subjects(project_id, user_id, key_id).values()
        if at >= month:
            _add(found, f"m{month_name(at // DAY)}", whom, nano_usd)
        _add(found, "t", whom, nano_usd)
    if lately:
        found = {field: nano_usd for field, nano_usd in found.items() if field.partition(":")[2] in active}
    forgiven = spend_forgiven.c
    query = select(forgiven.field, forgiven.nano_usd).where(forgiven.organization_id == organization_id)
    for field, nano_usd in await connection.execute(query):
        if field in found:
            found[field] -= nano_usd
    return found


def _sums(table: Table, organization_id: str, since: int) -> Select[Any]:
    """When, project, user, key, nano-dollars."""
    dimensions = cost_dimensions.c
    who = dimensions.project_id, dimensions.user_id, dimensions.key_id
    return (
        select(table.c.at, *who, func.sum(table.c.nano_usd))
        .join_from(table, cost_dimensions, table.c.dimension == dimensions.id)
        .where(dimensions.organization_id == organization_id, ~dimensions.whole, table.c.at >= since)
        .where(table.c.nano_usd.is_not(None))
        .group_by(table.c.at, *who)
    )


async def forgive(connection: AsyncConnection, organization_id: str, amounts: Spending) -> None:
    """What was spent so far counts no more: these amounts, besides those that were forgiven before. Raises
    SQLAlchemyError."""
    insert = insert_into(connection, spend_forgiven)
    more = {"nano_usd": spend_forgiven.c.nano_usd + insert.excluded.nano_usd}
    rows = [
        {"organization_id": organization_id, "field": field, "nano_usd": nano_usd}
        for field, nano_usd in sorted(amounts.items())
    ]
    if rows:
        both = insert.on_conflict_do_update(index_elements=["organization_id", "field"], set_=more)
        await connection.execute(both, rows)


async def recent_ids(connection: AsyncConnection, at_us: int) -> dict[int, list[str]]:
    """Ids of events of the last minutes, by minute: of those that somebody might send again. Raises SQLAlchemyError."""
    columns = usage_events.c
    since = at_us // _MINUTE_US - MARKER_S // 60
    query = select(columns.at, columns.id).where(columns.at >= since).order_by(columns.at.desc()).limit(_MOST_IDS)
    found: dict[int, list[str]] = {}
    for minute, id_ in await connection.execute(query):
        found.setdefault(minute, []).append(id_)
    return found


def _add(found: Spending, window: str, whom: Iterable[str], nano_usd: int) -> None:
    for subject in whom:
        field = f"{window}:{subject}"
        found[field] = found.get(field, 0) + int(nano_usd)
