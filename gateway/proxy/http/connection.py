"""A client's connection: aiohttp's server protocol with a leaner life of a request.

aiohttp parses, frames, applies back-pressure and hands WebSockets over. What is replaced is `start`: aiohttp's own
makes a task, a request, a response and a stream writer for each request, which costs as much as everything that the
gateway does (docs/performance.md). Here the connection's one task calls the pipeline with the parsed head.

This leans on parts of aiohttp that are not public (`_messages`, `_waiter`, `_parser`, `_request_count`, `_close`, a
stream's `_waiter`); hence the narrow version range in pyproject.toml, and tests that talk to this class over real
sockets.
"""

import asyncio
import select
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler

from gateway.errors import BAD_REQUEST, HEADERS_TOO_LARGE, REQUEST_TIMEOUT, GatewayError
from gateway.proxy.http.downstream import Downstream

if TYPE_CHECKING:
    from gateway.proxy.http.server import ProxyServer

Handler = Callable[["ServerConnection", RawRequestMessage, StreamReader, Downstream], Awaitable[None]]

_PARTING_S = 30.0  # how long a client that has got its last answer may go on sending
_LAST_CHUNK = b"\n0\r\n\r\n"
_GONE = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


class Resumable(Protocol):
    """Who wants to know that the client reads again."""

    def resume(self) -> None: ...


