"""Limits of single API keys, which OpenAI does not have: an object of rate limits, in the same words as those of
projects, and a spend limit."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.accounts.limits import search
from gateway.control.admin.asked import Asked
from gateway.control.admin.found import found, the_project
from gateway.control.admin.limit_rows import Subject, declared_of, documents_of, set_rates
from gateway.control.admin.rates import ChangedRates, refuse_declared, shown_rates
from gateway.control.admin.routes import Route, changing, reading
from gateway.control.admin.spend_limits import Whose, routes_of
from gateway.control.registry.changes import Change
from gateway.control.sql.tables import api_keys, revoked_hashes
from gateway.limits import key_field, project_field

_KEY = "/organization/projects/{project_id}/api_keys/{api_key_id}"
_RATES = f"{_KEY}/rate_limits"
_MAY = "api.organization.projects.rate_limits"
_CHANGED = "api_key.updated"
_OF_ALL_MODELS = ""


def routes() -> tuple[Route, ...]:
    spend = Whose("project.api_key.spend_limit", _CHANGED, _a_key)
    return (
        reading(_RATES, _MAY, read_rates, own=True),
        changing("POST", _RATES, _MAY, update_rates),
        *routes_of(_KEY, "api.organization.projects.spend_limits", spend),
    )


async def _a_key(asked: Asked, connection: AsyncConnection, changes: bool) -> Subject:
    project = await the_project(asked, connection, active=changes)
    key_id, columns = asked.ids["api_key_id"], api_keys.c
    rows = select(columns.id).outerjoin(revoked_hashes, revoked_hashes.c.hash == columns.hash)
    works = (columns.removed_at.is_(None), revoked_hashes.c.hash.is_(None))
    rows = rows.where(columns.id == key_id, columns.project_id == project.id, *works)
    await found(connection, rows, "API key", key_id)
    return Subject(key_field(key_id), "API key", key_id, project.id)


async def read_rates(asked: Asked, connection: AsyncConnection) -> dict[str, Any]:
    return await _shown(asked, connection, await _a_key(asked, connection, False))


async def update_rates(asked: Asked, change: Change) -> dict[str, Any]:
    key = await _a_key(asked, change.connection, True)
    body = asked.body(ChangedRates)
    declared = await declared_of(change.connection, asked.organization_id, key.field)
    refuse_declared(body, declared.own, f"the API key '{key.id}'")
    if changes := body.by_field():
        await set_rates(change, key.field, _OF_ALL_MODELS, body.by_kind())
        details = {"id": key.id, "changes_requested": changes}
        await change.audit(_CHANGED, details, resource_id=key.id, project_id=key.project_id)
    return await _shown(asked, change.connection, key)


async def _shown(asked: Asked, connection: AsyncConnection, key: Subject) -> dict[str, Any]:
    project_id = asked.ids["project_id"]
    documents = await documents_of(connection, asked.organization_id, project_field(project_id), key.field)
    holds = search(documents, project_id=project_id, user_id="", key_id=key.id, model=None)
    rates = shown_rates(one for one in holds if one.scope == "key")
    return {"object": "project.api_key.rate_limit", "id": f"rl-{key.id}", **rates}
