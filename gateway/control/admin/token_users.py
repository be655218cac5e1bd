"""Whom a token speaks for here: the organization's user, and the record that workers find them by."""

from typing import Any

from sqlalchemy import Row, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.registry.changes import Change, new_id
from gateway.control.sql.tables import api_keys, project_users, projects, revoked_hashes, users
from gateway.errors import INVALID_TOKEN, GatewayError
from gateway.tokens.bearers import Bearer

SHOWN = "jwt"  # in place of what may be shown of a key


async def user_of(connection: AsyncConnection, organization_id: str, bearer: Bearer) -> Row[Any] | None:
    """The user: who came to be with this subject's first token, or who has its address. None: there is none yet.
    Raises GatewayError INVALID_TOKEN (401) for one who was removed."""
    ours = select(users).where(users.c.organization_id == organization_id)
    user = (await connection.execute(ours.where(users.c.id == bearer.user_id))).one_or_none()
    if user is None and bearer.email is not None:
        same = ours.where(func.lower(users.c.email) == bearer.email).order_by(users.c.created_at, users.c.id).limit(1)
        user = (await connection.execute(same)).one_or_none()
    if user is not None and user.removed_at is not None:
        raise refused("its user was removed")
    return user


async def let_in(change: Change, bearer: Bearer, user: Row[Any] | None) -> str:
    """Sees to it that workers know whom this token speaks for; returns the id of its record, a row among the API keys.

    Nobody comes back this way: a record that is there is what its row, the user's place in the project and the project
    make of it. Raises GatewayError INVALID_TOKEN (401).
    """
    hashed = bearer.key_digest()
    assert bearer.project_id is not None
    await _the_project(change, bearer.project_id)
    record_id = await _record(change, hashed)
    if record_id is None:
        user_id = await _member(change, bearer, user, bearer.project_id)
        record_id = await _new_record(change, bearer, user_id, hashed)
    elif user is None or not await _is_member(change, user.id, bearer.project_id):
        raise refused("its user has no access to the project")
    await change.publish("key", [hashed.hex()])
    return record_id


async def _record(change: Change, hashed: bytes) -> str | None:
    revoked = select(revoked_hashes.c.hash).where(revoked_hashes.c.hash == hashed)
    if (await change.connection.execute(revoked)).one_or_none() is not None:
        raise refused("it was revoked")
    there = select(api_keys.c.id).where(api_keys.c.hash == hashed, api_keys.c.removed_at.is_(None))
    return await change.connection.scalar(there)


async def _the_project(change: Change, project_id: str) -> None:
    ours = (projects.c.id == project_id, projects.c.organization_id == change.organization_id)
    active = select(projects.c.id).where(*ours, projects.c.archived_at.is_(None))
    if (await change.connection.execute(active)).one_or_none() is None:
        raise refused("its project is not known here")


async def _is_member(change: Change, user_id: str, project_id: str) -> bool:
    member = (project_users.c.project_id == project_id, project_users.c.user_id == user_id)
    return (await change.connection.execute(select(project_users.c.role).where(*member))).one_or_none() is not None


async def _member(change: Change, bearer: Bearer, user: Row[Any] | None, project_id: str) -> str:
    """The id of the user, who is in the project from now on if not before."""
    if user is not None and await _is_member(change, user.id, project_id):
        return str(user.id)
    if not bearer.create_users:
        raise refused("its user is not known here" if user is None else "its user has no access to the project")
    user_id = str(user.id) if user is not None else await _new_user(change, bearer)
    place = {"project_id": project_id, "user_id": user_id, "role": "member", "created_at": change.now}
    await change.connection.execute(insert(project_users), [place])
    return user_id


async def _new_user(change: Change, bearer: Bearer) -> str:
    row = {
        "id": bearer.user_id,
        "organization_id": change.organization_id,
        "email": bearer.email or f"{bearer.user_id}@token.invalid",  # no two users have one address
        "name": bearer.name,
        "role": "reader",
        "created_at": change.now,
        "version": change.version,
    }
    await change.connection.execute(insert(users), [row])
    await change.audit("user.added", {"id": bearer.user_id, "data": {"role": "reader"}}, resource_id=bearer.user_id)
    return bearer.user_id


async def _new_record(change: Change, bearer: Bearer, user_id: str, hashed: bytes) -> str:
    name = f"token of {bearer.email or bearer.subject}"
    record_id = new_id("key_")
    row = {
        "id": record_id,
        "project_id": bearer.project_id,
        "user_id": user_id,
        "name": name,
        "hash": hashed,
        "shown": SHOWN,
        "created_at": change.now,
        "version": change.version,
    }
    await change.connection.execute(insert(api_keys), [row])
    details = {"id": record_id, "data": {"scopes": ["api.all"], "name": name}}
    await change.audit("api_key.created", details, resource_id=record_id, project_id=bearer.project_id)
    return record_id


def refused(reason: str) -> GatewayError:
    return GatewayError(INVALID_TOKEN, reason=reason)
