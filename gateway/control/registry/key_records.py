"""What the read model says of keys, made from the registry's rows."""

from collections.abc import AsyncIterator, Iterable, Sequence

import msgspec
from sqlalchemy import Row, Select, and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.sql.database import Database
from gateway.control.sql.tables import api_keys, project_users, projects, revoked_hashes, service_accounts, users
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


async def record_of(connection: AsyncConnection, key_hash: bytes) -> KeyRecord | None:
    """The record of one key, as workers have it or will have it soon. None: there is no such key."""
    found = _made(await connection.execute(_rows().where(api_keys.c.hash == key_hash)))
    return found[0] if found else None


async def all_hashes(database: Database) -> AsyncIterator[list[str]]:
    """Of all keys that the registry knows, some hundred at a time, in their order. What changes meanwhile may be
    missed: it is due to be published anyhow."""
    after = b""
    while True:
        query = select(api_keys.c.hash).where(api_keys.c.hash > after).distinct()
        async with database.transaction() as connection:
            hashes = [bytes(h) for h in await connection.scalars(query.order_by(api_keys.c.hash).limit(_PAGE))]
        if not hashes:
            return
        yield [key_hash.hex() for key_hash in hashes]
        after = hashes[-1]


def _rows() -> Select[tuple[object, ...]]:
    columns, member = api_keys.c, project_users.c
    membership = and_(member.project_id == columns.project_id, member.user_id == columns.user_id)
    has_access = service_accounts.c.removed_at.is_(None) & columns.user_id.is_(None)
    has_access |= users.c.removed_at.is_(None) & (columns.declared | member.role.is_not(None))
    return select(
        columns.id,
        columns.hash,
        columns.project_id,
        columns.user_id,
        columns.service_account_id,
        columns.expires_at,
        columns.scopes,
        revoked_hashes.c.revoked_at,
        columns.removed_at,
        columns.version,
        has_access.label("has_access"),
        projects.c.organization_id,
        projects.c.archived_at,
        projects.c.version.label("project_version"),
    ).select_from(
        api_keys.join(projects)
        .outerjoin(revoked_hashes, revoked_hashes.c.hash == columns.hash)
        .outerjoin(service_accounts, service_accounts.c.id == columns.service_account_id)
        .outerjoin(users, users.c.id == columns.user_id)
        .outerjoin(project_users, membership)
    )


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
            scopes=tuple(best.scopes or ()),
            revoked=not best.has_access
            or any(since is not None for since in (best.revoked_at, best.removed_at, best.archived_at)),
        ),
    )
