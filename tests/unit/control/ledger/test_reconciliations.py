"""What is kept of days that were compared, over both databases."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.control.ledger.comparison import Difference
from gateway.control.ledger.reconciliations import keep, kept, newest_day
from gateway.control.sql.database import Database

ORG, AT = "org-gateway", 1440 * 20_000


@pytest.fixture
async def database(registry_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(registry_url)
    yield opened
    await opened.close()


def differences(number: int) -> list[Difference]:
    return [Difference("embeddings", f"m{n}", "input_tokens", number, 2**53) for n in range(20)]


async def test_what_is_kept_is_there_by_day_and_upstream(database: Database) -> None:
    assert await newest_day(database, ORG, "openai") is None
    await keep(database, ORG, "openai", AT, differences(1), 100)
    await keep(database, ORG, "openai", AT - 1440, differences(2), 200)
    await keep(database, ORG, "azure", AT + 1440, [], 300)
    assert await newest_day(database, ORG, "openai") == (AT, 100)
    assert await newest_day(database, ORG, "azure") == (AT + 1440, 300)
    assert sorted(differences(1), key=lambda one: one.model) == await kept(database, ORG, "openai", AT)
    assert {one.ours for one in await kept(database, ORG, "openai", AT - 1440)} == {2}
    assert await kept(database, ORG, "azure", AT) == []
    assert await kept(database, "org-other", "openai", AT) == []


async def test_several_may_keep_a_day_at_a_time(database: Database) -> None:
    """Whoever comes last, all of it is theirs."""
    await asyncio.gather(*(keep(database, ORG, "openai", AT, differences(n)[: 10 + n], n) for n in range(8)))
    found = await kept(database, ORG, "openai", AT)
    (winner,) = {one.ours for one in found}
    assert len(found) == 10 + winner
    assert await newest_day(database, ORG, "openai") == (AT, winner)
