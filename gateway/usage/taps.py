"""Taps: what goes by of an answer is kept by reference and looked at in batches, after the client has got it.

A tap is sans-I/O and bounded: `feed` takes what one read of the upstream brought, `end` says what it was. What a tap
cannot read tells nothing, and then usage is estimated.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Protocol

import msgspec

from gateway.usage.estimate import size_of, texts_of_answer
from gateway.usage.extract import Report, of_body, of_event
from gateway.usage.lines import Answer
from gateway.usage.plain import Plain, plain
from gateway.usage.rules import ANY, TOOL_EVENTS, Rule
from gateway.usage.sse import LARGEST_EVENT, Event, EventReader, parse_event
from gateway.usage.stores import stores_of

Rules = tuple[Rule, ...]

_HELD = 1024 * 1024  # bytes of a JSON answer that is looked at as a whole
_END = 64 * 1024  # of a longer one, each of its two ends
_BATCH = 64 * 1024  # bytes of an event stream that are looked at together
# Of a long stream's events one in so many is read for its text: more of its first batches, for a sample of pieces of
# different lengths is near the truth only if it is large.
_SAMPLES = (2, 2, 2, 2, 8)
_CANDIDATES = 32
_USAGE = b'"usage"'
_PLAIN_END = b"\n\n"
_NULLS = (b":null", b": null")
_STAMP = re.compile(rb"(?:(\d+):)?(\d\d):(\d\d)[.,](\d{3})")  # of subtitles: 00:01:02,345 or 01:02.345
_FIRST = re.compile(rb'"(id|model|service_tier|status)"\s*:\s*"([^"\\]{1,200})"')


class Decoder(Protocol):
    """Undoes a content coding: see `decode.py`."""

    def feed(self, data: bytes, /) -> bytes: ...


class Tap(Protocol):
    def feed(self, parts: list[bytes], /) -> None:
        """More of the answer's body."""

    def plain(self) -> Plain | None:
        """All that matters of an answer that reports plainly, as most do; None if it has to be looked at closely."""

    def end(self, texts: bool, /) -> Answer:
        """What it was, as far as it came. texts: whether its text is to be measured even if it reported its usage."""


class _Facts(msgspec.Struct):
    id: Any = None
    type: Any = None
    model: Any = None
    service_tier: Any = None
    status: Any = None
    background: Any = None
    error: Any = None
    duration: Any = None
    data: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Facts).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class JsonTap:
    """A JSON answer: held whole up to a size; of a longer one only its beginning and its end."""

    __slots__ = ("_decoder", "_head", "_parts", "_rules", "_size")

    def __init__(self, rules: Rules, decoder: Decoder | None = None) -> None:
        self._rules = rules
        self._decoder = decoder
        self._parts: list[bytes] = []
        self._size = 0
        self._head = b""

    def feed(self, parts: list[bytes]) -> None:
        if self._decoder is not None:
            parts = list(map(self._decoder.feed, parts))
        self._parts += parts
        self._size += len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
        if self._size > _HELD:
            held = b"".join(self._parts)
            self._head = self._head or held[:_END]
            self._parts = [held[-_END:]]
            self._size = _END

    def plain(self) -> Plain | None:
        if self._head or len(self._rules) != 1 or not self._rules[0].plain:
            return None
        return plain(self._parts[0] if len(self._parts) == 1 else b"".join(self._parts))

    def end(self, texts: bool, /) -> Answer:
        body = b"".join(self._parts)
        answer = Answer()
        if self._head:
            answer.began = body.rstrip().endswith(b"}")
            answer.reports = _of_tail(body, self._rules)
            _note_names(answer, self._head)
            answer.text_bytes = len(body)
            return answer
        if self._rules and self._rules[0].stores:
            answer.stores = stores_of(body)
            return answer
        answer.reports = of_body(body, self._rules)
        if texts or not answer.reports:
            answer.texts = texts_of_answer(body)
            answer.text_bytes = size_of(answer.texts)
        if not (answer.reports and answer.reports[0].model):
            answer.began = _note(answer, body)
            if not answer.began:  # one that was cut says nothing of how long it was, and perhaps what it is
                _note_names(answer, body)
        return answer


