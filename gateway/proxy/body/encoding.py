"""Decoding compressed request bodies, a step at a time, so that whoever asks can bound what they grow to.

The official SDKs never compress requests; Codex and other agents send zstd. An upstream may not understand it, and the
head must be read here in any case, so JSON bodies go upstream decoded.
"""

import sys
import zlib
from collections.abc import Iterator
from typing import Protocol

from gateway.errors import INVALID_ENCODING, UNSUPPORTED_ENCODING, GatewayError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STEP = 256 * 1024  # bytes, the most that one step gives
_INPUT_STEP = 64 * 1024  # decoders copy what they could not use yet, so they are not given all at once
_MOST_CODINGS = 2


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def more(self, data: bytes | memoryview) -> bytes:
        """At most STEP bytes; to be called with nothing until nothing comes, then with the next data."""


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
    def __init__(self) -> None:
        self._decoder = zstd.ZstdDecompressor()

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data if self._decoder.eof else b""

    def more(self, data: bytes | memoryview) -> bytes:
        return b"" if self._decoder.eof else self._decoder.decompress(data, STEP)


def codings(content_encoding: str) -> list[str]:
    """What must be undone, in the order of undoing. Raises GatewayError UNSUPPORTED_ENCODING (415)."""
    names = [name for part in content_encoding.split(",") if (name := part.strip().lower()) not in {"identity", ""}]
    for name in names:
        if name not in {"gzip", "x-gzip", "deflate", "zstd"}:
            raise GatewayError(UNSUPPORTED_ENCODING, encoding=name[:40])
    if len(names) > _MOST_CODINGS:
        raise GatewayError(UNSUPPORTED_ENCODING, encoding=content_encoding[:40])
    return names[::-1]


def decoded(body: bytes | bytearray, coding: str) -> Iterator[bytes]:
    """The pieces of a body without this coding. Raises GatewayError INVALID_ENCODING (400).

    What stands behind the end of the compressed data makes it invalid too: readers differ on what it means.
    """
    decoder = _decoder(body, coding)
    view = memoryview(body)
    try:
        for start in range(0, len(view), _INPUT_STEP):
            piece = decoder.more(view[start : start + _INPUT_STEP])
            while piece:
                yield piece
                piece = decoder.more(b"")
            if decoder.eof:
                if decoder.unused_data or start + _INPUT_STEP < len(view):
                    break
                return
    except (zlib.error, zstd.ZstdError, EOFError):
        pass
    raise GatewayError(INVALID_ENCODING, encoding=coding)


def _decoder(body: bytes | bytearray, coding: str) -> _Decoder:
    if coding == "zstd":
        return _Zstd()
    if coding == "deflate":  # RFC 9110 means zlib's format; some senders leave its two-byte header out
        wrapped = len(body) > 1 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
        return _Zlib(15 if wrapped else -15)
    return _Zlib(31)
