"""How long an uploaded audio file plays. Pure; the formats that OpenAI takes: flac, mp3, mp4, m4a, ogg, wav, webm.

Nothing is decoded: containers say how long they are, or how late their last piece is. What a file says of itself is
believed where nothing tells better; hostile bytes give a wrong number or none, and never an error or a long search.
"""

from gateway.usage.audio.boxes import movie_place, mp4_ms
from gateway.usage.audio.elements import matroska_ms
from gateway.usage.audio.ends import Ends
from gateway.usage.audio.frames import frames_ms, id3_size

_LONGEST_MS = 7 * 24 * 3600 * 1000  # more is no audio file
_PLAIN_WAVES = frozenset({1, 3, 6, 7, 0xFFFE})  # whole and broken numbers, A-law, mu-law: every block is one sample
_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp"})  # that an MP4 begins with
MIDDLE = 1024  # bytes
_MOST_CHUNKS = 1000
_UNKNOWN_32 = 0xFFFFFFFF
_UNKNOWN_64 = 0xFFFFFFFFFFFFFFFF


def duration_ms(head: bytes, tail: bytes, size: int, middle_at: int = 0, middle: bytes = b"") -> int | None:
    """How long the audio of a file of `size` bytes plays, in milliseconds; None if the file does not tell.

    head, tail: its first and last bytes, 64 KiB as a rule. With less, fewer files tell. middle: bytes from the place
    that `place_of_interest` named.
    """
    if size < len(head) or size < len(tail) or not head:
        return None
    found = _measured(Ends(head, tail, size, middle_at, middle))
    return found if found is not None and 0 <= found <= _LONGEST_MS else None


def place_of_interest(head: bytes) -> int:
    """Where between a file's ends something stands that tells how long it plays, in MIDDLE bytes; 0 for nowhere.

    An MP4 written in one go has its header last, and that of half an hour is longer than the tail; a large picture may
    stand before the sound.
    """
    tag = id3_size(Ends(head, b"", len(head)))
    if tag:
        return tag if tag > len(head) else 0
    return movie_place(head) if head[4:8] in _BOXES else 0


def _measured(file: Ends) -> int | None:
    start = id3_size(file)
    magic = file.at(start, 12)
    if magic[:4] in {b"RIFF", b"RF64"} and magic[8:] == b"WAVE":
        return _wave_ms(file, start)
    if magic[:4] == b"fLaC":
        return _samples_ms(*_flac_samples(file, start + 8))
    if magic[:4] == b"OggS":
        return _ogg_ms(file)
    if magic[4:8] in _BOXES:
        return mp4_ms(file)
    if magic[:4] == b"\x1a\x45\xdf\xa3":
        return matroska_ms(file)
    return frames_ms(file, start)


def _samples_ms(samples: int, rate: int) -> int | None:
    return samples * 1000 // rate if samples and rate else None


def _wave_ms(file: Ends, start: int) -> int | None:
    """By the size of the chunk `data`. A stream's writer did not know it, and wrote 0 or the largest number."""
    at, rate, block, bytes_per_s, kind, samples, long_size = start + 12, 0, 0, 0, 0, 0, 0
    for _ in range(_MOST_CHUNKS):
        name, size, body = file.at(at, 4), file.little(at + 4, 4), at + 8
        if name == b"fmt ":
            kind, rate = file.little(body, 2), file.little(body + 4, 4)
            bytes_per_s, block = file.little(body + 8, 4), file.little(body + 12, 2)
        elif name == b"ds64":
            long_size = file.little(body + 8, 8)
        elif name == b"fact":
            samples = file.little(body, 4)
        elif name == b"data":
            left = max(file.size - body, 0)
            size = long_size if size == _UNKNOWN_32 and long_size else size
            size = left if size == 0 else min(size, left)
            if kind in _PLAIN_WAVES:
                return _samples_ms(size // block, rate) if block and size else 0
            if 0 < samples < _UNKNOWN_32 and rate:
                return _samples_ms(samples, rate)
            return size * 1000 // bytes_per_s if bytes_per_s else None
        elif len(name) < 4:
            break
        at = body + size + size % 2
    return None


def _flac_samples(file: Ends, at: int) -> tuple[int, int]:
    """How many, and how many a second, by a STREAMINFO block; 0 if its writer did not know."""
    packed = file.number(at + 10, 8)
    return packed & 0xF_FFFF_FFFF, packed >> 44


def _ogg_ms(file: Ends) -> int | None:
    """By the position that the last page of the audio states, in samples."""
    at = 0
    while file.at(at, 4) == b"OggS" and file.number(at + 5, 1) & 2:  # the first page of each of its streams
        segments = file.at(at + 27, file.number(at + 26, 1))
        body = at + 27 + len(segments)
        rate, skipped = _ogg_rate(file, body)
        if rate:
            last = _last_position(file.tail, file.at(at + 14, 4))
            return max(last - skipped, 0) * 1000 // rate if last is not None else None
        at = body + sum(segments)
    return None


def _ogg_rate(file: Ends, at: int) -> tuple[int, int]:
    """Positions a second, and how many are not heard; 0 for what is no audio."""
    if file.at(at, 8) == b"OpusHead":
        return 48_000, file.little(at + 10, 2)
    if file.at(at, 7) == b"\x01vorbis":
        return file.little(at + 12, 4), 0
    if file.at(at, 5) == b"\x7fFLAC":
        return _flac_samples(file, at + 17)[1], 0
    if file.at(at, 8) == b"Speex   ":
        return file.little(at + 36, 4), 0
    return 0, 0


def _last_position(tail: bytes, stream: bytes) -> int | None:
    at = tail.rfind(b"OggS")
    while at >= 0:
        position = int.from_bytes(tail[at + 6 : at + 14], "little")
        if tail[at + 14 : at + 18] == stream and position not in {0, _UNKNOWN_64}:
            return position
        at = tail.rfind(b"OggS", 0, at)
    return None
