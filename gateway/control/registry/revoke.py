"""Revoking a key by whatever an operator calls it."""

import difflib
import re
from collections.abc import Set as AbstractSet

import msgspec
from sqlalchemy import select, update

from gateway.control.registry.changes import Changes
from gateway.control.registry.database import insert_into
from gateway.control.registry.declared import UnknownKeyError
from gateway.control.registry.tables import api_keys, projects, revoked_hashes

_HASH = re.compile(r"(sha256:)?[0-9a-f]{64}")


class NamedKey(msgspec.Struct, frozen=True):
    """A key, and its `project/name`."""

    key_id: str
    name: str
    hash: bytes


async def agree(changes: Changes, organization_id: str, others: AbstractSet[bytes], now: int) -> set[bytes]:
    """Takes over what others have revoked, hashes of 32 bytes; returns what only we have. Gateways that share a Redis,
    but no database, are to agree on it."""
    async with changes.begin(organization_id) as change:
        ours = {bytes(key_hash) for key_hash in await change.connection.scalars(select(revoked_hashes.c.hash))}
        for key_hash in sorted(others - ours):
            row = {"hash": key_hash, "revoked_at": now}
            await change.connection.execute(insert_into(change.connection, revoked_hashes).values(row))
            alive = (api_keys.c.hash == key_hash) & api_keys.c.revoked_at.is_(None)
            values = {"revoked_at": now, "version": change.version}
            await change.connection.execute(update(api_keys).where(alive).values(values))
            await change.publish("key", key_hash.hex())
        return ours - others


async def revoke(changes: Changes, organization_id: str, name: str, now: int) -> NamedKey:
    """Revokes the key with this `project/name`, id or hash, for good; what workers have to hear is due. Revoking it
    again changes nothing. Raises UnknownKeyError, SQLAlchemyError."""
    async with changes.begin(organization_id) as change:
        of_ours = select(api_keys, (api_keys.c.project_id + "/" + api_keys.c.name).label("called")).join(projects)
        of_ours = of_ours.where(projects.c.organization_id == organization_id)
        if _HASH.fullmatch(name):
            wanted = api_keys.c.hash == bytes.fromhex(name.removeprefix("sha256:"))
        else:
            wanted = (api_keys.c.id == name) | (api_keys.c.project_id + "/" + api_keys.c.name == name)
        found = (await change.connection.execute(of_ours.where(wanted).order_by(api_keys.c.removed_at))).all()
        alive = [row for row in found if row.removed_at is None] or found
        if not alive:
            names = list(await change.connection.scalars(select(of_ours.subquery().c.called)))
            near = difflib.get_close_matches(name, names, 3)
            hint = f"did you mean {', '.join(near)}?" if near else f"there are {len(names)} keys"
            raise UnknownKeyError(f"no key is called {name[:100]}; {hint}")
        for row in alive:
            if row.revoked_at is None:
                values = {"revoked_at": now, "version": change.version}
                await change.connection.execute(update(api_keys).where(api_keys.c.id == row.id).values(values))
                revoked = insert_into(change.connection, revoked_hashes).values(hash=row.hash, revoked_at=now)
                await change.connection.execute(revoked.on_conflict_do_nothing())
            await change.publish("key", row.hash.hex())
        return NamedKey(alive[0].id, alive[0].called, bytes(alive[0].hash))
