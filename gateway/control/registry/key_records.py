"""What the read model says of keys, made from the registry's rows."""

from collections.abc import AsyncIterator, Iterable, Sequence

import msgspec
from sqlalchemy import Row, Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.registry.database import Database
from gateway.control.registry.tables import api_keys, projects, revoked_hashes
from gateway.values import Principal

_PAGE = 500


class KeyRecord(msgspec.Struct, frozen=True):
    """A key's record. hash: 64 hex digits. version: of the newest change that it depends on."""

    hash: str
    version: int
    principal: Principal


async def records_of(database: Database, hashes: Sequence[str]) -> list[KeyRecord]:
    """Those of these hashes that the registry knows. At most some hundred at a time."""
    wanted = [bytes.fromhex(key_hash) for key_hash in hashes]
    async with database.transaction() as connection:
        return _made(await connection.execute(_rows().where(api_keys.c.hash.in_(wanted))))


async def all_records(database: Database) -> AsyncIterator[list[KeyRecord]]:
    """All of them, some hundred at a time, in the order of their hashes. What changes meanwhile may be missed: it is
    due to be published anyhow."""
    after = b""
    while True:
        async with database.transaction() as connection:
            hashes = await _next_hashes(connection, after)
            if not hashes:
                return
            found = _made(await connection.execute(_rows().where(api_keys.c.hash.in_(hashes))))
        yield found
        after = hashes[-1]


async def _next_hashes(connection: AsyncConnection, after: bytes) -> list[bytes]:
    query = select(api_keys.c.hash).where(api_keys.c.hash > after).distinct().order_by(api_keys.c.hash).limit(_PAGE)
    return [bytes(key_hash) for key_hash in await connection.scalars(query)]


def _rows() -> Select[tuple[object, ...]]:
    columns = api_keys.c
    return select(
        columns.id,
        columns.hash,
        columns.project_id,
        columns.user_id,
        columns.service_account_id,
        columns.expires_at,
        revoked_hashes.c.revoked_at,
        columns.removed_at,
        columns.version,
        projects.c.organization_id,
        projects.c.archived_at,
        projects.c.version.label("project_version"),
    ).select_from(api_keys.join(projects).outerjoin(revoked_hashes, revoked_hashes.c.hash == columns.hash))


def _made(rows: Iterable[Row[tuple[object, ...]]]) -> list[KeyRecord]:
    """One record a hash, though several rows may have had it: of the one that lives, or that changed last."""
    by_hash: dict[bytes, list[Row[tuple[object, ...]]]] = {}
    for row in rows:
        by_hash.setdefault(bytes(row.hash), []).append(row)
    return [_record(key_hash, same) for key_hash, same in by_hash.items()]


def _record(key_hash: bytes, rows: list[Row[tuple[object, ...]]]) -> KeyRecord:
    best = max(rows, key=lambda row: (row.removed_at is None, row.version))
    return KeyRecord(
        key_hash.hex(),
        max(max(row.version, row.project_version) for row in rows),
        Principal(
            key_id=best.id,
            project_id=best.project_id,
            user_id=best.user_id or best.service_account_id,
            organization_id=best.organization_id,
            expires_at=best.expires_at,
            revoked=any(since is not None for since in (best.revoked_at, best.removed_at, best.archived_at)),
        ),
    )
