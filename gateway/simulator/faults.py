"""Faults on request: what a client of the simulator may ask to go wrong, and how it asks.

By header, `x-simulator-fault: delay=200ms, cut=100`, or by model name, `gpt-4o+delay=200ms+cut=100`; both may be given.
Each spec may end in `@<probability>`: then it happens to that share of requests, drawn from a generator seeded with the
simulator's seed and the request's number.

| spec | what happens |
| --- | --- |
| `delay=<time>` | waits before the status line |
| `pace=<time>` | waits before each stream event |
| `drip=<bytes>:<time>` | sends the body in pieces of that size, waiting between them |
| `stall`, `stall=<n>` | sends n stream events (or n bytes of another body), then nothing, for ever |
| `cut=<bytes>` | sends that many body bytes, then closes the connection |
| `reset=<bytes>` | the same, with a TCP reset |
| `cut_head` | closes the connection instead of answering |
| `status=<code>`, `<code>` | OpenAI's error for that status instead of an answer |
| `retry_after=<seconds>` | with `status`: the `retry-after` header; 0 leaves it out. Otherwise 1 on 429 and 503 |
| `malformed` | answers something that is not HTTP |
| `malformed_json` | a body, or a stream's third event, that is not JSON |
| `huge=<MiB>` | a body of that size: valid JSON with a long `padding` member (in a stream the first event) |
| `gzip` | a body with `content-encoding: gzip`, whatever the client accepts |
| `chunks=<n>` | exactly n content events in a stream, for each choice |
| `tokens=<n>` | the answer's natural length is exactly n output tokens, reasoning included |
| `error_event`, `error_event=<n>` | after n (default: half) of its content events a stream ends in an error event |
| `no_usage` | no usage in the answer |
| `expire`, `fail` | a batch, run, job or background response ends so |

A time is `<number>ms`, `<number>s` or a plain number of milliseconds.
"""

import random
import re
from collections.abc import Iterable

import msgspec

_TIME = re.compile(r"(\d+(?:\.\d+)?)(ms|s|)")
_FLAGS = frozenset({"cut_head", "malformed", "malformed_json", "gzip", "no_usage", "expire", "fail"})
_NUMBERS = frozenset({"stall", "cut", "reset", "status", "retry_after", "huge", "chunks", "tokens", "error_event"})
_DEFAULTS = (("stall", 0), ("error_event", -1), ("cut", 0), ("reset", 0))


class FaultError(ValueError):
    """An unknown or unreadable spec. Its text names it."""


class Faults(msgspec.Struct, frozen=True):
    """What goes wrong with one request. Times in seconds; None or False: it does not.

    error_event is -1 for "in the middle". `specs` are those that hold, as they were asked for.
    """

    specs: tuple[str, ...] = ()
    delay_s: float = 0.0
    pace_s: float | None = None
    drip: tuple[int, float] | None = None
    stall: int | None = None
    cut: int | None = None
    reset: int | None = None
    status: int | None = None
    retry_after: int | None = None
    huge: int | None = None
    chunks: int | None = None
    tokens: int | None = None
    error_event: int | None = None
    cut_head: bool = False
    malformed: bool = False
    malformed_json: bool = False
    gzip: bool = False
    no_usage: bool = False
    expire: bool = False
    fail: bool = False

    @property
    def shapes_body(self) -> bool:
        """Whether a plain body cannot be sent in one piece."""
        return self.gzip or any(part is not None for part in (self.drip, self.stall, self.cut, self.reset, self.huge))


NONE = Faults()


def split_model(model: str) -> tuple[str, tuple[str, ...]]:
    """`gpt-4o+cut=100+gzip` → (`gpt-4o`, (`cut=100`, `gzip`)). Names without a plus pass unchanged."""
    name, *specs = model.split("+")
    return name, tuple(specs)


def split_header(value: str) -> tuple[str, ...]:
    return tuple(spec for part in value.split(",") if (spec := part.strip()))


def choose(specs: Iterable[str], draw: random.Random) -> Faults:
    """The faults that hold for one request. Raises FaultError for a spec that is not in the table above."""
    fields: dict[str, object] = {}
    held: list[str] = []
    for spec in specs:
        asked, _, probability = spec.partition("@")
        name, value = _parse(asked)
        try:
            share = float(probability) if probability else 1.0
        except ValueError:
            raise FaultError(spec) from None
        if share < 1.0 and draw.random() >= share:
            continue
        fields[name] = value
        held.append(asked)
    return Faults(specs=tuple(held), **fields) if held else NONE  # type: ignore[arg-type]


def _parse(spec: str) -> tuple[str, object]:
    name, has_value, value = spec.strip().partition("=")
    try:
        if name in _FLAGS and not has_value:
            return name, True
        if name in {"delay", "pace"}:
            return name + "_s", _seconds(value)
        if name == "drip":
            size, _, wait = value.partition(":")
            if int(size) < 1:
                raise ValueError
            return name, (int(size), _seconds(wait))
        if name in _NUMBERS:
            number = int(value) if has_value else dict(_DEFAULTS)[name]
            if has_value and (number < 0 or (name == "status" and not 400 <= number <= 599)):
                raise ValueError
            return name, number
        if name.isdigit() and not has_value and 400 <= int(name) <= 599:
            return "status", int(name)
    except (ValueError, KeyError):
        pass
    raise FaultError(spec)


def _seconds(text: str) -> float:
    if (match := _TIME.fullmatch(text)) is None:
        raise ValueError(text)
    return float(match[1]) / (1 if match[2] == "s" else 1000)
