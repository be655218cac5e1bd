"""Service accounts of a project, and the keys that are made for them."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import Row, Select, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked, Body, Lifetime, ShortText
from gateway.control.admin.found import found, not_declared, the_project
from gateway.control.admin.new_keys import NewKey, make_api_key
from gateway.control.admin.pages import Listing, Page, list_page
from gateway.control.admin.project_api_keys import Scopes, end_keys
from gateway.control.admin.routes import Route, changing, reading
from gateway.control.registry.changes import Change, new_id
from gateway.control.sql.tables import api_keys, service_accounts

_ALL = "/organization/projects/{project_id}/service_accounts"
_ONE = f"{_ALL}/{{service_account_id}}"
_MAY = "api.organization.projects.service_accounts"
_KEY = "organization.project.service_account.api_key"


def routes() -> tuple[Route, ...]:
    return (
        reading(_ALL, _MAY, list_accounts),
        changing("POST", _ALL, _MAY, create_account),
        reading(_ONE, _MAY, read_account),
        changing("POST", _ONE, _MAY, update_account),
        changing("DELETE", _ONE, _MAY, delete_account),
        changing("POST", f"{_ONE}/api_keys", "api.organization.projects.api_keys", create_key),
    )


class ServiceAccount(msgspec.Struct, frozen=True):
    id: str
    name: str
    role: str
    created_at: int
    object: str = "organization.project.service_account"


class Key(msgspec.Struct, frozen=True):
    """A new key. value: itself, shown once."""

    id: str
    name: str
    value: str
    created_at: int
    expires_at: int | None
    object: str = _KEY


class Created(msgspec.Struct, frozen=True):
    id: str
    name: str
    role: str
    created_at: int
    api_key: Key | None
    object: str = "organization.project.service_account"


class NewServiceAccount(Body, frozen=True):
    name: ShortText
    create_service_account_only: bool | None = None
    expires_in_seconds: Lifetime | None = None


class ChangedServiceAccount(Body, frozen=True):
    name: ShortText | None = None
    role: Literal["member", "owner"] | None = None


class NewServiceAccountKey(Body, frozen=True):
    name: Annotated[str, Meta(max_length=256)] | None = None
    scopes: Scopes | None = None
    expires_in_seconds: Lifetime | None = None


def _rows(asked: Asked) -> Select[Any]:
    columns = service_accounts.c
    here = columns.project_id == asked.ids["project_id"]
    return select(service_accounts).where(here, columns.removed_at.is_(None))


def _shown(row: Row[Any]) -> ServiceAccount:
    return ServiceAccount(row.id, row.name, row.role, row.created_at)


async def _one(asked: Asked, connection: AsyncConnection, *, active: bool = False) -> Row[Any]:
    await the_project(asked, connection, active=active)
    account_id = asked.ids["service_account_id"]
    rows = _rows(asked).where(service_accounts.c.id == account_id)
    return await found(connection, rows, "service account", account_id)


async def list_accounts(asked: Asked, connection: AsyncConnection) -> Page:
    await the_project(asked, connection)
    by = (service_accounts.c.created_at, service_accounts.c.id)
    return await list_page(connection, _rows(asked), by, asked.query(Listing), _shown)


async def create_account(asked: Asked, change: Change) -> Created:
    project = await the_project(asked, change.connection, active=True)
    body = asked.body(NewServiceAccount)
    row = {"id": new_id("svc_acct_"), "project_id": project.id, "name": body.name, "role": "member"}
    await change.connection.execute(
        insert(service_accounts).values(**row, created_at=asked.now, version=change.version)
    )
    details = {"id": row["id"], "data": {"role": "member"}}
    await change.audit("service_account.created", details, resource_id=row["id"], project_id=project.id)
    key = None
    if not body.create_service_account_only:
        lifetime = body.expires_in_seconds
        key = _key(
            await make_api_key(
                asked, change, project.id, "Secret Key", service_account_id=row["id"], expires_in_s=lifetime
            )
        )
    return Created(row["id"], body.name, "member", asked.now, key)


def _key(new: NewKey) -> Key:
    return Key(new.id, new.name, new.value, new.created_at, new.expires_at)


async def read_account(asked: Asked, connection: AsyncConnection) -> ServiceAccount:
    return _shown(await _one(asked, connection))


async def update_account(asked: Asked, change: Change) -> ServiceAccount:
    account = await _one(asked, change.connection, active=True)
    not_declared(account, "service account")
    body = asked.body(ChangedServiceAccount)
    changes = {name: value for name, value in (("name", body.name), ("role", body.role)) if value is not None}
    if changes:
        same = update(service_accounts).where(service_accounts.c.id == account.id)
        await change.connection.execute(same.values(**changes, version=change.version))
        details = {"id": account.id, "changes_requested": changes}
        await change.audit("service_account.updated", details, resource_id=account.id, project_id=account.project_id)
    return _shown(await _one(asked, change.connection))


async def delete_account(asked: Asked, change: Change) -> dict[str, object]:
    """Its keys end with it, at once."""
    account = await _one(asked, change.connection)
    not_declared(account, "service account")
    same = update(service_accounts).where(service_accounts.c.id == account.id)
    await change.connection.execute(same.values(removed_at=asked.now, version=change.version))
    await end_keys(change, api_keys.c.service_account_id == account.id)
    await change.audit(
        "service_account.deleted", {"id": account.id}, resource_id=account.id, project_id=account.project_id
    )
    return {"id": account.id, "object": "organization.project.service_account.deleted", "deleted": True}


async def create_key(asked: Asked, change: Change) -> Key:
    account = await _one(asked, change.connection, active=True)
    body = asked.body(NewServiceAccountKey)
    return _key(
        await make_api_key(
            asked,
            change,
            account.project_id,
            body.name or "Secret Key",
            service_account_id=account.id,
            scopes=body.scopes,
            expires_in_s=body.expires_in_seconds,
        )
    )
