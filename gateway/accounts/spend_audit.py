"""The counters of spend, looked at as a whole: what they say, what is reserved of that, what has been used lately.

A counter's field is named by its window and its subject: `d20786:p:proj_a` (days since 1970), `m202611:o`, `t:k:key_1`.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from gateway.accounts.reservations import server_time
from gateway.accounts.scripts import COUNTING, Scripts, load
from gateway.accounts.usage_stream import MARKER_S, Entry
from gateway.keyspace import Keyspace
from gateway.redisdb.command import Arg

DAY_US = 86_400_000_000
_PER_CALL = 1_000


class Look(msgspec.Struct, frozen=True):
    """One instant. epoch: None, the counters are closed. spent: nano-dollars by field, what is reserved included; held:
    of these, what is reserved. waiting: entries of the stream behind the position that was asked for."""

    at_us: int
    epoch: str | None
    spent: Mapping[str, int]
    held: Mapping[str, int]
    waiting: Sequence[Entry]


class Counters:
    """All methods raise RedisFailure as `redis` does."""

    def __init__(self, redis: Scripts, keyspace: Keyspace, *, now_us: Callable[[], int] = server_time) -> None:
        self._redis = redis
        self._keyspace = keyspace
        self._now_us = now_us
        self._look = load("look_spend", *COUNTING)
        self._add = load("add_spend", "windows")
        self._remember = load("remember_ids")

    async def look(self, organization_id: str, fields: Sequence[str], after: str, most: int) -> Look:
        """fields: which to read. after: a position in the usage stream, empty for its beginning; most: how many entries
        behind it, at most."""
        keys = (self._keyspace.base(organization_id),)
        found = await self._redis.script(self._look, keys, (self._now_us(), after, most, *fields))
        at_us, epoch, values, entries, held = found
        spent = {field: int(value or 0) for field, value in zip(fields, values, strict=True)}
        sums: dict[str, int] = {}
        for reserved_us, nano_usd, *whose in held:
            for field in fields_at(reserved_us, [subject.decode() for subject in whose]):
                sums[field] = sums.get(field, 0) + nano_usd
        waiting = [Entry(position.decode(), *_parts(fields)) for position, *fields in entries]
        return Look(at_us, epoch.decode() or None, spent, sums, waiting)

    async def add(self, organization_id: str, amounts: Mapping[str, int]) -> None:
        """Adds nano-dollars to fields."""
        keys = (self._keyspace.base(organization_id),)
        items = list(amounts.items())
        for start in range(0, len(items), _PER_CALL):
            args: list[Arg] = [self._now_us()]
            for field, nano_usd in items[start : start + _PER_CALL]:
                args += (field, nano_usd)
            await self._redis.script(self._add, keys, args)

    async def remember(self, organization_id: str, ids: Mapping[int, Sequence[str]]) -> None:
        """Makes ids of events known, by the minute of the event: one that is sent again is then not counted again."""
        for minute, some in ids.items():
            key = (self._keyspace.usage_ids(organization_id, minute),)
            for start in range(0, len(some), _PER_CALL):
                await self._redis.script(self._remember, key, (MARKER_S, *some[start : start + _PER_CALL]))


def fields_at(at_us: int, whose: Sequence[str]) -> Iterator[str]:
    """The fields in which something of an instant counts. whose: subjects, as `plan.subjects` names them."""
    day = at_us // DAY_US
    for window in (f"d{day}", f"m{month_name(day)}", "t"):
        for subject in whose:
            yield f"{window}:{subject}"


def month_name(day: int) -> str:
    """YYYYMM of a day since 1970."""
    return f"{dt.date(1970, 1, 1) + dt.timedelta(days=day):%Y%m}"


def _parts(fields: Sequence[bytes]) -> tuple[str, bytes]:
    """Id and JSON of an entry's event."""
    named = dict(zip(fields[::2], fields[1::2], strict=True))
    return named[b"id"].decode(), named[b"e"]
