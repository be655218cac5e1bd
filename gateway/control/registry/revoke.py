"""Revoking a key by whatever an operator calls it."""

import difflib
import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import msgspec
from sqlalchemy import select, update

from gateway.control.registry.changes import Change, Changes
from gateway.control.registry.declared import UnknownKeyError
from gateway.control.sql.database import insert_into
from gateway.control.sql.tables import api_keys, projects, revoked_hashes

_HASH = re.compile(r"(sha256:)?[0-9a-f]{64}")


class NamedKey(msgspec.Struct, frozen=True):
    """A key, and its `project/name`."""

    key_id: str
    name: str
    hash: bytes


async def agree(changes: Changes, organization_id: str, others: AbstractSet[bytes], now: int) -> set[bytes]:
    """Takes over what others have revoked, hashes of 32 bytes; returns what only we have. Gateways that share a Redis,
    but no database, are to agree on it. Raises SQLAlchemyError."""
    async with changes.begin(organization_id) as change:
        ours = {bytes(key_hash) for key_hash in await change.connection.scalars(select(revoked_hashes.c.hash))}
        await revoke_hashes(change, sorted(others - ours), now)
        return ours - others


async def revoke(changes: Changes, organization_id: str, name: str, now: int) -> NamedKey:
    """Revokes the key with this `project/name`, id or hash, for good; what workers have to hear is due. Revoking it
    again changes nothing. Raises UnknownKeyError, SQLAlchemyError."""
    called = api_keys.c.project_id + "/" + api_keys.c.name
    if _HASH.fullmatch(name):
        wanted = api_keys.c.hash == bytes.fromhex(name.removeprefix("sha256:"))
    else:
        wanted = (api_keys.c.id == name) | (called == name)
    ours = select(api_keys.c.id, api_keys.c.hash, called.label("called")).join(projects)
    ours = ours.where(projects.c.organization_id == organization_id)
    async with changes.begin(organization_id) as change:
        newest = ours.where(wanted).order_by(api_keys.c.removed_at.is_not(None), api_keys.c.version.desc()).limit(1)
        key = (await change.connection.execute(newest)).one_or_none()
        if key is None:
            raise _unknown(name, [row.called for row in await change.connection.execute(ours)])
        await revoke_hashes(change, [bytes(key.hash)], now)
        return NamedKey(key.id, key.called, bytes(key.hash))


def _unknown(name: str, names: list[str]) -> UnknownKeyError:
    near = difflib.get_close_matches(name, names, 3)
    hint = f"did you mean {', '.join(near)}?" if near else f"there are {len(names)} keys"
    return UnknownKeyError(f"no key is called {name[:100]}; {hint}")


async def revoke_hashes(change: Change, hashes: Sequence[bytes], now: int) -> None:
    for key_hash in hashes:
        row = insert_into(change.connection, revoked_hashes).values(hash=key_hash, revoked_at=now)
        await change.connection.execute(row.on_conflict_do_nothing())
        rows = update(api_keys).where(api_keys.c.hash == key_hash)
        await change.connection.execute(rows.values(version=change.version))
    await change.publish("key", [key_hash.hex() for key_hash in hashes])
