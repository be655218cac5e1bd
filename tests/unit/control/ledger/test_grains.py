"""Which grain answers for which time."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.ledger.buckets import LENGTHS, USAGE_LIMITS, Asked, Bucket, Width, cut
from gateway.control.ledger.grains import Kept, Part, costs_kept, parts, usage_kept
from gateway.settings.model import Ledger

DAY, HOUR, MINUTE = 86_400, 3_600, 60
NOON = 20_000 * DAY + 12 * HOUR
GRAINS: tuple[Width, ...] = ("1d", "1h", "1m")


def test_a_first_day_from_its_minute() -> None:
    """From 17:31: minutes up to 18:00, hours to midnight, then days; the last one again by hours and minutes."""
    begin, midnight = 17 * HOUR + 31 * MINUTE, DAY
    end = 3 * DAY + 2 * HOUR + MINUTE
    buckets = [Bucket(begin, DAY), Bucket(DAY, 2 * DAY), Bucket(2 * DAY, 3 * DAY), Bucket(3 * DAY, end)]
    assert parts(buckets, "1d", GRAINS) == [
        Part("1d", DAY, 3 * DAY, None),
        Part("1m", begin, 18 * HOUR, begin),
        Part("1h", 18 * HOUR, midnight, begin),
        Part("1h", 3 * DAY, 3 * DAY + 2 * HOUR, 3 * DAY),
        Part("1m", 3 * DAY + 2 * HOUR, end, 3 * DAY),
    ]


def test_minutes_are_their_own_grain() -> None:
    assert parts([Bucket(60, 120), Bucket(120, 180)], "1m", GRAINS) == [Part("1m", 60, 180, None)]


@given(
    start=st.integers(0, 5 * DAY),
    length=st.integers(1, 3 * DAY),
    width=st.sampled_from(GRAINS),
)
def test_parts_are_all_of_the_time_once(start: int, length: int, width: Width) -> None:
    page = cut(Asked(start, start + length, width, USAGE_LIMITS[width].most, None, 0), USAGE_LIMITS, NOON)
    found = parts(page.buckets, width, GRAINS)
    minutes = sorted(minute for part in found for minute in range(part.start, part.end, MINUTE))
    assert minutes == [*range(page.buckets[0].start, page.buckets[-1].end, MINUTE)]
    for part in found:
        assert part.start % LENGTHS[part.grain] == 0 == part.end % LENGTHS[part.grain]
        within = [one for one in page.buckets if one.start <= part.start and part.end <= one.end]
        assert part.bucket is None or [one.start for one in within] == [part.bucket]


KEPT = Kept(MappingProxyType({"1m": NOON - 2 * DAY, "1h": NOON - 10 * DAY, "1d": 0}))


@pytest.mark.parametrize(
    ("at", "width", "edge"),
    [
        (NOON, "1d", MINUTE),
        (NOON - 2 * DAY, "1d", MINUTE),
        (NOON - 2 * DAY - 1, "1d", HOUR),
        (NOON - 9 * DAY - 12 * HOUR, "1d", HOUR),
        (NOON - 10 * DAY, "1d", DAY),  # that day's first hours are gone
        (NOON - 100 * DAY, "1h", HOUR),
        (NOON - 100 * DAY, "1m", MINUTE),
        (NOON - 5 * DAY, "1h", HOUR),
    ],
)
def test_where_minutes_are_gone_buckets_are_cut_more_coarsely(at: int, width: Width, edge: int) -> None:
    assert KEPT.edge_s(at, width) == edge


def test_a_bucket_says_what_its_numbers_are_of() -> None:
    """What can be told of a day of long ago is all of it: then the bucket is all of it."""
    start, end = NOON - 5 * DAY + 31 * MINUTE, NOON - 4 * DAY + 2 * MINUTE
    asked = Asked(start, end, "1d", None, None, 0)
    page = cut(asked, USAGE_LIMITS, NOON, lambda at: KEPT.edge_s(at, "1d"))
    assert [page.buckets[0].start, page.buckets[-1].end] == [NOON - 5 * DAY, NOON - 4 * DAY + HOUR]
    assert {part.grain for part in parts(page.buckets, "1d", KEPT.grains)} == {"1h"}


def test_what_the_settings_keep() -> None:
    settings = Ledger(minutes_days=3, hours_days=30)
    hours: Mapping[Any, int] = {"1h": NOON - 30 * DAY, "1d": 0}
    assert usage_kept(settings, NOON).since == {"1m": NOON - 3 * DAY, **hours}
    assert costs_kept(settings, NOON).since == hours
    assert costs_kept(settings, NOON).edge_s(NOON, "1d") == HOUR
