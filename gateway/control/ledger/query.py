"""Sums of usage and costs, by bucket and by what is asked for: one statement for a page of buckets, or two.

Where few dimensions fit, rows are found by their keys, each time with each of these: so nothing is read of users and
keys where nobody asks for them. Where most fit, all of the time is read. Neither is left to the databases to guess,
which know nothing of tables that have just been filled.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Subquery,
    Table,
    and_,
    bindparam,
    cast,
    func,
    literal,
    select,
    text,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.ledger.buckets import LENGTHS, MINUTE_S, Width
from gateway.control.ledger.grains import Part
from gateway.control.sql.ledger_tables import (
    cost_days,
    cost_dimensions,
    cost_hours,
    usage_days,
    usage_dimensions,
    usage_hours,
    usage_minutes,
)

_OF_SOMEBODY = frozenset({"user_id", "key_id"})  # what sums over users and keys do not say
_FINE = (frozenset({"project_id", "model"}), frozenset({"project_id", "item"}))
_CATEGORY = "category"  # the filter that all questions of usage have
_SCANNING = "SET LOCAL enable_nestloop = off"  # PostgreSQL takes it for cheap to look for each dimension's rows


class Book(msgspec.Struct, frozen=True):
    """The tables of usage, or of costs. grains: by how long each row is."""

    grains: Mapping[Width, Table]
    dimensions: Table


USAGE = Book(MappingProxyType({"1m": usage_minutes, "1h": usage_hours, "1d": usage_days}), usage_dimensions)
COSTS = Book(MappingProxyType({"1h": cost_hours, "1d": cost_days}), cost_dimensions)


class Question(msgspec.Struct, frozen=True):
    """What is summed up: quantities, columns of the grains; for each combination of `by`, columns of the dimensions.
    only: by column of the dimensions, the values that count.
    """

    organization_id: str
    quantities: Sequence[str]
    by: Sequence[str] = ()
    only: Mapping[str, Sequence[str | bool]] = MappingProxyType({})

    @property
    def whole(self) -> bool:
        """Whether sums over all users and keys can answer."""
        return not _OF_SOMEBODY & {*self.by, *self.only}

    @property
    def as_fine(self) -> bool:
        """Whether groups are about as many as rows: then the databases need not sort them."""
        return self.whole and any(names.issubset(self.by) for names in _FINE)

    def fits_few(self, grain: Width) -> bool:
        """Whether few of the dimensions fit that a grain has rows of. A minute has rows of few anyway."""
        if grain == "1m":
            return not _OF_SOMEBODY.isdisjoint(self.only)
        return self.whole or bool(self.only.keys() - {_CATEGORY})


async def sums(
    connection: AsyncConnection, book: Book, question: Question, parts: Sequence[Part]
) -> list[Sequence[Any]]:
    """Rows of (the bucket's start in seconds since 1970, each of `by`, each of `quantities`). For a transaction
    of their own. Raises SQLAlchemyError."""
    found: list[Sequence[Any]] = []
    by_key = [part for part in parts if question.fits_few(part.grain)]
    by_time = [part for part in parts if not question.fits_few(part.grain)]
    if by_key:
        found += await connection.execute(_statement(book, question, by_key))
    if by_time:
        if connection.dialect.name == "postgresql":
            await connection.execute(text(_SCANNING))
        found += await connection.execute(_statement(book, question, by_time))
    return _added(found, 1 + len(question.by)) if question.as_fine or (by_key and by_time) else found


def _added(rows: Iterable[Sequence[Any]], keys: int) -> list[Sequence[Any]]:
    """Rows of the same bucket and group as one. keys: how many columns say which that is."""
    found: dict[Sequence[Any], Sequence[Any]] = {}
    for row in rows:
        key = tuple(row[:keys])
        known = found.get(key)
        found[key] = row if known is None else (*key, *map(int.__add__, known[keys:], row[keys:]))
    return [*found.values()]


def _statement(book: Book, question: Question, parts: Sequence[Part]) -> Select[Any]:
    found = _rows(book, question, parts)
    dimensions = book.dimensions.c
    groups = [dimensions[name] for name in question.by]
    start = cast(found.c.bucket, BigInteger) * MINUTE_S
    if question.as_fine:
        each = [func.coalesce(found.c[name], 0).label(name) for name in question.quantities]
        return select(start, *groups, *each).join_from(found, book.dimensions, dimensions.id == found.c.dimension)
    totals = [func.coalesce(cast(func.sum(found.c[name]), BigInteger), 0).label(name) for name in question.quantities]
    statement = select(start, *groups, *totals).group_by(found.c.bucket, *groups).order_by(found.c.bucket, *groups)
    if not groups:
        return statement.select_from(found)
    return statement.join_from(found, book.dimensions, dimensions.id == found.c.dimension)


def _rows(book: Book, question: Question, parts: Sequence[Part]) -> Subquery:
    """All that fit, with the minute that their bucket begins at."""
    found = [_part(book, question, part, number) for number, part in enumerate(parts)]
    return (union_all(*found) if len(found) > 1 else found[0]).subquery("found")


def _part(book: Book, question: Question, part: Part, number: int) -> Select[Any]:
    table = book.grains[part.grain]
    bucket: ColumnElement[int] = table.c.at
    if part.bucket is not None:
        bucket = literal(part.bucket // MINUTE_S, BigInteger)
    times = range(part.start // MINUTE_S, part.end // MINUTE_S, LENGTHS[part.grain] // MINUTE_S)
    at = and_(table.c.at >= literal(times.start, BigInteger), table.c.at < literal(times.stop, BigInteger))
    if question.fits_few(part.grain):
        # They stand in the statement itself: a day has 1,440 minutes, and drivers take long over as many parameters.
        at = table.c.at.in_(bindparam(f"times_{number}", [*times], BigInteger, expanding=True, literal_execute=True))
    whole = question.whole and part.grain != "1m"
    rows = select(bucket.label("bucket"), table.c.dimension, *(table.c[name] for name in question.quantities))
    return rows.where(at, table.c.dimension.in_(_dimensions(book, question, whole)))


def _dimensions(book: Book, question: Question, whole: bool) -> Select[Any]:
    columns = book.dimensions.c
    ours = (columns.organization_id == question.organization_id, columns.whole.is_(whole))
    fit = [columns[name].in_(values) for name, values in question.only.items()]
    return select(columns.id).where(*ours, *fit)
