"""A copy of the registry's database, made while it is used."""

import asyncio
import os
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from sqlalchemy.engine import URL

from gateway.control.sql.database import Database, DatabaseError, words

_LIBPQ = MappingProxyType({"host": "host", "port": "port", "ssl": "sslmode"})  # pg_dump's names for asyncpg's options


async def back_up(database: Database, file: Path) -> int:
    """Copies a SQLite database as it is between two transactions; the others wait meanwhile. Returns the file's size.
    Raises DatabaseError if there is such a file already, or if it cannot be written; then there is none afterwards.
    """
    if not file.is_absolute():
        raise DatabaseError(f"{file}: expected an absolute path")
    try:
        with _new_file(file):
            await database.alone("VACUUM INTO ?", str(file))
            return await asyncio.to_thread(_on_disk, file)
    except (sqlite3.Error, OSError, ValueError) as error:
        raise DatabaseError(f"{file}: {getattr(error, 'strerror', None) or words(error)}") from None


@contextmanager
def _new_file(file: Path) -> Iterator[None]:
    """An empty file of this user's, which SQLite takes to write to. It goes again where that ends with an error."""
    os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        yield
    except BaseException:
        file.unlink()
        raise


def _on_disk(file: Path) -> int:
    """Sees to it that the file outlives a loss of power, which SQLite does not; returns its size."""
    for path in (file, file.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return file.stat().st_size


def dump_command(url: URL, file: Path) -> str | None:
    """What dumps a PostgreSQL database into a file, without its password; None if it is SQLite."""
    if url.get_backend_name() == "sqlite":
        return None
    query = {_LIBPQ[name]: value for name, value in url.query.items() if name in _LIBPQ}
    plain = url.set(drivername="postgresql", query=query)._replace(password=None)
    return shlex.join(["pg_dump", "--format=custom", f"--file={file}", plain.render_as_string()])
