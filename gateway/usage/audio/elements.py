"""WebM and Matroska: elements in elements (RFC 8794, RFC 9559). A recorder that streams does not say how long it
became; then the time of the last block does."""

import math
import struct
from collections.abc import Iterator

from gateway.usage.audio.ends import Ends

_SEGMENT, _INFO, _CLUSTER, _GROUP = 0x18538067, 0x1549A966, 0x1F43B675, 0xA0
_SCALE, _DURATION = 0x2AD7B1, 0x4489  # scale: nanoseconds a tick
_TIME, _SIMPLE_BLOCK, _BLOCK = 0xE7, 0xA3, 0xA1
_OUTER = frozenset({_SEGMENT, _INFO, _CLUSTER, _GROUP})  # looked into; all others are passed over
_CLUSTER_BYTES = b"\x1f\x43\xb6\x75"
_DEFAULT_SCALE = 1_000_000
_MOST_ELEMENTS = 8192
_TOO_LONG = 1e18  # nanoseconds


class _Clock:
    """The time of the blocks that went by, in ticks."""

    __slots__ = ("_cluster", "before", "last", "last_at")

    def __init__(self) -> None:
        self._cluster: int | None = None
        self.last: int | None = None
        self.before: int | None = None
        self.last_at = 0

    def cluster(self, time: int) -> None:
        self._cluster = time

    def block(self, time: int, at: int) -> None:
        if self._cluster is not None:
            self.before, self.last, self.last_at = self.last, self._cluster + time, at

    @property
    def end(self) -> int | None:
        """When the last block ends, taking it for as long as the one before."""
        if self.last is None:
            return None
        return self.last + (max(self.last - self.before, 0) if self.before is not None else 0)


def matroska_ms(file: Ends) -> int | None:
    """By its duration, else by the last block in the tail; else, as a recorder's clusters may be longer than the tail,
    by how much of the time takes how much of the head."""
    scale = _DEFAULT_SCALE
    first = _Clock()
    for name, start, end in _elements(file.head, 0):
        if name == _SCALE:
            scale = int.from_bytes(file.head[start:end]) or scale
        elif name == _DURATION:
            told = _broken(file.head[start:end])
            if told:
                return round(told * scale / 1e6) if told * scale < _TOO_LONG else None
        _look(first, file.head, name, start, end)
    last = _Clock()
    at = file.tail.find(_CLUSTER_BYTES)
    if at >= 0 and len(file.head) < file.size:
        for name, start, end in _elements(file.tail, at):
            _look(last, file.tail, name, start, end)
    if last.end is None and first.end is not None and len(file.head) < file.size:
        return round(first.end * scale / 1e6 * file.size / first.last_at) if first.last_at else None
    ticks = last.end if last.end is not None else first.end
    return round(ticks * scale / 1e6) if ticks else None


def _look(clock: _Clock, data: bytes, name: int, start: int, end: int) -> None:
    if name == _TIME:
        clock.cluster(int.from_bytes(data[start : min(end, start + 8)]))
    elif name in {_SIMPLE_BLOCK, _BLOCK}:
        time = start + _width(data, start)  # behind the number of the track
        clock.block(int.from_bytes(data[time : time + 2], signed=True), start)


def _elements(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """The elements from there on, each with where its contents are, however deep."""
    for _ in range(_MOST_ELEMENTS):
        wide = _width(data, at)
        length_at = at + wide
        if wide > 4:
            return
        name = int.from_bytes(data[at:length_at])
        wide = _width(data, length_at)
        if wide > 8 or length_at + wide > len(data):
            return
        size = int.from_bytes(data[length_at : length_at + wide]) & (1 << 7 * wide) - 1
        start = length_at + wide
        yield name, start, start + size
        at = start if name in _OUTER else start + size


def _width(data: bytes, at: int) -> int:
    """Bytes of the number that begins there, by its leading zeros; 9 if none can begin there."""
    return 9 - data[at].bit_length() if at < len(data) else 9


def _broken(data: bytes) -> float:
    if len(data) not in {4, 8}:
        return 0.0
    value: float = struct.unpack(">f" if len(data) == 4 else ">d", data)[0]
    return value if math.isfinite(value) and value > 0 else 0.0
