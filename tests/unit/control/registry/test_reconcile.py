"""What the settings declare, as rows of the registry, on both kinds of database."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Table, insert, select, update

from gateway.clock import ManualClock
from gateway.control.registry.changes import Changes
from gateway.control.registry.key_records import KeyRecord, all_hashes, records_of
from gateway.control.registry.reconcile import Reconciled, reconcile
from gateway.control.registry.revoke import revoke
from gateway.control.sql.database import Database
from gateway.control.sql.tables import api_keys, organizations, projects, service_accounts, users
from gateway.settings.transfer import convert

ONE, TWO, THREE = ("1" * 64, "2" * 64, "3" * 64)
NOTHING = Reconciled(0, 0)
ORG = "org-gateway"


class Stand:
    """A registry that follows settings."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = ManualClock(1_000.0)
        self.changes = Changes(database, self.clock)

    async def follow(self, declared: dict[str, dict[str, Any]], **more: Any) -> Reconciled:
        """declared: keys by project and name, each a hash or a mapping."""
        written = [
            {
                "id": project,
                "keys": [
                    {"name": name, **(key if isinstance(key, dict) else {"hash": f"sha256:{key}"})}
                    for name, key in keys.items()
                ],
            }
            for project, keys in declared.items()
        ]
        settings = convert({"upstreams": {"a": {"base_url": "http://a/v1"}}, "projects": written, **more})
        self.clock.advance(1)
        return await reconcile(self.changes, settings, self.clock)

    async def rows(self, table: Table) -> list[dict[str, Any]]:
        async with self.database.transaction() as connection:
            return [row._asdict() for row in await connection.execute(select(table).order_by(table.c.id))]

    async def record(self, key_hash: str) -> KeyRecord:
        (record,) = await records_of(self.database, [key_hash])
        return record

    async def due(self) -> set[str]:
        """Takes what is to be published."""
        due = await self.changes.due()
        await self.changes.published(due)
        return {one.subject for one in due if one.kind == "key"}

    async def limits_due(self) -> set[str]:
        return {one.subject for one in await self.changes.due() if one.kind == "limits"}


@pytest.fixture
async def stand(registry_url: str) -> AsyncIterator[Stand]:
    database = await Database.open(registry_url)
    yield Stand(database)
    await database.close()


async def test_what_is_declared(stand: Stand) -> None:
    mine = {"hash": f"sha256:{TWO}", "user": "ada@example.com", "expires_at": 5_000}
    assert await stand.follow({"proj_a": {"one": ONE, "two": mine}, "proj_b": {}}) == Reconciled(6, 0, limits=1)
    a, b = await stand.rows(projects)
    assert (a["id"], a["name"], a["created_at"], a["archived_at"], a["declared"]) == (
        "proj_a", "proj_a", 1_001, None, True,
    )  # fmt: skip
    assert (b["id"], b["organization_id"]) == ("proj_b", ORG)
    (account,) = await stand.rows(service_accounts)
    (person,) = await stand.rows(users)
    assert (account["name"], account["project_id"], person["email"]) == ("one", "proj_a", "ada@example.com")
    one, two = await stand.record(ONE), await stand.record(TWO)
    assert (one.principal.user_id, two.principal.user_id) == (account["id"], "ada@example.com")
    assert (two.principal.project_id, two.principal.organization_id, two.principal.expires_at) == ("proj_a", ORG, 5_000)
    assert not one.principal.revoked
    assert one.version == 1_001_000_000
    assert await stand.limits_due() == {"o"}
    assert await stand.due() == {ONE, TWO}


async def test_nothing_new(stand: Stand) -> None:
    declared = {"proj_a": {"one": ONE, "two": TWO}}
    await stand.follow(declared)
    await stand.due()
    before = await stand.record(ONE)
    assert await stand.follow(declared) == NOTHING
    assert await stand.due() == set()
    assert await stand.record(ONE) == before


