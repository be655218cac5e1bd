"""Buckets and their pages."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.control.ledger.buckets import COSTS_LIMITS, LENGTHS, USAGE_LIMITS, Asked, Bucket, cut
from gateway.errors import GatewayError

DAY, HOUR = 86_400, 3_600
NOON = int(datetime(2026, 11, 29, 12, 0, 30, tzinfo=UTC).timestamp())
MIDNIGHT = NOON - NOON % DAY
PLAIN = Asked(MIDNIGHT - 3 * DAY, None, "1d", None, None, 7)


def error(asked: Asked, limits: Any = USAGE_LIMITS) -> str | None:
    with pytest.raises(GatewayError) as caught:
        cut(asked, limits, NOON)
    return caught.value.param


def test_days_up_to_now() -> None:
    page = cut(PLAIN, USAGE_LIMITS, NOON)
    assert page.buckets == tuple(Bucket(MIDNIGHT + n * DAY, MIDNIGHT + (n + 1) * DAY) for n in range(-3, 1))
    assert page.next_page is None


def test_a_start_inside_a_day_cuts_the_first_bucket_at_its_minute() -> None:
    """As OpenAI's cookbook shows it: from 17:31:06 the first bucket is from 17:31 to midnight."""
    start = int(datetime(2025, 1, 11, 17, 31, 6, tzinfo=UTC).timestamp())
    first, second = cut(replace(PLAIN, start=start, end=start + DAY), USAGE_LIMITS, NOON).buckets
    assert first == Bucket(1_736_616_660, 1_736_640_000)
    assert second == Bucket(1_736_640_000, start + DAY + 54), "an end that is asked for cuts the last one"


def test_the_cursor_is_as_openais() -> None:
    page = cut(replace(PLAIN, limit=2), USAGE_LIMITS, NOON)
    assert page.next_page is not None
    assert len(page.next_page) == len("page_AAAAAGdGxdEiJdKOAAAAAGcqsYA=")
    rest = cut(replace(PLAIN, limit=2, page=page.next_page), USAGE_LIMITS, NOON + DAY)
    assert [b.start for b in rest.buckets] == [MIDNIGHT - DAY, MIDNIGHT]
    assert rest.next_page is None, "a day later it is still the question of the first page"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 32}, "limit"),
        ({"limit": 169, "width": "1h"}, "limit"),
        ({"limit": 1441, "width": "1m"}, "limit"),
        ({"end": PLAIN.start}, "end_time"),
        ({"end": PLAIN.start - 1}, "end_time"),
        ({"end": 10**15}, "end_time"),
        ({"start": -1}, "start_time"),
        ({"start": 2**63}, "start_time"),
        ({"page": "page_x"}, "page"),
        ({"page": "page_é"}, "page"),
        ({"page": "page_AAAAAGdGxdEiJdKOAAAAAGcqsYA="}, "page"),
    ],
)
def test_mistakes(changes: dict[str, Any], param: str) -> None:
    assert error(replace(PLAIN, **changes)) == param


def test_costs_have_days_only() -> None:
    assert error(replace(PLAIN, width="1h"), COSTS_LIMITS) == "bucket_width"
    assert error(replace(PLAIN, limit=181), COSTS_LIMITS) == "limit"
    assert len(cut(replace(PLAIN, start=0, limit=180), COSTS_LIMITS, NOON).buckets) == 180


@given(
    start=st.integers(NOON - 40 * DAY, NOON - 1),
    length=st.none() | st.integers(1, 3 * DAY),
    width=st.sampled_from(["1m", "1h", "1d"]),
    limit=st.integers(1, 31),
)
def test_pages_together_are_all_of_the_time_once(start: int, length: int | None, width: Any, limit: int) -> None:
    """Without a gap or an overlap, each but the first and the last as long as it should be."""
    if length is None:
        start = max(start, NOON - 100 * LENGTHS[width])
    end = start + min(length, 100 * LENGTHS[width]) if length is not None else None
    asked = Asked(start, end, width, limit, None, 7)
    found: list[Bucket] = []
    while True:
        page = cut(asked, USAGE_LIMITS, NOON)
        assert 1 <= len(page.buckets) <= limit
        found += page.buckets
        if page.next_page is None:
            break
        assert len(page.buckets) == limit
        asked = replace(asked, page=page.next_page)
    assert found[0].start == start - start % 60
    assert all(one.end == two.start for one, two in pairwise(found))
    assert all(one.end - one.start == LENGTHS[width] for one in found[1:-1])
    assert all(one.start % LENGTHS[width] == 0 for one in found[1:])
    until = end if end is not None else NOON + 1
    assert found[-1].start < until <= found[-1].end
