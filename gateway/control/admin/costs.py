"""Costs, as OpenAI's `/organization/costs` reports them: dollars by day, line item, project, user and key."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked
from gateway.control.admin.routes import Route, reading
from gateway.control.admin.usage_pages import (
    PERMISSION,
    Inquiry,
    Several,
    Show,
    Timed,
    UsagePage,
    grouped_by,
    named,
    page_of_buckets,
)
from gateway.control.ledger.buckets import COSTS_LIMITS, Bucket
from gateway.control.ledger.grains import costs_kept
from gateway.control.ledger.query import COSTS
from gateway.control.sql.ledger_tables import MONEY
from gateway.pricing.units import shown_quantity

PATH = "/organization/costs"
_NANO = 1_000_000_000
_ITEM = "line_item"
_UNIT = "unit"

Name = Literal["project_id", "line_item", "user_id", "api_key_id", "api_source"]


class CostsQuery(Timed, frozen=True):
    """user_ids is ours. line_items: whole names, as `gpt-6-astra, input_tokens`."""

    user_ids: Several = ()
    api_key_ids: Several = ()
    line_items: Several = ()
    group_by: Annotated[tuple[Name, ...], Meta(max_length=20)] = ()


def routes() -> tuple[Route, ...]:
    return (reading(PATH, PERMISSION, costs, own=True),)


async def costs(asked: Asked, connection: AsyncConnection) -> UsagePage:
    query = asked.query(CostsQuery)
    by = (_UNIT,) if _ITEM in query.group_by else ()
    kept = costs_kept(asked.house.settings.ledger, asked.now)
    inquiry = Inquiry(COSTS, kept, COSTS_LIMITS, MONEY, _shown(query), by=by)
    return await page_of_buckets(asked, connection, query, inquiry)


def _shown(query: CostsQuery) -> Show:
    groups, last = named(get_args(Name), query), len(grouped_by(query)) + 1
    by_item = _ITEM in query.group_by
    money = (last + by_item, last + by_item + 1)

    def results(_bucket: Bucket, rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
        found = []
        for row in rows:
            quantity, nano_usd = (row[number] for number in money)
            if not (quantity or nano_usd):
                continue  # what was there was taken back
            counted, unit = shown_quantity(row[last], quantity) if by_item else (None, None)
            found.append({
                "object": "organization.costs.result",
                "amount": {"value": nano_usd / _NANO, "currency": "usd"},
                **groups(row[1:last]),
                "quantity": counted,
                "quantity_unit": unit,
            })  # fmt: skip
        return found

    return results
