"""Single calls, as long as their events are kept: what became of one, and which limits refused it."""

import zlib
from collections.abc import Sequence

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.accounts.refusals import Refusal
from gateway.control.sql.ledger_tables import usage_events, usage_refusals
from gateway.values import UsageEvent

_DAY = 1440  # minutes
_MOST_DAYS = 400  # that are looked through for an upstream's id
MOST_RESPONSES = 100  # of a socket, that are looked for


class Call(msgspec.Struct, frozen=True):
    """event: None if it has none: it was refused. refusals: of this call, oldest first; shadows' too. responses: ids
    of what happened on it, if it is a socket."""

    event: UsageEvent | None
    refusals: tuple[Refusal, ...]
    responses: tuple[str, ...] = ()


class Whose(msgspec.Struct, frozen=True):
    """Of whose calls something may be said: all of an organization, or those of one key."""

    organization_id: str
    key_id: str | None = None

    def has(self, one: UsageEvent | Refusal) -> bool:
        return one.organization_id == self.organization_id and self.key_id in {None, one.key_id}


async def call_of(connection: AsyncConnection, whose: Whose, request_id: str, now: int) -> Call | None:
    """request_id: ours, or the upstream's, which is what a client sees where there is one. now: seconds since 1970.
    None: nothing is known of it, or it is not theirs. Raises SQLAlchemyError."""
    if (found := await _known_as(connection, whose, request_id)) is not None:
        return found
    events = await _of_upstream(connection, whose, request_id, now // 60)
    if not events:
        return None
    newest = events[-1].id
    if "/" not in newest:
        return await _known_as(connection, whose, newest)
    return Call(None, (), tuple(one.id for one in events if _socket(one.id) == _socket(newest)))


def _socket(response_id: str) -> str:
    return response_id.partition("/")[0]


def upstream_key(event: UsageEvent) -> int | None:
    """By which the table finds an event by its upstream's id of the call: others may have the same."""
    request_id = event.attempts[-1].request_id if event.attempts else ""
    return _key_of(request_id) if request_id else None


def _key_of(upstream_id: str) -> int:
    return zlib.crc32(upstream_id.encode("utf-8", "replace")) >> 1  # PostgreSQL's integers have a sign


async def _of_upstream(connection: AsyncConnection, whose: Whose, upstream_id: str, minute: int) -> list[UsageEvent]:
    """Of the newest day that has any, in order."""
    columns = usage_events.c
    newest, oldest = minute + _DAY, await connection.scalar(select(func.min(columns.at)))
    for end in range(newest, max(oldest or newest, newest - _MOST_DAYS * _DAY) - 1, -_DAY):
        of_day = columns.at.in_(range(end - _DAY + 1, end + 1)), columns.upstream_id == _key_of(upstream_id)
        found = await connection.scalars(select(columns.event).where(*of_day).order_by(columns.at))
        events = [one for one in map(_event, found) if whose.has(one) and one.attempts[-1].request_id == upstream_id]
        if events:
            return events
    return []


async def _known_as(connection: AsyncConnection, whose: Whose, request_id: str) -> Call | None:
    """By our id."""
    events = await _events(connection, whose, [request_id])
    refusals = await _refusals(connection, whose, [request_id])
    if events or refusals:
        return Call(events[0] if events else None, tuple(sorted(refusals, key=lambda one: one.at_us)))
    ids = [f"{request_id}/{number}" for number in range(1, MOST_RESPONSES + 1)]
    known = {event.id for event in await _events(connection, whose, ids)}
    known |= {refusal.request_id for refusal in await _refusals(connection, whose, ids)}
    return Call(None, (), tuple(id_ for id_ in ids if id_ in known)) if known else None


async def _events(connection: AsyncConnection, whose: Whose, ids: Sequence[str]) -> list[UsageEvent]:
    """By their whole ids: no index finds texts by how they begin whatever the database's language is."""
    columns = usage_events.c
    found = await connection.scalars(select(columns.event).where(columns.id.in_(ids)))
    return [one for one in map(_event, found) if whose.has(one)]


async def _refusals(connection: AsyncConnection, whose: Whose, ids: Sequence[str]) -> list[Refusal]:
    columns = usage_refusals.c
    found = await connection.scalars(select(columns.refusal).where(columns.request_id.in_(ids)))
    return [one for one in map(_refusal, found) if whose.has(one)]


_event = msgspec.json.Decoder(UsageEvent).decode
_refusal = msgspec.json.Decoder(Refusal).decode
