"""Rate limits of projects: an object for each model that has a price or limits, which is there from the start, and for
each other that the project has called. What it shows is what holds, wherever that was declared."""

from typing import Annotated, Any

from msgspec import Meta
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.accounts.limits import LimitDocuments, search
from gateway.control.admin.asked import Asked, Query
from gateway.control.admin.found import the_project
from gateway.control.admin.limit_rows import declared_of, documents_of, set_rates
from gateway.control.admin.pages import Page, cut_page, page_of
from gateway.control.admin.rates import (
    AUDIO,
    IMAGES,
    REQUESTS,
    TOKENS,
    UNLIMITED,
    ChangedRates,
    refuse_declared,
    shown_rates,
)
from gateway.control.admin.routes import Route, changing, reading
from gateway.control.registry.changes import Change
from gateway.control.sql.tables import LONGEST_MODEL, seen_models
from gateway.errors import NOT_FOUND, NOT_NOW, GatewayError
from gateway.limits import NONE, ORGANIZATION_FIELD, LimitDocument, group_of, project_field

_ALL = "/organization/projects/{project_id}/rate_limits"
_MAY = "api.organization.projects.rate_limits"
_ID = "rl-"
_OTHERS = "*"  # every model without limits of its own
_OF_IMAGES = ("image", "dall-e")
_OF_AUDIO = ("whisper", "transcribe", "tts", "audio")


def routes() -> tuple[Route, ...]:
    return (
        reading(_ALL, _MAY, list_limits, own=True),
        changing("POST", f"{_ALL}/{{rate_limit_id}}", _MAY, update_limit),
    )


class RateLimitListing(Query, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100  # Terraform asks for 1000
    after: str | None = None
    before: str | None = None


async def list_limits(asked: Asked, connection: AsyncConnection) -> Page:
    project = await the_project(asked, connection)
    listing = asked.query(RateLimitListing)
    documents = await documents_of(connection, asked.organization_id, project_field(project.id))
    ids = [_ID + model for model in sorted(await _models(asked, connection, documents, project.id))]
    page, has_more = cut_page(ids, listing.limit, listing.after, listing.before)
    shown = [_shown(documents, project.id, rate_limit_id.removeprefix(_ID)) for rate_limit_id in page]
    return page_of(shown, page, has_more=has_more)


async def update_limit(asked: Asked, change: Change) -> dict[str, Any]:
    project = await the_project(asked, change.connection, active=True)
    field, rate_limit_id = project_field(project.id), asked.ids["rate_limit_id"]
    documents = await documents_of(change.connection, asked.organization_id, field)
    model = rate_limit_id.removeprefix(_ID)
    models = await _models(asked, change.connection, documents, project.id)
    if rate_limit_id != _ID + model or model not in models | {_OTHERS}:
        raise GatewayError(NOT_FOUND, what="rate limit", id=rate_limit_id[:100])
    _refuse_grouped(documents, model)
    body = asked.body(ChangedRates)
    declared = await declared_of(change.connection, asked.organization_id, field)
    refuse_declared(body, declared.models.get(model, NONE), f"the model '{model}' in the project '{project.id}'")
    if changes := body.by_field():
        await set_rates(change, field, model, body.by_kind())
        details = {"id": rate_limit_id, "changes_requested": changes}
        await change.audit("rate_limit.updated", details, resource_id=rate_limit_id, project_id=project.id)
    return _shown(await documents_of(change.connection, asked.organization_id, field), project.id, model)


async def _models(asked: Asked, connection: AsyncConnection, documents: LimitDocuments, project_id: str) -> set[str]:
    """Those that have an object: with a price, with limits, or called before. A group is one of them, for all that
    belong to it."""
    organization, project = (_document(documents, field) for field in (ORGANIZATION_FIELD, project_field(project_id)))
    columns = seen_models.c
    called = (columns.organization_id == asked.organization_id, columns.project_id == project_id)
    seen = await connection.scalars(select(columns.model).where(*called))
    named = {*asked.house.models, *organization.groups, *organization.project_models, *project.models, *seen}
    return {name for name in named if len(name) <= LONGEST_MODEL}


def _document(documents: LimitDocuments, field: str) -> LimitDocument:
    return documents.documents.get(field, LimitDocument())


def _refuse_grouped(documents: LimitDocuments, model: str) -> None:
    """As in the settings: models of a group have its limits, and none of their own."""
    group = group_of(_document(documents, ORGANIZATION_FIELD).groups, model)
    if group not in {None, model}:
        reason = f"The model '{model}' is in the group '{group}', whose models share the limits of '{_ID}{group}'"
        raise GatewayError(NOT_NOW, reason=reason)


def _shown(documents: LimitDocuments, project_id: str, model: str) -> dict[str, Any]:
    found = search(documents, project_id=project_id, user_id="", key_id="", model=model)
    fields = {REQUESTS: UNLIMITED, TOKENS: UNLIMITED}
    for field, words in ((IMAGES, _OF_IMAGES), (AUDIO, _OF_AUDIO)):
        if any(word in model for word in words):
            fields[field] = UNLIMITED
    fields |= shown_rates(one for one in found if one.scope == "project_model")
    return {"object": "project.rate_limit", "id": _ID + model, "model": model, **fields}
