"""Dimensions as small numbers: each combination that was ever used has a row, and those met lately are kept in mind."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.ledger.fold import CostDimension, Dimension
from gateway.control.sql.database import insert_into
from gateway.control.sql.ledger_tables import stored

_MOST = 100_000  # that are kept in mind
_PER_QUERY = 1_000
D = TypeVar("D", Dimension, CostDimension)


class Numbers(msgspec.Struct, frozen=True, gc=False):
    """Of a dimension: its own, and that of the sums over users and keys that it is part of."""

    own: int
    whole: int


class Interned(Generic[D]):
    """The dimensions of one organization in one table."""

    def __init__(self, organization_id: str, table: Table) -> None:
        self._organization_id = organization_id
        self._table = table
        self._known: dict[D, Numbers] = {}

    async def numbers(self, connection: AsyncConnection, dimensions: Collection[D]) -> Mapping[D, Numbers]:
        """Of each of these; new ones get a row. `keep` them once the transaction is done. Raises SQLAlchemyError."""
        found = {one: known for one in dimensions if (known := self._known.get(one)) is not None}
        missing = [one for one in dimensions if one not in found]
        if missing:
            rows = {one: (self._row(one, whole=False), self._row(one, whole=True)) for one in missing}
            ids = await self._ids(connection, {row["digest"]: row for pair in rows.values() for row in pair})
            for one, (own, whole) in rows.items():
                found[one] = Numbers(ids[own["digest"]], ids[whole["digest"]])
        return found

    def keep(self, numbers: Mapping[D, Numbers]) -> None:
        if len(self._known) + len(numbers) > _MOST:
            self._known.clear()
        self._known.update(numbers)

    async def _ids(self, connection: AsyncConnection, rows: Mapping[bytes, dict[str, Any]]) -> dict[bytes, int]:
        """By digest. Rows are made in one order, so that two of us do not wait for each other's."""
        ordered = sorted(rows)
        ids: dict[bytes, int] = {}
        for some in _parts(ordered):
            ids |= await self._present(connection, some)
        new = [rows[one] for one in ordered if one not in ids]
        if new:
            await connection.execute(insert_into(connection, self._table).on_conflict_do_nothing(), new)
            for some in _parts([row["digest"] for row in new]):
                ids |= await self._present(connection, some)
        return ids

    async def _present(self, connection: AsyncConnection, digests: Sequence[bytes]) -> dict[bytes, int]:
        columns = self._table.c
        found = await connection.execute(select(columns.digest, columns.id).where(columns.digest.in_(digests)))
        return {bytes(digest): number for digest, number in found}

    def _row(self, dimension: D, *, whole: bool) -> dict[str, Any]:
        """What the table says of it, and what tells it from all others. Long texts are cut, and told apart all the
        same."""
        said = {"organization_id": self._organization_id, "whole": whole, **msgspec.structs.asdict(dimension)}
        if whole:
            said |= {"user_id": "", "key_id": ""}
        digest = hashlib.blake2b(msgspec.msgpack.encode(said, order="sorted"), digest_size=16).digest()
        return {
            **{name: stored(value) if isinstance(value, str) else value for name, value in said.items()},
            "digest": digest,
        }


def _parts(digests: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(digests), _PER_QUERY):
        yield digests[start : start + _PER_QUERY]
