"""The control plane's database: a SQLite file, or PostgreSQL. Transactions, and bringing the tables up to date."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiosqlite
from sqlalchemy import Connection, Table, event, inspect, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from gateway.control.sql import ledger_tables
from gateway.settings.model import Settings

HEAD = "0003"  # the newest migration
_MIGRATION_LOCK = 0x6F61_6777  # of migrations, on PostgreSQL: one process at a time
_WAIT_S = 30.0  # for a connection
_VERSION_COLUMN = "version_num VARCHAR(32) NOT NULL CONSTRAINT alembic_version_pkc PRIMARY KEY"  # as alembic makes it
_LOCK_S = 5.0  # for another process to let go of a SQLite file
_POOL = 10
_SQLITE = (
    "BEGIN EXCLUSIVE",  # of several that come at once one gets it, and only then keeps what it has
    "PRAGMA locking_mode=EXCLUSIVE",
    "COMMIT",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
)


class DatabaseError(OSError):
    """The database cannot be used. The message is for people; it holds no secret, and the supervisor quotes it."""


def database_url(settings: Settings) -> str:
    """Where the registry is: the setting, or a file in the data folder."""
    if settings.database.url is not None:
        return settings.database.url.reveal()
    return f"sqlite+aiosqlite:///{Path(settings.data_dir).resolve() / 'registry.sqlite'}"


class Database:
    """An open database, at its newest migration.

    SQLite is one connection that nobody else may have at the same time, another process neither: versions before
    3.51.3 can lose what a checkpoint and a commit of two connections write at once.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @classmethod
    async def open(cls, url: str) -> "Database":
        """Opens it, creates or upgrades its tables. Raises DatabaseError."""
        try:
            engine = _engine(url)
        except ModuleNotFoundError:
            raise DatabaseError('PostgreSQL takes asyncpg: pip install "openai-gateway[postgres]"') from None
        try:
            async with engine.begin() as connection:
                await connection.run_sync(_migrate)
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            await engine.dispose()
            raise DatabaseError(f"{make_url(url).render_as_string()}: {words(error)}") from None
        return cls(engine)

    @property
    def url(self) -> URL:
        """Where it is, with the password if it needs one."""
        return self._engine.url

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """All that is done in it is done when it ends, or nothing if it ends with an error. It holds SQLite's only
        connection: nothing that takes long may be awaited in it. Raises SQLAlchemyError."""
        async with self._engine.begin() as connection:
            yield connection

    async def alone(self, statement: str, *values: object) -> None:
        """A statement of SQLite's that no transaction may be around. Raises sqlite3.Error, SQLAlchemyError."""
        async with self._engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert isinstance(driver, aiosqlite.Connection)
            await driver.execute(statement, values)

    async def close(self) -> None:
        await self._engine.dispose()


def _engine(url: str) -> AsyncEngine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_async_engine(
            url,
            pool_size=_POOL,
            max_overflow=0,
            pool_timeout=_WAIT_S,
            pool_pre_ping=True,
            hide_parameters=True,  # in errors, which end up in logs
        )
    if parsed.database in {None, "", ":memory:"}:
        raise DatabaseError(f"{url} names no file: what is in memory is gone with the process")
    engine = create_async_engine(
        url,
        async_creator=partial(_connect_sqlite, str(parsed.database)),
        poolclass=AsyncAdaptedQueuePool,
        pool_size=1,
        max_overflow=0,
        pool_timeout=_WAIT_S,
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


async def _connect_sqlite(file: str) -> aiosqlite.Connection:
    """A connection whose transactions begin where SQLAlchemy says, not where the driver guesses."""
    _make_file(Path(file))
    connection = aiosqlite.connect(file, timeout=_LOCK_S, isolation_level=None)
    connection._thread.daemon = True  # what is not closed must not keep a process from ending; as SQLAlchemy does
    await connection
    try:
        for statement in _SQLITE:
            await connection.execute(statement)
    except BaseException:
        await connection.close()
        raise
    return connection


def _make_file(file: Path) -> None:
    """For this user alone; SQLite's other files get what this one has."""
    if not file.parent.is_dir():
        raise OSError(f"there is no folder {file.parent}")
    file.touch(mode=0o600)


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _migrate(connection: Connection) -> None:
    """Alembic takes half a second to import: it is asked only where tables are older than the newest."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
    if not inspect(connection).has_table("alembic_version"):
        ledger_tables.metadata.create_all(connection)
        connection.execute(text(f"CREATE TABLE alembic_version ({_VERSION_COLUMN})"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})
        return
    present = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none() or ""
    if present > HEAD:
        raise DatabaseError(f"its tables are of a newer gateway (migration {present}; this one knows {HEAD})")
    if present < HEAD:
        from gateway.control.sql.migrations.upgrade import upgrade  # noqa: PLC0415

        upgrade(connection)


def insert_into(connection: AsyncConnection, table: Table) -> Any:
    """An INSERT that can say `on_conflict_do_…`, which both kinds know, each from a module of its own."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    return dialect.insert(table)


def words(error: Exception) -> str:
    """For people: what the driver said, without SQLAlchemy's statement and parameters, which may hold anything."""
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
