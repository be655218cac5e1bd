"""Admin API keys: keys of this API, whose owner is a user, or whoever owns the organization."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked, Body, Lifetime, ShortText
from gateway.control.admin.caller import EVERYTHING, Grant, owns
from gateway.control.admin.found import found
from gateway.control.admin.grants import grants_of
from gateway.control.admin.pages import Listing, Page, list_page
from gateway.control.admin.routes import Route, changing, reading
from gateway.control.registry.changes import Change, new_id
from gateway.control.sql.tables import admin_api_keys, users
from gateway.credentials import abbreviated, digest, new_key
from gateway.errors import MISSING_SCOPES, GatewayError

_ALL = "/organization/admin_api_keys"
_ONE = f"{_ALL}/{{key_id}}"
_MAY = "api.admin_api_keys"
_PREFIX = "sk-admin-gw-"


def routes() -> tuple[Route, ...]:
    return (
        reading(_ALL, _MAY, list_keys),
        changing("POST", _ALL, _MAY, create_key),
        reading(_ONE, _MAY, read_key),
        changing("DELETE", _ONE, _MAY, delete_key),
    )


class Owner(msgspec.Struct, frozen=True):
    id: str
    name: str
    role: str
    created_at: int
    type: str = "user"
    object: str = "organization.user"


class AdminApiKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """As OpenAI's API shows it. scopes: of this gateway; left out if it is not restricted. value: shown once."""

    object: str = msgspec.field(name="object")
    id: str
    name: str
    redacted_value: str
    created_at: int
    expires_at: int | None
    last_used_at: int | None
    owner: Owner
    scopes: list[str] | None = None
    value: str | None = None


class NewAdminApiKey(Body, frozen=True):
    """user_id, scopes: of this gateway. user_id: whose key it is to be; else the caller's own."""

    name: ShortText
    expires_in_seconds: Lifetime | None = None
    user_id: str | None = None
    scopes: Annotated[list[ShortText], Meta(min_length=1)] | None = None


def _rows(asked: Asked) -> Any:
    ours = admin_api_keys.c.organization_id == asked.organization_id
    owner = (users.c.name.label("user_name"), users.c.role, users.c.created_at.label("user_created_at"))
    return select(admin_api_keys, *owner).outerjoin(users).where(ours, admin_api_keys.c.removed_at.is_(None))


def _shown(row: Row[Any], value: str | None = None) -> AdminApiKey:
    owner = Owner("user_owner", "Organization owner", "owner", row.created_at)
    if row.user_id is not None:
        owner = Owner(row.user_id, row.user_name, row.role, row.user_created_at)
    return AdminApiKey(
        "organization.admin_api_key",
        row.id,
        row.name,
        row.shown,
        row.created_at,
        row.expires_at,
        row.last_used_at,
        owner,
        row.scopes,
        value,
    )


async def list_keys(asked: Asked, connection: AsyncConnection) -> Page:
    by = (admin_api_keys.c.created_at, admin_api_keys.c.id)
    return await list_page(connection, _rows(asked), by, asked.query(Listing), _shown)


async def create_key(asked: Asked, change: Change) -> AdminApiKey:
    body = asked.body(NewAdminApiKey)
    caller = asked.caller
    user_id = body.user_id or caller.user_id
    if user_id != caller.user_id and not caller.is_owner:
        raise GatewayError(MISSING_SCOPES, scope="those of an owner, to make a key for somebody else")
    if caller.restricted is not None and not set(body.scopes or ["*"]) <= set(caller.restricted):
        raise GatewayError(MISSING_SCOPES, scope="those that the new key is to have")
    if user_id is not None:
        there = (users.c.organization_id == asked.organization_id, users.c.removed_at.is_(None))
        await found(change.connection, select(users.c.id).where(users.c.id == user_id, *there), "user", user_id)
    value, key_id = new_key(_PREFIX), new_id("key_")
    row = {
        "id": key_id,
        "organization_id": asked.organization_id,
        "name": body.name,
        "hash": digest(value),
        "shown": abbreviated(value),
        "user_id": user_id,
        "scopes": body.scopes,
        "created_at": asked.now,
        "expires_at": asked.now + body.expires_in_seconds if body.expires_in_seconds is not None else None,
    }
    await change.connection.execute(insert(admin_api_keys), [row])
    data = {"scopes": body.scopes or ["api.all"], "name": body.name}
    await change.audit("api_key.created", {"id": key_id, "data": data}, resource_id=key_id)
    return _shown(await _one(asked, change.connection, key_id), value)


async def _one(asked: Asked, connection: AsyncConnection, key_id: str) -> Row[Any]:
    return await found(connection, _rows(asked).where(admin_api_keys.c.id == key_id), "admin API key", key_id)


async def read_key(asked: Asked, connection: AsyncConnection) -> AdminApiKey:
    return _shown(await _one(asked, connection, asked.ids["key_id"]))


async def delete_key(asked: Asked, change: Change) -> dict[str, object]:
    """Keys of owners, and nobody's, are for owners to delete."""
    key = await _one(asked, change.connection, asked.ids["key_id"])
    whose: tuple[Grant, ...] = (Grant(EVERYTHING),)
    if key.user_id is not None:
        whose = await grants_of(change.connection, asked.organization_id, key.user_id) or ()
    if owns(whose) and not asked.caller.is_owner:
        raise GatewayError(MISSING_SCOPES, scope="those of an owner of the organization")
    gone = update(admin_api_keys).where(admin_api_keys.c.id == key.id)
    await change.connection.execute(gone.values(removed_at=asked.now))
    await change.audit("api_key.deleted", {"id": key.id}, resource_id=key.id)
    return {"id": key.id, "object": "organization.admin_api_key.deleted", "deleted": True}
