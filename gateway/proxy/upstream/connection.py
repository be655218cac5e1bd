"""One HTTP/1.1 connection to an upstream: sends a request, hands the answer on piece by piece as it arrives.

The parser is httptools' (llhttp). There is no stream object between socket and client: what one read of the socket
brought is given to the sink in one call, before the next read.
"""

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, cast

import httptools
import msgspec

from gateway.errors import UPSTREAM_CUT, UPSTREAM_MALFORMED, ErrorKind
from gateway.proxy.http.headers import RESPONSE_DROPPED, Sorter

if TYPE_CHECKING:
    from gateway.proxy.upstream.pool import Pool

Body = bytes | bytearray | memoryview
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
NOTED = frozenset({b"content-type", b"content-encoding", b"x-accel-buffering", b"x-request-id"})
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})  # RFC 9110 9.2.2
_BODILESS = frozenset({204, 304})
_MAX_HEAD = 256 * 1024  # bytes before an answer's head is complete, 1xx answers included
_JOIN_BELOW = 8 * 1024  # below it, one copy is cheaper than a second write


class _MalformedError(Exception):
    """An answer that the parser lets through and we do not."""


class ResponseHead(msgspec.Struct, frozen=True):
    """The head of an answer. headers: those that cross to the client; noted: some of them by name, see `NOTED`. length:
    of the body if it was declared; no_body: there is none whatever headers say.
    """

    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]
    noted: dict[bytes, bytes]
    length: int | None
    no_body: bool


class Sink(Protocol):
    """Who receives an answer. Called from the event loop; must not raise.

    Order: on_head once, on_data any number of times, then on_end; or on_lost at any point, which ends it too.
    """

    def on_head(self, head: ResponseHead) -> None: ...

    def on_data(self, parts: list[bytes]) -> None:
        """All body bytes of one read of the socket. Empty only if the head came and nothing with it."""

    def on_end(self) -> None: ...

    def on_lost(self, kind: ErrorKind, replayable: bool) -> None:
        """The connection broke. replayable: no byte came back and sending the request again is safe."""


