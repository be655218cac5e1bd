"""Many rows in one statement, on both databases."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from gateway.control.ledger.bulk import insert_rows, select_by
from gateway.control.sql.database import Database
from gateway.control.sql.ledger_tables import MONEY, cost_days, usage_events

SELECT = "SELECT id, event FROM usage_events"


@pytest.fixture
async def database(registry_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(registry_url)
    yield opened
    await opened.close()


async def test_values_are_added_to_those_that_are_there(database: Database) -> None:
    """Null is nothing: it adds nothing, and it stays null if nothing is added."""
    async with database.transaction() as connection:
        await insert_rows(connection, cost_days, [(1, 1, 5, None), (1, 2, None, None)], adds=MONEY)
        await insert_rows(connection, cost_days, [(1, 1, None, 7), (1, 2, None, 2**53), (2, 1, -1, 0)], adds=MONEY)
        await insert_rows(connection, cost_days, [(1, 1, -2, 7)], adds=MONEY)
        await insert_rows(connection, cost_days, [])
        found = await connection.execute(select(cost_days).order_by(cost_days.c.at, cost_days.c.dimension))
        assert [tuple(row) for row in found] == [(1, 1, 3, 14), (1, 2, None, 2**53), (2, 1, -1, 0)]


async def test_rows_are_found_however_many_are_asked_for(database: Database) -> None:
    ids = [f"req_{number}" for number in range(1_500)]
    async with database.transaction() as connection:
        await insert_rows(connection, usage_events, [(id_, 1, False, id_.encode(), None) for id_ in ids])
        found = await select_by(connection, SELECT, usage_events.c.id, ["req_1500", *ids[3:]])
        assert sorted((id_, bytes(event)) for id_, event in found) == sorted((one, one.encode()) for one in ids[3:])
        assert await select_by(connection, SELECT, usage_events.c.id, []) == []


async def test_what_is_there_twice_or_too_long_is_an_error(database: Database) -> None:
    """And no text is cut."""
    wrong = [[("a", 1, False, b"", None), ("a", 1, False, b"", None)]]
    if database.url.get_backend_name() == "postgresql":  # SQLite has no lengths
        wrong.append([("a" * 257, 1, False, b"", None)])
    for rows in wrong:
        with pytest.raises(DBAPIError):
            async with database.transaction() as connection:
                await insert_rows(connection, usage_events, rows)
    async with database.transaction() as connection:
        assert await connection.scalar(select(func.count()).select_from(usage_events)) == 0


async def test_no_plan_is_kept_from_when_there_were_few_rows(database: Database) -> None:
    if database.url.get_backend_name() == "sqlite":
        pytest.skip("SQLite keeps none")
    async with database.transaction() as connection:
        await insert_rows(connection, usage_events, [(f"req_{number}", 1, False, b"", None) for number in range(30)])
        for _ in range(8):
            await select_by(connection, SELECT, usage_events.c.id, ["req_30", "req_31", "req_32"])
        kept = text("SELECT sum(generic_plans) FROM pg_prepared_statements WHERE statement LIKE :these")
        assert await connection.scalar(kept, {"these": f"{SELECT}%"}) == 0
