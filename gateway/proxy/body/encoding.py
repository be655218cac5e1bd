"""Decoding compressed request bodies, a step at a time, so that whoever asks can bound what they grow to.

The official SDKs never compress requests; Codex and other agents send zstd. An upstream may not understand it, and the
head must be read here in any case, so JSON bodies go upstream decoded.
"""

from collections.abc import Iterator

from gateway.errors import INVALID_ENCODING, UNSUPPORTED_ENCODING, GatewayError
from gateway.usage.codings import BROKEN, MOST_CODINGS, decoder_of, listed

_INPUT_STEP = 64 * 1024  # decoders copy what they could not use yet, so they are not given all at once
_UNDONE = frozenset({"gzip", "x-gzip", "deflate", "zstd"})


def codings(content_encoding: str) -> list[str]:
    """What must be undone, in the order of undoing. Raises GatewayError UNSUPPORTED_ENCODING (415)."""
    names = listed(content_encoding)
    for name in names[::-1]:
        if name not in _UNDONE:
            raise GatewayError(UNSUPPORTED_ENCODING, encoding=name[:40])
    if len(names) > MOST_CODINGS:
        raise GatewayError(UNSUPPORTED_ENCODING, encoding=content_encoding[:40])
    return names


def decoded(body: bytes | bytearray, coding: str) -> Iterator[bytes]:
    """The pieces of a body without this coding. Raises GatewayError INVALID_ENCODING (400).

    What stands behind the end of the compressed data makes it invalid too: readers differ on what it means.
    """
    decoder = decoder_of(coding, body)
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
    except BROKEN:
        pass
    raise GatewayError(INVALID_ENCODING, encoding=coding)
