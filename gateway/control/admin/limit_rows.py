"""Limits that the API sets, as rows beside what the settings declare."""

from collections.abc import Mapping

import msgspec
from sqlalchemy import ColumnElement, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.accounts.limits import LimitDocuments
from gateway.control.registry.changes import Change
from gateway.control.registry.limit_records import limit_records
from gateway.control.sql.tables import declared_limits, rate_limits, spend_limits
from gateway.limits import ORGANIZATION_FIELD, LimitDocument, SpendLimit


class Subject(msgspec.Struct, frozen=True):
    """Whose limits a path is about. field: of `gateway.limits`. what: for people. id: of the object, for the audit log.
    project_id: where it is, if it is in one."""

    field: str
    what: str
    id: str
    project_id: str | None = None


async def documents_of(connection: AsyncConnection, organization_id: str, *fields: str) -> LimitDocuments:
    """What workers are told of the organization and these subjects, as soon as it is published."""
    records = await limit_records(connection, organization_id, (ORGANIZATION_FIELD, *fields))
    return LimitDocuments(organization_id, records.version, records.documents)


async def declared_of(connection: AsyncConnection, organization_id: str, field: str) -> LimitDocument:
    """What the settings say of this subject itself."""
    ours = (declared_limits.c.organization_id == organization_id, declared_limits.c.subject == field)
    document = await connection.scalar(select(declared_limits.c.document).where(*ours))
    return msgspec.json.decode(document, type=LimitDocument) if document is not None else LimitDocument()


async def set_rates(change: Change, field: str, model: str, rates: Mapping[str, int | None]) -> None:
    """Sets limits by kind, of a model or, without its name, of all together; None takes one away."""
    ours = (rate_limits.c.organization_id == change.organization_id, rate_limits.c.subject == field)
    of_model = (*ours, rate_limits.c.model == model)
    await change.connection.execute(delete(rate_limits).where(*of_model, rate_limits.c.kind.in_(list(rates))))
    common = {"organization_id": change.organization_id, "subject": field, "model": model}
    rows = [{**common, "kind": kind, "limit": limit} for kind, limit in rates.items() if limit is not None]
    if rows:
        await change.connection.execute(insert(rate_limits), rows)
    await change.publish("limits", [field])


async def spend_limit_of(connection: AsyncConnection, organization_id: str, field: str) -> SpendLimit | None:
    """The one that the API has set."""
    row = (await connection.execute(select(spend_limits).where(*_spend(organization_id, field)))).first()
    return SpendLimit(row.window, row.nano_usd) if row is not None else None


async def set_spend_limit(change: Change, field: str, limit: SpendLimit | None) -> None:
    """Sets it in the place of the one that was there, whatever its window; None takes that away."""
    await change.connection.execute(delete(spend_limits).where(*_spend(change.organization_id, field)))
    if limit is not None:
        whose = {"organization_id": change.organization_id, "subject": field}
        row = insert(spend_limits).values(**whose, window=limit.window, nano_usd=limit.nano_usd)
        await change.connection.execute(row)
    await change.publish("limits", [field])


async def forget_limits(change: Change, field: str) -> None:
    """Takes away all that the API has set, of a subject that is no more."""
    for table in (rate_limits, spend_limits):
        ours = (table.c.organization_id == change.organization_id, table.c.subject == field)
        if (await change.connection.execute(delete(table).where(*ours))).rowcount:
            await change.publish("limits", [field])


def _spend(organization_id: str, field: str) -> tuple[ColumnElement[bool], ...]:
    return spend_limits.c.organization_id == organization_id, spend_limits.c.subject == field
