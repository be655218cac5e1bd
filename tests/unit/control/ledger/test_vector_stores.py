"""Which vector stores there are, from events in any order; over both databases."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select

from gateway.control.ledger.vector_stores import Stores
from gateway.control.sql.ledger_tables import usage_minutes, vector_stores
from gateway.values import SeenStore, UsageEvent
from tests.fakes.events import AT_US, ORG
from tests.fakes.ledger import Ledger, ledger
from tests.fakes.redis_servers import Server

AT = AT_US // 1_000_000
HOUR_S = 3600


@pytest.fixture
async def book(valkey: Server, registry_url: str) -> AsyncIterator[Ledger]:
    async with ledger(valkey, registry_url) as made:
        yield made


def told(
    number: int, *stores: SeenStore, operation: str = "getVectorStore", project: str = "proj_1", at: int = AT
) -> UsageEvent:
    return UsageEvent(
        id=f"req_{number}",
        at_us=at * 1_000_000,
        organization_id=ORG,
        project_id=project,
        user_id=f"user_of_{project}",
        key_id=f"key_of_{project}",
        operation=operation,
        status=200,
        stores=stores,
    )


def store(id_: str = "vs_1", size: int | None = 7, **more: Any) -> SeenStore:
    return SeenStore(id=id_, upstream="openai", bytes=size, **more)


async def rows(book: Ledger) -> list[tuple[Any, ...]]:
    names = ("id", "project_id", "bytes", "changing", "seen_at", "gone_at")
    query = select(*(vector_stores.c[name] for name in names)).order_by(vector_stores.c.id)
    async with book.database.transaction() as connection:
        return [tuple(row) for row in await connection.execute(query)]


async def test_a_life(book: Ledger) -> None:
    await book.folded(told(1, store(size=0, changing=True), operation="createVectorStore"))
    assert await rows(book) == [("vs_1", "proj_1", 0, True, AT, None)]
    await book.folded(told(2, store(), at=AT + 1, project="proj_2"))
    assert await rows(book) == [("vs_1", "proj_1", 7, False, AT + 1, None)], "who made it has it"
    await book.folded(told(3, store(size=None, changing=True), at=AT + 2))
    assert await rows(book) == [("vs_1", "proj_1", 7, True, AT + 2, None)]
    await book.folded(told(4, store(size=None, gone=True), at=AT + 3), told(5, store(size=9), at=AT + 1))
    assert await rows(book) == [("vs_1", "proj_1", 7, True, AT + 3, AT + 3)], "what is older changes nothing"
    await book.folded(told(6, store(size=9), at=AT + 4))
    assert await rows(book) == [("vs_1", "proj_1", 9, False, AT + 4, None)]
    assert await book.rows(usage_minutes) == {}, "none of this is usage"


async def test_in_any_order(book: Ledger) -> None:
    """Who made a store has it, whichever worker's events come first."""
    await book.folded(told(1, store(size=5), at=AT + 9, project="proj_2"))
    await book.folded(told(2, store(size=0), operation="createVectorStore"))
    assert await rows(book) == [("vs_1", "proj_1", 5, False, AT + 9, None)]
    await book.folded(
        told(3, store("vs_2", 3), at=AT + 2, project="proj_2"),
        told(4, store("vs_2", 1), at=AT + 1, operation="createVectorStore"),
        told(3, store("vs_2", 8), at=AT + 5),  # its id is known
    )
    assert await rows(book) == [
        ("vs_1", "proj_1", 5, False, AT + 9, None),
        ("vs_2", "proj_1", 3, False, AT + 2, None),
    ]


async def test_a_list_shows_everybodys(book: Ledger) -> None:
    await book.folded(told(1, store(), operation="createVectorStore"))
    await book.folded(
        told(2, store(size=8), store("vs_other", 5), operation="listVectorStores", project="proj_2", at=AT + 1),
        told(3, store("vs_unknown", None, gone=True)),
    )
    assert await rows(book) == [("vs_1", "proj_1", 8, False, AT + 1, None)]


async def test_what_cannot_be_kept_is_set_aside(book: Ledger) -> None:
    await book.came(told(1, store("v" * 129)), told(2, store("")), told(3, store(size=2**60)), told(4, store()))
    assert await book.consumer().step() == 4
    assert [reason for reason, _ in await book.aside()] == ["unreadable"] * 3
    assert [row[0] for row in await rows(book)] == ["vs_1"]


async def test_whom_to_ask(book: Ledger) -> None:
    day_s = 24 * HOUR_S
    stores = Stores(ORG, book.database)
    await book.folded(
        told(1, store("vs_known")),
        told(2, store("vs_changing", 0, changing=True)),
        told(3, store("vs_old"), at=AT - day_s),
        told(4, store("vs_gone", None), store("vs_gone", None, gone=True)),
        told(5, store("vs_recent"), at=AT - day_s + 1),
    )
    asked = [("openai", "vs_changing"), ("openai", "vs_old")]
    assert await stores.to_ask(AT, 10) == asked
    assert await stores.to_ask(AT, 1) == asked[:1]
    await stores.answered({"vs_changing": store("vs_changing", 4), "vs_old": None}, AT)
    assert await stores.to_ask(AT + HOUR_S - 1, 10) == [("openai", "vs_recent")], "one that does not answer can wait"
    assert await stores.to_ask(AT + HOUR_S, 10) == [("openai", "vs_recent"), ("openai", "vs_old")]
    await stores.answered({"vs_old": store("vs_old", None, gone=True)}, AT + HOUR_S)
    await stores.answered({}, AT + HOUR_S)
    found = {row[0]: row[2:] for row in await rows(book)}
    assert found["vs_changing"] == (4, False, AT, None)
    assert found["vs_old"] == (7, False, AT + HOUR_S, AT + HOUR_S)
    assert await stores.to_ask(AT + HOUR_S, 10) == [("openai", "vs_recent")]
    await stores.forget(AT + HOUR_S)
    assert [row[0] for row in await rows(book)] == ["vs_changing", "vs_known", "vs_old", "vs_recent"]
