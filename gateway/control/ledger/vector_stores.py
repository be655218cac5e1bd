"""The vector stores that there are, how large they are and whose: from what answers said of them, event by event."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.sql.database import Database, insert_into
from gateway.control.sql.ledger_tables import stored, vector_stores
from gateway.control.sql.tables import LONGEST_ID
from gateway.usage.stores import CREATE, LIST
from gateway.values import SeenStore, UsageEvent

HOUR_S = 3600
_DAY_S = 86_400
_PER_QUERY = 1_000
_LARGEST = 2**53  # bytes
_OBSERVED = ("project_id", "user_id", "key_id", "upstream", "bytes", "changing", "seen_at", "gone_at")
_columns = vector_stores.c
Rows = dict[str, dict[str, Any]]
"""By id."""


class Store(msgspec.Struct, frozen=True):
    """One that storage is charged for. charged_hour: the last one, since 1970, that was. gone_at: seconds since 1970.
    bytes: as last heard of."""

    id: str
    project_id: str
    user_id: str
    key_id: str
    upstream: str
    bytes: int
    charged_hour: int
    gone_at: int | None


async def note_stores(connection: AsyncConnection, organization_id: str, events: Iterable[UsageEvent]) -> None:
    """Takes in what some events say of stores, in the transaction that folds them. What is older than what is known
    changes nothing. A list shows everybody's stores, and makes none known. Raises SQLAlchemyError."""
    telling = sorted((event for event in events if event.stores), key=lambda event: event.at_us)
    if not telling:
        return
    rows = await _present(connection, organization_id, {store.id for event in telling for store in event.stores})
    changed: Rows = {}
    for event in telling:
        for store in event.stores:
            if store.id not in rows and (event.operation == LIST or store.gone):
                continue
            row = rows.setdefault(store.id, _new(organization_id, store, event))
            if _note(row, store, event):
                changed[store.id] = row
    if changed:
        insert = insert_into(connection, vector_stores)
        observed = {name: insert.excluded[name] for name in _OBSERVED}
        upsert = insert.on_conflict_do_update(index_elements=["organization_id", "id"], set_=observed)
        await connection.execute(upsert, [changed[id_] for id_ in sorted(changed)])


async def _present(connection: AsyncConnection, organization_id: str, ids: Collection[str]) -> Rows:
    rows: Rows = {}
    ordered = sorted(ids)
    for start in range(0, len(ordered), _PER_QUERY):
        some = _columns.organization_id == organization_id, _columns.id.in_(ordered[start : start + _PER_QUERY])
        for row in (await connection.execute(select(vector_stores).where(*some))).mappings():
            rows[row["id"]] = dict(row)
    return rows


def _new(organization_id: str, store: SeenStore, event: UsageEvent) -> dict[str, Any]:
    at = event.at_us // 1_000_000
    return {
        "organization_id": organization_id,
        "id": store.id,
        **_owner(event),
        "upstream": stored(store.upstream),
        "bytes": 0,
        "changing": True,
        "seen_at": at,
        "asked_at": 0,
        "gone_at": None,
        "charged_hour": at // HOUR_S - 1,
    }


def _owner(event: UsageEvent) -> dict[str, str]:
    return {name: stored(getattr(event, name)) for name in ("project_id", "user_id", "key_id")}


def is_sound(store: SeenStore) -> bool:
    """Whether it can be kept."""
    return 0 < len(store.id) <= LONGEST_ID and store.id.isprintable() and 0 <= (store.bytes or 0) < _LARGEST


def _note(row: dict[str, Any], store: SeenStore, event: UsageEvent) -> bool:
    """Whether anything has changed."""
    if event.operation == CREATE:
        row |= _owner(event)
    at = event.at_us // 1_000_000
    if at < row["seen_at"]:
        return event.operation == CREATE
    row |= {"seen_at": at, "upstream": stored(store.upstream)}
    if store.gone:
        row["gone_at"] = at
    elif store.bytes is None:
        row["changing"] = True
    else:
        row |= {"bytes": store.bytes, "changing": store.changing, "gone_at": None}
    return True


class Stores:
    """Those of one organization. Methods raise SQLAlchemyError; times are seconds since 1970."""

    def __init__(self, organization_id: str, database: Database) -> None:
        self._ours = _columns.organization_id == organization_id
        self._database = database

    async def to_ask(self, now: int, most: int) -> list[tuple[str, str]]:
        """Upstream and id of those whose size nobody has said for a day, or has changed since; the ones that were not
        asked for the longest first, none twice an hour."""
        unknown = or_(_columns.changing, _columns.seen_at <= now - _DAY_S)
        due = self._ours, _columns.gone_at.is_(None), unknown, _columns.asked_at // HOUR_S < now // HOUR_S
        query = select(_columns.upstream, _columns.id).where(*due).order_by(_columns.asked_at, _columns.id).limit(most)
        async with self._database.transaction() as connection:
            return [(upstream, id_) for upstream, id_ in await connection.execute(query)]

    async def answered(self, answers: Mapping[str, SeenStore | None], now: int) -> None:
        """What upstreams said of some, by id; None for nothing."""
        asked: list[dict[str, Any]] = [{"id_": id_, "asked": now} for id_ in sorted(answers)]
        told: list[dict[str, Any]] = []
        gone: list[dict[str, Any]] = []
        for id_, store in sorted(answers.items()):
            if store is not None and store.gone:
                gone.append({"id_": id_, "at": now})
            elif store is not None:
                told.append({"id_": id_, "at": now, "size": store.bytes, "more": store.changing})
        this = update(vector_stores).where(self._ours, _columns.id == bindparam("id_"))
        sizes: dict[str, Any] = {"bytes": bindparam("size"), "changing": bindparam("more"), "seen_at": bindparam("at")}
        async with self._database.transaction() as connection:
            if asked:
                await connection.execute(this.values(asked_at=bindparam("asked")), asked)
            if told:
                await connection.execute(this.values(sizes), told)
            if gone:
                await connection.execute(this.values(gone_at=bindparam("at"), seen_at=bindparam("at")), gone)

    async def to_charge(self, hour: int, most: int) -> list[Store]:
        """Some of those that are not charged up to this hour."""
        names = [_columns[name] for name in Store.__struct_fields__]
        behind = self._ours, _columns.charged_hour < hour
        query = select(*names).where(*behind).order_by(_columns.charged_hour, _columns.id).limit(most)
        async with self._database.transaction() as connection:
            return [Store(*row) for row in await connection.execute(query)]

    async def charged(self, ids: Sequence[str], hour: int) -> None:
        """They are, up to this hour."""
        these = update(vector_stores).where(self._ours, _columns.id.in_(ids), _columns.charged_hour < hour)
        async with self._database.transaction() as connection:
            await connection.execute(these.values(charged_hour=hour))

    async def forget(self, before: int) -> None:
        """Those that had gone then."""
        async with self._database.transaction() as connection:
            await connection.execute(delete(vector_stores).where(self._ours, _columns.gone_at < before))
