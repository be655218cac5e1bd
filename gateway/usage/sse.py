"""Reads event streams, without I/O and without keeping more than one unfinished event.

The grammar is the HTML standard's ("Interpreting an event stream"): lines end with CR LF, LF or CR, an event ends
with an empty line. Events are handed out as the bytes that came, so that whoever passes them on changes nothing.
"""

import re

import msgspec

LARGEST_EVENT = 32 * 1024 * 1024  # bytes; OpenAI's largest are images in Base64, a few MiB

# Two line ends in a row. Atomic groups: CR LF is one line end, and must not be taken for two.
_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_LONGEST_END = 4
_PLAIN_END = b"\n\n"
LF = b"\n"
_BOM = b"\xef\xbb\xbf"


class Event(msgspec.Struct, frozen=True):
    """What an event says. name: of its `event:` line, empty without one. data: its `data:` lines, joined by line feeds;
    None without any."""

    name: str
    data: bytes | None


class EventReader:
    """Cuts a stream into whole events. Each byte is looked at once, however the stream arrives.

    overflow: an event was larger than `largest`; from then on nothing is read any more, and `take_rest` has its
    beginning. An event that ends with CR is not held back until it is clear whether an LF belongs to it: one that does
    is handed out by itself.
    """

    __slots__ = ("_after_cr", "_any_cr", "_largest", "_looked_at", "_rest", "overflow")

    def __init__(self, largest: int = LARGEST_EVENT) -> None:
        self._largest = largest
        self._rest = bytearray()  # the beginning of an event that has not ended
        self._looked_at = 0  # bytes of it in which no end begins
        self._after_cr = False  # the last event ended with CR, and nothing has come after it
        self._any_cr = False  # where a CR may matter: in the rest, or just before it
        self.overflow = False

    def feed(self, data: bytes) -> list[bytes]:
        """The events that end in `data`, each with the line ends that end it."""
        if self.overflow:
            return []
        if not self._any_cr and b"\r" not in data:
            return self._feed_plain(data)
        self._any_cr = True
        events = []
        if self._after_cr and data:
            self._after_cr = False
            if data.startswith(LF):
                events.append(LF)
                data = data[1:]
        rest = self._rest
        rest += data
        start = 0
        for end in _END.finditer(rest, self._looked_at):
            events.append(bytes(rest[start : end.end()]))
            start = end.end()
        self._after_cr = start == len(rest) and rest.endswith(b"\r")
        del rest[:start]
        self._any_cr = self._after_cr or b"\r" in rest
        self._looked_at = max(0, len(rest) - _LONGEST_END + 1)
        if len(rest) > self._largest:
            self.overflow = True
        return events

    def _feed_plain(self, data: bytes) -> list[bytes]:
        """The same where all line ends are LF, as most upstreams write them."""
        rest = self._rest
        events: list[bytes] = []
        if rest:
            rest += data
            end = rest.find(_PLAIN_END, self._looked_at) + 2
            if end == 1:
                self._looked_at = max(0, len(rest) - _LONGEST_END + 1)
                self.overflow = len(rest) > self._largest
                return events
            events.append(bytes(rest[:end]))
            data = bytes(rest[end:])
            rest.clear()
        start = 0
        while (end := data.find(_PLAIN_END, start) + 2) > 1:
            if not start and end == len(data):
                events.append(data)  # exactly one event
            else:
                events.append(data[start:end])
            start = end
        rest += data[start:]
        self._looked_at = max(0, len(rest) - _LONGEST_END + 1)
        self.overflow = len(rest) > self._largest
        return events

    @property
    def busy(self) -> bool:
        """Whether what comes next may belong to an event that has come in part."""
        return bool(self._rest) or self._after_cr

    def take_rest(self) -> bytes:
        """What came after the last event's end, for when the stream has ended."""
        rest, self._rest = bytes(self._rest), bytearray()
        self._looked_at = 0
        self._any_cr = self._after_cr
        return rest


def parse_event(event: bytes) -> Event:
    """Reads one event. Comments, other fields and a byte order mark are passed over."""
    name = b""
    data: bytes | None = None
    for line in _LINE_END.split(event.removeprefix(_BOM)):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data = value if data is None else b"%b\n%b" % (data, value)
        elif field == b"event":
            name = value
    return Event(name.decode("utf-8", "replace"), data)
