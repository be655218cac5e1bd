"""What a client hears of its limits on every answer: OpenAI's `x-ratelimit-*`."""

from typing import Protocol

from gateway.limits import Applied, SpendLimit
from gateway.proxy.admission.refusal import go_duration

_REQUESTS = b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\nx-ratelimit-reset-requests: %b"
_TOKENS = b"x-ratelimit-limit-tokens: %d\r\nx-ratelimit-remaining-tokens: %d\r\nx-ratelimit-reset-tokens: %b"


class Level(Protocol):
    """A bucket as of a call's reserve: see `accounts.reservations`. entry: its limit's place in the plan."""

    @property
    def entry(self) -> int: ...
    @property
    def remaining(self) -> int: ...
    @property
    def reset_us(self) -> int: ...


def level_lines(entries: tuple[Applied, ...], requests: Level | None, tokens: Level | None) -> bytes:
    """The headers of the tightest limit on requests and on tokens, as lines without the last one's end; empty where
    there is no such limit. In one piece, for they go into every answer.
    """
    if requests is None:
        return b"" if tokens is None else _lines(_TOKENS, entries, tokens)
    if tokens is None:
        return _lines(_REQUESTS, entries, requests)
    return _lines(_REQUESTS, entries, requests) + b"\r\n" + _lines(_TOKENS, entries, tokens)


def _lines(form: bytes, entries: tuple[Applied, ...], level: Level) -> bytes:
    limit, reset_us, remaining = entries[level.entry].limit, level.reset_us, level.remaining
    assert not isinstance(limit, SpendLimit), "spend has no levels"
    reset = go_duration(reset_us).encode() if reset_us >= 1000 else b"0s"
    return form % (limit.limit, max(0, remaining), reset)