class EventTap:
    """An event stream. Reports are found in every event that has any; texts are measured only where they are wanted,
    and of the early part of a long stream only in a sample.

    Nearly no event matters, so they are not cut apart: usage is searched for in many of them at once.
    """

    __slots__ = (
        "_answer", "_batches", "_carry", "_decoder", "_first", "_lost", "_parts", "_reader", "_room", "_rules",
        "_whole",
    )  # fmt: skip

    def __init__(self, rules: Rules, decoder: Decoder | None = None) -> None:
        self._rules = rules
        self._decoder = decoder
        self._parts: list[bytes] = []
        self._room = _BATCH  # bytes that may still be kept before they are looked at
        self._whole = b""  # the events that were looked at last
        self._carry = b""  # an event that has not ended
        self._reader: EventReader | None = None  # where line ends are not all LF
        self._batches = 0  # before those
        self._lost = False
        self._first = b""
        self._answer = Answer(reports=[], calls={})

    def feed(self, parts: list[bytes]) -> None:
        self._parts += parts
        for part in parts:
            self._room -= len(part)
        if self._room < 0:
            self._look()

    def plain(self) -> None:
        return None

    def end(self, texts: bool, /) -> Answer:
        self._look()
        answer, rules = self._answer, self._rules
        rest = self._carry if self._reader is None else self._reader.take_rest()
        if texts or not answer.reports:
            events = [*_cut(self._whole), rest]
            answer.texts = [text for event in events for text in _texts(event, rules)]
            answer.text_bytes += size_of(answer.texts)
            if not answer.reports:
                for event in map(parse_event, events):
                    _note_call(answer, event)
                    answer.failed = answer.failed or _says_failed(event)
        if not (answer.reports and answer.reports[-1].model):
            _note(answer, parse_event(self._first).data or b"")
        if answer.reports:
            answer.items = 1  # each event that reports is of one picture
        return answer

    def _look(self) -> None:
        """Reads what has been kept since the last time."""
        data = b"".join(self._parts)
        self._parts = []
        if self._decoder is not None:
            data = self._decoder.feed(data)
        if data and not self._lost:
            if self._whole:  # an early part: its texts are measured in a sample
                step = _SAMPLES[min(self._batches, len(_SAMPLES) - 1)]
                self._batches += 1
                sample = _cut(self._whole)[::step]
                self._answer.text_bytes += step * sum(size_of(_texts(event, self._rules)) for event in sample)
            self._answer.began = True
            if self._reader is None and b"\r" not in data:
                self._look_at_plain(self._carry + data)
            else:
                self._look_at_any(data)
        self._room = max(_BATCH, len(self._carry))

    def _look_at_plain(self, data: bytes) -> None:
        end = data.rfind(_PLAIN_END) + len(_PLAIN_END)
        if end < len(_PLAIN_END):
            self._whole, self._carry = b"", data
            if len(data) > LARGEST_EVENT:  # an event without an end: nothing is read any more
                self._lost, self._carry = True, b""
            return
        self._whole, self._carry = whole, _ = data[:end], data[end:]
        self._first = self._first or whole[: whole.find(_PLAIN_END, max(0, whole.find(b"{"))) + len(_PLAIN_END)]
        at = whole.find(_USAGE)
        while at >= 0:
            if whole.startswith(_NULLS, at + len(_USAGE)):
                at = whole.find(_USAGE, at + len(_USAGE))
                continue
            end = whole.find(_PLAIN_END, at) + len(_PLAIN_END)
            start = whole.rfind(_PLAIN_END, 0, at)
            self._report(whole[start + len(_PLAIN_END) if start >= 0 else 0 : end])
            at = whole.find(_USAGE, end)

    def _look_at_any(self, data: bytes) -> None:
        """The same for any line ends."""
        if self._reader is None:
            self._reader, data, self._carry = EventReader(), self._carry + data, b""
        events = self._reader.feed(data)
        self._whole = b"".join(events)
        self._first = self._first or next((event for event in events if b"{" in event), b"")
        for event in events:
            if _USAGE in event:
                self._report(event)
        if self._reader.overflow:
            self._lost = True
            self._reader.take_rest()

    def _report(self, event: bytes) -> None:
        parsed = parse_event(event)
        self._answer.reports += of_event(parsed.name, parsed.data or b"", self._rules)


def _cut(whole: bytes) -> list[bytes]:
    return EventReader().feed(whole)


