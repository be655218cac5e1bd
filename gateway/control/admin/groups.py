"""Groups of users: what a group may, its users may."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked, Body
from gateway.control.admin.found import found
from gateway.control.admin.held_roles import held_by_group
from gateway.control.admin.known_roles import spare_owners
from gateway.control.admin.pages import LongListing, Page, list_page
from gateway.control.admin.routes import Route, changing, reading
from gateway.control.registry.changes import Change, new_id
from gateway.control.sql.tables import group_users, groups, project_groups, role_assignments

_ALL = "/organization/groups"
_ONE = f"{_ALL}/{{group_id}}"
_MAY = "api.groups"


def routes() -> tuple[Route, ...]:
    return (
        reading(_ALL, _MAY, list_groups),
        changing("POST", _ALL, _MAY, create_group),
        reading(_ONE, _MAY, read_group),
        changing("POST", _ONE, _MAY, update_group),
        changing("DELETE", _ONE, _MAY, delete_group),
    )


class Group(msgspec.Struct, frozen=True):
    """A group, as OpenAI's API shows it, here and in assignments of roles."""

    id: str
    name: str
    created_at: int
    object: str = "group"
    group_type: str = "group"
    is_scim_managed: bool = False
    scim_managed: bool = False


class GroupBody(Body, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=255)]


def shown(row: Row[Any]) -> Group:
    return Group(row.id, row.name, row.created_at)


async def the_group(asked: Asked, connection: AsyncConnection, group_id: str) -> Row[Any]:
    """A group of this organization. Raises GatewayError NOT_FOUND (404)."""
    ours = (groups.c.organization_id == asked.organization_id, groups.c.id == group_id)
    return await found(connection, select(groups).where(*ours), "group", group_id)


async def owners_stay(asked: Asked, connection: AsyncConnection, group_id: str, project_id: str | None = None) -> None:
    """Nobody but owners takes from a group's users what makes them owners. project_id: only there. Raises GatewayError
    (401)."""
    for held in await held_by_group(connection, asked.organization_id, group_id, project_id):
        spare_owners(asked.caller, held.role)


async def list_groups(asked: Asked, connection: AsyncConnection) -> Page:
    rows = select(groups).where(groups.c.organization_id == asked.organization_id)
    return await list_page(connection, rows, (groups.c.created_at, groups.c.id), asked.query(LongListing), shown)


async def create_group(asked: Asked, change: Change) -> Group:
    name = asked.body(GroupBody).name
    group = Group(new_id("group_"), name, asked.now)
    row = {"id": group.id, "organization_id": asked.organization_id, "name": name, "created_at": asked.now}
    await change.connection.execute(insert(groups), [row])
    await change.audit("group.created", {"id": group.id, "data": {"group_name": name}}, resource_id=group.id)
    return group


async def read_group(asked: Asked, connection: AsyncConnection) -> Group:
    return shown(await the_group(asked, connection, asked.ids["group_id"]))


async def update_group(asked: Asked, change: Change) -> Group:
    group = await the_group(asked, change.connection, asked.ids["group_id"])
    name = asked.body(GroupBody).name
    if name != group.name:
        await change.connection.execute(update(groups).where(groups.c.id == group.id).values(name=name))
        details = {"id": group.id, "changes_requested": {"group_name": name}}
        await change.audit("group.updated", details, resource_id=group.id)
    return Group(group.id, name, group.created_at)


async def delete_group(asked: Asked, change: Change) -> dict[str, object]:
    """Its users lose what they had from it."""
    group = await the_group(asked, change.connection, asked.ids["group_id"])
    await owners_stay(asked, change.connection, group.id)
    given = role_assignments.c
    theirs = (given.organization_id == asked.organization_id, given.principal_type == "group")
    await change.connection.execute(delete(role_assignments).where(*theirs, given.principal_id == group.id))
    await change.connection.execute(delete(group_users).where(group_users.c.group_id == group.id))
    await change.connection.execute(delete(project_groups).where(project_groups.c.group_id == group.id))
    await change.connection.execute(delete(groups).where(groups.c.id == group.id))
    await change.audit("group.deleted", {"id": group.id}, resource_id=group.id)
    return {"object": "group.deleted", "id": group.id, "deleted": True}
