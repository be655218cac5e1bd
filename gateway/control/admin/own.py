"""What an API key may ask about itself: who it is, which limits hold, and what it has spent. Of this gateway.

Money is in cents, and what is spent of a cent counts as a whole one; null where it is not known right now.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from msgspec import Meta
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.accounts.limits import resolve
from gateway.accounts.plan import subjects
from gateway.accounts.spend import Spent
from gateway.control.admin.asked import Asked, Query
from gateway.control.admin.found import found
from gateway.control.admin.limit_rows import documents_of
from gateway.control.admin.routes import Route, reading
from gateway.control.sql.tables import api_keys, projects
from gateway.errors import MISSING_SCOPES, GatewayError
from gateway.limits import (
    NANO_USD_IN_A_CENT,
    WINDOWS,
    Applied,
    RateLimit,
    SpendLimit,
    Window,
)

_PATH = "/organization/api_key"


def routes() -> tuple[Route, ...]:
    return (reading(_PATH, "api.api_key", read_own, own=True),)


class OwnQuery(Query, frozen=True):
    """model: as requests name it; without it limits of models are left out."""

    model: Annotated[str, Meta(min_length=1, max_length=200)] | None = None


async def read_own(asked: Asked, connection: AsyncConnection) -> dict[str, Any]:
    caller, query = asked.caller, asked.query(OwnQuery)
    if caller.kind != "api_key":
        raise GatewayError(MISSING_SCOPES, scope="none: this is what API keys ask about themselves")
    rows = select(api_keys, projects.c.name.label("project_name")).join(projects).where(api_keys.c.id == caller.id)
    row = await found(connection, rows, "API key", caller.id)
    project_id, user_id = row.project_id, row.user_id or row.service_account_id
    fields = subjects(project_id, user_id, row.id)
    documents = await documents_of(connection, asked.organization_id, *fields.values())
    holds = resolve(documents, project_id=project_id, user_id=user_id, key_id=row.id, model=query.model)
    spent = await asked.house.spent(tuple(fields.values()))
    return {
        "object": "organization.api_key",
        "id": row.id,
        "name": row.name,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "scopes": row.scopes,
        "project": {"id": project_id, "name": row.project_name},
        "user_id": user_id,
        "spent_amounts": {window: _cents(spent, fields["key"], window) for window in WINDOWS},
        "rate_limits": list(_rates(holds)),
        "spend_limits": [
            _spend(spent, fields[one.scope], one, one.limit) for one in holds if isinstance(one.limit, SpendLimit)
        ],
    }


def _rates(holds: tuple[Applied, ...]) -> Iterator[dict[str, Any]]:
    for one in holds:
        if isinstance(one.limit, RateLimit):
            yield {**_whose(one), "kind": one.limit.kind, "limit": one.limit.limit}


def _spend(spent: Mapping[str, Spent] | None, field: str, one: Applied, limit: SpendLimit) -> dict[str, Any]:
    return {
        **_whose(one),
        "interval": limit.window,
        "currency": "USD",
        "threshold_amount": (limit.nano_usd or 0) // NANO_USD_IN_A_CENT,
        "spent_amount": _cents(spent, field, limit.window),
    }


def _cents(spent: Mapping[str, Spent] | None, field: str, window: Window) -> int | None:
    return -(-getattr(spent[field], window) // NANO_USD_IN_A_CENT) if spent is not None else None


def _whose(one: Applied) -> dict[str, Any]:
    model = {"model": one.model} if one.model else {}
    return {"scope": one.scope, "subject_id": one.subject, **model, "shadow": one.limit.shadow}
