"""Time as OpenAI's usage and costs endpoints cut it: buckets that are aligned to UTC, pages of them, cursors. Pure.

Source: OpenAI's API description 2.3.0 and its cookbook on the completions usage API. A start inside a bucket gives a
first one that is cut: from the start's minute to where the bucket ends. Buckets without usage are there too. Where
minutes are not kept any more, buckets are cut at the hour or at the day.
"""

import base64
import binascii
import struct
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import msgspec

from gateway.errors import INVALID_VALUE, GatewayError

Width = Literal["1m", "1h", "1d"]

MINUTE_S = 60
LENGTHS: Mapping[Width, int] = MappingProxyType({"1m": MINUTE_S, "1h": 3600, "1d": 86_400})  # seconds
_CURSOR = struct.Struct(">qIq")  # when the first page was asked for, of what question, where the next page begins
_PREFIX = "page_"
_LATEST = 253_402_300_800  # the year 10000


class Limits(msgspec.Struct, frozen=True):
    """How many buckets a page has, if nobody says so, and at most."""

    usual: int
    most: int


USAGE_LIMITS: Mapping[Width, Limits] = MappingProxyType(
    {"1m": Limits(60, 1440), "1h": Limits(24, 168), "1d": Limits(7, 31)}
)
COSTS_LIMITS: Mapping[Width, Limits] = MappingProxyType({"1d": Limits(7, 180)})


class Bucket(msgspec.Struct, frozen=True):
    """Seconds since 1970; end: not in it. Both are whole minutes."""

    start: int
    end: int


class Asked(msgspec.Struct, frozen=True):
    """A question about time. start, end: seconds since 1970, end: None for now. question: a number that is the same for
    all pages of one question, below 2^32."""

    start: int
    end: int | None
    width: Width
    limit: int | None
    page: str | None
    question: int


class Cut(msgspec.Struct, frozen=True):
    """One page. next_page: None on the last one."""

    buckets: Sequence[Bucket]
    next_page: str | None


def to_the_minute(_at: int) -> int:
    return MINUTE_S


def cut(asked: Asked, limits: Mapping[Width, Limits], now: int, edge_s: Callable[[int], int] = to_the_minute) -> Cut:
    """The buckets of a page. A question without an end ends when its first page was asked for, on all pages. edge_s:
    how finely buckets can be cut at a time: whole minutes, and no more than the buckets' width.

    Raises GatewayError INVALID_VALUE (400) that names the parameter.
    """
    limit = _limit(asked, limits)
    if not 0 <= asked.start < _LATEST:
        raise _invalid("start_time", "it is not a time")
    begin, as_of = asked.start - asked.start % edge_s(asked.start), now
    if asked.page is not None:
        as_of, begin = _read(asked.page, asked.question)
    end = as_of + 1 if asked.end is None else asked.end
    if asked.end is not None and not asked.start < asked.end < _LATEST:
        raise _invalid("end_time", "it has to be after start_time")
    end += -end % edge_s(end)
    if asked.end is None:  # the bucket that it is now is there as a whole
        end += -end % LENGTHS[asked.width]
    buckets: list[Bucket] = []
    while begin < end and len(buckets) < limit:
        following = begin - begin % LENGTHS[asked.width] + LENGTHS[asked.width]
        buckets.append(Bucket(begin, min(following, end)))
        begin = following
    return Cut(tuple(buckets), _written(as_of, asked.question, begin) if begin < end else None)


def _limit(asked: Asked, limits: Mapping[Width, Limits]) -> int:
    known = limits.get(asked.width)
    if known is None:
        raise _invalid("bucket_width", f"expected {' or '.join(limits)}")
    limit = known.usual if asked.limit is None else asked.limit
    if not 1 <= limit <= known.most:
        raise _invalid("limit", f"expected 1 to {known.most} for buckets of {asked.width}")
    return limit


def _written(as_of: int, question: int, begin: int) -> str:
    return _PREFIX + base64.urlsafe_b64encode(_CURSOR.pack(as_of, question, begin)).decode()


def _read(page: str, question: int) -> tuple[int, int]:
    """When the first page was asked for, and where this one begins."""
    try:
        packed = base64.urlsafe_b64decode(page.removeprefix(_PREFIX).encode("ascii"))
        as_of, of, begin = _CURSOR.unpack(packed)
    except (binascii.Error, struct.error, ValueError):
        raise _invalid("page", "it is none of this endpoint's cursors") from None
    if of != question or not (0 <= begin < _LATEST and 0 <= as_of < _LATEST) or begin % MINUTE_S:
        raise _invalid("page", "it belongs to another question")
    return as_of, begin


def _invalid(param: str, reason: str) -> GatewayError:
    return GatewayError(INVALID_VALUE, param=param, reason=reason)
