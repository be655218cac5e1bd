"""The registry's database: both kinds, its migrations, and what keeps two processes apart."""

import asyncio
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, inspect, select, text
from sqlalchemy.exc import IntegrityError

from gateway.control.sql import ledger_tables
from gateway.control.sql.database import HEAD, Database, DatabaseError, database_url
from gateway.control.sql.migrations.upgrade import newest, upgrade
from gateway.control.sql.tables import organizations
from gateway.settings.load import load_settings


def shape(connection: Connection) -> dict[str, object]:
    """All that can be told of the tables."""
    inspector = inspect(connection)
    return {
        name: (
            [(c["name"], str(c["type"]), c["nullable"], c["default"]) for c in inspector.get_columns(name)],
            inspector.get_pk_constraint(name),
            sorted(map(str, inspector.get_foreign_keys(name))),
            sorted(map(plain, inspector.get_indexes(name))),
            sorted(map(str, inspector.get_unique_constraints(name))),
            [c["name"] for c in inspector.get_check_constraints(name)],
        )
        for name in inspector.get_table_names()
    }


def plain(index: Any) -> str:
    """An index in words, its condition too."""
    options = {name: str(value) for name, value in index.get("dialect_options", {}).items()}
    return str({**index, "dialect_options": options})


def emptied(connection: Connection) -> None:
    ledger_tables.metadata.drop_all(connection)
    connection.execute(text("DROP TABLE alembic_version"))


async def test_the_migrations_lead_to_the_tables_that_a_new_database_has(database_url: str) -> None:
    database = await Database.open(database_url)
    async with database.transaction() as connection:
        new = await connection.run_sync(shape)
        assert set(new) == {*ledger_tables.metadata.tables, "alembic_version"}
        await connection.run_sync(emptied)
        await connection.run_sync(upgrade)
        assert await connection.run_sync(shape) == new
        assert await connection.scalar(text("SELECT version_num FROM alembic_version")) == HEAD
    await database.close()


async def test_an_old_one_is_brought_up_to_date(database_url: str) -> None:
    database = await Database.open(database_url)
    async with database.transaction() as connection:
        new = await connection.run_sync(shape)
        await connection.run_sync(ledger_tables.metadata.drop_all)
        await connection.execute(text("DELETE FROM alembic_version"))
    await database.close()
    database = await Database.open(database_url)
    async with database.transaction() as connection:
        assert await connection.run_sync(shape) == new
    await database.close()


def test_the_newest_migration_is_known_without_alembic() -> None:
    assert newest() == HEAD


async def test_opening_again_changes_nothing(database_url: str) -> None:
    counts = []
    for number in range(2):
        database = await Database.open(database_url)
        async with database.transaction() as connection:
            assert await connection.scalar(text("SELECT version_num FROM alembic_version")) == HEAD
            counts.append(len((await connection.execute(select(organizations))).all()))
            await connection.execute(organizations.insert().values(id=f"org-{number}", version=1))
        await database.close()
    assert counts == [0, 1]


async def test_many_processes_open_a_new_one_at_once(database_url: str) -> None:
    """On SQLite there can be one; on PostgreSQL the others wait until the tables are there."""
    opened = await asyncio.gather(*(Database.open(database_url) for _ in range(4)), return_exceptions=True)
    good = [each for each in opened if isinstance(each, Database)]
    if "sqlite" in database_url:
        assert len(good) == 1
        assert all(isinstance(each, DatabaseError) and "locked" in str(each) for each in opened if each not in good)
    else:
        assert len(good) == 4, opened
    for each in good:
        await each.close()


async def test_a_transaction_is_all_or_nothing(database_url: str) -> None:
    database = await Database.open(database_url)

    async def add(name: str) -> None:
        async with database.transaction() as connection:
            await connection.execute(organizations.insert().values(id=name, version=0))
            await connection.execute(organizations.insert().values(id="org-b", version=0))

    await add("org-a")
    with pytest.raises(IntegrityError):
        await add("org-c")
    async with database.transaction() as connection:
        assert (await connection.scalars(select(organizations.c.id).order_by("id"))).all() == ["org-a", "org-b"]
    await database.close()


async def test_what_belongs_to_nobody_is_refused(database_url: str) -> None:
    database = await Database.open(database_url)
    with pytest.raises(IntegrityError) as raised:
        async with database.transaction() as connection:
            await connection.execute(
                ledger_tables.metadata.tables["projects"].insert().values(
                    id="proj_a", organization_id="org-nobody", name="Payroll", created_at=0, version=1
                )
            )  # fmt: skip
    assert "Payroll" not in str(raised.value), "errors end up in logs"
    await database.close()


