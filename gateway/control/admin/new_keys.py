"""How API keys come to be, for nouns that make some."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import insert

from gateway.control.admin.asked import Asked
from gateway.control.registry.changes import Change, new_id
from gateway.control.sql.tables import api_keys
from gateway.credentials import abbreviated, digest, new_key


class NewKey(msgspec.Struct, frozen=True):
    """A key that was just made. value: itself, shown once."""

    id: str
    name: str
    value: str
    created_at: int
    expires_at: int | None


async def make_api_key(
    asked: Asked,
    change: Change,
    project_id: str,
    name: str,
    *,
    user_id: str | None = None,
    service_account_id: str | None = None,
    scopes: Sequence[str] | None = None,
    expires_in_s: int | None = None,
) -> NewKey:
    """Makes a key for a user or for a service account, of a project that is there. No scopes: it may do everything."""
    value, key_id = new_key(), new_id("key_")
    hashed = digest(value)
    expires_at = asked.now + expires_in_s if expires_in_s is not None else None
    row = {
        "id": key_id,
        "project_id": project_id,
        "user_id": user_id,
        "service_account_id": service_account_id,
        "name": name,
        "hash": hashed,
        "shown": abbreviated(value),
        "created_at": asked.now,
        "expires_at": expires_at,
        "scopes": list(scopes) if scopes else None,
        "version": change.version,
    }
    await change.connection.execute(insert(api_keys), [row])
    await change.publish("key", [hashed.hex()])
    data = {"scopes": list(scopes or ["api.all"]), "name": name}
    await change.audit("api_key.created", {"id": key_id, "data": data}, resource_id=key_id, project_id=project_id)
    return NewKey(key_id, name, value, asked.now, expires_at)
