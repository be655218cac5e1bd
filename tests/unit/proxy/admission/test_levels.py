"""The headers that tell a client of its limits."""

from gateway.accounts.answers import Level
from gateway.limits import Applied, RateLimit
from gateway.proxy.admission.levels import level_headers

ENTRIES = tuple(
    Applied("project", "proj_1", RateLimit(kind, limit))
    for kind, limit in (("requests_per_minute", 3000), ("tokens_per_minute", 40_000), ("requests_per_day", 200))
)


def test_as_openai_writes_them() -> None:
    assert level_headers(ENTRIES, Level(0, 2999, 20_000), Level(1, 39_880, 180_000)) == [
        (b"x-ratelimit-limit-requests", b"3000"),
        (b"x-ratelimit-remaining-requests", b"2999"),
        (b"x-ratelimit-reset-requests", b"20ms"),
        (b"x-ratelimit-limit-tokens", b"40000"),
        (b"x-ratelimit-remaining-tokens", b"39880"),
        (b"x-ratelimit-reset-tokens", b"180ms"),
    ]


def test_none_where_there_is_no_limit() -> None:
    assert level_headers(ENTRIES, None, None) == []
    assert dict(level_headers(ENTRIES, Level(2, 198, 692_334_567), None)) == {
        b"x-ratelimit-limit-requests": b"200",
        b"x-ratelimit-remaining-requests": b"198",
        b"x-ratelimit-reset-requests": b"11m32.334s",
    }
