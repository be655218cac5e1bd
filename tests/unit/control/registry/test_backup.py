"""Copies of the registry's database."""

import asyncio
import os
import stat
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.engine import make_url

from gateway.clock import ManualClock
from gateway.control.registry.backup import back_up, dump_command
from gateway.control.registry.changes import Actor, Changes
from gateway.control.sql.database import Database, DatabaseError
from gateway.control.sql.tables import audit_logs, organizations

SOMEBODY = Actor("user_a", None, {"type": "session"})


async def change(changes: Changes) -> None:
    async with changes.begin("org_a", SOMEBODY) as one:
        await one.audit("project.created", {"id": "a"})
        await one.audit("project.created", {"id": "b"})


async def test_a_copy_is_of_one_moment_while_changes_go_on(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite+aiosqlite:///{tmp_path / 'registry.sqlite'}")
    changes = Changes(database, ManualClock())
    await changes.ensure("org_a")
    done = asyncio.Event()

    async def go_on() -> int:
        made = 0
        while not done.is_set():
            await change(changes)
            made += 1
        return made

    going = asyncio.gather(*(go_on() for _ in range(4)))
    while not await rows_of(database):
        await asyncio.sleep(0)
    file = tmp_path / "copy"
    size = await back_up(database, file)
    before = await rows_of(database)
    done.set()
    made = sum(await going)
    assert await rows_of(database) == 2 * made
    assert (file.stat().st_size, stat.S_IMODE(file.stat().st_mode)) == (size, 0o600)
    await database.close()

    copy = await Database.open(f"sqlite+aiosqlite:///{file}")
    assert 0 < await rows_of(copy) <= before
    assert await rows_of(copy) % 2 == 0, "no change is there by half"
    async with copy.transaction() as connection:
        assert await connection.scalar(select(organizations.c.version)) is not None
    await change(Changes(copy, ManualClock()))
    await copy.close()


async def rows_of(database: Database) -> int:
    async with database.transaction() as connection:
        return await connection.scalar(select(func.count()).select_from(audit_logs)) or 0


async def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite+aiosqlite:///{tmp_path / 'registry.sqlite'}")
    there = tmp_path / "there"
    there.write_text("kept")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for file, said in (
        (there, "File exists"),
        (link, "File exists"),
        (tmp_path / "none" / "copy", "No such file or directory"),
        (Path("copy"), "expected an absolute path"),
        (tmp_path / "a\0b", "embedded null byte"),
    ):
        with pytest.raises(DatabaseError, match=said):
            await back_up(database, file)
    assert there.read_text() == "kept"
    assert not (tmp_path / "elsewhere").exists()
    await database.close()


async def test_a_copy_that_fails_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    database = await Database.open(f"sqlite+aiosqlite:///{tmp_path / 'registry.sqlite'}")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DatabaseError, match="No space left on device"):
        await back_up(database, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    await database.close()


@pytest.mark.parametrize(
    ("url", "command"),
    [
        ("sqlite+aiosqlite:////data/registry.sqlite", None),
        (
            "postgresql+asyncpg://gw:s3cret@db:5433/registry?ssl=require&prepared_statement_cache_size=0",
            "pg_dump --format=custom '--file=/b/a copy' 'postgresql://gw@db:5433/registry?sslmode=require'",
        ),
        (
            "postgresql+asyncpg:///registry?host=/run/postgresql",
            "pg_dump --format=custom '--file=/b/a copy' 'postgresql:///registry?host=%2Frun%2Fpostgresql'",
        ),
    ],
)
def test_what_dumps_postgresql(url: str, command: str | None) -> None:
    assert dump_command(make_url(url), Path("/b/a copy")) == command
