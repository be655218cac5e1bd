"""Roles of users and of groups, in the organization and in projects."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import Row, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin import groups
from gateway.control.admin.asked import Asked, Body, ShortText
from gateway.control.admin.found import found
from gateway.control.admin.held_roles import Held, held_by_group, held_by_user
from gateway.control.admin.known_roles import Role, find_role, resource_type, spare_owners
from gateway.control.admin.pages import Page
from gateway.control.admin.roles import RoleListing, page_of_roles, place_of, shown
from gateway.control.admin.routes import Route, changing, reading
from gateway.control.registry.changes import Change
from gateway.control.sql.database import insert_into
from gateway.control.sql.tables import project_users, role_assignments, users
from gateway.errors import NOT_FOUND, NOT_NOW, GatewayError


def routes() -> tuple[Route, ...]:
    served: list[Route] = []
    for start, may in (("/organization", "api.roles"), ("/projects/{project_id}", "api.organization.projects.roles")):
        for whose in ("users/{user_id}", "groups/{group_id}"):
            path = f"{start}/{whose}/roles"
            one = f"{path}/{{role_id}}"
            served += (
                reading(path, may, list_assigned),
                changing("POST", path, may, assign),
                reading(one, may, read_assigned),
                changing("DELETE", one, may, unassign),
            )
    return tuple(served)


class NewAssignment(Body, frozen=True):
    role_id: ShortText


class Assignment(msgspec.Struct, frozen=True):
    """That somebody has a role. project_id: where; empty: in the whole organization."""

    role_id: str
    principal_type: Literal["user", "group"]
    principal_id: str
    project_id: str

    def row(self, organization_id: str) -> dict[str, Any]:
        return {"organization_id": organization_id, **msgspec.structs.asdict(self)}


async def write_down(change: Change, what: Literal["created", "deleted"], one: Assignment) -> None:
    """In the audit log, whether it was an assignment or a membership that gave the role."""
    details = {
        "id": f"{one.role_id}:{one.principal_id}",
        "principal_id": one.principal_id,
        "principal_type": one.principal_type,
        "resource_id": one.project_id or change.organization_id,
        "resource_type": resource_type(one.project_id),
    }
    project_id = one.project_id or None
    await change.audit(f"role.assignment.{what}", details, resource_id=one.role_id, project_id=project_id)


class _Whose(msgspec.Struct, frozen=True):
    """The user or the group of a path, and where. row: its own."""

    kind: Literal["user", "group"]
    row: Row[Any]
    project_id: str

    def assignment(self, role_id: str) -> Assignment:
        return Assignment(role_id, self.kind, self.row.id, self.project_id)


async def _whose(asked: Asked, connection: AsyncConnection, *, active: bool = False) -> _Whose:
    place = await place_of(asked, connection, active=active)
    if "group_id" in asked.ids:
        return _Whose("group", await groups.the_group(asked, connection, asked.ids["group_id"]), place)
    user_id = asked.ids["user_id"]
    ours = (users.c.organization_id == asked.organization_id, users.c.removed_at.is_(None))
    return _Whose(
        "user", await found(connection, select(users).where(users.c.id == user_id, *ours), "user", user_id), place
    )


async def _held(asked: Asked, connection: AsyncConnection, whose: _Whose) -> dict[str, list[Held]]:
    """By roles' ids, predefined roles first, then by age: a role may come from several."""
    args = (connection, asked.organization_id, whose.row.id)
    if whose.kind == "user":
        held = await held_by_user(*args, whose.row.role, whose.project_id)
    else:
        held = await held_by_group(*args, whose.project_id)
    held.sort(key=lambda one: (not one.role.predefined, one.role.created_at or 0, one.role.id))
    by_role: dict[str, list[Held]] = {}
    for one in held:
        by_role.setdefault(one.role.id, []).append(one)
    return by_role


async def list_assigned(asked: Asked, connection: AsyncConnection) -> Page:
    """What a user has from groups too."""
    by_role = await _held(asked, connection, await _whose(asked, connection))
    assigned = [held[0].role for held in by_role.values()]
    creators = await _creators(connection, assigned)
    return page_of_roles(assigned, asked.query(RoleListing), lambda role: _shown(by_role[role.id], creators))


