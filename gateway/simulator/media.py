"""Images and sounds: how long, how large, how many tokens; and making small valid ones.

Rules. Sound: a WAV file's length is read from its head; other sound is taken as 128 kbit/s (16,000 bytes a second).
1 second in is 10 tokens, 1 second out 20; speech takes 0.3 s a token of text. Pictures: a PNG's size is read from its
head, anything else counts as 1024x1024. As input a picture is 85 tokens, and in detail 170 more for each tile of
512x512.
"""

import base64
import binascii
import math
import struct
import zlib

BYTES_PER_SECOND = 16_000
TOKENS_PER_SECOND_IN = 10
TOKENS_PER_SECOND_OUT = 20
SPEECH_SECONDS_PER_TOKEN = 0.3
_PNG = b"\x89PNG\r\n\x1a\n"


def sound_seconds(head: bytes, size: int) -> float:
    """How long a sound file is, from its first bytes (64 are enough) and its size."""
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE" and head[12:16] == b"fmt ":
        bytes_per_second: int = struct.unpack_from("<I", head, 28)[0]
        if bytes_per_second:
            return round(max(0, size - 44) / bytes_per_second, 3)
    return round(size / BYTES_PER_SECOND, 3)


def sound_tokens_in(seconds: float) -> int:
    return max(1, math.ceil(seconds * TOKENS_PER_SECOND_IN))


def speech_seconds(text_tokens: int) -> float:
    return round(text_tokens * SPEECH_SECONDS_PER_TOKEN, 3)


def sound_tokens_out(seconds: float) -> int:
    return max(1, math.ceil(seconds * TOKENS_PER_SECOND_OUT))


def wav(seconds: float, rate: int = 8_000) -> bytes:
    """Silence, 8 bits, one channel."""
    data = b"\x80" * int(seconds * rate)
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1, rate, rate, 1, 8,
                       b"data", len(data))  # fmt: skip
    return head + data


def speech(seconds: float, form: str) -> bytes:
    """Something of the right length: a real WAV, or as many bytes as the format would have."""
    if form == "wav":
        return wav(seconds)
    per_second = {"pcm": 48_000, "pcm16": 48_000, "flac": 20_000, "mp3": 16_000, "aac": 12_000, "opus": 6_000}
    start = {"mp3": b"ID3\x04", "flac": b"fLaC", "opus": b"OggS", "aac": b"\xff\xf1"}.get(form, b"")
    return start.ljust(max(4, int(seconds * per_second.get(form, 16_000))), b"\x00")


def picture_size(head: bytes) -> tuple[int, int]:
    """Width and height, from a file's first bytes."""
    if head[:8] == _PNG and len(head) >= 24:
        width, height = struct.unpack_from(">II", head, 16)
        return width, height
    return 1024, 1024


def picture_tokens(size: tuple[int, int], detail: str = "auto") -> int:
    if detail == "low":
        return 85
    tiles = math.ceil(size[0] / 512) * math.ceil(size[1] / 512)
    return 85 + 170 * min(tiles, 16)


def png(width: int, height: int, shade: int) -> bytes:
    """A picture in one of 256 greys: a few hundred bytes at any size."""
    row = b"\x00" + bytes([shade]) * width
    body = zlib.compress(row * height, 1)
    return b"".join(
        (
            _PNG,
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
            _chunk(b"IDAT", body),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def head(text: str) -> bytes:
    """The first 66 bytes of what a data URL or plain base64 holds; nothing if it is something else."""
    data = text[:200].partition("base64,")[2] + text[200:300] if text.startswith("data:") else text
    try:
        return base64.b64decode(data[: min(88, len(data) // 4 * 4)])
    except (binascii.Error, ValueError):
        return b""
