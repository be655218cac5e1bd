"""Requests out of a connection's bytes. llhttp reads them; what it lets through and we must not is refused here."""

from collections import deque
from typing import Protocol

import httptools
import msgspec

from gateway.errors import BAD_REQUEST, HEADERS_TOO_LARGE, ErrorKind, GatewayError
from gateway.proxy.http.headers import Headers
from gateway.proxy.http.payload import Flow, Payload
from gateway.proxy.http.repeated import KnownHead, split_head

MOST_WAITING = 32  # requests that a client may send before the first of them is answered
_MOST_FIELDS = 256
_STEP = 8 * 1024  # bytes that are read at once: this much holds so many requests at most
_BODY_STEP = 64 * 1024  # inside of a body
# Two of one of these and two readers may take the message for different ones.
_ONCE = frozenset(
    {
        b"content-length", b"content-location", b"content-range", b"content-type", b"etag", b"host", b"max-forwards",
        b"server", b"transfer-encoding", b"user-agent",
    }
)  # fmt: skip


class Head(msgspec.Struct, frozen=True):
    """A request's head, and its body, which may still be coming.

    target: as it stands in the request line. modern: HTTP/1.1. length: of the body, None if it comes in chunks.
    keep_alive: whether the client wants to ask more on this connection. switches: it asks to change protocols, and no
    request can follow it.
    """

    method: str
    target: bytes
    modern: bool
    headers: Headers
    length: int | None
    body: Payload
    keep_alive: bool
    switches: bool

    def __repr__(self) -> str:
        return f"Head({self.method})"  # a query may hold a key


class Unreadable(msgspec.Struct, frozen=True):
    """What came in place of a request, and is the last that is read."""

    error: GatewayError


class _RefusedError(Exception):
    """Ends the parser's work."""


class Connection(Flow, Protocol):
    """Whose bytes these are."""


