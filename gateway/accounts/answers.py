"""What the scripts answer."""

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.accounts.plan import Plan

NEVER = -1
_ADMITTED, _REFUSED, _STALE, _CLOSED, _CANCELLED = 1, 2, 3, 4, 5


class Level(msgspec.Struct, frozen=True):
    """Of a bucket. entry: the number of its limit in `plan.entries`. remaining: units. reset_us: until it is full."""

    entry: int
    remaining: int
    reset_us: int


class Admitted(msgspec.Struct, frozen=True):
    """at_us: the instant to which the call belongs. requests, tokens: the tightest bucket of each after this reserve;
    None if none limits. shadowed: the limits that would have refused if they were no shadows; none if it is repeated.
    """

    at_us: int
    requests: Level | None
    tokens: Level | None
    shadowed: tuple[int, ...] = ()


class Refused(msgspec.Struct, frozen=True):
    """Nothing was taken. entry: the number of the limit that refused: a spend limit before a rate, and of several
    rates the one with the longest wait. used: units that the bucket has to refill (bytes of audio, not megabytes), how
    many run, or nano-dollars spent and reserved. wait_us: until the call would pass if no other came; 0 if nobody
    knows, as with what runs; None: more than the limit ever lets pass at once, or spend.
    """

    at_us: int
    entry: int
    used: int
    wait_us: int | None
    requests: Level | None
    tokens: Level | None


class Stale(msgspec.Struct, frozen=True):
    """The plan is out of date; nothing was taken. limits_version: the newest. key_changed: the key's record is another.
    documents: those that have changed since the plan's version, by field, None for one that is gone; all of them
    if the plan's version is 0, or above the newest (then a field that is not here is gone).
    """

    at_us: int
    limits_version: int
    key_changed: bool
    documents: dict[str, bytes | None]


class Closed(msgspec.Struct, frozen=True):
    """The counters have no epoch, so nobody knows what is spent; nothing was taken."""

    at_us: int


class Cancelled(msgspec.Struct, frozen=True):
    """This id was cancelled or settled before, or its lease ran out and it was swept; nothing was taken."""

    at_us: int


class Extended(msgspec.Struct, frozen=True):
    """lost: ids that are not there (any more). workers: how many live, this one too: those that sent their last
    `extend` within the lease that they gave. epoch: of the counters; None: they are closed."""

    lost: list[str]
    workers: int
    epoch: str | None = None


Answer = Admitted | Refused | Stale | Closed | Cancelled


def answer(plan: Plan, reply: Sequence[Any]) -> Answer:
    """From what reserve.lua returned."""
    kind, at_us = reply[0], reply[1]
    if kind == _ADMITTED:
        shadowed = tuple(reply[8:]) if len(reply) > 8 else ()
        return Admitted(at_us, _level(reply, 2), _level(reply, 5), shadowed)
    if kind == _REFUSED:
        entry, used, wait = reply[8:]
        return Refused(at_us, entry, used, None if wait == NEVER else wait, _level(reply, 2), _level(reply, 5))
    if kind == _STALE:
        return Stale(at_us, reply[2], bool(reply[3]), by_field(reply[4:]))
    assert kind in {_CLOSED, _CANCELLED}, f"the script says what nobody understands, of {plan.organization_id}"
    return Closed(at_us) if kind == _CLOSED else Cancelled(at_us)


def _level(reply: Sequence[Any], at: int) -> Level | None:
    entry = reply[at]
    return Level(entry, reply[at + 1], reply[at + 2]) if entry >= 0 else None


def by_field(found: Sequence[int | bytes | None]) -> dict[str, bytes | None]:
    """Documents from a flat list of fields and JSON."""
    documents: dict[str, bytes | None] = {}
    for field, document in zip(found[::2], found[1::2], strict=True):
        assert isinstance(field, bytes)
        assert not isinstance(document, int)
        documents[field.decode()] = document
    return documents
