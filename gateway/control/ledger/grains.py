"""Which grains answer for which time: the coarsest that can, and finer ones for buckets that are cut. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import msgspec

from gateway.control.ledger.buckets import LENGTHS, Bucket, Width
from gateway.settings.model import Ledger

_DAY_S = 86_400


class Part(msgspec.Struct, frozen=True):
    """What one grain answers of a page. start, end: seconds since 1970, end: not in it. bucket: the start of the one
    that all of it belongs to; None: each row is of the bucket that begins with it."""

    grain: Width
    start: int
    end: int
    bucket: int | None


class Kept(msgspec.Struct, frozen=True):
    """since: of each grain, finest first, the time from which on the ledger has all of it, in seconds since 1970."""

    since: Mapping[Width, int]

    @property
    def grains(self) -> Sequence[Width]:
        """Coarsest first."""
        return [*self.since][::-1]

    def edge_s(self, at: int, width: Width) -> int:
        """How finely buckets of a width can be cut at a time: by the finest grain that is kept all around it."""
        above: list[Width] = [*self.since][1:]
        for grain, coarser in zip(self.since, above, strict=False):
            if grain == width or at - at % LENGTHS[coarser] >= self.since[grain]:
                return LENGTHS[grain]
        return LENGTHS[width]


def usage_kept(settings: Ledger, now: int) -> Kept:
    return Kept(MappingProxyType({"1m": now - settings.minutes_days * _DAY_S, **_common(settings, now)}))


def costs_kept(settings: Ledger, now: int) -> Kept:
    """Costs have no minutes."""
    return Kept(MappingProxyType(_common(settings, now)))


def _common(settings: Ledger, now: int) -> dict[Width, int]:
    return {"1h": now - settings.hours_days * _DAY_S, "1d": 0}


def parts(buckets: Sequence[Bucket], width: Width, grains: Sequence[Width]) -> list[Part]:
    """Together they are the buckets' time, each moment of it once. buckets: without gaps; all but the first and the
    last are as long as the width. grains: those that there are, coarsest first."""
    length = LENGTHS[width]
    whole = [one for one in buckets if one.start % length == 0 and one.end - one.start == length]
    found = [Part(width, whole[0].start, whole[-1].end, None)] if whole else []
    finer = grains[grains.index(width) + 1 :]
    for one in buckets:
        if one.start % length or one.end - one.start != length:
            found += [Part(grain, start, end, one.start) for grain, start, end in _split(one.start, one.end, finer)]
    return found


def _split(start: int, end: int, grains: Sequence[Width]) -> Iterator[tuple[Width, int, int]]:
    grain, *finer = grains
    length = LENGTHS[grain]
    first, last = start + -start % length, end - end % length
    if not finer:
        yield grain, start, end
    elif first > last:  # all of it within one of the grain
        yield from _split(start, end, finer)
    else:
        if start < first:
            yield from _split(start, first, finer)
        if first < last:
            yield grain, first, last
        if last < end:
            yield from _split(last, end, finer)
