"""What the read model says of limits and permissions, made from the registry's rows."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import ColumnElement, Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.sql.tables import (
    declared_limits,
    organizations,
    project_permissions,
    projects,
    rate_limits,
    spend_limits,
)
from gateway.limits import (
    HOSTED_TOOLS,
    LimitDocument,
    LimitSet,
    ModelPermissions,
    Permissions,
    RateLimit,
    SpendLimit,
    project_field,
)

_NOTHING = LimitDocument()


class LimitRecords(msgspec.Struct, frozen=True):
    """Documents by subject (`o`, `p:…`, `u:…`, `k:…`). version: of the registry, when they were as they are here or
    before: what is here may be newer, and is due to be published then."""

    version: int
    documents: Mapping[str, LimitDocument]


async def limit_records(
    connection: AsyncConnection, organization_id: str, subjects: Collection[str] | None = None
) -> LimitRecords:
    """Documents of these subjects, or of all; those of which nothing is said are left out. Raises SQLAlchemyError."""
    known = select(organizations.c.version).where(organizations.c.id == organization_id)
    version = await connection.scalar(known) or 0
    documents = await _declared(connection, organization_id, subjects)
    for table, add in ((rate_limits, _with_rate), (spend_limits, _with_spend)):
        ours = [table.c.organization_id == organization_id, *_among(table.c.subject, subjects)]
        for row in await connection.execute(select(table).where(*ours)):
            documents[row.subject] = add(documents.get(row.subject, _NOTHING), row)
    for row in await _permissions(connection, organization_id, subjects):
        subject = project_field(row.project_id)
        documents[subject] = replace(documents.get(subject, _NOTHING), permissions=_permitted(row))
    return LimitRecords(version, {subject: one for subject, one in documents.items() if one != _NOTHING})


def _among(column: ColumnElement[str], subjects: Collection[str] | None) -> list[ColumnElement[bool]]:
    return [] if subjects is None else [column.in_(subjects)]


async def _declared(
    connection: AsyncConnection, organization_id: str, subjects: Collection[str] | None
) -> dict[str, LimitDocument]:
    ours = [declared_limits.c.organization_id == organization_id, *_among(declared_limits.c.subject, subjects)]
    rows = await connection.execute(select(declared_limits).where(*ours))
    return {row.subject: msgspec.json.decode(row.document, type=LimitDocument) for row in rows}


async def _permissions(
    connection: AsyncConnection, organization_id: str, subjects: Collection[str] | None
) -> Iterable[Row[Any]]:
    of_projects = subjects
    if subjects is not None:
        prefix = project_field("")
        of_projects = [subject.removeprefix(prefix) for subject in subjects if subject.startswith(prefix)]
    rows = select(project_permissions).join(projects).where(projects.c.organization_id == organization_id)
    return await connection.execute(rows.where(*_among(project_permissions.c.project_id, of_projects)))


def _with_rate(document: LimitDocument, row: Row[Any]) -> LimitDocument:
    """What the settings declare stays: they are not changed from elsewhere."""
    rate = RateLimit(row.kind, row.limit)
    if not row.model:
        return replace(document, own=_and_rate(document.own, rate))
    of_model = _and_rate(document.models.get(row.model, LimitSet()), rate)
    return replace(document, models={**document.models, row.model: of_model})


def _and_rate(present: LimitSet, rate: RateLimit) -> LimitSet:
    if any(one.kind == rate.kind for one in present.rates):
        return present
    return replace(present, rates=(*present.rates, rate))


def _with_spend(document: LimitDocument, row: Row[Any]) -> LimitDocument:
    own = document.own
    if any(one.window == row.window for one in own.spend):
        return document
    return replace(document, own=replace(own, spend=(*own.spend, SpendLimit(row.window, row.nano_usd))))


def _permitted(row: Row[Any]) -> Permissions | None:
    models = tiers = default = None
    if row.models is not None:
        models = ModelPermissions(row.models["mode"], tuple(name.lower() for name in row.models["model_ids"]))
    if row.service_tiers is not None:
        if row.service_tiers["enabled_tiers"] != "all":
            tiers = tuple(row.service_tiers["enabled_tiers"])
        if row.service_tiers["default"] != "standard":
            default = row.service_tiers["default"]
    denied = tuple(tool for tool in HOSTED_TOOLS if (row.hosted_tools or {}).get(tool) is False)
    permissions = Permissions(models, denied, default, tiers)
    return permissions if permissions != Permissions() else None
