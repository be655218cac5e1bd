"""What the endpoints of usage and of costs have in common: questions about time, whose rows count, pages of buckets."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked, Query
from gateway.control.ledger import buckets
from gateway.control.ledger.buckets import Bucket, Cut, Limits, Width, cut
from gateway.control.ledger.grains import Kept, parts
from gateway.control.ledger.query import Book, Question, sums
from gateway.errors import MISSING_SCOPES, GatewayError

PERMISSION = "api.usage"
UNLABELED = "unlabeled"  # nothing says of a call that it is one of the Agents API
_SOURCE = "api_source"

Instant = Annotated[int, Meta(ge=-(2**53), le=2**53, description="seconds since 1970")]
Several = Annotated[tuple[str, ...], Meta(max_length=200)]
Only = Mapping[str, Sequence[str | bool]]
Show = Callable[[Bucket, Sequence[Sequence[Any]]], Sequence[dict[str, Any]]]
"""From a bucket and its rows to its results."""

# Columns of dimensions, by the names of filters, and by those of `group_by`.
_FILTERS: Mapping[str, str] = MappingProxyType({
    "project_ids": "project_id",
    "user_ids": "user_id",
    "api_key_ids": "key_id",
    "models": "model",
    "sizes": "image_size",
    "sources": "image_source",
    "context_levels": "context_level",
    "vector_store_ids": "vector_store_id",
    "line_items": "item",
})  # fmt: skip
COLUMNS: Mapping[str, str] = MappingProxyType({
    "project_id": "project_id",
    "user_id": "user_id",
    "api_key_id": "key_id",
    "model": "model",
    "batch": "batch",
    "service_tier": "service_tier",
    "size": "image_size",
    "source": "image_source",
    "context_level": "context_level",
    "vector_store_id": "vector_store_id",
    "line_item": "item",
})  # fmt: skip


class Timed(Query, frozen=True):
    """What all of them take. Forms have a `group_by` besides."""

    start_time: Instant
    end_time: Instant | None = None
    bucket_width: Width = "1d"
    limit: int | None = None
    page: str | None = None
    project_ids: Several = ()


class UsageBucket(msgspec.Struct, frozen=True):
    """start_time, end_time: seconds since 1970, the end is not in it."""

    start_time: int
    end_time: int
    results: Sequence[dict[str, Any]]
    object: Literal["bucket"] = "bucket"


class UsagePage(msgspec.Struct, frozen=True):
    data: Sequence[UsageBucket]
    has_more: bool
    next_page: str | None
    object: Literal["page"] = "page"


class Inquiry(msgspec.Struct, frozen=True):
    """What an endpoint asks the ledger. more: columns to group by, and filters, that no parameter names."""

    book: Book
    kept: Kept
    limits: Mapping[Width, Limits]
    quantities: Sequence[str]
    show: Show
    by: Sequence[str] = ()
    only: Only = MappingProxyType({})


def grouped_by(query: Any) -> list[str]:
    """The names in `group_by`, each once, in the order in which rows have them."""
    return [name for name in COLUMNS if name in query.group_by]


async def page_of_buckets(asked: Asked, connection: AsyncConnection, query: Any, inquiry: Inquiry) -> UsagePage:
    """query: a Timed with `group_by`. Raises GatewayError 400 that names a parameter, or 401."""
    only = _of_the_caller(asked, {**_filters(query), **inquiry.only})
    by = [*(COLUMNS[name] for name in grouped_by(query)), *inquiry.by]
    page = _cut(asked, query, inquiry, [sorted(only.items()), sorted(query.group_by)])
    question = Question(asked.organization_id, inquiry.quantities, by, only)
    planned = parts(page.buckets, query.bucket_width, inquiry.kept.grains)
    rows: dict[int, list[Sequence[Any]]] = {}
    for row in await sums(connection, inquiry.book, question, planned):
        rows.setdefault(row[0], []).append(row)
    data = [
        UsageBucket(one.start, one.end, inquiry.show(one, rows[one.start]) if one.start in rows else ())
        for one in page.buckets
    ]
    return UsagePage(data, page.next_page is not None, page.next_page)


def _cut(asked: Asked, query: Timed, inquiry: Inquiry, about: Sequence[object]) -> Cut:
    width = query.bucket_width
    said = [query.start_time, query.end_time, width, inquiry.quantities, about]
    question = zlib.crc32(msgspec.msgpack.encode(said))
    time = buckets.Asked(query.start_time, query.end_time, width, query.limit, query.page, question)
    return cut(time, inquiry.limits, asked.now, lambda at: inquiry.kept.edge_s(at, width))


def _filters(query: Timed) -> dict[str, Sequence[str | bool]]:
    values = {column: getattr(query, name, ()) for name, column in _FILTERS.items()}
    if (batch := getattr(query, "batch", None)) is not None:
        values["batch"] = (batch,)
    return {column: sorted(set(one)) for column, one in values.items() if one}


def _of_the_caller(asked: Asked, only: Only) -> Only:
    """An API key sees what is its own. Raises GatewayError MISSING_SCOPES (401) if it asks about another."""
    caller = asked.caller
    if caller.kind != "api_key":
        return only
    own = {"project_id": caller.project_id, "user_id": caller.user_id, "key_id": caller.id}
    if any(value != own[column] for column in own for value in only.get(column, ())):
        raise GatewayError(MISSING_SCOPES, scope=f"{PERMISSION}.read")
    return {**only, "key_id": (caller.id,)}


def named(names: Sequence[str], query: Any) -> Callable[[Sequence[Any]], dict[str, Any]]:
    """From the values that a row is grouped by to members of a result. names: all that the endpoint knows; those that
    are not grouped by are null."""
    nothing = dict.fromkeys(names)
    if _SOURCE in query.group_by:
        nothing[_SOURCE] = UNLABELED
    grouped = grouped_by(query)

    def members(values: Sequence[Any]) -> dict[str, Any]:
        if "" in values:
            values = [None if value == "" else value for value in values]
        return {**nothing, **dict(zip(grouped, values, strict=True))}

    return members
