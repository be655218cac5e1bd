"""The usage stream of an organization: how events get into it, each once, and out again.

The settle script is the one way in, and the sweep of what was never settled.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec

from gateway.accounts.scripts import COUNTING, WRITING, Scripts, load
from gateway.keyspace import Keyspace
from gateway.redisdb.client import Client
from gateway.redisdb.command import Arg, Script
from gateway.redisdb.positions import next_to, place
from gateway.values import Quantities, UsageEvent

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


STREAM_FULL = "STREAMFULL"
"""The code of the error with which the settle script refuses events for which the stream has no room."""

CLAIM_S = 60
"""How long a ledger that is not heard of is waited for, before another one folds the stream."""


class Packed(msgspec.Struct, frozen=True):
    """An event as it is sent and as it is kept on disk: its JSON is one line without a line feed.

    minute: of its at_us, since 1970; each sending of an event thus asks the same set of ids. nano_usd, tokens, images:
    of all its lines; None for as they were reserved. nothing: it has no lines, so all but the request is given back.
    """

    id: str
    organization_id: str
    minute: int
    json: bytes
    nano_usd: int = 0
    tokens: int | None = None
    images: int | None = None
    nothing: bool = False


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """What a call really used. event: None if there is nothing to be metered. id: of the reservation; empty: the
    event's. Amounts: None for as it was reserved; nano_usd: None for what the event says, or as reserved without one.
    epoch: the event is sent again, and was taken in this epoch of the counters; in another one it is charged only if it
    has a reservation or is younger than `MARKER_S`. ahead: without an event, which comes later and then costs what
    differs; known for a day.
    """

    event: Packed | None
    id: str = ""
    tokens: int | None = None
    images: int | None = None
    audio_bytes: int | None = None
    batch_tokens: int | None = None
    nano_usd: int | None = None
    epoch: str | None = None
    ahead: bool = False


class _Envelope(msgspec.Struct, frozen=True):
    """What must be known of an event to send it. The rest may be of another version of the gateway."""

    id: str
    at_us: int
    organization_id: str
    lines: msgspec.Raw = msgspec.Raw(b"[]")


class _Counted(msgspec.Struct, frozen=True):
    input_tokens: int = 0
    output_tokens: int = 0
    images: int = 0


class _Line(msgspec.Struct, frozen=True):
    nano_usd: int | None = None
    quantities: _Counted = _Counted()


class _Sized(Protocol):
    """A line, whole or in part."""

    @property
    def nano_usd(self) -> int | None: ...
    @property
    def quantities(self) -> Quantities | _Counted: ...


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An event in the stream. position: of the entry, as Redis names it (`1700000000000-0`)."""

    position: str
    id: str
    json: bytes

    def event(self) -> UsageEvent:
        """Raises msgspec.MsgspecError if it is none that this version knows."""
        return msgspec.json.decode(self.json, type=UsageEvent)


_envelope = msgspec.json.Decoder(_Envelope)
_lines = msgspec.json.Decoder(list[_Line])
_encoder = msgspec.json.Encoder()
_pack = msgspec.msgpack.Encoder().encode


def pack(event: UsageEvent) -> Packed:
    """Raises ValueError, TypeError or OverflowError for what JSON has no form for (half a surrogate pair in a text)."""
    return _packed(event.id, event.organization_id, event.at_us, _encoder.encode(event), event.lines)