class ServerConnection(RequestHandler):
    """One client connection.

    client: the peer's address. awaiting: what the connection waits for, which decides the timeout that
    `ProxyServer.sweep` applies: `head`, `request` (between two), `body`, `busy` (nothing of the client), `parting` (the
    client may still be sending and is to get its last answer), `flushing` (it is slow to take that). waiting_since:
    since when, the loop's time. writer: is told when the client reads again.
    """

    __slots__ = (
        "_body", "_expecting", "_handler", "_incoming", "_large", "_left", "_partial", "_server", "_tail", "_until",
        "awaiting", "client", "draining", "waiting_since", "writer",
    )  # fmt: skip

    def __init__(self, server: "ProxyServer", **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server
        self._handler = server.handler
        self._partial = 0  # bytes of a head that is not complete yet
        self._large = False  # so much came at once that a head may be larger than allowed
        self._expecting = False  # the client waits for `100 Continue` before it sends its body
        self._body: StreamReader = EMPTY_PAYLOAD  # of the request that is being served
        self._incoming: StreamReader = EMPTY_PAYLOAD  # of the request that came last
        self._tail: bytes | None = None  # the last bytes that came, while a chunked body is coming
        self._left = 1 << 62  # what a slow client had still to take when we looked last
        self._until = 0.0  # the end of parting
        self.client = ""
        self.awaiting = "request" if server.draining else "head"
        self.waiting_since = self._loop.time()
        self.draining = server.draining
        self.writer: Resumable | None = None

    # What comes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._server.full:
            self._server.turned_away()
            cast("asyncio.Transport", transport).abort()
            return
        super().connection_made(transport)
        peer: Any = self.peername
        self.client = peer[0] if type(peer) is tuple else peer or ""

    def data_received(self, data: bytes) -> None:
        if self._close or self._force_close:
            if self.awaiting == "parting":
                self.waiting_since = min(self._loop.time(), self._until)
            return
        if self.awaiting == "request":
            self.awaiting = "head"
            self.waiting_since = self._loop.time()
        known = self._request_count
        between = self._incoming.is_eof()
        super().data_received(data)
        if self._request_count != known:
            self._arrived(self._request_count - known, data)
        elif self._tail is not None:
            self._in_chunks(data)
        elif between and not self._upgraded:
            self._more_of_a_head(len(data))

    def _arrived(self, number: int, data: bytes) -> None:
        """Requests have come, or what is none."""
        if len(data) + self._partial > self._server.max_head_bytes:
            self._large = True
        self._partial = 0
        message, payload = self._messages[-1]
        before = len(self._messages) - number
        if type(message) is not RawRequestMessage:
            if not self._incoming.is_eof():  # the parser gives up on a body without telling who reads it
                self._incoming.set_exception(GatewayError(BAD_REQUEST, reason="its body's framing is malformed"))
            self._end_after(before + 1)
            return
        if self._tail is not None:
            self._end_after(before)
            return
        if number > 1:
            for position in range(before, len(self._messages) - 1):
                if cast("RawRequestMessage", self._messages[position][0]).chunked:
                    self._end_after(position + 1)
                    return
        self._incoming = payload
        if message.chunked:
            self._tail = b""
            self._in_chunks(data)

    def _in_chunks(self, data: bytes) -> None:
        """A chunked body goes on or has ended.

        aiohttp's parser makes the last trailer of a chunked body a header of the next request on the connection. So
        there is no next request, unless the body certainly had no trailers: its last bytes are just its last chunk,
        and nothing came behind it with them.
        """
        assert self._tail is not None
        tail = self._tail = (self._tail + data)[-len(_LAST_CHUNK) :]
        if self._incoming.is_eof():
            self._tail = None
            if tail != _LAST_CHUNK:
                self._end_after(len(self._messages))

    def _end_after(self, kept: int) -> None:
        """The connection ends when the first so many of the waiting requests are served."""
        self._close = True
        while len(self._messages) > kept:
            self._messages.pop()

    def _more_of_a_head(self, size: int) -> None:
        """Bytes have come that do not make a request yet."""
        self._partial += size
        if self._partial <= self._server.max_head_bytes:
            return
        if self.awaiting == "head":
            self._refuse(GatewayError(HEADERS_TOO_LARGE, limit=self._server.max_head_bytes))
        else:
            self._end_after(len(self._messages))

    def resume_reading(self, resume_parser: bool = True) -> None:
        # aiohttp's streams call this after each body, paused or not, and then have nothing parsed once more.
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.writer is not None:
            self.writer.resume()

    # Serving

    async def start(self) -> None:
        """Serves the connection's requests, one after the other, until it closes."""
        try:
            while not self._force_close and not (self._close and not self._messages):
                message, payload = await self._next()
                down = self._downstream(message)
                if down is None:
                    break
                self._body = payload
                self._expecting = not payload.is_eof() and _expects(message)
                await self._handler(self, message, payload, down)
                self.awaiting = "busy"
                if not down.keep_alive or not down.complete or not payload.is_eof():
                    break
        finally:
            # Whatever happened, nobody serves this connection any more.
            self._task_handler = None
            self._part()

    async def _next(self) -> tuple[Any, StreamReader]:
        if not self._messages:
            if self._request_count:  # else the client still has its time for its first request
                self.awaiting = "request"
                self.waiting_since = self._loop.time()
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        message, payload = self._messages.popleft()
        self.awaiting = "busy"
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        return message, payload

    def _downstream(self, message: Any) -> Downstream | None:
        """Where the answer goes; None if the request could not be read, which is then answered already."""
        if type(message) is not RawRequestMessage:
            too_long = isinstance(message.exc, LineTooLong) or "Too many headers" in message.message
            # The parser's own words may quote the request, keys included: they stay here.
            self._refuse(self._too_large() if too_long else _malformed("its request line, a header or its framing"))
            return None
        version = message.version
        if version is not HttpVersion11 and version is not HttpVersion10:
            self._refuse(_malformed("its version, which is neither HTTP/1.1 nor HTTP/1.0,"))
            return None
        if self._large and _size(message) > self._server.max_head_bytes:
            self._refuse(self._too_large())
            return None
        # The parser hands nothing on after a request to switch protocols: if it is not one for us, it is the last.
        return Downstream(
            self,
            method=message.method,
            modern=version is HttpVersion11,
            keep_alive=not (message.should_close or message.upgrade),
        )

    @property
    def ends(self) -> bool:
        """Whether an answer that begins now is the connection's last."""
        return self.draining or not self._body.is_eof() or (self._close and not self._messages)

    def wait_for_body(self) -> None:
        """To be called before each wait for more of a body: it starts the client's time for it."""
        self.awaiting = "body"
        self.waiting_since = self._loop.time()
        if self._expecting:
            self._expecting = False
            if self.transport is not None and not self.transport.is_closing():
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _too_large(self) -> GatewayError:
        return GatewayError(HEADERS_TOO_LARGE, limit=self._server.max_head_bytes)

    def _refuse(self, error: GatewayError) -> None:
        """Answers what is not yet a request, and ends the connection."""
        if self.transport is None or self.transport.is_closing():
            return
        down = Downstream(self, method="GET", modern=True, keep_alive=False)
        request_id = self._server.ids.new()
        down.request_id = request_id.encode()
        down.fail(error)
        self._server.refused(error, request_id, self.client)
        self._part(sending=True)

    # Ending

    def time_out(self) -> None:
        """Called by the sweep when `waiting_since` is too long ago."""
        now = self._loop.time()
        if self.awaiting == "body":
            if self._body._waiter is None:
                self.waiting_since = now  # not the client is waited for, but somebody who is to take the body
            else:
                self.awaiting = "busy"
                self._body.set_exception(GatewayError(REQUEST_TIMEOUT))
        elif self.awaiting == "head" and self._partial:
            self._refuse(GatewayError(REQUEST_TIMEOUT))
        elif self.transport is not None and (left := self.transport.get_write_buffer_size()):
            if self.awaiting == "flushing" and left >= self._left:
                self.abort()
                return
            self._left = left
            self.close_when_flushed()
        else:
            self.abort()

    def begin_to_drain(self) -> None:
        """The connection closes with its next answer; one that has not begun to ask is as idle as one between two."""
        self.draining = True
        if self.awaiting == "head" and not self._partial:
            self.awaiting = "request"

    def end_wait(self, error: GatewayError) -> None:
        """Whoever waits for the client to send more of a body gets this error instead."""
        if not self._body.is_eof():
            self._body.set_exception(error)

    def left(self) -> bool:
        """Whether the client has gone unnoticed, for nobody reads from its socket at the moment. One system call."""
        if self.transport is None or not (self._reading_paused or self._buffer_paused):
            return False
        peer = self.transport.get_extra_info("socket")
        if peer is None:
            return False
        poll = select.poll()
        poll.register(peer.fileno(), _GONE)
        return bool(poll.poll(0))

    def _part(self, *, sending: bool = False) -> None:
        """Ends the connection after the last answer, so that the client gets to read it.

        sending: the client may still be sending. Closing then would reset the connection, and the reset would overtake
        the answer; so we only say that we have finished, and drop what still comes for a while (partings.py).
        """
        if self.awaiting in {"parting", "flushing"} or self.transport is None or self.transport.is_closing():
            return
        if not sending and self._body.is_eof():
            self.close_when_flushed()
            return
        self._close = True
        self.awaiting = "parting"
        self._until = self.waiting_since = self._loop.time() + _PARTING_S
        self.transport.write_eof()
        self._reading_paused = True
        self._pause_transport_reading()
        self._server.partings.join(self)
        if self._waiter is not None:
            self._waiter.cancel()

    def read_away(self) -> None:
        """It is this connection's turn: `data_received` drops what comes."""
        self.waiting_since = min(self._loop.time(), self._until)
        self._resume_transport_reading()

    def close_when_flushed(self) -> None:
        self._close = True
        self.awaiting = "flushing"
        self.waiting_since = self._loop.time()
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        """Breaks off so that the client cannot take it for an end in order."""
        peer = self.transport.get_extra_info("socket") if self.transport is not None else None
        if peer is not None and peer.family in {socket.AF_INET, socket.AF_INET6}:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing is resetting
        self.abort()

    def abort(self) -> None:
        self._force_close = True
        if self.transport is not None:
            self.transport.abort()


def _expects(message: RawRequestMessage) -> bool:
    """RFC 9110 10.1.1: of an HTTP/1.0 client it means nothing."""
    return message.version is HttpVersion11 and message.headers.get("Expect", "").lower() == "100-continue"


def _malformed(what: str) -> GatewayError:
    return GatewayError(BAD_REQUEST, reason=f"{what} is malformed")


def _size(message: RawRequestMessage) -> int:
    """Bytes of a head."""
    fields = sum(len(name) + len(value) + 4 for name, value in message.raw_headers)
    return len(message.method) + len(message.path) + 14 + fields