async def read_assigned(asked: Asked, connection: AsyncConnection) -> dict[str, Any]:
    whose = await _whose(asked, connection)
    held = (await _held(asked, connection, whose)).get(asked.ids["role_id"])
    if held is None:
        raise _not_held(asked, whose)
    return _shown(held, await _creators(connection, [held[0].role]))


async def give(asked: Asked, change: Change, role: Role, one: Assignment) -> None:
    """Whoever assigns a role must have all that it permits. Assigning it again changes nothing."""
    asked.caller.must_hold(role.permissions, one.project_id)
    made = {"created_at": asked.now, "created_by": asked.caller.user_id or asked.caller.id}
    new = insert_into(change.connection, role_assignments).values(**one.row(asked.organization_id), **made)
    if (await change.connection.execute(new.on_conflict_do_nothing())).rowcount:
        await write_down(change, "created", one)


async def assign(asked: Asked, change: Change) -> dict[str, Any]:
    whose = await _whose(asked, change.connection, active=True)
    if whose.project_id and whose.kind == "user":
        await _in_project(change.connection, whose)
    role_id = asked.body(NewAssignment).role_id
    role = await find_role(change.connection, asked.organization_id, whose.project_id, role_id)
    await give(asked, change, role, whose.assignment(role.id))
    principal = groups.shown(whose.row) if whose.kind == "group" else _user(whose.row)
    return {"object": f"{whose.kind}.role", "role": shown(role), whose.kind: principal}


async def unassign(asked: Asked, change: Change) -> dict[str, Any]:
    whose = await _whose(asked, change.connection, active=True)
    role_id = asked.ids["role_id"]
    one = whose.assignment(role_id)
    held = (await _held(asked, change.connection, whose)).get(role_id)
    if held is None:
        raise _not_held(asked, whose)
    spare_owners(asked.caller, held[0].role)
    same = [role_assignments.c[name] == value for name, value in one.row(asked.organization_id).items()]
    if not (await change.connection.execute(delete(role_assignments).where(*same))).rowcount:
        raise GatewayError(NOT_NOW, reason=_elsewhere(held[0], whose))
    await write_down(change, "deleted", one)
    return {"object": f"{whose.kind}.role.deleted", "deleted": True}


async def _in_project(connection: AsyncConnection, whose: _Whose) -> None:
    same = (project_users.c.project_id == whose.project_id, project_users.c.user_id == whose.row.id)
    await found(connection, select(project_users).where(*same), "user of this project", whose.row.id)


def _elsewhere(held: Held, whose: _Whose) -> str:
    """Why a role cannot be taken away here."""
    if held.principal_type != whose.kind:
        return f"The user has this role from the group '{held.principal_id}'"
    where = "the project" if whose.project_id else "the organization"
    return f"It is the role by which this {whose.kind} is in {where}, and is changed there"


def _not_held(asked: Asked, whose: _Whose) -> GatewayError:
    return GatewayError(NOT_FOUND, what=f"role of this {whose.kind}", id=asked.ids["role_id"][:100])


async def _creators(connection: AsyncConnection, roles: Iterable[Role]) -> dict[str, dict[str, str]]:
    """Of those who made these roles, the users."""
    ids = sorted({role.created_by for role in roles if role.created_by is not None})
    rows = await connection.execute(select(users.c.id, users.c.name, users.c.email).where(users.c.id.in_(ids)))
    return {row.id: {"id": row.id, "name": row.name, "email": row.email} for row in rows}


def _shown(held: Sequence[Held], creators: Mapping[str, dict[str, str]]) -> dict[str, Any]:
    role = held[0].role
    sources = dict.fromkeys((one.principal_type, one.principal_id) for one in held)
    return {
        **msgspec.structs.asdict(shown(role)),
        "created_at": role.created_at,
        "updated_at": role.updated_at,
        "created_by": role.created_by,
        "created_by_user_obj": creators.get(role.created_by or ""),
        "metadata": None,
        "assignment_sources": [{"principal_type": kind, "principal_id": name} for kind, name in sources],
    }


def _user(row: Row[Any]) -> dict[str, Any]:
    return {
        "object": "organization.user",
        "id": row.id,
        "name": row.name,
        "email": row.email,
        "role": row.role,
        "added_at": row.created_at,
        "created": row.created_at,
    }
