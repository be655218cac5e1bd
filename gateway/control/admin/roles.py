"""Roles: lists of permissions with a name, of the organization or of one project."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked, Body, invalid
from gateway.control.admin.found import the_project
from gateway.control.admin.known_roles import ID_PREFIX, Role, find_role, predefined_role, resource_type, roles_of
from gateway.control.admin.pages import LongListing, Page, cut_page, page_of
from gateway.control.admin.routes import Route, changing, reading
from gateway.control.registry.changes import Change, new_id
from gateway.control.sql.tables import project_groups, project_users, role_assignments, roles
from gateway.errors import ALREADY_THERE, NOT_NOW, GatewayError

Permission = Annotated[str, Meta(pattern=r"^api(\.[a-z0-9_]+)+\Z", max_length=128, description="api.groups.read")]
Permissions = Annotated[list[Permission], Meta(max_length=200)]
Name = Annotated[str, Meta(min_length=1, max_length=100)]
Description = Annotated[str, Meta(max_length=1000)]


def routes() -> tuple[Route, ...]:
    served: list[Route] = []
    for path, may in (
        ("/organization/roles", "api.roles"),
        ("/projects/{project_id}/roles", "api.organization.projects.roles"),
    ):
        one = f"{path}/{{role_id}}"
        served += (
            reading(path, may, list_roles),
            changing("POST", path, may, create_role),
            reading(one, may, read_role),
            changing("POST", one, may, update_role),
            changing("DELETE", one, may, delete_role),
        )
    return tuple(served)


class ShownRole(msgspec.Struct, frozen=True):
    """A role, as OpenAI's API shows it."""

    id: str
    name: str
    description: str | None
    permissions: Sequence[str]
    resource_type: str
    predefined_role: bool
    object: str = "role"


class RoleListing(LongListing, frozen=True):
    limit: Annotated[int, Meta(ge=0, le=1000)] = 1000


class NewRole(Body, frozen=True):
    role_name: Name
    permissions: Permissions
    description: Description | None = None


class ChangedRole(Body, frozen=True):
    """permissions: instead of those it has. description: null takes it away."""

    role_name: Name | None = None
    permissions: Permissions | None = None
    description: Description | UnsetType | None = UNSET


def shown(role: Role) -> ShownRole:
    return ShownRole(
        role.id, role.name, role.description, role.permissions, role.resource_type, predefined_role=role.predefined
    )


def page_of_roles(all_roles: Sequence[Role], listing: RoleListing, show: Callable[[Role], Any]) -> Page:
    """One page of roles, which are in their order. Raises GatewayError (400) for an id that is none of theirs."""
    by_id = {role.id: role for role in (all_roles if listing.order == "asc" else reversed(all_roles))}
    page, has_more = cut_page(list(by_id), listing.limit, listing.after, None)
    return page_of([show(by_id[role_id]) for role_id in page], page, has_more=has_more)


async def place_of(asked: Asked, connection: AsyncConnection, *, active: bool = False) -> str:
    """The id of the path's project, or nothing for the organization. Raises GatewayError as `the_project`."""
    if "project_id" not in asked.ids:
        return ""
    project = await the_project(asked, connection, active=active)
    return str(project.id)


async def list_roles(asked: Asked, connection: AsyncConnection) -> Page:
    place = await place_of(asked, connection)
    found = await roles_of(connection, asked.organization_id, place)
    return page_of_roles(found, asked.query(RoleListing), shown)


async def create_role(asked: Asked, change: Change) -> ShownRole:
    place = await place_of(asked, change.connection, active=True)
    body = asked.body(NewRole)
    permissions = list(dict.fromkeys(body.permissions))
    await _check_name(asked, change, place, body.role_name)
    asked.caller.must_hold(permissions, place)
    role_id = new_id(ID_PREFIX)
    row = {
        "id": role_id,
        "organization_id": asked.organization_id,
        "project_id": place or None,
        "name": body.role_name,
        "description": body.description,
        "permissions": permissions,
        "created_at": asked.now,
        "updated_at": asked.now,
        "created_by": asked.caller.user_id or asked.caller.id,
    }
    await change.connection.execute(insert(roles), [row])
    details = {"id": role_id, "role_name": body.role_name, "permissions": permissions, **_where(asked, place)}
    await change.audit("role.created", details, resource_id=role_id, project_id=place or None)
    return shown(await find_role(change.connection, asked.organization_id, place, role_id))


