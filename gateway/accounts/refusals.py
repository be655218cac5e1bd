"""Records of refusals: apart from the usage stream, capped, and lost if Redis is away."""

from collections.abc import Mapping, Sequence

import msgspec

from gateway.keyspace import Keyspace
from gateway.redisdb.client import Client
from gateway.redisdb.command import Arg

MOST_TOLD = 10
"""Refusals of a key, a limit and a minute that are recorded one by one. The others are only counted."""

_MOST_KEPT = 10_000  # in Redis, of an organization; about
_MINUTE_US = 60_000_000
_TOLD_S = 300  # how long it is remembered how many were told


class Refusal(msgspec.Struct, frozen=True, omit_defaults=True):
    """A record of refused calls. at_us: since 1970. limit: its name in settings, `spend.month` of spend. count: of
    calls; of one that is told by itself, request_id is its id; else they are some of the minute that were not. shadow:
    they passed. value: the limit, in its own unit, nano-USD of spend; used: of it before the call, wanted: by the call,
    in what is counted (bytes where megabytes are limited). These are of single calls only; None: not known.
    """

    at_us: int
    organization_id: str
    project_id: str
    user_id: str
    key_id: str
    limit: str
    scope: str
    subject: str
    model: str = ""
    request_id: str = ""
    count: int = 1
    shadow: bool = False
    value: int | None = None
    used: int | None = None
    wanted: int | None = None


class Told(msgspec.Struct, frozen=True):
    """A record in the stream. position: as Redis names it (`1700000000000-0`). json: a Refusal."""

    position: str
    json: bytes


_encode = msgspec.json.Encoder().encode


class Refusals:
    """The way into the streams, and out."""

    def __init__(self, client: Client, keyspace: Keyspace) -> None:
        self._client = client
        self._keyspace = keyspace

    async def append(self, refusals: Sequence[Refusal]) -> None:
        """Of those of one call each, `MOST_TOLD` are told, however many workers tell some; the rest becomes a count.

        Raises RedisFailure; then some may be there and some not.
        """
        groups: dict[tuple[str, int, str], list[Refusal]] = {}
        for one in refusals:
            if one.request_id:
                groups.setdefault((one.organization_id, one.at_us // _MINUTE_US, _alike(one)), []).append(one)
        written = [
            told
            for group, before in zip(groups.values(), await self._told_before(groups), strict=True)
            for told in _shortened(group, MOST_TOLD - before)
        ]
        written += [one for one in refusals if not one.request_id]
        if written:
            await self._client.pipeline([self._command(one) for one in written])

    async def _told_before(self, groups: Mapping[tuple[str, int, str], Sequence[Refusal]]) -> list[int]:
        """How many of each group's kind were told in its minute, before these."""
        if not groups:
            return []
        commands: list[tuple[Arg, ...]] = []
        for (organization_id, minute, alike), group in groups.items():
            key = self._keyspace.refusals_told(organization_id, minute)
            commands += [("HINCRBY", key, alike, len(group)), ("EXPIRE", key, _TOLD_S)]
        numbers = (await self._client.pipeline(commands))[::2]
        return [number - len(group) for number, group in zip(numbers, groups.values(), strict=True)]

    def _command(self, refusal: Refusal) -> tuple[Arg, ...]:
        stream = self._keyspace.refusals(refusal.organization_id)
        return ("XADD", stream, "MAXLEN", "~", _MOST_KEPT, "*", "r", _encode(refusal))

    async def read(self, organization_id: str, after: str, most: int) -> list[Told]:
        """Those behind the position `after`, or the first ones. Raises RedisFailure."""
        start = f"({after}" if after else "-"
        stream = self._keyspace.refusals(organization_id)
        found = await self._client.execute("XRANGE", stream, start, "+", "COUNT", most)
        return [Told(position.decode(), fields[b"r"]) for position, fields in found]

    async def last(self, organization_id: str) -> str:
        """The position of the newest record; empty if there is none. Raises RedisFailure."""
        stream = self._keyspace.refusals(organization_id)
        found = await self._client.execute("XREVRANGE", stream, "+", "-", "COUNT", 1)
        return bytes(found[0][0]).decode() if found else ""

    async def newest(self, organization_id: str, most: int = 100) -> list[Refusal]:
        """The newest first. Raises RedisFailure."""
        found = await self._client.execute(
            "XREVRANGE", self._keyspace.refusals(organization_id), "+", "-", "COUNT", most
        )
        return [msgspec.json.decode(fields[b"r"], type=Refusal) for _, fields in found]


def _alike(refusal: Refusal) -> str:
    """What refusals have in common of which some are told."""
    return " ".join((refusal.key_id, refusal.limit, refusal.scope, refusal.subject, str(refusal.shadow)))


def _shortened(group: list[Refusal], most: int) -> list[Refusal]:
    """Refusals that are alike, of which so many may be told."""
    told, more = group[: max(0, most)], group[max(0, most) :]
    if more:
        told.append(more_of(more[0], len(more)))
    return told


def more_of(refusal: Refusal, count: int) -> Refusal:
    """So many that are like it, and not told one by one."""
    return msgspec.structs.replace(
        refusal, request_id="", model="", count=count, value=None, used=None, wanted=None
    )  # fmt: skip
