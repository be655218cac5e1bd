"""Undoing content codings, a step at a time, so that whoever asks can bound what a body grows to.

The doorway undoes those of requests (`proxy/body/encoding.py`), metering those of answers (`usage/decode.py`).
"""

import sys
import zlib
from typing import Any, Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STEP = 256 * 1024  # bytes that one step gives, about; of all but brotli the most
MOST_CODINGS = 2
CODINGS = frozenset({"gzip", "x-gzip", "deflate", "zstd", "br"})
BROKEN: tuple[type[Exception], ...] = (zlib.error, zstd.ZstdError, brotli.error, EOFError)  # what decoders raise


class Decoder(Protocol):
    """eof: the end that the data itself has was met. unused_data: what came behind it."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def more(self, data: bytes | memoryview) -> bytes:
        """What the data gives; to be called with nothing until nothing comes, then with the next data."""


class _Zlib:
    def __init__(self, wbits: int) -> None:
        self._decoder = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def more(self, data: bytes | memoryview) -> bytes:
        return self._decoder.decompress(data or self._decoder.unconsumed_tail, STEP)


class _Zstd:
    def __init__(self, window_log: int) -> None:
        options: dict[int, int] | None = (
            {zstd.DecompressionParameter.window_log_max: window_log} if window_log else None
        )
        self._decoder = zstd.ZstdDecompressor(options=options)

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data if self._decoder.eof else b""

    def more(self, data: bytes | memoryview) -> bytes:
        return b"" if self._decoder.eof else self._decoder.decompress(data, STEP)


class _Brotli:
    """What stands behind the end makes it raise, and is not told."""

    unused_data = b""

    def __init__(self) -> None:
        self._decoder: Any = brotli.Decompressor()

    @property
    def eof(self) -> bool:
        return bool(self._decoder.is_finished())

    def more(self, data: bytes | memoryview) -> bytes:
        # Not by `can_accept_more_data`: that is true while output is still inside.
        piece: bytes = self._decoder.process(bytes(data), output_buffer_limit=STEP)
        return piece


def listed(content_encoding: str) -> list[str]:
    """The codings that a header names, in the order of undoing."""
    names = [part.strip().lower() for part in content_encoding.split(",")]
    return [name for name in names if name not in {"identity", ""}][::-1]


def decoder_of(coding: str, beginning: bytes | bytearray, window_log: int = 0) -> Decoder:
    """What undoes one of CODINGS. beginning: at least the first two bytes of the data, if there are so many.

    window_log: the largest power of two of bytes that zstd may look back and hold in memory; 0 for its own, 27.
    """
    if coding == "zstd":
        return _Zstd(window_log)
    if coding == "br":
        return _Brotli()
    if coding == "deflate":  # RFC 9110 means zlib's format; some senders leave its two-byte header out
        wrapped = len(beginning) > 1 and beginning[0] & 0x0F == 8 and (beginning[0] << 8 | beginning[1]) % 31 == 0
        return _Zlib(15 if wrapped else -15)
    return _Zlib(31)