class RequestReader:
    """Reads one connection. waiting: requests that nobody has taken yet. ended: no request follows those. in_head: a
    head has begun and is not complete.
    """

    __slots__ = (
        "_between", "_empty", "_error", "_fields", "_flow", "_framing", "_held", "_known", "_large", "_last", "_left",
        "_length_at", "_length_name", "_max_head", "_parser", "_partial", "_payload", "_rest", "_same", "_switching",
        "_tail", "_target", "ended", "in_head", "waiting",
    )  # fmt: skip

    def __init__(self, flow: Flow, max_head: int) -> None:
        """max_head: bytes of a head."""
        self._flow = flow
        self._max_head = max_head
        self._parser = httptools.HttpRequestParser(self)
        self._empty = Payload(flow, b"")
        self._payload: Payload | None = None  # of the body that is coming
        self._fields: list[tuple[bytes, bytes]] = []  # of the head that is being read
        self._last = Headers([], {})  # of the request before
        self._length_at, self._length_name = -1, b""  # where its Content-Length was, and how it was written
        self._same = False  # the request before had the headers of the one before that
        self._known: KnownHead | None = None  # the head that comes again and again
        self._rest = 0  # bytes of the body behind it that have not come
        self._target = b""
        self._framing = b""  # of a body that the parser will not read, see `_read_on`
        self._between = True  # the parser has read whole requests, and no byte of another
        self.in_head = False
        self._partial = 0  # bytes of a head that is not complete yet, or of a body's framing without more of the body
        self._large = False  # so much has come that the next head may be larger than allowed
        self._left: memoryview | None = None  # that came while too many waited
        self._held = False
        self._error: GatewayError | None = None
        self.waiting: deque[Head | Unreadable] = deque()
        self.ended = False
        self._switching = False  # what comes now is of another protocol
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """More bytes have come."""
        if self.ended:
            self._keep(data)
        elif self._left is not None:
            self._left = memoryview(b"".join((self._left, data)))
        elif self._rest:
            self._more(data)
        elif self._known is not None and self._again(data, self._known):
            pass
        elif len(data) <= _STEP:
            first = self._between
            number = len(self.waiting)
            self._read(data)
            if self._same and first and len(self.waiting) == number + 1:
                self._note(data, self.waiting[-1])
        else:
            self._read_in_steps(memoryview(data))
        if len(self.waiting) >= MOST_WAITING:
            self._hold()

    def _again(self, data: bytes, known: KnownHead) -> bool:
        """Whether this was a request with the head that is known. The parser, which must be between two, does not see
        it."""
        if not self._between or (found := known.found(data)) is None:
            return False
        begin, length = found
        come = len(data) - begin
        if come > length:
            return False  # another request follows
        if come == length:
            payload = Payload(self._flow, data[begin:])
        else:
            self._payload = payload = Payload(self._flow)
            self._rest = length
        self.waiting.append(
            Head(known.method, known.target, known.modern, known.headers, length, payload, known.keep_alive, False)
        )
        if 0 < come < length:
            self._more(data[begin:])
        return True

    def _more(self, data: bytes) -> None:
        """More of a body that the parser does not see."""
        payload, rest = self._payload, self._rest
        assert payload is not None
        size = len(data)
        if size < rest:
            self._rest = rest - size
            payload.feed(data)
            return
        self._rest = 0
        self._payload = None
        payload.feed(data if size == rest else data[:rest])
        payload.end()
        if size > rest:
            self.feed(data[rest:])

    def _note(self, data: bytes, head: "Head | Unreadable") -> None:
        """Headers have come again: the next head with them need not be parsed."""
        self._same = False
        if isinstance(head, Unreadable) or not head.length or head.switches:
            return
        if (parts := split_head(data, self._length_name, self._max_head)) is not None:
            self._known = KnownHead(*parts, head.method, head.target, head.modern, head.headers, head.keep_alive)

    def take(self) -> "Head | Unreadable":
        """The next request. There must be one."""
        taken = self.waiting.popleft()
        if self._held and len(self.waiting) <= MOST_WAITING // 2:
            self._go_on()
        return taken

    def take_tail(self) -> bytes:
        """What has come behind a request to change protocols."""
        tail, self._tail = self._tail, b""
        if self._held:
            self._held = False
            self._flow.release()
        return tail

    def _keep(self, data: bytes) -> None:
        if self._switching:
            self._tail += data
            if len(self._tail) > _BODY_STEP:
                self._hold()

    def _read_in_steps(self, data: memoryview) -> None:
        at = 0
        while at < len(data) and not self.ended:
            if len(self.waiting) >= MOST_WAITING:
                self._left = data[at:]
                self._hold()
                return
            step = _STEP if self._payload is None else _BODY_STEP
            self._read(data[at : at + step])
            at += step
        if self.ended:
            self._keep(bytes(data[at:]))

    def _hold(self) -> None:
        if not self._held:
            self._held = True
            self._flow.hold()

    def _go_on(self) -> None:
        left, self._left = self._left, None
        if left is not None:
            self._read_in_steps(left)
        if self._left is None:
            self._held = False
            self._flow.release()

    def _read(self, data: bytes | memoryview) -> None:
        payload = self._payload
        before = payload.total_bytes if payload is not None else 0
        self._large = len(data) + self._partial > self._max_head - _STEP
        in_body, number = payload is not None, len(self.waiting)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as change:
            self._read_on(data[change.args[0] :])
        except httptools.HttpParserError:
            self._give_up(self._error or _malformed("its request line, a header or its framing"))
        if self.ended:
            return
        if self.in_head:
            if not in_body and len(self.waiting) == number:  # else it began somewhere in the middle: see `_large`
                self._partial += len(data)
        elif payload is None or self._payload is not payload or payload.total_bytes != before:
            self._partial = 0
        else:
            self._partial += len(data)
        if self._partial > self._max_head:
            self._give_up(_too_large(self._max_head))

    def _read_on(self, rest: bytes | memoryview) -> None:
        """Behind the head of a request to change protocols. llhttp would read on after a body, httptools does not: it
        is read by another parser, which is told of its framing."""
        framing, self._framing = self._framing, b""
        if not framing:
            self.ended = self._switching = True
            self._tail = bytes(rest)
            return
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(b"POST / HTTP/1.1\r\nHost: h\r\n%b\r\n\r\n" % framing)
        self._read(rest)

    def _give_up(self, error: GatewayError) -> None:
        self.ended = True
        self.in_head = False
        if self._payload is not None:
            self._payload.set_exception(_malformed("its body's framing"))
        self.waiting.append(Unreadable(error))

    def _refuse(self, error: GatewayError) -> None:
        self._error = error
        raise _RefusedError

    # httptools' callbacks

    def on_message_begin(self) -> None:
        self._between = False
        self.in_head = True
        self._partial = 0
        self._fields = []
        self._target = b""

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.in_head = False
        if self._payload is not None:
            return  # see `_read_on`
        parser = self._parser
        headers, length = self._headers()
        version = parser.get_http_version()
        modern = version == "1.1"
        if not modern and version != "1.0":
            self._refuse(_malformed("its version, which is neither HTTP/1.1 nor HTTP/1.0,"))
        if b"host" not in headers.named if modern else length is None:  # RFC 9112 6.1: 1.0 knows no chunks
            self._refuse(_malformed("its request line, a header or its framing"))
        body = self._empty
        if length != 0:
            body = self._payload = Payload(self._flow)
        switches = parser.should_upgrade()
        if switches and length != 0:
            self._framing = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
        method = parser.get_method().decode()
        keep_alive = parser.should_keep_alive()
        self.waiting.append(Head(method, self._target, modern, headers, length, body, keep_alive, switches))

    def _headers(self) -> tuple[Headers, int | None]:
        """The headers that have come, and the length of the body that follows; None: it comes in chunks."""
        fields, last, at = self._fields, self._last, self._length_at
        self._fields = []  # what comes now are trailers, which end with their request
        if self._large and self._size(fields) > self._max_head:
            self._refuse(_too_large(self._max_head))
        length: bytes | None = None
        if 0 <= at < len(fields) and fields[at][0] == self._length_name:
            length = fields.pop(at)[1]
        if fields == last.raw:
            self._same = True
            return last, None if b"transfer-encoding" in last.named else int(length or 0)
        if length is not None:
            fields.insert(at, (self._length_name, length))
        return self._new_headers(fields)

    def _new_headers(self, fields: list[tuple[bytes, bytes]]) -> tuple[Headers, int | None]:
        """The same for headers that are not those of the request before."""
        if len(fields) > _MOST_FIELDS:
            self._refuse(_too_large(self._max_head))
        raw: list[tuple[bytes, bytes]] = []
        named: dict[bytes, bytes] = {}
        length, self._length_at = 0, -1
        for number, (name, written) in enumerate(fields):
            lower, value = name.lower(), written.rstrip(b" \t")
            if lower == b"content-length":  # once, or llhttp would have refused it
                length, self._length_at, self._length_name = int(value), number, name
                continue
            raw.append((name, value))
            if lower not in named:
                named[lower] = value
            elif lower in _ONCE:
                self._refuse(_malformed("its request line, a header or its framing"))
        self._same, self._known = False, None
        self._last = headers = Headers(raw, named)
        return headers, None if b"transfer-encoding" in named else length

    def on_body(self, data: bytes) -> None:
        if self._payload is not None:
            self._payload.feed(data)

    def on_message_complete(self) -> None:
        if self._framing:
            return
        self._between = True
        if self._payload is not None:
            self._payload.end()
            self._payload = None

    def _size(self, fields: list[tuple[bytes, bytes]]) -> int:
        """Bytes of a head that is complete."""
        line = len(self._parser.get_method()) + len(self._target) + 14
        return line + sum(len(name) + len(value) + 4 for name, value in fields)


def _too_large(limit: int) -> GatewayError:
    return GatewayError(HEADERS_TOO_LARGE, limit=limit)


def _malformed(what: str, kind: ErrorKind = BAD_REQUEST) -> GatewayError:
    """The parser's own words may quote the request, keys included: they stay here."""
    return GatewayError(kind, reason=f"{what} is malformed")
