"""Asking for a stream's usage where the client did not: `stream_options.include_usage`, spliced into a JSON body.

Everything else stays byte for byte. What cannot be spliced plainly is left as it is; usage is estimated then.
"""

import enum
import re
from typing import Any

import msgspec

from gateway.errors import GatewayError
from gateway.proxy.body.head import HeadDecoder

_WHOLE = b'"stream_options":{"include_usage":true},'
_MEMBER = re.compile(rb'"stream_options"[ \t\r\n]*:[ \t\r\n]*(null|\{)')
_FALSE = re.compile(rb'"include_usage"[ \t\r\n]*:[ \t\r\n]*(false|null)')
_CANDIDATES = 32


class Options(enum.Enum):
    """Instead of stream options: the body has none, or the gateway has no business with them."""

    ABSENT = 0
    NOT_OURS = 1


class Splice(msgspec.Struct, frozen=True):
    """What stands at an offset instead of what stood there."""

    at: int
    new: bytes
    old: bytes = b""

    def done(self, body: bytes | bytearray) -> bytes:
        view = memoryview(body)
        return b"".join((view[: self.at], self.new, view[self.at + len(self.old) :]))

    def undone(self, body: bytes | bytearray) -> bytes:
        return Splice(self.at, self.old, self.new).done(body)


def asks(options: Any) -> bool:
    """Whether stream options ask for usage themselves. Other values than true are for the upstream to judge."""
    if not isinstance(options, dict):
        return False
    value = options.get("include_usage")
    return value is not None and value is not False


def splice(body: bytes | bytearray, options: Any, decoder: HeadDecoder) -> Splice | None:
    """How to ask in a body that has these stream options, or Options.ABSENT. None if there is no plain way."""
    if options is Options.ABSENT:
        return Splice(body.index(b"{") + 1, _WHOLE)
    for _, found in zip(range(_CANDIDATES), _MEMBER.finditer(body), strict=False):
        candidate = _candidate(body, found, options)
        if candidate is not None and _is_right(candidate.done(body), decoder):
            return candidate
    return None


def _candidate(body: bytes | bytearray, found: re.Match[bytes], options: Any) -> Splice | None:
    if options is None:
        return Splice(found.start(1), b'{"include_usage":true}', b"null") if found[1] == b"null" else None
    if not isinstance(options, dict) or found[1] != b"{":
        return None
    if "include_usage" in options:
        false = _FALSE.search(body, found.end())
        return Splice(false.start(1), b"true", false[1]) if false is not None else None
    return Splice(found.end(), b'"include_usage":true' + (b"," if options else b""))


def _is_right(body: bytes, decoder: HeadDecoder) -> bool:
    """Whether it was the right place: another object may have members of the same names."""
    try:
        decoder.decode(body)
    except GatewayError:
        return False
    return asks(decoder.options)
