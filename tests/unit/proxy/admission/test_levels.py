"""The headers that tell a client of its limits."""

from gateway.accounts.answers import Level
from gateway.limits import Applied, RateLimit
from gateway.proxy.admission.levels import level_lines

ENTRIES = tuple(
    Applied("project", "proj_1", RateLimit(kind, limit))
    for kind, limit in (("requests_per_minute", 3000), ("tokens_per_minute", 40_000), ("requests_per_day", 200))
)


def test_as_openai_writes_them() -> None:
    assert level_lines(ENTRIES, Level(0, 2999, 20_000), Level(1, 39_880, 180_000)).split(b"\r\n") == [
        b"x-ratelimit-limit-requests: 3000",
        b"x-ratelimit-remaining-requests: 2999",
        b"x-ratelimit-reset-requests: 20ms",
        b"x-ratelimit-limit-tokens: 40000",
        b"x-ratelimit-remaining-tokens: 39880",
        b"x-ratelimit-reset-tokens: 180ms",
    ]


def test_none_where_there_is_no_limit() -> None:
    assert level_lines(ENTRIES, None, None) == b""
    assert level_lines(ENTRIES, Level(2, 198, 692_334_567), None).split(b"\r\n") == [
        b"x-ratelimit-limit-requests: 200",
        b"x-ratelimit-remaining-requests: 198",
        b"x-ratelimit-reset-requests: 11m32.334s",
    ]
    assert level_lines(ENTRIES, None, Level(1, 40_000, 999)).endswith(b"x-ratelimit-reset-tokens: 0s")
