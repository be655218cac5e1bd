"""The audit log: who changed what, and whoever tried wrong keys. Newest first."""

from typing import Annotated, Any, Literal

from msgspec import Meta
from sqlalchemy import ColumnElement, Row, Select, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked, Query
from gateway.control.admin.pages import Page, list_page
from gateway.control.admin.routes import Route, reading
from gateway.control.sql.tables import audit_logs, projects

_TENANTS = "tenant."  # what types of events begin with that are of OpenAI's tenants; a gateway has none

Instant = Annotated[int, Meta(ge=-(2**53), le=2**53, description="seconds since 1970")]
Several = Annotated[tuple[str, ...], Meta(max_length=200)]


def routes() -> tuple[Route, ...]:
    return (reading("/organization/audit_logs", "api.audit_logs", list_audit_logs),)


class Range(Query, frozen=True):
    gt: Instant | None = None
    gte: Instant | None = None
    lt: Instant | None = None
    lte: Instant | None = None


class AuditListing(Query, frozen=True):
    """Each filter that is there has to hold; of a list one has to. actor_ids: of users, service accounts or keys."""

    effective_at: Range = Range()
    project_ids: Several = ()
    event_types: Several = ()
    actor_ids: Several = ()
    actor_emails: Several = ()
    resource_ids: Several = ()
    tenant_only: bool = False
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    after: str | None = None
    before: str | None = None
    order: Literal["desc"] = "desc"


async def list_audit_logs(asked: Asked, connection: AsyncConnection) -> Page:
    listing = asked.query(AuditListing)
    rows = _rows(asked).where(*_filters(listing))
    by = (audit_logs.c.effective_at, audit_logs.c.id)
    return await list_page(connection, rows, by, listing, _shown, listing.before)


def _rows(asked: Asked) -> Select[Any]:
    where = audit_logs.c.organization_id == asked.organization_id
    named = select(audit_logs, projects.c.name.label("project_name"))
    return named.outerjoin(projects, projects.c.id == audit_logs.c.project_id).where(where)


def _filters(listing: AuditListing) -> list[ColumnElement[bool]]:
    columns, at = audit_logs.c, listing.effective_at
    filters: list[ColumnElement[bool]] = [
        columns.effective_at.op(sign, is_comparison=True)(value)
        for sign, value in ((">", at.gt), (">=", at.gte), ("<", at.lt), ("<=", at.lte))
        if value is not None
    ]
    for column, wanted in (
        (columns.project_id, listing.project_ids),
        (columns.type, listing.event_types),
        (columns.resource_id, listing.resource_ids),
    ):
        if wanted:
            filters.append(column.in_(wanted))
    if listing.actor_ids:
        actors = (columns.actor_id, columns.actor_key_id)
        filters.append(or_(*(actor.in_(listing.actor_ids) for actor in actors)))
    if listing.actor_emails:
        filters.append(func.lower(columns.actor_email).in_([func.lower(email) for email in listing.actor_emails]))
    if listing.tenant_only:
        filters.append(columns.type.startswith(_TENANTS))
    return filters


def _shown(row: Row[Any]) -> dict[str, Any]:
    """As OpenAI's API shows it: what an event says stands under its type's name."""
    project = {"id": row.project_id, "name": row.project_name}
    return {
        "id": row.id,
        "type": row.type,
        "effective_at": row.effective_at,
        **({"project": project} if row.project_id is not None else {}),
        "actor": row.actor,
        row.type: row.details,
    }
