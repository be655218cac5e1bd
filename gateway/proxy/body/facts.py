"""What is kept of a form that streams by: its small fields, and the two ends of its first file."""

import contextlib
import re
from collections.abc import Callable

from gateway.usage.audio import MIDDLE, place_of_interest
from gateway.values import FormFacts

# What estimates and lines of usage are made from; everything else in a form is none of our business.
FIELDS = frozenset({b"n", b"size", b"quality", b"response_format", b"seconds", b"stream", b"user"})
LONGEST_FIELD = 1024  # bytes; what is longer is not kept
FILE_END = 64 * 1024  # bytes kept of a file's beginning, and of its end
_MOST_PIECES = 256
_FILENAME = re.compile(rb'[; \t]filename[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^";\\ \t]+)', re.IGNORECASE)
_ESCAPED = re.compile(r"\\(.)")

Sink = Callable[[bytes, int, int], None]  # takes data[start:end]; the data is kept for a while and must not change


class FactKeeper:
    """Looks at the parts of a form and keeps little of them. It never raises.

    file: whether the first file's size and ends are wanted. They take up to 256 KiB and a chunk while the body
    streams by; without them files cost nothing.
    """

    __slots__ = ("_ends", "_fields", "_filename", "_files", "_name", "_prompt_bytes", "_value")

    def __init__(self, *, file: bool) -> None:
        self._fields: dict[str, str] = {}
        self._name = ""  # of the field that is being kept
        self._value = bytearray()
        self._prompt_bytes = 0
        self._filename = ""
        self._files = 0
        self._ends = _Ends() if file else None

    def begin(self, name: bytes, disposition: bytes, *, plain: bool) -> Sink | None:
        """A part begins; what takes its value, if anything does. plain: its bytes are the value, not a coding of it."""
        self._name = ""
        file = _FILENAME.search(disposition)
        if file is not None:
            self._files += 1
            if self._files > 1:
                return None
            self._filename = _unquoted(file[1])[:LONGEST_FIELD]
            return self._ends.add if self._ends is not None and plain else None
        if name == b"prompt":
            return self._count_prompt
        if plain and name in FIELDS and name.decode() not in self._fields:
            self._name = name.decode()
            self._value.clear()
            return self._keep
        return None

    def end(self) -> None:
        """The part that began last has ended."""
        if self._name and len(self._value) <= LONGEST_FIELD:
            with contextlib.suppress(UnicodeDecodeError):
                self._fields[self._name] = self._value.decode()
        self._name = ""

    def facts(self) -> FormFacts:
        """What is known by now. Fields count once they have ended, files as far as they came."""
        ends = self._ends.taken() if self._ends is not None else (0, b"", b"", 0, b"")
        return FormFacts(dict(self._fields), self._prompt_bytes, self._files, self._filename, *ends)

    def _keep(self, data: bytes, start: int, end: int) -> None:
        if len(self._value) <= LONGEST_FIELD:
            self._value += data[start : min(end, start + LONGEST_FIELD + 1)]

    def _count_prompt(self, _data: bytes, start: int, end: int) -> None:
        self._prompt_bytes += end - start


class _Ends:
    """The first and the last bytes of a file, and a few between where the first ones say that it is worth it.

    Chunks are kept by reference, as copying them all would be felt.
    """

    __slots__ = ("_gone", "_head", "_held", "_middle", "_middle_at", "_pieces")

    def __init__(self) -> None:
        self._head = b""
        self._gone = 0  # bytes that came before the pieces
        self._held = 0  # bytes of the pieces
        self._middle_at = 0
        self._middle = b""
        self._pieces: list[tuple[bytes, int, int]] = []

    def add(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append((data, start, end))
        self._held += end - start
        if self._held >= 2 * FILE_END or len(self._pieces) > _MOST_PIECES:
            self._cut()

    def taken(self) -> tuple[int, bytes, bytes, int, bytes]:
        """Size, beginning and end of what came, which overlap in a small file; where the middle is, and its bytes."""
        held = self._joined()
        if self._middle_at:
            self._look_between(held, 0, len(held), self._gone)
        head = self._beginning(held)
        return self._gone + self._held, head, held[-FILE_END:], self._middle_at if self._middle else 0, self._middle

    def _cut(self) -> None:
        """Lets go of what is neither beginning nor end, and makes one of many small pieces."""
        pieces = self._pieces
        if len(self._head) < FILE_END:
            self._head = self._beginning(self._joined())
            if len(self._head) == FILE_END:
                self._middle_at = place_of_interest(self._head)
        drop, gone = 0, 0
        for data, start, end in pieces:
            if self._held - gone - (end - start) < FILE_END:
                break
            if self._middle_at:
                self._look_between(data, start, end, self._gone + gone)
            gone += end - start
            drop += 1
        del pieces[:drop]
        self._gone += gone
        self._held -= gone
        if len(pieces) > _MOST_PIECES // 2:
            data = self._joined()
            pieces[:] = [(data, 0, len(data))]

    def _look_between(self, data: bytes, start: int, end: int, place: int) -> None:
        """Takes what is wanted of a piece that is let go. place: of data[start] in the file."""
        wanted = self._middle_at + len(self._middle)
        if len(self._middle) < MIDDLE and place <= wanted < place + end - start:
            at = start + wanted - place
            self._middle += data[at : min(end, at + MIDDLE - len(self._middle))]

    def _beginning(self, held: bytes) -> bytes:
        """As far as it is known. Nothing is let go before it is in the head, unless that is full."""
        return (
            (self._head + held[len(self._head) - self._gone :])[:FILE_END] if len(self._head) < FILE_END else self._head
        )

    def _joined(self) -> bytes:
        return b"".join(data[start:end] for data, start, end in self._pieces)


def _unquoted(value: bytes) -> str:
    text = value.decode("utf-8", "replace")
    return _ESCAPED.sub(r"\1", text[1:-1]) if text.startswith('"') else text
