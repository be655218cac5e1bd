"""Groups in projects: each has a role there, which its users have then."""

from typing import Annotated, Any, Literal

from msgspec import Meta
from sqlalchemy import Row, Select, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked, Body, Query, ShortText
from gateway.control.admin.found import found, the_project
from gateway.control.admin.groups import owners_stay, the_group
from gateway.control.admin.known_roles import find_role, predefined_role, spare_owners
from gateway.control.admin.pages import LongListing, Page, list_page
from gateway.control.admin.role_assignments import Assignment, write_down
from gateway.control.admin.routes import Route, changing, reading
from gateway.control.registry.changes import Change
from gateway.control.sql.database import insert_into
from gateway.control.sql.tables import groups, project_groups, role_assignments
from gateway.errors import NOT_FOUND, GatewayError

_ALL = "/organization/projects/{project_id}/groups"
_ONE = f"{_ALL}/{{group_id}}"
_MAY = "api.organization.projects.groups"


def routes() -> tuple[Route, ...]:
    return (
        reading(_ALL, _MAY, list_groups),
        changing("POST", _ALL, _MAY, add_group),
        reading(_ONE, _MAY, read_group),
        changing("DELETE", _ONE, _MAY, remove_group),
    )


class GroupListing(LongListing, frozen=True):
    limit: Annotated[int, Meta(ge=0, le=100)] = 20


class WhichGroup(Query, frozen=True):
    group_type: Literal["group", "tenant_group"] = "group"


class NewProjectGroup(Body, frozen=True):
    """role: a project role's id or name."""

    group_id: ShortText
    role: ShortText


def _rows(project_id: str) -> Select[Any]:
    rows = select(project_groups, groups.c.name).join(groups, groups.c.id == project_groups.c.group_id)
    return rows.where(project_groups.c.project_id == project_id)


def _shown(row: Row[Any]) -> dict[str, Any]:
    return {
        "object": "project.group",
        "project_id": row.project_id,
        "group_id": row.group_id,
        "group_name": row.name,
        "group_type": "group",
        "created_at": row.created_at,
    }


async def _one(connection: AsyncConnection, project_id: str, group_id: str) -> Row[Any]:
    rows = _rows(project_id).where(project_groups.c.group_id == group_id)
    return await found(connection, rows, "group of this project", group_id)


async def list_groups(asked: Asked, connection: AsyncConnection) -> Page:
    project = await the_project(asked, connection)
    by = (project_groups.c.created_at, project_groups.c.group_id)
    return await list_page(connection, _rows(project.id), by, asked.query(GroupListing), _shown)


async def add_group(asked: Asked, change: Change) -> dict[str, Any]:
    """A group that is there already gets the new role instead of its old one."""
    connection = change.connection
    project = await the_project(asked, connection, active=True)
    body = asked.body(NewProjectGroup)
    group = await the_group(asked, connection, body.group_id)
    role = await find_role(connection, asked.organization_id, project.id, body.role, or_name=True)
    asked.caller.must_hold(role.permissions, project.id)
    same = (project_groups.c.project_id == project.id, project_groups.c.group_id == group.id)
    before = await connection.scalar(select(project_groups.c.role).where(*same))
    if before != role.id:
        row = {"project_id": project.id, "group_id": group.id, "role": role.id, "created_at": asked.now}
        new = insert_into(connection, project_groups).values(row)
        key = ["project_id", "group_id"]
        await connection.execute(new.on_conflict_do_update(index_elements=key, set_={"role": new.excluded.role}))
        if before is not None:
            _spare_owners(asked, project.id, before)
            await write_down(change, "deleted", Assignment(before, "group", group.id, project.id))
        await write_down(change, "created", Assignment(role.id, "group", group.id, project.id))
    return _shown(await _one(connection, project.id, group.id))


async def read_group(asked: Asked, connection: AsyncConnection) -> dict[str, Any]:
    project = await the_project(asked, connection)
    group_id = asked.ids["group_id"]
    if asked.query(WhichGroup).group_type != "group":
        raise GatewayError(NOT_FOUND, what="group of this project", id=group_id[:100])
    return _shown(await _one(connection, project.id, group_id))


async def remove_group(asked: Asked, change: Change) -> dict[str, Any]:
    """With all roles that it has there."""
    project = await the_project(asked, change.connection, active=True)
    group = await _one(change.connection, project.id, asked.ids["group_id"])
    await owners_stay(asked, change.connection, group.group_id, project.id)
    columns, given = project_groups.c, role_assignments.c
    same = (columns.project_id == project.id, columns.group_id == group.group_id)
    await change.connection.execute(delete(project_groups).where(*same))
    theirs = (given.principal_type == "group", given.principal_id == group.group_id)
    here = (given.organization_id == asked.organization_id, given.project_id == project.id)
    await change.connection.execute(delete(role_assignments).where(*here, *theirs))
    await write_down(change, "deleted", Assignment(group.role, "group", group.group_id, project.id))
    return {"object": "project.group.deleted", "deleted": True}


def _spare_owners(asked: Asked, project_id: str, word: str) -> None:
    role = predefined_role(project_id, word)
    if role is not None:
        spare_owners(asked.caller, role)
