"""Decoded copies of compressed answers, for metering alone: the client gets the bytes that came. Pure, without I/O."""

from collections.abc import Iterator

from gateway.usage.codings import BROKEN, CODINGS, MOST_CODINGS, Decoder, decoder_of, listed

LARGEST_STEP = 8 * 1024 * 1024  # bytes that one piece of an answer may become
_INPUT_STEP = 16 * 1024  # decoders copy what they could not use yet, so they are not given all at once
_WINDOW_LOG = 23  # RFC 9659: nobody need hold more than 8 MiB for a zstd answer
_CONCATENATED = frozenset({"gzip", "x-gzip", "zstd"})  # several members or frames are one body (RFC 1952, 8878)


def body_decoder(content_encoding: str, largest: int = LARGEST_STEP) -> "BodyDecoder | None":
    """What undoes a Content-Encoding; None if it names a coding that is not known here, or too many.

    Without any coding it gives what it is fed.
    """
    codings = listed(content_encoding)
    if len(codings) > MOST_CODINGS or not CODINGS.issuperset(codings):
        return None
    return BodyDecoder(codings, largest)


class BodyDecoder:
    """Undoes the codings of one answer as it comes. It never raises.

    broken: the data is not what its coding says. overflow: a piece became more than `largest` bytes, as those of
    decompression bombs do. After either, nothing is given any more. What stands behind the end of the compressed data
    is passed over.
    """

    __slots__ = ("_largest", "_stages", "broken", "overflow")

    def __init__(self, codings: list[str], largest: int) -> None:
        self._stages = [_Stage(coding) for coding in codings]
        self._largest = largest
        self.broken = False
        self.overflow = False

    @property
    def codes(self) -> bool:
        """Whether there is anything to undo."""
        return bool(self._stages)

    def feed(self, data: bytes) -> bytes:
        """What can be read by now of the decoded answer; it may be nothing, and is at most `largest` bytes."""
        if not self._stages:
            return data
        if self.broken or self.overflow:
            return b""
        whole = bytearray()
        try:
            for piece in self._through(data, 0, [self._largest]):
                whole += piece
        except BROKEN:
            self.broken = True
        except _TooLargeError:
            self.overflow = True
        return bytes(whole)

    def _through(self, data: bytes, number: int, room: list[int]) -> Iterator[bytes]:
        """Through the stages from this one on. room: bytes that all of them together may still give."""
        if number == len(self._stages):
            yield data
            return
        for piece in self._stages[number].pieces(data):
            room[0] -= len(piece)
            if room[0] < 0:
                raise _TooLargeError
            yield from self._through(piece, number + 1, room)


class _TooLargeError(Exception):
    """What one piece became is beyond the bound."""


class _Stage:
    """Undoes one coding."""

    __slots__ = ("_beginning", "_coding", "_decoder")

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._decoder: Decoder | None = None
        self._beginning = b""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _INPUT_STEP):
            rest = data[start : start + _INPUT_STEP]
            while rest:
                decoder, rest = self._begun(rest)
                piece = decoder.more(rest) if decoder is not None else b""
                while piece and decoder is not None:
                    yield piece
                    piece = decoder.more(b"")
                rest = decoder.unused_data if decoder is not None and decoder.eof else b""

    def _begun(self, data: bytes) -> tuple[Decoder | None, bytes]:
        """The decoder for this data, and what it is to be given; none while that is not clear, or behind the end."""
        if self._decoder is not None and not self._decoder.eof:
            return self._decoder, data
        if self._decoder is not None:
            if self._coding not in _CONCATENATED:
                return None, b""
            if self._coding != "zstd":
                data = data.lstrip(b"\0")  # padding, as tapes have it
        data = self._beginning + data
        if len(data) < 2:
            self._beginning = data
            return None, b""
        self._beginning = b""
        self._decoder = decoder_of(self._coding, data, _WINDOW_LOG)
        return self._decoder, data