class TextTap:
    """An answer that is text itself: a transcript, or subtitles, whose last time is about how long the audio was."""

    __slots__ = ("_decoder", "_last", "_size")

    def __init__(self, decoder: Decoder | None = None) -> None:
        self._decoder = decoder
        self._size = 0
        self._last = b""

    def feed(self, parts: list[bytes]) -> None:
        if self._decoder is not None:
            parts = list(map(self._decoder.feed, parts))
        data = b"".join(parts)
        self._size += len(data)
        self._last = (self._last + data)[-4096:]

    def plain(self) -> None:
        return None

    def end(self, _texts: bool, /) -> Answer:
        stamps = _STAMP.findall(self._last)
        duration_ms = 0
        if stamps:
            hours, minutes, seconds, ms = (int(number or 0) for number in stamps[-1])
            duration_ms = ((hours * 60 + minutes) * 60 + seconds) * 1000 + ms
        return Answer(text_bytes=self._size, began=self._size > 0, duration_ms=duration_ms)


class BinaryTap:
    """An answer of which only is noted that it came."""

    __slots__ = ("_began",)

    def __init__(self) -> None:
        self._began = False

    def feed(self, _parts: list[bytes], /) -> None:
        self._began = True

    def plain(self) -> None:
        return None

    def end(self, _texts: bool, /) -> Answer:
        return Answer(began=self._began)


def tap_for(content_type: bytes, rules: Rules, decoder: Decoder | None) -> Tap:
    """The tap for an answer of this type, in lower case."""
    if content_type.startswith(b"text/event-stream"):
        return EventTap(rules, decoder)
    if content_type.startswith(b"application/json"):
        return JsonTap(rules, decoder)
    if content_type.startswith((b"text/", b"application/x-subrip")):
        return TextTap(decoder)
    return BinaryTap()


def _of_tail(tail: bytes, rules: Rules) -> list[Report]:
    """Reports in the end of a long answer: a member is the answer's own if everything closes after it as it should."""
    at = len(tail)
    for _ in range(_CANDIDATES):
        at = tail.rfind(_USAGE, 0, at)
        if at < 0:
            break
        reports = of_body(b"{" + tail[at:], rules)
        if reports:
            return reports
    return []


def _note(answer: Answer, data: bytes) -> bool:
    """Notes what an answer, or the first event of one, says of itself. False: it cannot be read."""
    facts = _facts(data)
    if facts is None:
        return False
    if facts.response:
        facts = _facts(facts.response) or facts
    answer.model = _str(facts.model)
    answer.service_tier = _str(facts.service_tier).lower()
    answer.object_id = _str(facts.id)
    answer.state = _str(facts.status)
    answer.ends_with_client = facts.background is False
    answer.failed = answer.failed or isinstance(facts.error, dict)
    if isinstance(facts.duration, int | float) and 0 < facts.duration < 1e7:
        answer.duration_ms = round(facts.duration * 1000)
    if facts.data:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            answer.items = len(_decode_list(facts.data))
    return True


def _note_names(answer: Answer, head: bytes) -> None:
    """The same from the beginning of a long answer, as far as it can be told."""
    found = {name: value.decode("utf-8", "replace") for name, value in reversed(_FIRST.findall(head[:4096]))}
    answer.model = found.get(b"model", "")
    answer.service_tier = found.get(b"service_tier", "").lower()
    answer.object_id = found.get(b"id", "")
    answer.state = found.get(b"status", "")


def _facts(data: bytes | msgspec.Raw) -> _Facts | None:
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _str(value: Any) -> str:
    return value[:200] if isinstance(value, str) else ""


def _kind(event: Event) -> str:
    """An event's type: not all streams whose events have one have names, too."""
    if event.name or event.data is None:
        return event.name
    facts = _facts(event.data)
    return _str(facts.type) if facts is not None else ""


def _note_call(answer: Answer, event: Event) -> None:
    category = TOOL_EVENTS.get(_kind(event))
    if category is not None:
        answer.calls[category] = answer.calls.get(category, 0) + 1


def _says_failed(event: Event) -> bool:
    if _kind(event) in {"error", "response.failed", "thread.run.failed"}:
        return True
    return b'"error"' in (event.data or b"") and isinstance(getattr(_facts(event.data or b""), "error", None), dict)


def _texts(event: bytes, rules: Rules) -> list[str]:
    """The texts that an event adds to the answer."""
    parsed = parse_event(event)
    if parsed.data is None or not is_delta(_kind(parsed), rules):
        return []
    return texts_of_answer(parsed.data)


def is_delta(name: str, rules: Iterable[Rule]) -> bool:
    """Whether an event of this type is a piece of the answer's text. Audio is not, though it comes as text."""
    if name.endswith("audio.delta"):
        return False
    return any(end == ANY or name.endswith(end) for rule in rules for end in rule.deltas)
