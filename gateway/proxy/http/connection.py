"""A client's connection: its requests are served one after the other, by one task; what is written goes to the socket.

aiohttp's own server makes a task, a request, a response and a stream writer for each request, which costs as much as
everything that the gateway does (docs/performance.md, decision 003). WebSockets are aiohttp's: see `switch`.
"""

import asyncio
import select
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

from gateway.errors import REQUEST_TIMEOUT, GatewayError
from gateway.proxy.http.downstream import Downstream
from gateway.proxy.http.incoming import Head, RequestReader, Unreadable
from gateway.proxy.http.payload import Payload

if TYPE_CHECKING:
    from gateway.proxy.http.server import ProxyServer

Handler = Callable[["ServerConnection", Head, Downstream], Awaitable[None]]

_PARTING_S = 30.0  # how long a client that has got its last answer may go on sending
_GONE = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


class Resumable(Protocol):
    """Who wants to know that the client reads again."""

    def resume(self) -> None: ...


class Switched(Protocol):
    """Who has taken the connection over for another protocol: see `websocket.joint`."""

    @property
    def holds(self) -> bool:
        """Whether it keeps the socket unread at the moment."""

    def data_received(self, data: bytes) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self, exc: BaseException | None) -> None: ...


class ServerConnection(asyncio.Protocol):
    """One client connection.

    client: the peer's address. awaiting: what the connection waits for, which decides the timeout that
    `ProxyServer.sweep` applies: `head`, `request` (between two), `body`, `busy` (nothing of the client), `parting` (the
    client may still be sending and is to get its last answer), `flushing` (it is slow to take that). waiting_since:
    since when, the loop's time. writer: is told when the client reads again.
    """

    __slots__ = (
        "_body", "_expecting", "_handler", "_holds", "_left", "_loop", "_requests", "_server", "_shut", "_switched",
        "_task", "_until", "_waiter", "awaiting", "client", "draining", "transport", "waiting_since",
        "writer", "writing_paused",
    )  # fmt: skip

    def __init__(self, server: "ProxyServer", loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._handler = server.handler
        self._loop = loop
        self._requests = RequestReader(self, server.max_head_bytes)
        self._body: Payload | None = None  # of the request that is being served
        self._expecting = False  # the client waits for `100 Continue` before it sends its body
        self._holds = 0  # reasons to leave the socket unread
        self._shut = False  # nothing more is read or served
        self._switched: Switched | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None  # for the next request
        self._left = 1 << 62  # what a slow client had still to take when we looked last
        self._until = 0.0  # the end of parting
        self.transport: asyncio.Transport | None = None
        self.writing_paused = False
        self.client = ""
        self.awaiting = "head"
        self.waiting_since = loop.time()
        self.draining = False
        self.writer: Resumable | None = None

    # What comes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        if self._server.full:
            self._server.turned_away()
            made.abort()
            return
        self.transport = made
        peer: Any = made.get_extra_info("peername")
        self.client = peer[0] if type(peer) is tuple else peer or ""
        sock = made.get_extra_info("socket")
        if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._server.joined(self)
        if self._server.draining:  # since it was accepted, perhaps, and then nobody has told it
            self.begin_to_drain()
        self._task = self._server.tasks.spawn(self._serve(), "serve a connection")

    def data_received(self, data: bytes) -> None:
        if self._switched is not None:
            self._switched.data_received(data)
            return
        if self._shut:
            if self.awaiting == "parting":
                self.waiting_since = min(self._loop.time(), self._until)
            return
        if self.awaiting == "request":
            self.awaiting = "head"
            self.waiting_since = self._loop.time()
        requests = self._requests
        requests.feed(data)
        waiter = self._waiter
        if waiter is not None and requests.waiting and not waiter.done():
            waiter.set_result(None)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.transport = None
        self._shut = True
        if self._switched is not None:
            self._switched.connection_lost(exc)
        if self._task is not None:
            self._task.cancel()  # the client has left
        self._server.lost(self)

    def pause_writing(self) -> None:
        self.writing_paused = True
        if self._switched is not None:
            self._switched.pause_writing()

    def resume_writing(self) -> None:
        self.writing_paused = False
        if self._switched is not None:
            self._switched.resume_writing()
        if self.writer is not None:
            self.writer.resume()

    @property
    def unread(self) -> bool:
        """Whether the socket is left unread at the moment."""
        return self._holds > 0 or (self._switched is not None and self._switched.holds)

    def hold(self) -> None:
        """Leaves the socket unread."""
        self._holds += 1
        if self._holds == 1 and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def release(self) -> None:
        """One reason less to leave it so."""
        self._holds = max(0, self._holds - 1)
        if self._holds == 0 and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    # Serving

    async def _serve(self) -> None:
        """Serves the connection's requests, one after the other, until it closes."""
        requests = self._requests
        waiting = requests.waiting
        first = True
        try:
            while not self._shut:
                if not waiting:
                    if requests.ended:
                        break
                    if not first:  # else the client still has its time for its first request
                        self.awaiting = "request"
                        self.waiting_since = self._loop.time()
                    self._waiter = self._loop.create_future()
                    try:
                        await self._waiter
                    finally:
                        self._waiter = None
                    continue
                first = False
                head = requests.take()
                self.awaiting = "busy"
                if isinstance(head, Unreadable):
                    self._refuse(head.error)
                    break
                self._body = head.body
                self._expecting = not head.body.ended and _expects(head)
                down = Downstream(self, head.method, head.modern, head.keep_alive and not head.switches)
                await self._handler(self, head, down)
                self.awaiting = "busy"
                if not down.keep_alive or not down.complete or not head.body.ended:
                    break
                head.body.read_nowait()  # what nobody wanted must not keep the socket unread
                self._body = None
        finally:
            # Whatever happened, nobody serves this connection any more.
            self._task = None
            self._part()

    @property
    def ends(self) -> bool:
        """Whether an answer that begins now is the connection's last."""
        requests = self._requests
        return (
            self.draining
            or (self._body is not None and not self._body.ended)
            or (requests.ended and not requests.waiting)
        )

    def wait_for_body(self) -> None:
        """To be called before each wait for more of a body: it starts the client's time for it."""
        self.awaiting = "body"
        self.waiting_since = self._loop.time()
        if self._expecting:
            self._expecting = False
            if self.transport is not None and not self.transport.is_closing():
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def switch(self, to: Switched) -> bytes:
        """Hands the connection over to another protocol; gives what has come of that already."""
        self._switched = to
        return self._requests.take_tail()

    def _refuse(self, error: GatewayError) -> None:
        """Answers what is not yet a request, and ends the connection."""
        if self.transport is None or self.transport.is_closing():
            return
        down = Downstream(self, "GET", modern=True, keep_alive=False)
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
            if self._body is None or not self._body.awaited:
                self.waiting_since = now  # not the client is waited for, but somebody who is to take the body
            else:
                self.awaiting = "busy"
                self._body.set_exception(GatewayError(REQUEST_TIMEOUT))
        elif self.awaiting == "head" and self._requests.in_head:
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
        if self.awaiting == "head" and not self._requests.in_head:
            self.awaiting = "request"

    def end_wait(self, error: GatewayError) -> None:
        """Whoever waits for the client to send more of a body gets this error instead."""
        if self._body is not None and not self._body.ended:
            self._body.set_exception(error)

    def left(self) -> bool:
        """Whether the client has gone unnoticed, for nobody reads from its socket at the moment. One system call."""
        if self.transport is None or not self.unread:
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
        self._shut = True
        if not sending and (self._body is None or self._body.ended):
            self.close_when_flushed()
            return
        self.awaiting = "parting"
        self._until = self.waiting_since = self._loop.time() + _PARTING_S
        self.transport.write_eof()
        self.hold()
        self._server.partings.join(self)
        if self._waiter is not None:
            self._waiter.cancel()

    def read_away(self) -> None:
        """It is this connection's turn: `data_received` drops what comes."""
        self.waiting_since = min(self._loop.time(), self._until)
        self._holds = 0
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def close_when_flushed(self) -> None:
        self._shut = True
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
        self._shut = True
        if self.transport is not None:
            self.transport.abort()

    @property
    def serving(self) -> "asyncio.Task[None] | None":
        """The task that serves it, until that has ended."""
        return self._task


def _expects(head: Head) -> bool:
    """RFC 9110 10.1.1: of an HTTP/1.0 client it means nothing."""
    return head.modern and head.headers.named.get(b"expect", b"").lower() == b"100-continue"
