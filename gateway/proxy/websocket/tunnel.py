"""Carries messages between two open sockets, as they come, until both have said goodbye.

Text goes on as the bytes it is, and so do pings, pongs and close frames: each side hears the other's close code, and
answers it itself. One side is not read while the other does not take its messages.
"""

import asyncio
import contextlib
import struct
from collections.abc import Callable
from typing import Any

from aiohttp import WSCloseCode, WSMsgType

from gateway.errors import DRAINING, UPSTREAM_CUT, UPSTREAM_TIMEOUT, GatewayError
from gateway.proxy.websocket.gate import Gate, Naming, Ruling
from gateway.tasks import Tasks

_FAREWELL_S = 2.0  # how long a side may take to answer a close
_DATA = frozenset({WSMsgType.TEXT, WSMsgType.BINARY})
_CONTROL = frozenset({WSMsgType.PING, WSMsgType.PONG})


# How an error is told to a client: the error, and what of the client's it is about.
Words = Callable[[GatewayError, Naming | None], bytes]


class Side:
    """One of the two sockets. finished: a close frame has been sent on it, or it broke; it takes nothing any more."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.finished = False

    async def send(self, data: bytes, kind: WSMsgType) -> None:
        if self.finished:
            return
        try:
            await self.socket.send_frame(data, kind)
        except ConnectionError:
            self.finished = True

    async def finish(self, code: int, reason: bytes = b"", *, wait_s: float = _FAREWELL_S) -> None:
        """Says goodbye, if that has not been said yet, and waits a little until it is taken. code 0 for none."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self.send(struct.pack("!H", code) + reason if code else b"", WSMsgType.CLOSE)
        self.finished = True


class Tunnel:
    """One pair of sockets, also while it is being made, as the worker's sweep and its drain see it.

    key: digest of the key it runs under. gate: decides on what is carried, and is shown it. words: how errors are told.
    ended: resolves when the gateway ends it, to the reason. received, sent: bytes of messages from and to the client.
    """

    def __init__(
        self, key: bytes, loop: asyncio.AbstractEventLoop, words: Words, gate: Gate | None = None
    ) -> None:  # fmt: skip
        self.key = key
        self._words = words
        self._gate = gate
        self._upstream_left = False
        self.ended: asyncio.Future[GatewayError] = loop.create_future()
        self._clock: Callable[[], float] = loop.time
        self._last_activity = loop.time()
        self.goodbye: tuple[int, bytes] | None = None  # what the side said that closed first, or answered last
        self.error: GatewayError | None = None  # why it did not end in order
        self.received = 0
        self.sent = 0

    def overdue(self, now: float, _response_s: float, between_bytes_s: float) -> GatewayError | None:
        return GatewayError(UPSTREAM_TIMEOUT) if now - self._last_activity > between_bytes_s else None

    def fail(self, error: GatewayError) -> None:
        if not self.ended.done():
            self.ended.set_result(error)

    async def carry(self, client: Side, upstream: Side, tasks: Tasks) -> None:
        """Carries messages until it is over; `error` says then why, also if the client leaves before all is said."""
        up = tasks.spawn(self._one_way(client, upstream, up=True), "socket up")
        down = tasks.spawn(self._one_way(upstream, client, up=False), "socket down")
        ways: set[asyncio.Future[Any]] = {up, down}
        try:
            await asyncio.wait({*ways, self.ended}, return_when=asyncio.FIRST_COMPLETED)
            if self.ended.done():
                self.error = self.ended.result()
                await self._end(client, upstream, self.error, self._words(self.error, None))
            elif down.done() and not down.result():
                self.error = GatewayError(UPSTREAM_CUT)
                await client.finish(WSCloseCode.INTERNAL_ERROR)
            elif up.done() and not up.result():
                await upstream.finish(WSCloseCode.GOING_AWAY)
            await asyncio.wait(ways, timeout=_FAREWELL_S)
        except asyncio.CancelledError:
            await upstream.finish(WSCloseCode.GOING_AWAY, wait_s=0.1)  # the client has left
            raise
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        # Whoever has not been answered by the other side is answered by us.
        goodbye = self.goodbye or (WSCloseCode.GOING_AWAY, b"")
        await client.finish(*goodbye)
        await upstream.finish(*goodbye)

    async def _one_way(self, source: Side, sink: Side, *, up: bool) -> bool:
        """Passes on what comes from one side to its close frame; returns whether one came."""
        gate = self._gate
        show = None if gate is None else gate.up if up else gate.down
        while True:
            message = await source.socket.receive()
            self._last_activity = self._clock()
            kind = message.type
            if kind in _DATA:
                data: bytes = message.data
                if up:
                    self.received += len(data)
                else:
                    self.sent += len(data)
                if up and gate is not None and (asked := gate.asks(data)) is not None:
                    ruling = await asked
                    await self._obey(ruling, client=source, upstream=sink)
                    if not ruling.passes:
                        continue
                    data = ruling.instead or data
                try:
                    await sink.send(data, kind)
                finally:  # also if it is given up while the other side does not take it
                    if show is not None and not (up and sink.finished):
                        show(data)
                if not up and gate is not None and (follows := gate.follows()) is not None:
                    await self._obey(await follows, client=sink, upstream=source)
            elif kind in _CONTROL:
                await sink.send(message.data, kind)
            elif kind is WSMsgType.CLOSE:
                self._upstream_left = self._upstream_left or (self.goodbye is None and not up)
                self.goodbye = message.data or 0, (message.extra or "").encode()
                await sink.finish(*self.goodbye)
                return True
            else:
                return False

    async def _obey(self, ruling: Ruling, *, client: Side, upstream: Side) -> None:
        """Says what a ruling has to be said, to either side."""
        if ruling.up:
            await upstream.send(ruling.up, WSMsgType.TEXT)
        if ruling.error is None:
            return
        if ruling.ends:
            self.fail(ruling.error)
            return
        words = self._words(ruling.error, ruling.about)
        self.sent += len(words)
        await client.send(words, WSMsgType.TEXT)

    def tell_end(self) -> None:
        """Tells the gate that it is over."""
        if self._gate is not None:
            self._gate.end("cut" if self._upstream_left or self.error is not None else "client_left")

    @staticmethod
    async def _end(client: Side, upstream: Side, error: GatewayError, last_words: bytes) -> None:
        """Ends both for a reason of the gateway's: the client hears an error event, then a close."""
        code = WSCloseCode.INTERNAL_ERROR
        if error.kind is DRAINING:
            code = WSCloseCode.GOING_AWAY
        elif error.kind.status == 401:
            code = WSCloseCode.POLICY_VIOLATION
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                await client.send(last_words, WSMsgType.TEXT)
        await client.finish(code, (error.kind.code or error.kind.name).encode())
        await upstream.finish(WSCloseCode.GOING_AWAY)