async def test_what_is_not_declared_any_more(stand: Stand) -> None:
    await stand.follow({"proj_a": {"one": ONE, "two": TWO}, "proj_b": {"one": THREE}})
    await stand.due()
    assert await stand.follow({"proj_a": {"one": ONE}}) == Reconciled(0, 5), "two keys, their accounts, a project"
    assert await stand.due() == {TWO, THREE}
    assert [(await stand.record(key_hash)).principal.revoked for key_hash in (ONE, TWO, THREE)] == [False, True, True]
    assert [row["archived_at"] for row in await stand.rows(projects)] == [None, 1_002]
    assert await stand.follow({"proj_a": {"one": ONE, "two": TWO}, "proj_b": {"one": THREE}}) == Reconciled(5, 0)
    assert await stand.due() == {TWO, THREE}
    assert not (await stand.record(THREE)).principal.revoked
    assert [row["archived_at"] for row in await stand.rows(projects)] == [None, None]


async def test_keys_that_change_places(stand: Stand) -> None:
    await stand.follow({"proj_a": {"one": ONE, "two": TWO}})
    ids = {h: (await stand.record(h)).principal.key_id for h in (ONE, TWO)}
    await stand.due()
    assert await stand.follow({"proj_a": {"one": TWO, "two": ONE}}) == Reconciled(2, 0)
    assert {h: (await stand.record(h)).principal.key_id for h in (ONE, TWO)} == {ONE: ids[TWO], TWO: ids[ONE]}
    assert await stand.due() == {ONE, TWO}
    assert await stand.follow({"proj_a": {"one": TWO, "three": ONE}}) == Reconciled(2, 2), "another name"
    assert not (await stand.record(ONE)).principal.revoked


async def test_a_key_that_is_rotated(stand: Stand) -> None:
    await stand.follow({"proj_a": {"one": ONE}})
    before = await stand.record(ONE)
    await stand.due()
    assert await stand.follow({"proj_a": {"one": TWO}}) == Reconciled(1, 0)
    after = await stand.record(TWO)
    assert after.principal == before.principal
    assert after.version > before.version
    assert await records_of(stand.database, [ONE]) == []
    assert await stand.due() == {ONE, TWO}, "the old one is to be withdrawn"


async def test_what_was_revoked_stays_revoked(stand: Stand) -> None:
    declared = {"proj_a": {"one": ONE}}
    await stand.follow(declared)
    await revoke(stand.changes, ORG, "proj_a/one", 1_005)
    for again in (declared, {}, declared, {"proj_a": {"other": ONE}}, {"proj_b": {"one": ONE}}):
        await stand.follow(again)
        assert (await stand.record(ONE)).principal.revoked, again
    await stand.follow({"proj_a": {"one": TWO}})
    assert not (await stand.record(TWO)).principal.revoked, "it is another key"


async def test_what_others_made_is_left_alone(stand: Stand) -> None:
    await stand.follow({"proj_a": {"one": ONE}, "proj_b": {"one": TWO}})
    async with stand.database.transaction() as connection:
        for table in (projects, api_keys, service_accounts):
            await connection.execute(update(table).values(declared=False))
    assert await stand.follow({}) == NOTHING
    assert [row["archived_at"] for row in await stand.rows(projects)] == [None, None]
    assert await stand.follow({"proj_a": {}}) == Reconciled(1, 0), "it is declared from now on"
    assert [row["declared"] for row in await stand.rows(projects)] == [True, False]


async def test_all_hashes_in_pages(stand: Stand) -> None:
    hashes = [f"{number:064x}" for number in range(1, 1203)]
    await stand.follow({"proj_a": {f"k{number}": key_hash for number, key_hash in enumerate(hashes)}})
    pages = [page async for page in all_hashes(stand.database)]
    assert [len(page) for page in pages] == [500, 500, 202]
    assert sorted(key_hash for page in pages for key_hash in page) == hashes


async def test_a_user_whose_address_the_api_has_already(stand: Stand) -> None:
    async with stand.database.transaction() as connection:
        made = {"id": "user-1", "organization_id": ORG, "email": "ada@example.com", "name": "Ada", "role": "reader"}
        await connection.execute(insert(organizations), [{"id": ORG, "version": 0}])
        await connection.execute(insert(users), [{**made, "created_at": 1, "version": 0}])
    mine = {"hash": f"sha256:{ONE}", "user": "ada@example.com"}
    assert (await stand.follow({"proj_a": {"one": mine}})).written == 3
    assert {row["id"] for row in await stand.rows(users)} == {"user-1", "ada@example.com"}
