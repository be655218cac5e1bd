"""Users of a project. Keys that they have in it work as long as they are in it."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Row, Select, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked, Body, ShortText, invalid
from gateway.control.admin.found import found, the_project
from gateway.control.admin.known_roles import PROJECT_OWNING, find_role
from gateway.control.admin.pages import Listing, Page, list_page
from gateway.control.admin.routes import Route, changing, reading
from gateway.control.admin.users import user_by_email
from gateway.control.registry.changes import Change
from gateway.control.sql.tables import api_keys, project_users, role_assignments, users
from gateway.errors import ALREADY_THERE, MISSING_PARAMETER, NOT_FOUND, GatewayError

_ALL = "/organization/projects/{project_id}/users"
_ONE = f"{_ALL}/{{user_id}}"
_MAY = "api.organization.projects.users"

ProjectRole = Annotated[str, Meta(min_length=1, max_length=100, description="owner, member, or a role's name or id")]


def routes() -> tuple[Route, ...]:
    return (
        reading(_ALL, _MAY, list_users),
        changing("POST", _ALL, _MAY, create_user),
        reading(_ONE, _MAY, read_user),
        changing("POST", _ONE, _MAY, update_user),
        changing("DELETE", _ONE, _MAY, delete_user),
    )


class ProjectUser(msgspec.Struct, frozen=True):
    id: str
    name: str
    email: str
    role: str
    added_at: int
    created_at: int
    object: str = "organization.project.user"


class NewProjectUser(Body, frozen=True):
    """One of user_id and email says who; if both are there they have to be of the same user."""

    role: ProjectRole
    user_id: ShortText | None = None
    email: ShortText | None = None


class ChangedProjectUser(Body, frozen=True):
    role: ProjectRole | None = None


def _rows(asked: Asked) -> Select[Any]:
    rows = select(project_users, users.c.email, users.c.name).join(users)
    return rows.where(project_users.c.project_id == asked.ids["project_id"], users.c.removed_at.is_(None))


def _shown(row: Row[Any]) -> ProjectUser:
    return ProjectUser(row.user_id, row.name, row.email, row.role, row.created_at, row.created_at)


async def _one(asked: Asked, connection: AsyncConnection, user_id: str, *, active: bool = False) -> Row[Any]:
    await the_project(asked, connection, active=active)
    rows = _rows(asked).where(project_users.c.user_id == user_id)
    return await found(connection, rows, "user of this project", user_id)


async def list_users(asked: Asked, connection: AsyncConnection) -> Page:
    await the_project(asked, connection)
    by = (project_users.c.created_at, project_users.c.user_id)
    return await list_page(connection, _rows(asked), by, asked.query(Listing), _shown)


async def create_user(asked: Asked, change: Change) -> ProjectUser:
    project = await the_project(asked, change.connection, active=True)
    body = asked.body(NewProjectUser)
    user_id = await _who(asked, change.connection, body)
    await _may_give(asked, change.connection, project.id, body.role)
    rows = _rows(asked).where(project_users.c.user_id == user_id)
    if (await change.connection.execute(rows)).one_or_none() is not None:
        raise GatewayError(ALREADY_THERE, what=f"a user '{user_id}' in this project")
    await add_member(asked, change, project.id, user_id, body.role)
    return _shown(await _one(asked, change.connection, user_id))


async def _who(asked: Asked, connection: AsyncConnection, body: NewProjectUser) -> str:
    """The id of the user whom a body names."""
    by_email = None
    if body.email is not None:
        by_email = await user_by_email(connection, asked.organization_id, body.email)
        if by_email is None or by_email.removed_at is not None:
            raise GatewayError(NOT_FOUND, what="user", id=body.email)
    if body.user_id is None:
        if by_email is None:
            raise GatewayError(MISSING_PARAMETER, param="user_id")
        return str(by_email.id)
    there = (users.c.organization_id == asked.organization_id, users.c.removed_at.is_(None))
    user = await found(connection, select(users.c.id).where(users.c.id == body.user_id, *there), "user", body.user_id)
    if by_email is not None and by_email.id != user.id:
        raise invalid("email", "it is another user's than 'user_id'")
    return str(user.id)


async def read_user(asked: Asked, connection: AsyncConnection) -> ProjectUser:
    return _shown(await _one(asked, connection, asked.ids["user_id"]))


async def update_user(asked: Asked, change: Change) -> ProjectUser:
    member = await _one(asked, change.connection, asked.ids["user_id"], active=True)
    role = asked.body(ChangedProjectUser).role
    if role is not None and role != member.role:
        await _may_give(asked, change.connection, member.project_id, role)
        owners_of_project_only(asked, member.project_id, member.role)
        await change.connection.execute(update(project_users).where(*_is(member)).values(role=role))
        details = {"id": member.user_id, "changes_requested": {"role": role}}
        await change.audit("user.updated", details, resource_id=member.user_id, project_id=member.project_id)
    return _shown(await _one(asked, change.connection, member.user_id))


async def delete_user(asked: Asked, change: Change) -> dict[str, object]:
    """The keys that they have in this project do not work any more, until they are in it again."""
    member = await _one(asked, change.connection, asked.ids["user_id"], active=True)
    owners_of_project_only(asked, member.project_id, member.role)
    await change.connection.execute(delete(project_users).where(*_is(member)))
    assigned = role_assignments.c
    theirs = (assigned.principal_type == "user", assigned.principal_id == member.user_id)
    await change.connection.execute(delete(role_assignments).where(assigned.project_id == member.project_id, *theirs))
    await _publish_keys(change, member.project_id, member.user_id)
    await change.audit("user.deleted", {"id": member.user_id}, resource_id=member.user_id, project_id=member.project_id)
    return {"object": "organization.project.user.deleted", "id": member.user_id, "deleted": True}


def _is(member: Row[Any]) -> tuple[Any, Any]:
    return project_users.c.project_id == member.project_id, project_users.c.user_id == member.user_id


async def add_member(asked: Asked, change: Change, project_id: str, user_id: str, role: str) -> None:
    """Puts a user who is there into an active project where they are not."""
    row = {"project_id": project_id, "user_id": user_id, "role": role, "created_at": asked.now}
    await change.connection.execute(insert(project_users), [row])
    await _publish_keys(change, project_id, user_id)
    details = {"id": user_id, "data": {"role": role}}
    await change.audit("user.added", details, resource_id=user_id, project_id=project_id)


def owners_of_project_only(asked: Asked, project_id: str, *roles: str) -> None:
    """Nobody but who may do what owners of a project may makes such owners, or does anything to them. Raises
    GatewayError (401)."""
    if {"owner", "role-api-project-owner"} & set(roles):
        asked.caller.must_hold(PROJECT_OWNING, project_id)


async def _may_give(asked: Asked, connection: AsyncConnection, project_id: str, word: str) -> None:
    """Whether there is this role, and the caller has all that it permits; looking at projects is everybody's. Raises
    GatewayError (401, 404)."""
    if word != "member":
        role = await find_role(connection, asked.organization_id, project_id, word, or_name=True)
        asked.caller.must_hold(role.permissions, project_id)


async def _publish_keys(change: Change, project_id: str, user_id: str) -> None:
    """Workers are to hear whether a user's keys in a project work."""
    theirs = update(api_keys).where(api_keys.c.project_id == project_id, api_keys.c.user_id == user_id)
    hashes = await change.connection.scalars(theirs.values(version=change.version).returning(api_keys.c.hash))
    await change.publish("key", sorted(key_hash.hex() for key_hash in hashes))
