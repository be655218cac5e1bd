"""Lists of the admin API, a page at a time.

One envelope for all of OpenAI's four: `last_id` for clients that go on after it, `next` for those that go on after
that, `has_more` for all.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import Column, ColumnElement, Row, Select, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Query
from gateway.errors import INVALID_VALUE, GatewayError

Order = Literal["asc", "desc"]


class Listing(Query, frozen=True):
    """What most lists take."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    after: str | None = None
    order: Order = "asc"


class LongListing(Query, frozen=True):
    """What lists of groups and roles take."""

    limit: Annotated[int, Meta(ge=0, le=1000)] = 100
    after: str | None = None
    order: Order = "asc"


class Page(msgspec.Struct, frozen=True):
    data: Sequence[Any]
    first_id: str | None
    last_id: str | None
    has_more: bool
    next: str | None
    object: Literal["list"] = "list"


def page_of(data: Sequence[Any], ids: Sequence[str], *, has_more: bool) -> Page:
    """An envelope. ids: of these, in the same order."""
    last = ids[-1] if ids else None
    return Page(data, ids[0] if ids else None, last, has_more, last if has_more else None)


async def list_page(  # noqa: PLR0917
    connection: AsyncConnection,
    rows: Select[Any],
    by: tuple[ColumnElement[Any], ColumnElement[str]],
    listing: Any,
    show: Callable[[Row[Any]], Any],
    before: str | None = None,
) -> Page:
    """One page of these rows, each as `show` has it. by: the columns that they are ordered by, the last one their id.
    listing: Listing, or something with the same fields. before: only what comes before this id, the nearest.
    Raises GatewayError (400) for an id that is not one of theirs.
    """
    ids = by[-1]
    place = tuple_(*by)
    query = rows
    for name, cursor, later in (("after", listing.after, True), ("before", before, False)):
        if cursor is not None:
            at = await _place_of(connection, rows, by, cursor)
            if at is None:
                raise _not_there(name, cursor)
            up = later == (listing.order == "asc")
            query = query.where(place > tuple(at) if up else place < tuple(at))
    backwards = before is not None and listing.after is None
    ascending = (listing.order == "asc") != backwards
    ordered = [column.asc() if ascending else column.desc() for column in by]
    found = list(await connection.execute(query.order_by(*ordered).limit(listing.limit + 1)))
    has_more = len(found) > listing.limit
    found = found[: listing.limit]
    if backwards:
        found.reverse()
    name = str(getattr(ids, "key", "id"))
    return page_of([show(row) for row in found], [getattr(row, name) for row in found], has_more=has_more)


async def _place_of(
    connection: AsyncConnection, rows: Select[Any], by: tuple[ColumnElement[Any], ColumnElement[str]], cursor: str
) -> Row[Any] | None:
    """Where a row is, or was: who goes through a list and removes what is in it goes on after a row that is no more
    there, as long as the table keeps it."""
    ids = by[-1]
    at = (await connection.execute(rows.with_only_columns(*by).where(ids == cursor).limit(1))).one_or_none()
    if at is None and isinstance(ids, Column) and ids.primary_key and len(ids.table.primary_key) == 1:
        at = (await connection.execute(select(*by).where(ids == cursor))).one_or_none()
    return at


def cut_page(ids: Sequence[str], limit: int, after: str | None, before: str | None) -> tuple[Sequence[str], bool]:
    """One page of a list that no table has, as list_page cuts those of tables, and whether there is more of it.
    Raises GatewayError (400) for an id that is not in it."""
    start = _place(ids, "after", after) + 1 if after is not None else 0
    end = _place(ids, "before", before) if before is not None else len(ids)
    if before is not None and after is None:
        start = max(0, end - limit)
        return ids[start:end], start > 0
    return ids[start:end][:limit], start + limit < end


def _place(ids: Sequence[str], name: str, cursor: str) -> int:
    try:
        return ids.index(cursor)
    except ValueError:
        raise _not_there(name, cursor) from None


def _not_there(name: str, cursor: str) -> GatewayError:
    return GatewayError(INVALID_VALUE, param=name, reason=f"there is no '{cursor[:100]}' in this list")