def unpack(line: bytes) -> Packed:
    """An event from its JSON. Raises msgspec.MsgspecError, also for text that is not UTF-8. Lines that cannot be read
    cost nothing here."""
    try:
        found = _envelope.decode(line)
    except UnicodeDecodeError:
        raise msgspec.DecodeError("it is not UTF-8") from None
    try:
        lines = _lines.decode(found.lines)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Packed(found.id, found.organization_id, found.at_us // _MINUTE_US, line)
    return _packed(found.id, found.organization_id, found.at_us, line, lines)


def _packed(event_id: str, organization_id: str, at_us: int, json: bytes, lines: Sequence[_Sized]) -> Packed:
    nano_usd = tokens = images = 0
    for line in lines:
        quantities = line.quantities
        nano_usd += line.nano_usd or 0
        tokens += quantities.input_tokens + quantities.output_tokens
        images += quantities.images
    return Packed(event_id, organization_id, at_us // _MINUTE_US, json, nano_usd, tokens, images, not lines)


def settle_args(
    keyspace: Keyspace,
    settlements: Sequence[Settlement],
    organization_id: str = "",
    now_us: int = 0,
    most_events: int = 0,
) -> tuple[Sequence[str], Sequence[Arg]]:
    """KEYS and ARGV of settle.lua, for settlements of one organization. most_events: in the stream; 0: no bound."""
    first = settlements[0].event
    organization_id = organization_id or (first.organization_id if first is not None else "")
    assert organization_id, "one organization is one slot"
    args: list[Arg] = [now_us, MARKER_S, most_events]
    for one in settlements:
        event, nano_usd = one.event, one.nano_usd
        if event is None:
            assert one.id, "there must be something to settle"
            json, minute, event_id = b"", 0, ""
        else:
            assert event.organization_id == organization_id, "one organization is one slot"
            json, minute, event_id = event.json, event.minute, event.id
            nano_usd = event.nano_usd if nano_usd is None else nano_usd
        used = (minute, event_id, one.id, one.tokens, one.images, one.audio_bytes, one.batch_tokens, nano_usd)
        if one.epoch is None and not one.ahead:
            args += (json, _pack(used))
        else:
            args += (json, _pack((*used, one.epoch, one.ahead)))
    return (keyspace.base(organization_id),), args


def append_script() -> Script:
    """The settle script, for `HotRedis(scripts=…)` and `UsageStream`."""
    return load("settle", *COUNTING, after=WRITING)


class UsageStream:
    """The way into the streams for events without a settlement of their own."""

    def __init__(self, redis: Scripts, keyspace: Keyspace, script: Script, *, most_events: int = 0) -> None:
        """script: of `append_script()`. most_events: how many a stream takes; 0: there is no bound."""
        self._redis = redis
        self._keyspace = keyspace
        self._script = script
        self._most_events = most_events

    async def append(self, events: Sequence[Packed], *, epoch: str | None = None) -> int:
        """Settles the calls of events of one organization, in order. Returns how many were not there already.

        Safe to repeat for `MARKER_S`. epoch: of events that are sent again; see `Settlement`. Raises RedisFailure as
        `redis` does; with the code STREAM_FULL if there are as many as the stream takes, nothing being done.
        """
        settlements = [_settlement(event, epoch) for event in events]
        keys, args = settle_args(self._keyspace, settlements, most_events=self._most_events)
        appended: int = await self._redis.script(self._script, keys, args)
        return appended

    async def settle_ahead(self, events: Sequence[Packed]) -> None:
        """Ends the reservations of events of one organization as used, for the stream has no room for the events: they
        are appended later. Safe to repeat. Raises RedisFailure as `redis` does."""
        ahead = [
            Settlement(
                event=None,
                id=event.id,
                tokens=event.tokens,
                images=event.images,
                audio_bytes=0 if event.nothing else None,
                batch_tokens=0 if event.nothing else None,
                nano_usd=event.nano_usd,
                ahead=True,
            )
            for event in events
        ]
        keys, args = settle_args(self._keyspace, ahead, events[0].organization_id)
        await self._redis.script(self._script, keys, args)


def _settlement(event: Packed, epoch: str | None) -> Settlement:
    other = 0 if event.nothing else None
    return Settlement(
        event=event, tokens=event.tokens, images=event.images, audio_bytes=other, batch_tokens=other, epoch=epoch
    )


class Outlet:
    """The way out of the stream of one organization, in order. All methods raise RedisFailure."""

    def __init__(self, client: Client, keyspace: Keyspace, organization_id: str) -> None:
        self._client = client
        self._base = keyspace.base(organization_id)
        self._key = keyspace.usage(organization_id)
        self._claim = load("claim_usage")

    async def claim(self, ledger: str) -> str | None:
        """The epoch of the counters, empty if they have none: with another one the stream, too, may be another. None:
        another ledger than this folds the stream, or did until a minute ago."""
        ours, epoch = await self._client.script(self._claim, (self._base,), (ledger, CLAIM_S))
        return epoch.decode() if ours else None

    async def read(self, after: str = "", most: int = _PER_READ) -> list[Entry]:
        """The entries behind the position `after`, or the first ones; at most so many."""
        found = await self._client.execute("XRANGE", self._key, f"({after}" if after else "-", "+", "COUNT", most)
        return [Entry(position.decode(), fields[b"id"].decode(), fields[b"e"]) for position, fields in found]

    async def entries(self, after: str = "") -> AsyncIterator[Entry]:
        """All entries behind the position `after`, up to the stream's end."""
        while some := await self.read(after):
            for entry in some:
                yield entry
            after = some[-1].position

    async def trim(self, position: str) -> None:
        """Removes all entries up to this position, and the one there."""
        await self._client.execute("XTRIM", self._key, "MINID", "=", next_to(position))

    async def waiting(self) -> int:
        """How many entries there are."""
        return int(await self._client.execute("XLEN", self._key))

    async def oldest_ms(self) -> int | None:
        """When the first entry came, in milliseconds since 1970; None if there is none."""
        found = await self.read(most=1)
        return place(found[0].position)[0] if found else None

    async def newest(self) -> str:
        """The position of the last entry that the stream ever had; empty if there is no stream."""
        if not await self._client.execute("EXISTS", self._key):
            return ""
        found = await self._client.execute("XINFO", "STREAM", self._key)
        told = dict(zip(found[::2], found[1::2], strict=True)) if isinstance(found, list) else found
        return bytes(told[b"last-generated-id"]).decode()
