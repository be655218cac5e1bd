"""MP4 and M4A: boxes in boxes (ISO 14496-12). The movie's header tells; of a recording in fragments, the last does."""

from collections.abc import Iterator

from gateway.usage.audio.ends import Ends

_ANY_SIZE = 1 << 62
_MOST_BOXES = 1000  # that are looked at on one level


def mp4_ms(file: Ends) -> int | None:
    """How long the movie plays; None if its header is not in what is known."""
    for name, start, end in _boxes(file, 0, file.size):
        if name == b"moov":
            return _movie_ms(file, start, end)
    return None


def movie_place(head: bytes) -> int:
    """Where the box behind the first that leaves the head begins, which is the movie's header if it comes last; 0 if
    that header is in the head."""
    place = 0
    for name, _, stop in _boxes(Ends(head, b"", _ANY_SIZE), 0, _ANY_SIZE):
        if name == b"moov":
            return 0
        place = stop
    return place if len(head) - 8 < place < _ANY_SIZE else 0


def _boxes(file: Ends, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes between two places, each with where its contents are."""
    for _ in range(_MOST_BOXES):
        header = file.at(start, 8)
        if len(header) < 8 or start + 8 > end:
            return
        size, body = int.from_bytes(header[:4]), start + 8
        if size == 1:
            size, body = file.number(start + 8, 8), start + 16
        stop = end if size == 0 else start + size
        if stop < body:
            return
        yield header[4:], body, min(stop, end)
        start = stop


def _inside(file: Ends, start: int, end: int, *path: bytes) -> tuple[int, int]:
    """Where the contents of the first box of this path are; (0, 0) if there is none."""
    for name in path:
        start, end = next(((body, stop) for found, body, stop in _boxes(file, start, end) if found == name), (0, 0))
        if not end:
            break
    return start, end


def _movie_ms(file: Ends, start: int, end: int) -> int | None:
    header, stop = _inside(file, start, end, b"mvhd")
    if not stop:
        return None
    scale, duration = _times(file, header)
    fragments, until = _inside(file, start, end, b"mvex")
    if not scale:
        return None
    if until and not duration:
        whole, stop = _inside(file, fragments, until, b"mehd")
        duration = file.number(whole + 4, 8 if file.number(whole, 1) else 4) if stop else 0
        if not duration:
            return _fragments_ms(file, start, end)
    return duration * 1000 // scale if duration else None


def _times(file: Ends, at: int) -> tuple[int, int]:
    """Ticks a second and how many, of a movie's or a track's header; 0 for a length that was not known."""
    if file.number(at, 1):
        scale, duration, unknown = file.number(at + 20, 4), file.number(at + 24, 8), 0xFFFFFFFFFFFFFFFF
    else:
        scale, duration, unknown = file.number(at + 12, 4), file.number(at + 16, 4), 0xFFFFFFFF
    return scale, 0 if duration == unknown else duration


def _fragments_ms(file: Ends, start: int, end: int) -> int | None:
    """When the last fragment in sight ends."""
    header, stop = _inside(file, start, end, b"trak", b"mdia", b"mdhd")
    scale = _times(file, header)[0] if stop else 0
    default, stop = _inside(file, start, end, b"mvex", b"trex")
    each = file.number(default + 12, 4) if stop else 0
    at = file.tail.rfind(b"moof")
    if at < 4 or not scale:
        return None
    at += file.size - len(file.tail) - 4
    fragment, stop = _inside(file, at, file.size, b"moof", b"traf")
    time, until = _inside(file, fragment, stop, b"tfdt")
    if not until:
        return None
    began = file.number(time + 4, 8 if file.number(time, 1) else 4)
    return (began + _run(file, fragment, stop, each)) * 1000 // scale


def _run(file: Ends, start: int, end: int, each: int) -> int:
    """How many ticks a fragment's samples take. each: one that says nothing of its own."""
    header, stop = _inside(file, start, end, b"tfhd")
    flags = file.number(header + 1, 3) if stop else 0
    if flags & 8:
        each = file.number(header + 8 + (8 if flags & 1 else 0) + (4 if flags & 2 else 0), 4)
    run, stop = _inside(file, start, end, b"trun")
    flags, count = file.number(run + 1, 3), file.number(run + 4, 4)
    if not stop or not flags & 0x100:
        return count * each if stop else 0
    width = 4 * (flags >> 8 & 15).bit_count()
    first = run + 8 + (4 if flags & 1 else 0) + (4 if flags & 4 else 0)
    known = file.at(first, min(count * width, stop - first))
    return sum(int.from_bytes(known[at : at + 4]) for at in range(0, len(known), width))