async def read_role(asked: Asked, connection: AsyncConnection) -> ShownRole:
    place = await place_of(asked, connection)
    return shown(await find_role(connection, asked.organization_id, place, asked.ids["role_id"]))


async def update_role(asked: Asked, change: Change) -> ShownRole:
    """Whoever changes a role must have all that it permits, before and after."""
    role = await _own_role(asked, change)
    body = asked.body(ChangedRole)
    place = role.project_id
    asked.caller.must_hold(dict.fromkeys((*role.permissions, *(body.permissions or ()))), place)
    values: dict[str, Any] = {}
    requested: dict[str, Any] = {}
    if body.role_name is not None and body.role_name != role.name:
        await _check_name(asked, change, place, body.role_name)
        await _rename(change, role, body.role_name)
        values["name"] = requested["role_name"] = body.role_name
    if body.description is not UNSET and body.description != role.description:
        values["description"] = requested["description"] = body.description
    if body.permissions is not None:
        values["permissions"] = list(dict.fromkeys(body.permissions))
        requested["permissions_added"] = [one for one in values["permissions"] if one not in role.permissions]
        requested["permissions_removed"] = [one for one in role.permissions if one not in values["permissions"]]
    if values:
        same = update(roles).where(roles.c.id == role.id)
        await change.connection.execute(same.values(**values, updated_at=asked.now))
        details = {"id": role.id, "changes_requested": {**requested, **_where(asked, place)}}
        await change.audit("role.updated", details, resource_id=role.id, project_id=place or None)
    return shown(await find_role(change.connection, asked.organization_id, place, role.id))


async def delete_role(asked: Asked, change: Change) -> dict[str, object]:
    """Nobody has it any more. Those who are in a project by it become members there."""
    role = await _own_role(asked, change)
    connection = change.connection
    await connection.execute(delete(role_assignments).where(role_assignments.c.role_id == role.id))
    if role.project_id:
        for table in (project_users, project_groups):
            theirs = (table.c.project_id == role.project_id, or_(table.c.role == role.id, table.c.role == role.name))
            await connection.execute(update(table).where(*theirs).values(role="member"))
    await connection.execute(delete(roles).where(roles.c.id == role.id))
    await change.audit("role.deleted", {"id": role.id}, resource_id=role.id, project_id=role.project_id or None)
    return {"object": "role.deleted", "id": role.id, "deleted": True}


async def _own_role(asked: Asked, change: Change) -> Role:
    """The path's role, which is not one of those that everybody has."""
    place = await place_of(asked, change.connection, active=True)
    role = await find_role(change.connection, asked.organization_id, place, asked.ids["role_id"])
    if role.predefined:
        raise GatewayError(NOT_NOW, reason=f"The role '{role.id}' is predefined, and stays as it is")
    return role


async def _check_name(asked: Asked, change: Change, place: str, name: str) -> None:
    """Names are unique in their place, and do not look like ids: memberships may have either."""
    if name.startswith(ID_PREFIX):
        raise invalid("role_name", f"'{ID_PREFIX}' is how ids begin")
    here = roles.c.project_id == place if place else roles.c.project_id.is_(None)
    same = (roles.c.organization_id == asked.organization_id, here, roles.c.name == name)
    there = await change.connection.scalar(select(roles.c.id).where(*same))
    if there is not None or predefined_role(place, name) is not None:
        raise GatewayError(ALREADY_THERE, what=f"a role '{name}'")


async def _rename(change: Change, role: Role, name: str) -> None:
    """Users may be in the project by the role's name."""
    theirs = (project_users.c.project_id == role.project_id, project_users.c.role == role.name)
    await change.connection.execute(update(project_users).where(*theirs).values(role=name))


def _where(asked: Asked, place: str) -> dict[str, str]:
    return {"resource_type": resource_type(place), "resource_id": place or asked.organization_id}
