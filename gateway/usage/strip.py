"""Takes out of a chat stream what is only there because the gateway asked for usage and the client did not.

Asked with `stream_options.include_usage`, an upstream adds a member `usage` to every chunk, null in all but the last,
and a chunk without choices that holds the numbers. Both go; every other byte stays as it came. Whatever does not look
like that passes untouched: a client can live with a member too many, and not with a missing byte.
"""

import re

import msgspec

from gateway.usage.sse import LF, EventReader

_USAGE = b'"usage"'
_NULL = b',"usage":null'
# What follows shows that the member is of the chunk itself: only simple members, and then one brace closes everything.
_PLAIN_REST = re.compile(rb'(?:,"[a-z_]+":(?:"[^"\\]*"|[a-z0-9.]+))*\}[\r\n]+\Z')
_LAST_REST = re.compile(rb'(?:,"[a-z_]+":(?:"[^"\\]*"|[a-z0-9.]+))*\}\n\n\Z')
_MEMBER = re.compile(rb'(,?)[ \t]*"usage"[ \t]*:[ \t]*')
_DATA = re.compile(rb"(?:\xef\xbb\xbf)?data: ?(\{[^\r\n]*\})[ \t]*(?:\r\n|\n|\r){1,2}")
_COMMA = re.compile(rb"[ \t]*,[ \t]*")
_CANDIDATES = 16


class _Chunk(msgspec.Struct):
    usage: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    choices: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode = msgspec.json.Decoder(_Chunk).decode


class UsageStripper:
    """Rewrites one stream. An event is held back until it is complete, and no longer."""

    __slots__ = ("_gone", "_reader", "_through")

    def __init__(self) -> None:
        self._reader = EventReader()
        self._gone = False  # the last event did not pass
        self._through = False  # something is too large to be held: nothing is looked at any more

    def feed(self, data: bytes) -> bytes:
        """What of the stream may pass now that `data` has come."""
        if self._through:
            return data
        if data.endswith(b"\n\n") and b"\r" not in data and not self._reader.busy:  # nearly always
            at = data.find(_USAGE)
            if at < 0:
                return data
            end = at - 1 + len(_NULL)
            if data.startswith(_NULL, at - 1) and _LAST_REST.match(data, end) and data.find(b"\n\n", 0, at) < 0:
                return data[: at - 1] + data[end:]  # one event, as OpenAI writes it
        events = self._reader.feed(data)
        passing = b"".join(map(self._strip, events))
        if self._reader.overflow:
            self._through = True
            passing += self._reader.take_rest()
        return passing

    def _strip(self, event: bytes) -> bytes:
        if event == LF and self._gone:
            return b""  # the event that it is the end of did not pass either
        passing = strip(event)
        self._gone = not passing
        return passing

    def end(self) -> bytes:
        """What is left when the stream has ended."""
        return self._reader.take_rest()


def strip(event: bytes) -> bytes:
    """One event without its `usage`; nothing of it if usage is all that it is for."""
    at = event.find(_NULL)
    if at > 0 and _PLAIN_REST.match(event, at + len(_NULL)) is not None:
        return event[:at] + event[at + len(_NULL) :]  # nearly all events
    if b'"usage"' not in event:
        return event
    found = _DATA.fullmatch(event)
    if found is None:
        return event
    start, end = found.span(1)
    try:
        chunk = _decode(memoryview(event)[start:end])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return event
    if isinstance(chunk.usage, msgspec.UnsetType):
        return event
    usage = bytes(chunk.usage)
    if usage != b"null" and not isinstance(chunk.choices, msgspec.UnsetType) and bytes(chunk.choices) == b"[]":
        return b""
    return _without(event, start, end, usage)


def _without(event: bytes, start: int, end: int, usage: bytes) -> bytes:
    """The event without its member `usage`, which some nested object may have too."""
    for _, member in zip(range(_CANDIDATES), _MEMBER.finditer(event, start, end), strict=False):
        if not event.startswith(usage, member.end()):
            continue
        first, last = member.start(), member.end() + len(usage)
        if not member[1]:  # the object's first member: the comma behind it goes with it
            comma = _COMMA.match(event, last, end)
            last = comma.end() if comma is not None else last
        stripped = event[:first] + event[last:]
        try:
            rest = _decode(memoryview(stripped)[start : end - (last - first)])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        if isinstance(rest.usage, msgspec.UnsetType):
            return stripped
    return event
