"""Which roles users and groups hold, where, and from where they have them.

A user has a role in the organization, and one in each of their projects; groups have one in each of theirs; all may
have further ones by assignments, and users have those of their groups. What a user is assigned in a project holds
while they are in it.
"""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, exists, literal, or_, select, tuple_, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.known_roles import ID_PREFIX, Role, made_role, predefined_role
from gateway.control.sql.tables import group_users, project_groups, project_users, role_assignments, roles

_AT_ONCE = 500  # roles that are asked for in one query


class Held(msgspec.Struct, frozen=True):
    """A role that somebody holds. project_id: where; empty: in the whole organization. principal_type, principal_id:
    the user or the group that has it.
    """

    role: Role
    project_id: str
    principal_type: str
    principal_id: str


async def held_by_user(
    connection: AsyncConnection, organization_id: str, user_id: str, role: str, project_id: str | None = None
) -> list[Held]:
    """role: the user's in the organization. project_id: only what is held there, empty: in the organization itself."""
    theirs = select(group_users.c.group_id).where(group_users.c.user_id == user_id)
    member, given = project_users.c, role_assignments.c
    within = exists().where(member.project_id == given.project_id, member.user_id == given.principal_id)
    branches = [
        *_of_groups(organization_id, project_groups.c.group_id.in_(theirs), given.principal_id.in_(theirs)),
        _branch(member.project_id, member.role, "user", member.user_id).where(member.user_id == user_id),
        _assigned(organization_id, "user", given.principal_id == user_id, or_(given.project_id == "", within)),
    ]
    found = await _held(connection, organization_id, branches, project_id)
    base = predefined_role("", role)
    if base is not None and not project_id:
        found.insert(0, Held(base, "", "user", user_id))
    return found


async def held_by_group(
    connection: AsyncConnection, organization_id: str, group_id: str, project_id: str | None = None
) -> list[Held]:
    """project_id: only what is held there, empty: in the organization itself."""
    same, principal = project_groups.c.group_id == group_id, role_assignments.c.principal_id == group_id
    return await _held(connection, organization_id, _of_groups(organization_id, same, principal), project_id)


def _of_groups(organization_id: str, member: ColumnElement[bool], principal: ColumnElement[bool]) -> list[Select[Any]]:
    """A role in a project brings a group there, as in OpenAI's Terraform examples; a user has to be in it before."""
    inside = project_groups.c
    return [
        _branch(inside.project_id, inside.role, "group", inside.group_id).where(member),
        _assigned(organization_id, "group", principal),
    ]


def _assigned(organization_id: str, kind: str, *which: ColumnElement[bool]) -> Select[Any]:
    given = role_assignments.c
    rows = _branch(given.project_id, given.role_id, kind, given.principal_id)
    return rows.where(given.organization_id == organization_id, given.principal_type == kind, *which)


def _branch(place: Any, word: Any, kind: str, principal_id: Any) -> Select[Any]:
    return select(
        place.label("place"),
        word.label("word"),
        literal(kind).label("principal_type"),
        principal_id.label("principal"),
    )


async def _held(
    connection: AsyncConnection, organization_id: str, branches: Sequence[Select[Any]], project_id: str | None
) -> list[Held]:
    held = union_all(*branches).subquery("held")
    query = select(held)
    if project_id is not None:
        query = query.where(held.c.place == project_id)
    rows = [tuple(row) for row in await connection.execute(query)]
    places = {(place, word) for place, word, _, _ in rows}
    known = {where: role for where in places if (role := predefined_role(*where)) is not None}
    known |= await _made(connection, organization_id, places - known.keys())
    return [
        Held(role, place, kind, principal_id)
        for place, word, kind, principal_id in rows
        if (role := known.get((place, word))) is not None
    ]


async def _made(
    connection: AsyncConnection, organization_id: str, words: Collection[tuple[str, str]]
) -> dict[tuple[str, str], Role]:
    """The roles that somebody has made, by place and by what rows call them: their id, or in memberships their name."""
    ids = sorted({word for _, word in words if word.startswith(ID_PREFIX)})
    named = sorted((place, word) for place, word in words if not word.startswith(ID_PREFIX))
    place = tuple_(roles.c.project_id, roles.c.name)
    which = [roles.c.id.in_(ids[start : start + _AT_ONCE]) for start in range(0, len(ids), _AT_ONCE)]
    which += [place.in_(named[start : start + _AT_ONCE]) for start in range(0, len(named), _AT_ONCE)]
    found: dict[tuple[str, str], Role] = {}
    for some in which:
        query = select(roles).where(roles.c.organization_id == organization_id, some)
        for role in map(made_role, await connection.execute(query)):
            found[role.project_id, role.id] = found[role.project_id, role.name] = role
    return found