class UpstreamConnection(asyncio.Protocol):
    """Serves one exchange at a time; goes back to its pool after each, if both sides allow."""

    __slots__ = (
        "_bulky", "_complete", "_drain_waiter", "_eof_delimited", "_head_only", "_head_size", "_headers", "_held",
        "_is_head", "_keep_alive", "_method", "_parser", "_parts", "_paused", "_pool", "_reason", "_sending", "_sink",
        "_started", "idle_since", "last_activity", "loop", "reused", "transport",
    )  # fmt: skip

    def __init__(self, pool: "Pool", loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self.loop = loop
        self.transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._sink: Sink | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self._reason = b""
        self._method = ""
        self._is_head = False
        self._started = False  # the answer's head has come
        self._complete = False  # the answer has ended
        self._keep_alive = False
        self._head_only = False  # the head came with this read
        self._eof_delimited = False
        self._sending = False  # the request's body is still on its way
        self._bulky = False  # the request was large enough that its end may still wait in the transport
        self._head_size = 0  # bytes that came before the answer's head was complete
        self._held = False  # we do not read at the moment
        self._paused = False  # the socket takes no more at the moment
        self._drain_waiter: asyncio.Future[None] | None = None
        self.reused = False
        self.idle_since = 0.0
        self.last_activity = 0.0

    # Sending

    def send(self, sink: Sink, method: str, head: bytes, body: Body | None, *, streaming: bool = False) -> None:
        """Begins an exchange. head: up to and with the empty line. streaming: the body follows with `write`."""
        transport = self.transport
        self._sink = sink
        self._method = method
        self._is_head = method == "HEAD"
        self._started = self._complete = self._keep_alive = self._bulky = False
        self._sending = streaming
        self._head_size = 0
        self.last_activity = self.loop.time()
        if transport is None or transport.is_closing():
            self._lose(UPSTREAM_CUT, replayable=True)
        elif not body:
            transport.write(head)
        elif len(body) < _JOIN_BELOW:
            transport.write(head + body)
        else:
            self._bulky = True
            transport.writelines((head, body))

    def write(self, data: Body) -> None:
        """More of a streaming body."""
        if self.transport is not None and self._sink is not None and not self.transport.is_closing():
            self.last_activity = self.loop.time()
            self.transport.write(data)

    async def drain(self) -> None:
        """Waits until the socket takes more. Returns at once if the exchange has ended."""
        if self._paused and self._sink is not None:
            self._drain_waiter = self.loop.create_future()
            try:
                await self._drain_waiter
            finally:
                self._drain_waiter = None

    def finish(self) -> None:
        """The streaming body is complete."""
        self._sending = False

    def cancel(self, sink: Sink) -> None:
        """Ends this sink's exchange without an answer: the upstream sees the connection go at once.

        Does nothing if the exchange has ended: the connection may be serving another by now.
        """
        if self._sink is not sink:
            return
        self._sink = None
        self._wake()
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def pause_reading(self) -> None:
        if self.transport is not None:
            self._held = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.transport is not None:
            self._held = False
            self.last_activity = self.loop.time()
            self.transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        sink = self._sink
        if sink is None:  # nobody asked: the connection is out of step
            self.close()
            return
        self.last_activity = self.loop.time()
        failed = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            failed = True
        if self._parts:
            parts, self._parts = self._parts, []
            sink.on_data(parts)
        elif self._head_only and not (self._complete or failed):
            sink.on_data([])
        self._head_only = False
        if self._complete:
            self._keep_alive = self._keep_alive and not failed
            self._end()
        elif failed or (not self._started and self._too_long(len(data))):
            self._lose(UPSTREAM_MALFORMED, replayable=False)

    def _too_long(self, size: int) -> bool:
        self._head_size += size
        return self._head_size > _MAX_HEAD

    def eof_received(self) -> None:
        """The default: the transport closes itself, and connection_lost decides what the end means."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._pool.forget(self)
        if self._sink is None:
            return
        if self._started and self._eof_delimited and exc is None:
            self._complete = True
            self._end()
            return
        # A write that the system refused was not sent; an idempotent request may be repeated in any case.
        safe = self._method in _IDEMPOTENT or isinstance(exc, BrokenPipeError)
        self._lose(UPSTREAM_CUT, replayable=self.reused and not self._started and safe and not self._sending)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self._complete:
            self._keep_alive = False  # a second answer to one request: pass the first, then part
            return
        self._headers = []
        self._reason = b""

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._started:  # what comes after the head is a trailer
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or self._complete:
            return
        fields = self._headers
        headers, noted = self._pool.sorter.sort(fields)
        length, chunked = None, False
        if b"transfer-encoding" in noted:
            length, chunked = _framing(fields)
        elif (declared := noted.get(b"content-length")) is not None:
            length = int(declared)
        no_body = self._is_head or status in _BODILESS
        self._started = self._head_only = True
        self._eof_delimited = length is None and not chunked and not no_body
        if self._sink is not None:
            self._sink.on_head(ResponseHead(status, self._reason, headers, noted, length, no_body))
        if self._is_head:
            self._complete = True  # llhttp would wait for the body that the headers speak of
            self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        if not self._complete:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        if self._started and not self._complete:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()

    # Ending

    def _end(self) -> None:
        sink, self._sink = self._sink, None
        self._wake()
        if self._is_head:
            self._parser = httptools.HttpResponseParser(self)
        if self._held:
            self.resume_reading()  # for the next exchange; only this one's client was slow
        if self.transport is not None:
            if self._sending or (self._bulky and self.transport.get_write_buffer_size()):
                self.transport.abort()  # answered before the request was complete; the rest has nowhere to go
            elif self._keep_alive:
                self._pool.release(self)
            else:
                self.transport.close()
        if sink is not None:
            sink.on_end()

    def _lose(self, kind: ErrorKind, *, replayable: bool) -> None:
        sink, self._sink = self._sink, None
        self._wake()
        if self.transport is not None:
            self.transport.abort()
        if sink is not None:
            sink.on_lost(kind, replayable)

    def _wake(self) -> None:
        waiter = self._drain_waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def response_sorter() -> Sorter:
    """For the answers of one upstream."""
    return Sorter(RESPONSE_DROPPED, NOTED | _FRAMING)


def _framing(headers: list[tuple[bytes, bytes]]) -> tuple[int | None, bool]:
    """Declared length, and whether the body is chunked. llhttp has refused what contradicts itself."""
    length: Any = None
    chunked = False
    for name, value in headers:
        size = len(name)
        if size == 14 and name.lower() == b"content-length":
            length = int(value)
        elif size == 17 and name.lower() == b"transfer-encoding":
            coding = value.rstrip(b" \t").lower()
            chunked = coding == b"chunked"
            if not chunked and coding != b"identity":
                raise _MalformedError  # we never said (TE) that we understand another
    return length, chunked
