"""Invites, which are accepted as they are made: a gateway sends no mail and has nothing to sign up to, so whoever is
invited is a user from then on, and stays one when the invite is deleted."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import Row, Select, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked, Body, ShortText, invalid
from gateway.control.admin.found import found
from gateway.control.admin.pages import Listing, Page, list_page
from gateway.control.admin.project_users import add_member, owners_of_project_only
from gateway.control.admin.routes import Route, changing, reading
from gateway.control.admin.users import OrganizationRole, add_user, owners_only
from gateway.control.registry.changes import Change, new_id
from gateway.control.sql.tables import invites, projects

_ALL = "/organization/invites"
_ONE = f"{_ALL}/{{invite_id}}"
_MAY = "api.invites"
_DAYS_7 = 7 * 86_400

Email = Annotated[str, Meta(max_length=320, pattern=r"^[^@\s]+@[^@\s]+\Z", description="an address")]


def routes() -> tuple[Route, ...]:
    return (
        reading(_ALL, _MAY, list_invites),
        changing("POST", _ALL, _MAY, create_invite),
        reading(_ONE, _MAY, read_invite),
        changing("DELETE", _ONE, _MAY, delete_invite),
    )


class InvitedTo(Body, frozen=True):
    """A project, and what an invited person is in it."""

    id: ShortText
    role: Literal["member", "owner"]


class NewInvite(Body, frozen=True):
    """projects: if it is not there, none; a gateway has no default project."""

    email: Email
    role: OrganizationRole
    projects: Annotated[tuple[InvitedTo, ...], Meta(max_length=100)] | None = None


class Invite(msgspec.Struct, frozen=True):
    """An invite, as OpenAI's API shows it; invited_at in the older one, created_at in the newer."""

    id: str
    email: str
    role: str
    invited_at: int
    created_at: int
    expires_at: int
    accepted_at: int
    projects: list[dict[str, str]]
    status: str = "accepted"
    object: str = "organization.invite"


def _rows(asked: Asked) -> Select[Any]:
    ours = invites.c.organization_id == asked.organization_id
    return select(invites).where(ours, invites.c.removed_at.is_(None))


def _shown(row: Row[Any]) -> Invite:
    sent = row.created_at
    return Invite(row.id, row.email, row.role, sent, sent, row.expires_at, row.accepted_at, row.projects)


async def _one(asked: Asked, connection: AsyncConnection, invite_id: str) -> Row[Any]:
    return await found(connection, _rows(asked).where(invites.c.id == invite_id), "invite", invite_id)


async def list_invites(asked: Asked, connection: AsyncConnection) -> Page:
    return await list_page(connection, _rows(asked), (invites.c.created_at, invites.c.id), asked.query(Listing), _shown)


async def create_invite(asked: Asked, change: Change) -> Invite:
    body = asked.body(NewInvite)
    owners_only(asked, body.role)
    into = body.projects or ()
    await _check(asked, change.connection, into)
    invite_id = new_id("invite-")
    row = {
        "id": invite_id,
        "organization_id": asked.organization_id,
        "email": body.email,
        "role": body.role,
        "projects": [{"id": one.id, "role": one.role} for one in into],
        "created_at": asked.now,
        "expires_at": asked.now + _DAYS_7,
        "accepted_at": asked.now,
    }
    await change.connection.execute(insert(invites), [row])
    data = {"email": body.email, "role": body.role}
    await change.audit("invite.sent", {"id": invite_id, "data": data}, resource_id=invite_id)
    user_id = await add_user(asked, change, body.email, body.role)
    for one in into:
        await add_member(asked, change, one.id, user_id, one.role)
    await change.audit("invite.accepted", {"id": invite_id}, resource_id=invite_id)
    return _shown(await _one(asked, change.connection, invite_id))


async def _check(asked: Asked, connection: AsyncConnection, into: tuple[InvitedTo, ...]) -> None:
    """Whether these projects are there, each once, and may be given. Raises GatewayError (400, 401)."""
    ours = (projects.c.organization_id == asked.organization_id, projects.c.id.in_([one.id for one in into]))
    present = {row.id: row for row in await connection.execute(select(projects).where(*ours))}
    for number, one in enumerate(into):
        project = present.pop(one.id, None)
        if project is None:
            raise invalid(f"projects[{number}].id", "there is no such project, or it was named before")
        if project.archived_at is not None:
            raise invalid(f"projects[{number}].id", "the project is archived")
        owners_of_project_only(asked, one.id, one.role)


async def read_invite(asked: Asked, connection: AsyncConnection) -> Invite:
    return _shown(await _one(asked, connection, asked.ids["invite_id"]))


async def delete_invite(asked: Asked, change: Change) -> dict[str, object]:
    """Takes it off the list. OpenAI refuses this once it is accepted, and Terraform could never destroy one."""
    invite = await _one(asked, change.connection, asked.ids["invite_id"])
    await change.connection.execute(update(invites).where(invites.c.id == invite.id).values(removed_at=asked.now))
    await change.audit("invite.deleted", {"id": invite.id}, resource_id=invite.id)
    return {"object": "organization.invite.deleted", "id": invite.id, "deleted": True}
