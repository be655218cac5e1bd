"""What the ledger has of one day, by category and model: of all upstreams, or of one."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from sqlalchemy import and_, func, or_, select

from gateway.control.ledger.fold import SEARCHES, Use, costs_of, model_of
from gateway.control.sql.database import Database
from gateway.control.sql.ledger_tables import (
    USE,
    cost_days,
    cost_dimensions,
    usage_days,
    usage_dimensions,
    usage_events,
)
from gateway.usage.fields import consistent
from gateway.values import Quantities, UsageEvent

DAY_MINUTES = 1440
_PER_PAGE = 1_000
_NOTHING = Use(0, Quantities())


class DaySums(msgspec.Struct, frozen=True):
    """usage: by category and model. costs: nano-dollars by line item."""

    usage: Mapping[tuple[str, str], Use]
    costs: Mapping[str, int]


async def sums_of_all(database: Database, organization_id: str, at: int) -> DaySums:
    """From the rows of days, which are kept for ever. at: when the day begins, in minutes since 1970. Raises
    SQLAlchemyError."""
    said, rows = usage_dimensions.c, usage_days.c
    ours = rows.at == at, said.organization_id == organization_id, said.whole
    query = (
        select(said.category, said.model, *(func.coalesce(func.sum(rows[name]), 0) for name in USE))
        .join_from(usage_days, usage_dimensions, rows.dimension == said.id)
        .where(*ours)
        .group_by(said.category, said.model)
    )
    item, money = cost_dimensions.c, cost_days.c
    costs = (
        select(item.item, func.coalesce(func.sum(money.nano_usd), 0))
        .join_from(cost_days, cost_dimensions, money.dimension == item.id)
        .where(money.at == at, item.organization_id == organization_id, item.whole)
        .group_by(item.item)
    )
    async with database.transaction() as connection:
        used = (await connection.execute(query)).all()
        spent = (await connection.execute(costs)).all()
    usage = {(row[0], row[1]): Use(int(row[2]), Quantities(*map(int, row[3:]))) for row in used}
    return DaySums(usage, {name: int(nano_usd) for name, nano_usd in spent})


async def sums_of_upstream(database: Database, organization_id: str, at: int, upstream: str) -> DaySums:
    """From single calls, as long as they are kept: the lines of one upstream. It counts a request for each attempt that
    it served. Raises SQLAlchemyError."""
    usage: dict[tuple[str, str], Use] = defaultdict(lambda: _NOTHING)
    costs: dict[str, int] = defaultdict(int)
    last, last_id = at, ""
    while page := await _page(database, at, last, last_id):
        for event in _events(body for _, _, body in page):
            if event.organization_id == organization_id:
                _add(usage, costs, event, upstream)
        last, last_id, _ = page[-1]
    return DaySums(dict(usage), dict(costs))


async def _page(database: Database, at: int, last: int, last_id: str) -> Sequence[tuple[int, str, bytes]]:
    """The next calls of a day. Each page is a transaction: others need SQLite's connection in between."""
    columns = usage_events.c
    query = (
        select(columns.at, columns.id, columns.event)
        .where(columns.at >= last, columns.at < at + DAY_MINUTES)
        .where(or_(columns.at > last, and_(columns.at == last, columns.id > last_id)))
        .order_by(columns.at, columns.id)
        .limit(_PER_PAGE)
    )
    async with database.transaction() as connection:
        return [(when, id_, bytes(body)) for when, id_, body in await connection.execute(query)]


def _events(bodies: Iterable[bytes]) -> Iterable[UsageEvent]:
    decode = msgspec.json.Decoder(UsageEvent).decode
    return map(decode, bodies)


def _add(usage: dict[tuple[str, str], Use], costs: dict[str, int], event: UsageEvent, upstream: str) -> None:
    counted: set[tuple[str, int]] = set()  # by category and attempt
    for line in event.lines:
        if line.upstream != upstream:
            continue
        if line.category is not None:
            one = line.category, line.attempt
            request = one not in counted and line.category in {event.category, SEARCHES}
            counted.add(one)
            usage[line.category, model_of(line)] += Use(int(request), consistent(line.quantities))
        for cost in costs_of(line):
            costs[cost.item] += cost.nano_usd
