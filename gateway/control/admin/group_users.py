"""Users of groups."""

from typing import Any

from sqlalchemy import Row, Select, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked, Body, ShortText
from gateway.control.admin.found import found
from gateway.control.admin.groups import owners_stay, the_group
from gateway.control.admin.held_roles import held_by_group
from gateway.control.admin.pages import LongListing, Order, Page, list_page
from gateway.control.admin.routes import Route, changing, reading
from gateway.control.registry.changes import Change
from gateway.control.sql.database import insert_into
from gateway.control.sql.tables import group_users, users

_ALL = "/organization/groups/{group_id}/users"
_ONE = f"{_ALL}/{{user_id}}"
_MAY = "api.groups"


def routes() -> tuple[Route, ...]:
    return (
        reading(_ALL, _MAY, list_users),
        changing("POST", _ALL, _MAY, add_user),
        reading(_ONE, _MAY, read_user),
        changing("DELETE", _ONE, _MAY, remove_user),
    )


class UserListing(LongListing, frozen=True):
    order: Order = "desc"


class NewGroupUser(Body, frozen=True):
    user_id: ShortText


def _rows(group_id: str) -> Select[Any]:
    columns = (group_users.c.user_id, group_users.c.created_at, users.c.name, users.c.email)
    return (
        select(*columns)
        .join(users, users.c.id == group_users.c.user_id)
        .where(group_users.c.group_id == group_id, users.c.removed_at.is_(None))
    )


def _shown(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.user_id,
        "name": row.name,
        "email": row.email,
        "picture": None,
        "is_service_account": False,
        "user_type": "user",
        "added_at": row.created_at,
    }


async def _one(asked: Asked, connection: AsyncConnection) -> Row[Any]:
    group = await the_group(asked, connection, asked.ids["group_id"])
    user_id = asked.ids["user_id"]
    rows = _rows(group.id).where(group_users.c.user_id == user_id)
    return await found(connection, rows, "user of this group", user_id)


async def list_users(asked: Asked, connection: AsyncConnection) -> Page:
    group = await the_group(asked, connection, asked.ids["group_id"])
    by = (group_users.c.created_at, group_users.c.user_id)
    return await list_page(connection, _rows(group.id), by, asked.query(UserListing), _shown)


async def add_user(asked: Asked, change: Change) -> dict[str, Any]:
    """Whoever adds a user must have all that the group gives. Adding it again changes nothing."""
    group = await the_group(asked, change.connection, asked.ids["group_id"])
    user_id = asked.body(NewGroupUser).user_id
    ours = (users.c.organization_id == asked.organization_id, users.c.removed_at.is_(None))
    await found(change.connection, select(users.c.id).where(users.c.id == user_id, *ours), "user", user_id)
    for held in await held_by_group(change.connection, asked.organization_id, group.id):
        asked.caller.must_hold(held.role.permissions, held.project_id)
    row = {"group_id": group.id, "user_id": user_id, "created_at": asked.now}
    new = insert_into(change.connection, group_users).values(row).on_conflict_do_nothing()
    if (await change.connection.execute(new)).rowcount:
        details = {"id": group.id, "changes_requested": {"users_added": [user_id]}}
        await change.audit("group.updated", details, resource_id=group.id)
    return {"object": "group.user", "user_id": user_id, "group_id": group.id}


async def read_user(asked: Asked, connection: AsyncConnection) -> dict[str, Any]:
    return _shown(await _one(asked, connection))


async def remove_user(asked: Asked, change: Change) -> dict[str, Any]:
    user = await _one(asked, change.connection)
    group_id = asked.ids["group_id"]
    await owners_stay(asked, change.connection, group_id)
    same = (group_users.c.group_id == group_id, group_users.c.user_id == user.user_id)
    await change.connection.execute(delete(group_users).where(*same))
    details = {"id": group_id, "changes_requested": {"users_removed": [user.user_id]}}
    await change.audit("group.updated", details, resource_id=group_id)
    return {"object": "group.user.deleted", "deleted": True}
