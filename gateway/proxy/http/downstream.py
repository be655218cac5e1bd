"""The answer to one client: a head, then bytes as they come, written straight to the connection.

Nothing is re-encoded: status, reason, header names and values are bytes from end to end. Only the framing is this
connection's own (chunked, a length, or until close).
"""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from gateway.errors import GatewayError

if TYPE_CHECKING:
    from gateway.proxy.http.connection import ServerConnection

Headers = list[tuple[bytes, bytes]]
_JOIN_BELOW = 16 * 1024  # below it, one copy is cheaper than a second buffer in the write
_REASONS: Mapping[int, bytes] = MappingProxyType({
    204: b"No Content", 400: b"Bad Request", 401: b"Unauthorized", 403: b"Forbidden", 404: b"Not Found",
    405: b"Method Not Allowed", 408: b"Request Timeout", 413: b"Content Too Large", 415: b"Unsupported Media Type",
    426: b"Upgrade Required", 429: b"Too Many Requests", 431: b"Request Header Fields Too Large",
    500: b"Internal Server Error", 501: b"Not Implemented", 502: b"Bad Gateway", 503: b"Service Unavailable",
    504: b"Gateway Timeout",
})  # fmt: skip


class Downstream:
    """Writes one answer. Writing to a client that has left does nothing.

    status: 0 until the head is written. sent: body bytes written. keep_alive: whether the connection may serve another
    request afterwards; it can only turn from true to false.
    """

    # Defaults stand in the class: one of these is made for each request.
    _chunked = False
    _to_end = False  # the body ends with the connection
    _head = b""  # written together with the first body bytes
    request_id = b""
    extra: Headers | None = None  # headers that every answer on this connection gets: see cors.py
    levels = b""  # header lines: what the client hears of its limits, whatever the answer is
    status = 0
    sent = 0
    complete = False

    def __init__(self, connection: "ServerConnection", method: str, modern: bool, keep_alive: bool) -> None:
        self._connection = connection
        self._is_head = method == "HEAD"
        self._modern = modern  # HTTP/1.1: chunks are understood
        self.keep_alive = keep_alive

    @property
    def started(self) -> bool:
        return self.status != 0

    @property
    def congested(self) -> bool:
        """Whether the client reads more slowly than it is written to."""
        return self._connection.writing_paused

    @property
    def _transport(self) -> asyncio.Transport | None:
        """What to write to; None if the connection has gone or is about to: uvloop's does not take more then."""
        transport = self._connection.transport
        return None if transport is None or transport.is_closing() else transport

    def start(self, status: int, reason: bytes, headers: Headers, *, length: int | None, no_body: bool = False) -> None:
        """Prepares the head. headers: what crosses, Content-Length included. length: None streams until `end`."""
        self.status = status
        if self.extra:
            headers = [h for h in headers if not h[0].lower().startswith(b"access-control-")] + self.extra
        lines = [b"HTTP/1.1 %d %b" % (status, reason), *map(b": ".join, headers)]
        if self.levels:
            lines.append(self.levels)
        if length is None and not (no_body or self._is_head):
            if self._modern:
                self._chunked = True
                lines.append(b"Transfer-Encoding: chunked")
            else:
                self.keep_alive = False  # HTTP/1.0: the body ends with the connection
                self._to_end = True
        if not self.keep_alive or self._connection.ends:
            self.keep_alive = False
            lines.append(b"Connection: close")
        elif not self._modern:
            lines.append(b"Connection: keep-alive")
        lines.append(b"\r\n")
        self._head = b"\r\n".join(lines)

    def write(self, parts: list[bytes]) -> None:
        """Sends body bytes at once."""
        transport = self._connection.transport
        if transport is None or transport.is_closing():
            return  # as `_transport` has it
        size = len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
        self.sent += size
        if self._chunked:
            parts = [self._head, b"%x\r\n" % size, *parts, b"\r\n"]
        elif self._head:
            parts = [self._head, *parts]
        self._head = b""
        if size < _JOIN_BELOW:
            transport.write(b"".join(parts))
        else:
            transport.writelines(parts)

    def flush_head(self) -> None:
        """Sends the head now, if it still waits for the body's first bytes."""
        transport = self._transport
        if self._head and transport is not None:
            transport.write(self._head)
            self._head = b""

    def end(self) -> None:
        """The answer is complete."""
        self.complete = True
        tail = self._head + b"0\r\n\r\n" if self._chunked else self._head
        self._head = b""
        if tail and (transport := self._transport) is not None:
            transport.write(tail)

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer of the gateway's own."""
        head = [*headers, (b"Content-Length", b"%d" % len(body))] if status != 204 else headers
        self.start(status, _REASONS.get(status, b""), head, length=len(body))
        if body and not self._is_head:
            self.write([body])
        self.end()

    def fail(self, error: GatewayError) -> None:
        """The answer to a request that failed before anything was written."""
        content = [(b"Content-Type", b"application/json"), *error.headers(), (b"x-request-id", self.request_id)]
        self.answer(error.kind.status, content, error.json())

    def take_back(self) -> bool:
        """Whether the answer that was begun can be another one still: nothing of it has been sent."""
        if self._head and not self.complete:
            self._head = b""
            self._chunked = False
            self.status = 0
        return not self.started

    def cut(self, last_words: bytes = b"") -> None:
        """Ends an answer that cannot be completed, so that the client can tell: never a clean end.

        last_words: a final piece of the body, for example an error event; said only where the framing still shows that
        the answer is not complete. A chunked body lacks its last chunk and one of declared length its rest; where the
        connection's end is all the framing there is, it is reset.
        """
        self.keep_alive = False
        if self._to_end:
            self._connection.reset()
        elif last_words and self._chunked:
            self.write([last_words])
        else:
            self.flush_head()
