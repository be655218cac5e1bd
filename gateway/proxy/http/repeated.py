"""A head that a client sends again and again on one connection: recognised by its bytes, without a parser.

Nearly all of a client's requests differ in their bodies only, and so in one header: the digits of Content-Length.
"""

import msgspec

from gateway.proxy.http.headers import Headers

_MOST_DIGITS = 15
_LONGEST = 8 * 1024  # bytes of a head that is worth keeping for a connection


class KnownHead(msgspec.Struct, frozen=True):
    """What the parser made of such a head, and its bytes before and behind the digits.

    target: as it stands in the request line. keep_alive: whether the client wants to ask more on this connection.
    """

    before: bytes
    behind: bytes
    method: str
    target: bytes
    modern: bool
    headers: Headers
    keep_alive: bool

    def __repr__(self) -> str:
        return f"KnownHead({self.method})"  # its bytes hold a key

    def found(self, data: bytes) -> tuple[int, int] | None:
        """Where the body begins and how long it is, if `data` begins with this head. An empty body is none."""
        at = len(self.before)
        if not data.startswith(self.before):
            return None
        end = data.find(b"\r", at, at + _MOST_DIGITS + 1)
        digits = data[at:end]
        if end < 0 or not digits.isdigit() or digits[:1] == b"0" or not data.startswith(self.behind, end):
            return None
        return end + len(self.behind), int(digits)


def split_head(data: bytes, name: bytes, longest: int) -> tuple[bytes, bytes] | None:
    """A head's bytes before and behind the digits of its Content-Length; None if it is not plain, or too long.

    data: begins with a head that the parser has taken, which has one Content-Length, written `name`.
    """
    end = data.find(b"\r\n\r\n", 0, min(_LONGEST, longest - _MOST_DIGITS))
    at = data.find(b"\r\n%b: " % name, 0, end)
    if end < 0 or at < 0:
        return None
    at += len(name) + 4
    stop = data.find(b"\r", at)
    return (data[:at], data[stop : end + 4]) if data[at:stop].isdigit() else None