async def test_transactions_of_many_tasks_wait_for_each_other(database_url: str) -> None:
    database = await Database.open(database_url)

    async def add(number: int) -> None:
        async with database.transaction() as connection:
            await connection.execute(organizations.insert().values(id=f"org-{number}", version=0))

    await asyncio.gather(*(add(number) for number in range(50)))
    async with database.transaction() as connection:
        assert len((await connection.execute(select(organizations))).all()) == 50
    await database.close()


async def test_the_files_are_ours_alone(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite+aiosqlite:///{tmp_path / 'registry.sqlite'}")
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert modes == {"registry.sqlite": 0o600, "registry.sqlite-wal": 0o600}
    await database.close()


async def test_nobody_else_opens_the_file(tmp_path: Path) -> None:
    """Two connections, a checkpoint between them, and SQLite of before 3.51.3 may lose a commit."""
    file = tmp_path / "registry.sqlite"
    for _ in range(2):  # a new one, and one that is there
        database = await Database.open(f"sqlite+aiosqlite:///{file}")
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                sqlite3.connect(file, timeout=0).execute("SELECT * FROM organizations")
            async with database.transaction() as connection:
                await connection.execute(select(organizations))
        await database.close()
        other = sqlite3.connect(file)
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        other.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite+aiosqlite:////nowhere/registry.sqlite", "there is no folder /nowhere"),
        ("sqlite+aiosqlite://", "names no file"),
        ("sqlite+aiosqlite:///:memory:", "names no file"),
        ("postgresql+asyncpg://somebody:hunter22@127.0.0.1:1/x", "Connect"),
    ],
)
async def test_one_that_cannot_be_opened(url: str, words: str) -> None:
    with pytest.raises(DatabaseError, match=words) as raised:
        await Database.open(url)
    assert "hunter22" not in str(raised.value)


async def test_a_driver_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(DatabaseError, match=r"openai-gateway\[postgres\]"):
        await Database.open("postgresql+asyncpg://somebody@127.0.0.1:1/x")


async def test_a_newer_gateways_tables(database_url: str) -> None:
    """An old version does not touch what it does not know."""
    database = await Database.open(database_url)
    async with database.transaction() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await database.close()
    with pytest.raises(DatabaseError, match="9999"):
        await Database.open(database_url)


def test_where_it_is(tmp_path: Path) -> None:
    def written(more: str) -> str:
        file = tmp_path / "gateway.yaml"
        file.write_text(f"upstreams: {{a: {{base_url: http://127.0.0.1:1/v1}}}}\n{more}\n")
        return database_url(load_settings(file, {}))

    assert written("data_dir: data") == f"sqlite+aiosqlite:///{tmp_path / 'data' / 'registry.sqlite'}"
    named = "postgresql+asyncpg://gateway:hunter22@db/gateway"
    assert written(f"database: {{url: '{named}'}}") == named


async def test_rows_of_the_first_version_stay(database_url: str) -> None:
    rows = {
        "organizations": {"id": "org-a", "version": 5},
        "projects": {"id": "proj_a", "organization_id": "org-a", "name": "A", "created_at": 1, "version": 1},
        "users": {"id": "u", "organization_id": "org-a", "email": "e", "name": "n", "role": "reader", "created_at": 1, "version": 1},
        "api_keys": {"id": "k", "project_id": "proj_a", "user_id": "u", "name": "n", "hash": b"1" * 32, "shown": "s", "created_at": 1, "version": 1},
    }  # fmt: skip
    database = await Database.open(database_url)
    async with database.transaction() as connection:
        await connection.run_sync(emptied)
        await connection.run_sync(upgrade, "0001")
        for table, row in rows.items():
            names = ", ".join(row)
            values = ", ".join(f":{name}" for name in row)
            await connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({values})"), row)
    await database.close()
    database = await Database.open(database_url)
    async with database.transaction() as connection:
        for table, row in rows.items():
            found = (await connection.execute(select(ledger_tables.metadata.tables[table]))).one()
            assert {name: found._mapping[name] for name in row} == row
        assert await connection.scalar(text("SELECT version_num FROM alembic_version")) == HEAD
    await database.close()
