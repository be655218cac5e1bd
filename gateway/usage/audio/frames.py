"""Audio that is nothing but frames: MP3, and AAC in ADTS. Each frame says how long it is, in bytes and in samples."""

from collections.abc import Iterator
from typing import NamedTuple

from gateway.usage.audio.ends import Ends

_CANDIDATES = 4096  # places that look like a frame's beginning
_MP3_RATES = (44_100, 48_000, 32_000)
_AAC_RATES = (
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350,
)  # fmt: skip
# kbit/s by index, of MPEG 1 layers 1 to 3, then of MPEG 2 and 2.5: layer 1, and layers 2 and 3.
_KBITS = (
    (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)


class Frame(NamedTuple):
    """length: in bytes. samples: of each channel. table: where an MP3's table of contents would stand in it."""

    length: int
    samples: int
    rate: int
    table: int


def id3_size(file: Ends) -> int:
    """Bytes of the ID3v2 tag before the audio; 0 without one. A picture may make it larger than the head."""
    tag = file.at(0, 10)
    if tag[:3] != b"ID3" or len(tag) < 10:
        return 0
    size = 0
    for byte in tag[6:]:
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if tag[5] & 0x10 else 0)


def frames_ms(file: Ends, start: int) -> int | None:
    """How long the frames from `start` play: by the table of contents, else by the average of the frames in sight."""
    size = file.size - start
    if file.tail[-128:-125] == b"TAG":
        size -= 128
    hidden = start > len(file.head)  # behind a large picture
    heard = _walk(file.middle, start - file.middle_at) if hidden else _walk(file.head, start)
    first = next(heard, None)
    if first is not None:
        at, frame = first
        told = _told(file, at + (file.middle_at if hidden else 0), frame, size)
        if told:
            return told * frame.samples * 1000 // frame.rate
    seen = [frame for _, frame in heard] + ([first[1]] if first is not None else [])
    if len(file.head) < file.size:
        seen += [frame for _, frame in _walk(file.tail, 0)]
    if not seen or size <= 0:
        return None
    length = sum(frame.length for frame in seen)
    return round(sum(frame.samples * 1000 / frame.rate for frame in seen) * size / length)


def _told(file: Ends, at: int, frame: Frame, size: int) -> int:
    """How many frames there are by the table of contents in the first one (Xing, Info or VBRI); 0 without one."""
    if not frame.table:
        return 0
    table = at + frame.table
    if file.at(table, 4) in {b"Xing", b"Info"}:
        flags, frames, length = file.number(table + 4, 4), file.number(table + 8, 4), file.number(table + 12, 4)
        if flags & 3 == 3 and length > size > 0:  # a part of a longer file
            return frames * size // length
        return frames if flags & 1 else 0
    if file.at(at + 36, 4) == b"VBRI":
        return file.number(at + 50, 4)
    return 0


def _walk(data: bytes, start: int) -> Iterator[tuple[int, Frame]]:
    """The frames in a piece of a file, from the first that another one like it follows."""
    at = data.find(b"\xff", start) if start >= 0 else -1
    for _ in range(_CANDIDATES):
        if at < 0:
            return
        frame = _frame(data, at)
        after = _frame(data, at + frame.length) if frame is not None else None
        if frame is not None and after is not None and after.rate == frame.rate and after.samples == frame.samples:
            break
        at = data.find(b"\xff", at + 1)
    else:
        return
    while (frame := _frame(data, at)) is not None:
        yield at, frame
        at += frame.length


def _frame(data: bytes, at: int) -> Frame | None:
    """The frame that begins there, if one can. ISO 11172-3, 2.4.2.3; ISO 13818-7, 6.2."""
    if at + 7 > len(data) or data[at] != 0xFF or data[at + 1] & 0xE0 != 0xE0:
        return None
    if data[at + 1] & 0xF6 == 0xF0:
        return _aac_frame(data, at)
    version, layer = data[at + 1] >> 3 & 3, 4 - (data[at + 1] >> 1 & 3)  # version: 3 is MPEG 1, 2 MPEG 2, 0 MPEG 2.5
    index, rate_index = data[at + 2] >> 4, data[at + 2] >> 2 & 3
    if version == 1 or layer == 4 or index in {0, 15} or rate_index == 3:
        return None
    first = version == 3
    rate = _MP3_RATES[rate_index] >> (0 if first else 1 if version == 2 else 2)
    bits = 1000 * _KBITS[layer - 1 if first else 3 if layer == 1 else 4][index]
    padding = data[at + 2] >> 1 & 1
    if layer == 1:
        return Frame((12 * bits // rate + padding) * 4, 384, rate, 0)
    samples = 576 if layer == 3 and not first else 1152
    mono = data[at + 3] >> 6 == 3
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return Frame(samples // 8 * bits // rate + padding, samples, rate, 4 + side if layer == 3 else 0)


def _aac_frame(data: bytes, at: int) -> Frame | None:
    rate_index = data[at + 2] >> 2 & 15
    length = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
    if rate_index >= len(_AAC_RATES) or length < 7:
        return None
    return Frame(length, 1024 * ((data[at + 6] & 3) + 1), _AAC_RATES[rate_index], 0)
