"""The usage stream of an organization: how events get into it, each once, and out again.

`UsageStream.append` is the one way in. The Admission issue's settle script takes it over, with the same keys.
"""

from collections.abc import AsyncIterator, Awaitable, Sequence
from importlib import resources
from typing import Any, Protocol

import msgspec

from gateway.keyspace import Keyspace
from gateway.redisdb.client import Client
from gateway.redisdb.command import Arg, Script
from gateway.values import UsageEvent

_SCRIPT_FILE = "lua/append_usage.lua"
_MINUTE_US = 60_000_000
_PER_READ = 500

MARKER_S = 600
"""How long the ids of a minute are remembered after the last of them was sent.

It must outlive whatever may send an event again: a call whose outcome is not known is repeated within seconds of
Redis' return, and what a stopped server finds in its sockets it runs as soon as it goes on. An id takes 54 bytes of
Valkey and 96 of Redis, so 1,000 calls a second hold 30 to 60 MB. What is sent again later than that,
because Redis was away for longer after it took an event without saying so, is in the stream twice; the ledger's unique
event id in SQL closes that.
"""


class Scripts(Protocol):
    """What runs scripts: `HotRedis` with its deadline, or `Client`."""

    def script(self, script: Script, keys: Sequence[str], args: Sequence[Arg] = ()) -> Awaitable[Any]: ...


class Packed(msgspec.Struct, frozen=True):
    """An event as it is sent and as it is kept on disk: its JSON is one line without a line feed.

    minute: of its at_us, since 1970; each sending of an event thus asks the same set of ids.
    """

    id: str
    organization_id: str
    minute: int
    json: bytes


class _Envelope(msgspec.Struct, frozen=True):
    """What must be known of an event to send it. The rest may be of another version of the gateway."""

    id: str
    at_us: int
    organization_id: str


class Entry(msgspec.Struct, frozen=True):
    """An event in the stream. position: of the entry, as Redis names it (`1700000000000-0`)."""

    position: str
    id: str
    json: bytes

    def event(self) -> UsageEvent:
        """Raises msgspec.MsgspecError if it is none that this version knows."""
        return msgspec.json.decode(self.json, type=UsageEvent)


_envelope = msgspec.json.Decoder(_Envelope)
_encoder = msgspec.json.Encoder()


def pack(event: UsageEvent) -> Packed:
    """Raises ValueError, TypeError or OverflowError for what JSON has no form for (half a surrogate pair in a text)."""
    return Packed(event.id, event.organization_id, event.at_us // _MINUTE_US, _encoder.encode(event))


def unpack(line: bytes) -> Packed:
    """An event from its JSON. Raises msgspec.MsgspecError, also for text that is not UTF-8."""
    try:
        found = _envelope.decode(line)
    except UnicodeDecodeError:
        raise msgspec.DecodeError("it is not UTF-8") from None
    return Packed(found.id, found.organization_id, found.at_us // _MINUTE_US, line)


def append_script() -> Script:
    """The script, for `HotRedis(scripts=…)` and `UsageStream`."""
    source = resources.files(__package__).joinpath(_SCRIPT_FILE).read_text(encoding="utf-8")
    return Script.of("append_usage", source)


class UsageStream:
    """The way into the streams."""

    def __init__(self, redis: Scripts, keyspace: Keyspace, script: Script) -> None:
        """script: of `append_script()`."""
        self._redis = redis
        self._keyspace = keyspace
        self._script = script

    async def append(self, events: Sequence[Packed]) -> int:
        """Appends events of one organization, all or none, in order; returns how many were not there already.

        Safe to repeat for `MARKER_S`. Raises RedisFailure as `redis` does.
        """
        organization_id = events[0].organization_id
        keys = [self._keyspace.usage(organization_id)]
        numbers: dict[int, int] = {}
        args: list[Arg] = [MARKER_S]
        for event in events:
            assert event.organization_id == organization_id, "one organization is one slot"
            number = numbers.get(event.minute)
            if number is None:
                keys.append(self._keyspace.usage_ids(organization_id, event.minute))
                number = numbers[event.minute] = len(keys)
            args += (number, event.id, event.json)
        appended: int = await self._redis.script(self._script, keys, args)
        return appended


async def read(
    client: Client, keyspace: Keyspace, organization_id: str, *, after: str = "", most: int = _PER_READ
) -> list[Entry]:
    """The entries behind the position `after`, or the first ones; at most so many. Raises RedisFailure."""
    start = f"({after}" if after else "-"
    found = await client.execute("XRANGE", keyspace.usage(organization_id), start, "+", "COUNT", most)
    return [Entry(position.decode(), fields[b"id"].decode(), fields[b"e"]) for position, fields in found]


async def entries(client: Client, keyspace: Keyspace, organization_id: str, *, after: str = "") -> AsyncIterator[Entry]:
    """All entries behind the position `after`, up to the stream's end. Raises RedisFailure."""
    while some := await read(client, keyspace, organization_id, after=after):
        for entry in some:
            yield entry
        after = some[-1].position
