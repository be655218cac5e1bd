"""Users: the people of the organization. They come by invites, or by the settings."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import Row, Select, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked, Body, ShortText
from gateway.control.admin.caller import owns
from gateway.control.admin.found import found, not_declared
from gateway.control.admin.grants import grants_of
from gateway.control.admin.known_roles import find_role, predefined
from gateway.control.admin.pages import Listing, Page, list_page
from gateway.control.admin.project_api_keys import end_keys
from gateway.control.admin.role_assignments import Assignment, give
from gateway.control.admin.routes import Route, changing, reading
from gateway.control.admin.token_users import SHOWN
from gateway.control.registry.changes import Change, new_id
from gateway.control.sql.tables import (
    admin_api_keys,
    api_keys,
    group_users,
    project_users,
    projects,
    role_assignments,
    users,
)
from gateway.errors import ALREADY_THERE, MISSING_SCOPES, GatewayError

_ALL = "/organization/users"
_ONE = f"{_ALL}/{{user_id}}"
_MAY = "api.users"

OrganizationRole = Literal["owner", "reader"]
About = Annotated[str, Meta(max_length=256)] | None | UnsetType


def routes() -> tuple[Route, ...]:
    return (
        reading(_ALL, _MAY, list_users),
        reading(_ONE, _MAY, read_user),
        changing("POST", _ONE, _MAY, update_user),
        changing("DELETE", _ONE, _MAY, delete_user),
    )


class Person(msgspec.Struct, frozen=True):
    """The user inside of a user, as OpenAI's newer API has it."""

    id: str
    email: str
    name: str
    object: str = "user"
    picture: None = None
    enabled: bool = True
    banned: bool = False
    banned_at: None = None


class UserProject(msgspec.Struct, frozen=True):
    id: str
    name: str
    role: str


class UserProjects(msgspec.Struct, frozen=True):
    data: Sequence[UserProject]
    object: str = "list"


class User(msgspec.Struct, frozen=True):
    """A user, as OpenAI's API shows it; the older one ends with added_at."""

    id: str
    name: str
    email: str
    role: str
    added_at: int
    created: int
    user: Person
    developer_persona: str | None
    technical_level: str | None
    api_key_last_used_at: int | None
    projects: UserProjects
    object: str = "organization.user"
    is_default: bool = False
    is_scale_tier_authorized_purchaser: bool = False
    is_scim_managed: bool = False
    is_service_account: bool = False


class UserListing(Listing, frozen=True):
    emails: Annotated[tuple[str, ...], Meta(max_length=100)] = ()


class ChangedUser(Body, frozen=True):
    """role_id: of a role of the organization's; one that somebody has made comes besides the role."""

    role: OrganizationRole | None = None
    role_id: ShortText | None = None
    developer_persona: About = UNSET
    technical_level: About = UNSET


def _rows(asked: Asked) -> Select[Any]:
    return select(users).where(users.c.organization_id == asked.organization_id, users.c.removed_at.is_(None))


