"""API keys of a project: those of the data plane, whoever they belong to."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import ColumnElement, Row, Select, and_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked, Body, Lifetime, ShortText
from gateway.control.admin.found import found, not_declared, the_project
from gateway.control.admin.limit_rows import forget_limits
from gateway.control.admin.new_keys import NewKey, make_api_key
from gateway.control.admin.pages import Listing, Page, list_page
from gateway.control.admin.routes import Route, changing, reading
from gateway.control.registry.changes import Change
from gateway.control.registry.revoke import revoke_hashes
from gateway.control.sql.tables import api_keys, project_users, revoked_hashes, service_accounts, users
from gateway.limits import key_field

_ALL = "/organization/projects/{project_id}/api_keys"
_ONE = f"{_ALL}/{{api_key_id}}"
_MAY = "api.organization.projects.api_keys"

Scope = Annotated[
    str, Meta(pattern=r"^(api|model)(\.[a-z0-9_]+)+\Z", max_length=128, description="api.responses.write")
]
Scopes = Annotated[list[Scope], Meta(max_length=100)]


def routes() -> tuple[Route, ...]:
    return (
        reading(_ALL, _MAY, list_keys),
        changing("POST", _ALL, _MAY, create_key),
        reading(_ONE, _MAY, read_key, own=True),
        changing("POST", _ONE, _MAY, update_key),
        changing("DELETE", _ONE, _MAY, delete_key),
    )


class KeyListing(Listing, frozen=True):
    owner_project_access: Literal["active", "inactive", "any"] = "active"


class NewUserKey(Body, frozen=True):
    """Of this gateway: OpenAI makes keys of users on its website only."""

    user_id: ShortText
    name: ShortText
    scopes: Scopes | None = None
    expires_in_seconds: Lifetime | None = None


class ChangedKey(Body, frozen=True):
    """scopes: instead of those it has; none are all permissions. expires_in_seconds: from now on."""

    scopes: Scopes | None = None
    expires_in_seconds: Lifetime | None = None


class CreatedKey(msgspec.Struct, frozen=True):
    id: str
    name: str
    value: str
    created_at: int
    expires_at: int | None
    object: str = "organization.project.api_key"


def _rows(asked: Asked) -> Select[Any]:
    """Keys with their owners, of which one is there. Users who have left the project keep keys that do not work for
    them: `owner_project_access` says so."""
    columns = api_keys.c
    account, user, member = service_accounts.c, users.c, project_users.c
    owner = (
        account.name.label("account_name"),
        account.role.label("account_role"),
        account.created_at.label("account_created_at"),
        user.email,
        user.name.label("user_name"),
        user.role.label("user_role"),
        user.created_at.label("user_created_at"),
        user.removed_at.label("user_removed_at"),
        member.role.label("member_role"),
        member.created_at.label("member_since"),
    )
    membership = and_(member.project_id == columns.project_id, member.user_id == columns.user_id)
    rows = select(api_keys, *owner).outerjoin(service_accounts, account.id == columns.service_account_id)
    rows = rows.outerjoin(users, user.id == columns.user_id).outerjoin(project_users, membership)
    rows = rows.outerjoin(revoked_hashes, revoked_hashes.c.hash == columns.hash)
    here = (columns.project_id == asked.ids["project_id"], columns.removed_at.is_(None))
    return rows.where(*here, revoked_hashes.c.hash.is_(None))


def _shown(row: Row[Any]) -> dict[str, Any]:
    owner: dict[str, Any] = {"type": "service_account"}
    if row.service_account_id is not None:
        owner["service_account"] = {
            "object": "organization.project.service_account",
            "id": row.service_account_id,
            "name": row.account_name,
            "role": row.account_role,
            "created_at": row.account_created_at,
        }
    else:
        since = row.member_since if row.member_since is not None else row.user_created_at
        owner["type"] = "user"
        owner["user"] = {
            "object": "organization.project.user",
            "id": row.user_id,
            "email": row.email,
            "name": row.user_name,
            "role": row.member_role or "member",
            "created_at": since,
            "added_at": since,
        }
    return {
        "object": "organization.project.api_key",
        "id": row.id,
        "name": row.name,
        "redacted_value": row.shown,
        "created_at": row.created_at,
        "last_used_at": row.last_used_at,
        "expires_at": row.expires_at,
        "owner": owner,
        "owner_project_access": "active" if _has_access(row) else "inactive",
        **({"scopes": row.scopes} if row.scopes is not None else {}),
    }


def _has_access(row: Row[Any]) -> bool:
    if row.service_account_id is not None:
        return True
    return row.user_removed_at is None and (row.member_role is not None or row.declared)


async def _one(asked: Asked, connection: AsyncConnection, *, active: bool = False) -> Row[Any]:
    await the_project(asked, connection, active=active)
    key_id = asked.ids["api_key_id"]
    return await found(connection, _rows(asked).where(api_keys.c.id == key_id), "API key", key_id)


async def list_keys(asked: Asked, connection: AsyncConnection) -> Page:
    await the_project(asked, connection)
    listing = asked.query(KeyListing)
    rows = _rows(asked)
    if listing.owner_project_access != "any":
        member = users.c.removed_at.is_(None) & (project_users.c.role.is_not(None) | api_keys.c.declared)
        active = api_keys.c.service_account_id.is_not(None) | member
        rows = rows.where(active if listing.owner_project_access == "active" else ~active)
    return await list_page(connection, rows, (api_keys.c.created_at, api_keys.c.id), listing, _shown)


async def create_key(asked: Asked, change: Change) -> CreatedKey:
    project = await the_project(asked, change.connection, active=True)
    body = asked.body(NewUserKey)
    member = (project_users.c.project_id == project.id, project_users.c.user_id == body.user_id)
    await found(change.connection, select(project_users).where(*member), "user of this project", body.user_id)
    new: NewKey = await make_api_key(
        asked,
        change,
        project.id,
        body.name,
        user_id=body.user_id,
        scopes=body.scopes,
        expires_in_s=body.expires_in_seconds,
    )
    return CreatedKey(new.id, new.name, new.value, new.created_at, new.expires_at)


async def read_key(asked: Asked, connection: AsyncConnection) -> dict[str, Any]:
    return _shown(await _one(asked, connection))


async def update_key(asked: Asked, change: Change) -> dict[str, Any]:
    key = await _one(asked, change.connection, active=True)
    not_declared(key, "API key")
    body = asked.body(ChangedKey)
    changes: dict[str, Any] = {}
    requested: dict[str, Any] = {}
    if body.scopes is not None:
        changes["scopes"] = body.scopes or None
        requested["scopes"] = body.scopes or ["api.all"]
    if body.expires_in_seconds is not None:
        changes["expires_at"] = requested["expires_at"] = asked.now + body.expires_in_seconds
    if changes:
        same = update(api_keys).where(api_keys.c.id == key.id)
        await change.connection.execute(same.values(**changes, version=change.version))
        await change.publish("key", [bytes(key.hash).hex()])
        details = {"id": key.id, "changes_requested": requested}
        await change.audit("api_key.updated", details, resource_id=key.id, project_id=key.project_id)
    return _shown(await _one(asked, change.connection))


async def delete_key(asked: Asked, change: Change) -> dict[str, Any]:
    """Also of a service account, which OpenAI refuses: it may have several, which are changed one after the other."""
    key = await _one(asked, change.connection)
    not_declared(key, "API key")
    await end_keys(change, api_keys.c.id == key.id)
    return {"object": "organization.project.api_key.deleted", "id": key.id, "deleted": True}


async def end_keys(change: Change, which: ColumnElement[bool]) -> None:
    """Removes keys with their limits, for good: what they are opens nothing any more, wherever it comes up again."""
    rows = list(await change.connection.execute(select(api_keys).where(which, api_keys.c.removed_at.is_(None))))
    await change.connection.execute(
        update(api_keys).where(which, api_keys.c.removed_at.is_(None)).values(removed_at=change.now)
    )
    await revoke_hashes(change, [bytes(row.hash) for row in rows], change.now)
    for row in rows:
        await forget_limits(change, key_field(row.id))
        await change.audit("api_key.deleted", {"id": row.id}, resource_id=row.id, project_id=row.project_id)
