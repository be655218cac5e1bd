"""What a client hears of its limits on every answer: OpenAI's `x-ratelimit-*`."""

from typing import Protocol

from gateway.limits import Applied, RateLimit
from gateway.proxy.admission.refusal import go_duration

Headers = list[tuple[bytes, bytes]]


class Level(Protocol):
    """A bucket as of a call's reserve: see `accounts.reservations`. entry: its limit's place in the plan."""

    @property
    def entry(self) -> int: ...
    @property
    def remaining(self) -> int: ...
    @property
    def reset_us(self) -> int: ...


def level_headers(entries: tuple[Applied, ...], requests: Level | None, tokens: Level | None) -> Headers:
    """The headers of the tightest limit on requests and on tokens; none where there is no such limit."""
    headers: Headers = []
    for name, level in ((b"requests", requests), (b"tokens", tokens)):
        if level is not None:
            limit = entries[level.entry].limit
            assert isinstance(limit, RateLimit)
            assert limit.limit is not None
            headers += [
                (b"x-ratelimit-limit-" + name, b"%d" % limit.limit),
                (b"x-ratelimit-remaining-" + name, b"%d" % max(0, level.remaining)),
                (b"x-ratelimit-reset-" + name, go_duration(level.reset_us).encode()),
            ]
    return headers