async def _shown(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> list[User]:
    """Users with the projects that they are in, and when they last used a key."""
    columns = (project_users.c.user_id, project_users.c.role, projects.c.id, projects.c.name)
    of_these = project_users.c.user_id.in_([row.id for row in rows])
    query = select(*columns).select_from(project_users.join(projects)).where(of_these, projects.c.archived_at.is_(None))
    their: dict[str, list[UserProject]] = {row.id: [] for row in rows}
    for one in await connection.execute(query.order_by(project_users.c.created_at, projects.c.id)):
        their[one.user_id].append(UserProject(one.id, one.name, one.role))
    key = api_keys.c
    used = (
        select(key.user_id, func.max(key.last_used_at).label("at"))
        .where(key.user_id.in_(list(their)))
        .group_by(key.user_id)
    )
    last_used = {row.user_id: row.at for row in await connection.execute(used)}
    return [
        User(
            id=row.id,
            name=row.name,
            email=row.email,
            role=row.role,
            added_at=row.created_at,
            created=row.created_at,
            user=Person(row.id, row.email, row.name),
            developer_persona=row.developer_persona,
            technical_level=row.technical_level,
            api_key_last_used_at=last_used.get(row.id),
            projects=UserProjects(their[row.id]),
        )
        for row in rows
    ]


async def _one(asked: Asked, connection: AsyncConnection) -> Row[Any]:
    user_id = asked.ids["user_id"]
    return await found(connection, _rows(asked).where(users.c.id == user_id), "user", user_id)


async def list_users(asked: Asked, connection: AsyncConnection) -> Page:
    listing = asked.query(UserListing)
    rows = _rows(asked)
    if listing.emails:
        rows = rows.where(func.lower(users.c.email).in_([func.lower(email) for email in listing.emails]))
    page = await list_page(connection, rows, (users.c.created_at, users.c.id), listing, lambda row: row)
    return msgspec.structs.replace(page, data=await _shown(connection, page.data))


async def read_user(asked: Asked, connection: AsyncConnection) -> User:
    return (await _shown(connection, [await _one(asked, connection)]))[0]


async def update_user(asked: Asked, change: Change) -> User:
    user = await _one(asked, change.connection)
    not_declared(user, "user")
    body = asked.body(ChangedUser)
    role = None
    if body.role_id is not None:
        role = await find_role(change.connection, asked.organization_id, "", body.role_id)
    word = role.name if role is not None and role.predefined else body.role
    wanted: dict[str, Any] = {"role": word} if word is not None else {}
    about = {"developer_persona": body.developer_persona, "technical_level": body.technical_level}
    wanted.update({name: value for name, value in about.items() if value is not UNSET})
    changes = {name: value for name, value in wanted.items() if value != getattr(user, name)}
    if word is not None:
        becomes_one = word == "owner" and user.role != "owner"
        if becomes_one or (word != "owner" and await _is_owner(change, user)):
            owners_only(asked, "owner")
        await _take_predefined(change, user.id)
    if changes:
        same = update(users).where(users.c.id == user.id)
        await change.connection.execute(same.values(**changes, version=change.version))
        await change.audit("user.updated", {"id": user.id, "changes_requested": changes}, resource_id=user.id)
    if role is not None and not role.predefined:
        await give(asked, change, role, Assignment(role.id, "user", user.id, ""))
    return await read_user(asked, change.connection)


async def _is_owner(change: Change, user: Row[Any]) -> bool:
    """Whether nothing is denied to them, by whatever role that is."""
    return owns(await grants_of(change.connection, change.organization_id, user.id) or ())


async def _take_predefined(change: Change, user_id: str) -> None:
    """The one role that a user now has in the organization takes the place of those that were assigned beside it."""
    given = role_assignments.c
    theirs = (given.organization_id == change.organization_id, given.project_id == "", given.principal_id == user_id)
    ours = given.role_id.in_([role.id for role in predefined("")])
    await change.connection.execute(delete(role_assignments).where(*theirs, ours))


async def delete_user(asked: Asked, change: Change) -> dict[str, object]:
    """Whatever they could do ends at once. An invite brings them back, as somebody new with the same id."""
    user = await _one(asked, change.connection)
    not_declared(user, "user")
    if await _is_owner(change, user):
        owners_only(asked, "owner")
    await _take_all(change, user.id)
    same = update(users).where(users.c.id == user.id)
    await change.connection.execute(same.values(removed_at=asked.now, version=change.version))
    await change.audit("user.deleted", {"id": user.id}, resource_id=user.id)
    return {"object": "organization.user.deleted", "id": user.id, "deleted": True}


def owners_only(asked: Asked, *roles: str) -> None:
    """Nobody but owners makes owners, or does anything to them. Raises GatewayError (401)."""
    if "owner" in roles and not asked.caller.is_owner:
        raise GatewayError(MISSING_SCOPES, scope="those of an owner of the organization")


async def user_by_email(connection: AsyncConnection, organization_id: str, email: str) -> Row[Any] | None:
    """The user with this address, in whatever case it is written; one who was removed, if there is nobody else."""
    same = (users.c.organization_id == organization_id, func.lower(users.c.email) == func.lower(email))
    nearest = (users.c.removed_at.is_not(None), users.c.email != email, users.c.id)
    return (await connection.execute(select(users).where(*same).order_by(*nearest).limit(1))).one_or_none()


async def add_user(asked: Asked, change: Change, email: str, role: OrganizationRole) -> str:
    """Makes a user, or takes one back who was removed, and says which id they have. Raises GatewayError (400) if there
    is one with this address."""
    present = await user_by_email(change.connection, asked.organization_id, email)
    if present is not None and present.removed_at is None:
        raise GatewayError(ALREADY_THERE, what=f"a user '{present.email}'")
    row = {"email": email, "name": email, "role": role, "created_at": asked.now, "version": change.version}
    if present is None:
        user_id = new_id("user-")
        new = insert(users).values(id=user_id, organization_id=asked.organization_id, **row)
        await change.connection.execute(new)
    else:
        user_id = present.id
        await _take_all(change, user_id)  # whom the settings have let go of still has some
        nothing = {"removed_at": None, "developer_persona": None, "technical_level": None}
        await change.connection.execute(update(users).where(users.c.id == user_id).values(**row, **nothing))
    await change.audit("user.added", {"id": user_id, "data": {"role": role}}, resource_id=user_id)
    return user_id


async def _take_all(change: Change, user_id: str) -> None:
    """Takes a user's keys, memberships and roles. Records of tokens end with the memberships: what the issuer says of a
    user who comes back is as good as before."""
    connection = change.connection
    of_tokens = api_keys.c.shown == SHOWN
    await end_keys(change, (api_keys.c.user_id == user_id) & ~of_tokens)
    hashes = await connection.scalars(select(api_keys.c.hash).where(api_keys.c.user_id == user_id, of_tokens))
    await change.publish("key", sorted(key_hash.hex() for key_hash in hashes))
    theirs = update(admin_api_keys).where(admin_api_keys.c.user_id == user_id, admin_api_keys.c.removed_at.is_(None))
    ended = await connection.scalars(theirs.values(removed_at=change.now).returning(admin_api_keys.c.id))
    for key_id in sorted(ended):
        await change.audit("api_key.deleted", {"id": key_id}, resource_id=key_id)
    for table in (project_users, group_users):
        await connection.execute(delete(table).where(table.c.user_id == user_id))
    principal = (role_assignments.c.principal_type == "user", role_assignments.c.principal_id == user_id)
    await connection.execute(delete(role_assignments).where(*principal))
