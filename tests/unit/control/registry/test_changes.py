"""Changes of the registry: their versions, and what is to be published of them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.clock import ManualClock
from gateway.control.registry.changes import Changes, Due
from gateway.control.sql.database import Database

ORG = "org-a"


@pytest.fixture
async def database(registry_url: str) -> AsyncIterator[Database]:
    database = await Database.open(registry_url)
    yield database
    await database.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000.0)


@pytest.fixture
async def changes(database: Database, clock: ManualClock) -> Changes:
    changes = Changes(database, clock)
    await changes.ensure(ORG)
    return changes


async def publish(changes: Changes, *subjects: str, organization: str = ORG) -> int:
    async with changes.begin(organization) as change:
        await change.publish("key", subjects)
    return change.version


async def test_versions_are_times_and_only_grow(changes: Changes, clock: ManualClock) -> None:
    first, second = [await publish(changes) for _ in range(2)]
    assert (first, second) == (1_000_000_000, 1_000_000_001)
    clock.advance(1.0)
    assert await publish(changes) == 1_001_000_000
    clock.advance(-900.0)
    assert await publish(changes) == 1_001_000_001


async def test_changes_at_once_have_versions_of_their_own(changes: Changes) -> None:
    versions = await asyncio.gather(*(publish(changes, f"key_{number}") for number in range(20)))
    assert len(set(versions)) == 20
    due = await changes.due(100)
    assert [one.version for one in due] == sorted(versions)


async def test_a_change_that_fails_leaves_nothing(changes: Changes) -> None:
    version = await publish(changes, "key_a")

    async def fail() -> None:
        async with changes.begin(ORG) as change:
            await change.publish("key", ["key_b"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await changes.due(100) == [Due(ORG, "key", "key_a", version)]
    assert await publish(changes) == version + 1


async def test_what_changes_twice_is_published_once(changes: Changes) -> None:
    await publish(changes, "key_a", "key_b")
    second = await publish(changes, "key_a", "key_a")
    due = await changes.due(100)
    assert [(one.subject, one.version) for one in due] == [("key_b", second - 1), ("key_a", second)]
    assert await changes.due(1) == due[:1]


async def test_what_changed_while_it_was_published_stays_due(changes: Changes) -> None:
    await publish(changes, "key_a", "key_b")
    due = await changes.due(100)
    newer = await publish(changes, "key_a")
    await changes.published(due)
    assert await changes.due(100) == [Due(ORG, "key", "key_a", newer)]
    await changes.published(await changes.due(100))
    assert await changes.due(100) == []


async def test_organizations_have_versions_of_their_own(changes: Changes, clock: ManualClock) -> None:
    await changes.ensure("org-b")
    await changes.ensure("org-b")
    assert await publish(changes, "key_a") == await publish(changes, "key_a", organization="org-b")
    assert {one.organization_id for one in await changes.due(100)} == {ORG, "org-b"}
    assert clock.wall() == 1_000.0
