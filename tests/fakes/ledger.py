"""A ledger over a database of either kind and a real Valkey, and what is in it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from sqlalchemy import Table, select
from structlog.testing import capture_logs

from gateway.accounts.usage_stream import Outlet, pack
from gateway.clock import ManualClock
from gateway.control.ledger.consumer import Consumer
from gateway.control.sql.database import Database, insert_into
from gateway.control.sql.ledger_tables import (
    cost_days,
    cost_dimensions,
    cost_hours,
    usage_dimensions,
    usage_events,
    usage_set_aside,
)
from gateway.control.sql.tables import organizations
from gateway.redisdb.client import Client, connect
from gateway.values import UsageEvent
from tests.fakes.events import KEYS, ORG
from tests.fakes.redis_servers import Server

DAY_S = 86_400
Rows = dict[tuple[Any, ...], tuple[int, ...]]


class Counted:
    """What became of events."""

    def __init__(self) -> None:
        self.counts: dict[str, float] = {}

    def add(self, labels: tuple[str, ...], amount: float) -> None:
        self.counts[labels[0]] = self.counts.get(labels[0], 0) + amount


class Ledger:
    """A database with an organization in it, and the organization's usage stream."""

    def __init__(self, database: Database, client: Client) -> None:
        self.database = database
        self.client = client
        self.clock = ManualClock()
        self.counted = Counted()
        self.told: list[str] = []  # ids of events that were folded, as others are told of them
        self.stream = Outlet(client, KEYS, ORG)

    def consumer(self, *, most: int = 100, keep_s: int = 7 * DAY_S) -> Consumer:
        async def after(events: Sequence[UsageEvent]) -> None:
            self.told += [event.id for event in events]

        log = structlog.get_logger()
        return Consumer(
            ORG, self.database, self.stream, self.clock, log, self.counted, keep_s=keep_s, after=after, most=most
        )

    async def came(self, *events: UsageEvent | bytes) -> None:
        """They are in the stream."""
        for event in events:
            id_, body = (event.id, pack(event).json) if isinstance(event, UsageEvent) else ("req_bytes", event)
            await self.client.execute("XADD", KEYS.usage(ORG), "*", "id", id_, "e", body)

    async def folded(self, *events: UsageEvent) -> None:
        """They are in the ledger."""
        await self.came(*events)
        consumer = self.consumer(most=2_000)
        while await consumer.step():
            pass
        await consumer.release()  # the next one is another

    async def rows(self, table: Table) -> Rows:
        """A grain: quantities by start and all that the dimension says. Rows of nothing are left out."""
        dimensions = cost_dimensions if table in {cost_hours, cost_days} else usage_dimensions
        said = [column for column in dimensions.c if column.name not in {"id", "digest", "organization_id"}]
        quantities = [column for column in table.c if column.name not in {"at", "dimension"}]
        query = select(table.c.at, *said, *quantities).join_from(
            table, dimensions, table.c.dimension == dimensions.c.id
        )
        found: Rows = {}
        async with self.database.transaction() as connection:
            for row in await connection.execute(query):
                sums = tuple(value or 0 for value in row[len(said) + 1 :])
                if any(sums):
                    found[tuple(row[: len(said) + 1])] = sums
        return found

    async def events(self) -> list[str]:
        """The ids of those that are kept."""
        async with self.database.transaction() as connection:
            return list(await connection.scalars(select(usage_events.c.id).order_by(usage_events.c.id)))

    async def aside(self) -> list[tuple[str, bytes]]:
        columns = usage_set_aside.c
        query = select(columns.reason, columns.event).order_by(columns.position)
        async with self.database.transaction() as connection:
            return [(reason, bytes(event)) for reason, event in await connection.execute(query)]


@asynccontextmanager
async def ledger(server: Server, database_url: str) -> AsyncIterator[Ledger]:
    database = await Database.open(database_url)
    client = connect(server.settings())
    try:
        async with database.transaction() as connection:
            made = insert_into(connection, organizations).values({"id": ORG, "version": 1})
            await connection.execute(made.on_conflict_do_nothing())
        with capture_logs():
            yield Ledger(database, client)
    finally:
        await client.aclose()
        await database.close()
