"""Spend limits of the organization, of projects, of users, of users in projects; those of API keys are in key_limits.

Each has at most one here. What the settings declare for other windows holds beside it. What is inherited, as all
projects have it, is nobody's own and not shown.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked, Body
from gateway.control.admin.found import found, the_project
from gateway.control.admin.limit_rows import Subject, declared_of, set_spend_limit, spend_limit_of
from gateway.control.admin.routes import Route, changing, reading
from gateway.control.registry.changes import Change
from gateway.control.sql.tables import users
from gateway.errors import DECLARED, NOT_FOUND, GatewayError
from gateway.limits import (
    NANO_USD_IN_A_CENT,
    ORGANIZATION_FIELD,
    SpendLimit,
    Window,
    member_field,
    project_field,
    user_field,
)

_MOST = 800_000_000  # cents; see `Dollars` in the settings
_SHOWN_FIRST: tuple[Window, ...] = ("month", "day", "week", "total")

Find = Callable[[Asked, AsyncConnection, bool], Awaitable[Subject]]


class Whose(msgspec.Struct, frozen=True):
    """A kind of subjects that have spend limits. object: as OpenAI's API calls the limit. event: of the audit log, when
    one is changed. find: who the path names; with True, to change something."""

    object: str
    event: str
    find: Find


class NewSpendLimit(Body, frozen=True):
    """Other intervals than the month are this gateway's, and so is the amount 0, which lets nothing pass."""

    threshold_amount: Annotated[int, Meta(ge=0, lt=_MOST, description="cents")]
    currency: Literal["USD"]
    interval: Window


class Enforcement(msgspec.Struct, frozen=True):
    status: Literal["enforcing", "inactive"]


class Shown(msgspec.Struct, frozen=True):
    object: str
    threshold_amount: int
    currency: str
    interval: Window
    enforcement: Enforcement


def routes() -> tuple[Route, ...]:
    organization = Whose("organization.spend_limit", "organization.updated", _the_organization)
    project = Whose("project.spend_limit", "project.updated", _a_project)
    user = Whose("organization.user.spend_limit", "user.updated", _a_user)
    member = Whose("project.user.spend_limit", "user.updated", _a_member)
    may, of_projects = "api.spend_limits", "api.organization.projects.spend_limits"
    return (
        *routes_of("/organization", may, organization),
        *routes_of("/organization/projects/{project_id}", of_projects, project),
        *routes_of("/organization/projects/{project_id}/users/{user_id}", of_projects, member),
        *routes_of("/organization/users/{user_id}", may, user),
    )


def routes_of(path: str, permission: str, whose: Whose) -> tuple[Route, ...]:
    """What a kind of subjects has beneath its own path."""
    path += "/spend_limit"
    return (
        reading(path, permission, partial(_read, whose), own=True),
        changing("POST", path, permission, partial(_write, whose)),
        changing("DELETE", path, permission, partial(_delete, whose)),
    )


async def _the_organization(asked: Asked, _connection: AsyncConnection, _changes: bool) -> Subject:
    return Subject(ORGANIZATION_FIELD, "organization", asked.organization_id)


async def _a_project(asked: Asked, connection: AsyncConnection, changes: bool) -> Subject:
    project = await the_project(asked, connection, active=changes)
    return Subject(project_field(project.id), "project", project.id, project.id)


async def _a_user(asked: Asked, connection: AsyncConnection, _changes: bool) -> Subject:
    user_id, columns = asked.ids["user_id"], users.c
    ours = (columns.organization_id == asked.organization_id, columns.removed_at.is_(None))
    await found(connection, select(columns.id).where(columns.id == user_id, *ours), "user", user_id)
    return Subject(user_field(user_id), "user", user_id)


async def _a_member(asked: Asked, connection: AsyncConnection, changes: bool) -> Subject:
    """A user in one project, who may have left it: what was spent there is still counted."""
    project = await the_project(asked, connection, active=changes)
    user = await _a_user(asked, connection, changes)
    return Subject(member_field(project.id, user.id), "user of this project", user.id, project.id)


async def _read(whose: Whose, asked: Asked, connection: AsyncConnection) -> Shown:
    subject = await whose.find(asked, connection, False)
    limit = await spend_limit_of(connection, asked.organization_id, subject.field)
    declared = await _declared(asked, connection, subject)
    if limit is None or limit.window in declared:
        limit = _first(declared)
    if limit is None:
        raise _none_of(subject)
    return await _shown(whose, asked, subject, limit)


async def _write(whose: Whose, asked: Asked, change: Change) -> Shown:
    subject = await whose.find(asked, change.connection, True)
    body = asked.body(NewSpendLimit)
    if body.interval in await _declared(asked, change.connection, subject):
        raise _is_declared(subject, body.interval)
    limit = SpendLimit(body.interval, body.threshold_amount * NANO_USD_IN_A_CENT)
    await set_spend_limit(change, subject.field, limit)
    await _audit(whose, change, subject, msgspec.structs.asdict(body))
    return await _shown(whose, asked, subject, limit)


async def _delete(whose: Whose, asked: Asked, change: Change) -> dict[str, object]:
    subject = await whose.find(asked, change.connection, True)
    if await spend_limit_of(change.connection, asked.organization_id, subject.field) is None:
        declared = await _declared(asked, change.connection, subject)
        first = _first(declared)
        raise _is_declared(subject, first.window) if first is not None else _none_of(subject)
    await set_spend_limit(change, subject.field, None)
    await _audit(whose, change, subject, None)
    return {"object": f"{whose.object}.deleted", "deleted": True}


async def _declared(asked: Asked, connection: AsyncConnection, subject: Subject) -> dict[Window, SpendLimit]:
    document = await declared_of(connection, asked.organization_id, subject.field)
    return {limit.window: limit for limit in document.own.spend}


def _first(declared: Mapping[Window, SpendLimit]) -> SpendLimit | None:
    """Of those that limit something, the one to show."""
    limits = (declared[window] for window in _SHOWN_FIRST if window in declared)
    return next((limit for limit in limits if limit.nano_usd is not None), None)


async def _shown(whose: Whose, asked: Asked, subject: Subject, limit: SpendLimit) -> Shown:
    assert limit.nano_usd is not None
    spent = await asked.house.spent((subject.field,))
    so_far = getattr(spent[subject.field], limit.window) if spent is not None else 0
    reached = spent is not None and so_far >= limit.nano_usd and not limit.shadow
    enforcement = Enforcement("enforcing" if reached else "inactive")
    return Shown(whose.object, limit.nano_usd // NANO_USD_IN_A_CENT, "USD", limit.window, enforcement)


async def _audit(whose: Whose, change: Change, subject: Subject, limit: dict[str, object] | None) -> None:
    """OpenAI's log has no event of its own for spend limits."""
    details = {"id": subject.id, "changes_requested": {"spend_limit": limit}}
    await change.audit(whose.event, details, resource_id=subject.id, project_id=subject.project_id)


def _none_of(subject: Subject) -> GatewayError:
    return GatewayError(NOT_FOUND, what=f"spend limit of the {subject.what}", id=subject.id)


def _is_declared(subject: Subject, window: Window) -> GatewayError:
    return GatewayError(DECLARED, what=f"The spend limit per {window} of the {subject.what} '{subject.id}'")
