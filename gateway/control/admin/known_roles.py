"""Roles: those that every organization has, which are in the code, and those that somebody has made, which are rows."""

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.caller import EVERYTHING, READING, Caller
from gateway.control.sql.tables import roles
from gateway.errors import NOT_FOUND, GatewayError

# What an owner of a project may change: all but what holds the project to its quota and to what it may use.
_OWNED = ("api_keys", "service_accounts", "users", "groups", "roles", "spend_alerts")
PROJECT_READING = ("api.organization.projects.*.read", "api.organization.projects.read")
PROJECT_OWNING = (*PROJECT_READING, *(f"api.organization.projects.{noun}.write" for noun in _OWNED))
ID_PREFIX = "role_"


class Role(msgspec.Struct, frozen=True):
    """A role. project_id: whose it is; empty: the organization's. `*` in permissions, which only predefined ones have,
    stands for any letters.
    """

    id: str
    name: str
    description: str | None
    permissions: tuple[str, ...]
    project_id: str = ""
    predefined: bool = False
    created_at: int | None = None
    updated_at: int | None = None
    created_by: str | None = None

    @property
    def resource_type(self) -> str:
        return resource_type(self.project_id)


def spare_owners(caller: Caller, role: Role) -> None:
    """Nobody takes from an owner what makes them one, unless they may do all that owners may. Raises GatewayError
    (401)."""
    if role.predefined and role.name == "owner":
        caller.must_hold(role.permissions, role.project_id)


def resource_type(project_id: str) -> str:
    """What OpenAI calls the place of a role. Empty: the organization."""
    return "api.project" if project_id else "api.organization"


def predefined(project_id: str) -> tuple[Role, ...]:
    """The roles that everybody has, of a project or, if it is empty, of the organization. The mightiest first.

    Ids are those that OpenAI's Terraform provider names in its examples.
    """
    if not project_id:
        return (
            Role("role-api-organization-owner", "owner", "May do everything.", EVERYTHING, predefined=True),
            Role("role-api-organization-reader", "reader", "May look at everything.", READING, predefined=True),
        )
    owner, looking = "Manages the project's keys, people, groups and roles.", "Looks at the project."
    return (
        Role("role-api-project-owner", "owner", owner, PROJECT_OWNING, project_id, predefined=True),
        Role("role-api-project-member", "member", looking, PROJECT_READING, project_id, predefined=True),
        Role("role-api-project-viewer", "viewer", looking, PROJECT_READING, project_id, predefined=True),
    )


def predefined_role(project_id: str, word: str) -> Role | None:
    """word: id or name."""
    if word.startswith(ID_PREFIX):
        return None  # somebody has made it; who holds many roles holds many of these
    return next((role for role in predefined(project_id) if word in {role.id, role.name}), None)


def made_role(row: Row[Any]) -> Role:
    """row: with the columns of the table."""
    return Role(
        row.id,
        row.name,
        row.description,
        tuple(row.permissions),
        row.project_id or "",
        created_at=row.created_at,
        updated_at=row.updated_at,
        created_by=row.created_by,
    )


def _of(organization_id: str, project_id: str) -> ColumnElement[bool]:
    here = roles.c.project_id == project_id if project_id else roles.c.project_id.is_(None)
    return and_(roles.c.organization_id == organization_id, here)


async def roles_of(connection: AsyncConnection, organization_id: str, project_id: str) -> list[Role]:
    """All roles of a project or, if it is empty, of the organization: the predefined ones, then the others by age."""
    rows = select(roles).where(_of(organization_id, project_id)).order_by(roles.c.created_at, roles.c.id)
    return [*predefined(project_id), *(made_role(row) for row in await connection.execute(rows))]


async def find_role(
    connection: AsyncConnection, organization_id: str, project_id: str, word: str, *, or_name: bool = False
) -> Role:
    """A role of a project or, if it is empty, of the organization, by its id. or_name: or by its name. Raises
    GatewayError NOT_FOUND (404)."""
    known = predefined_role(project_id, word)
    if known is not None and (or_name or known.id == word):
        return known
    if "\0" not in word:
        called = or_(roles.c.id == word, roles.c.name == word) if or_name else roles.c.id == word
        row = (await connection.execute(select(roles).where(_of(organization_id, project_id), called))).one_or_none()
        if row is not None:
            return made_role(row)
    raise GatewayError(NOT_FOUND, what="role", id=word[:100])
