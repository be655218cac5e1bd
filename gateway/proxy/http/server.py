"""The server that accepts a worker's client connections and keeps their time."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from gateway.errors import GatewayError
from gateway.proxy.http.connection import Handler, ServerConnection
from gateway.proxy.http.partings import Partings
from gateway.proxy.http.request import RequestIds
from gateway.settings.model import Timeouts

Refused = Callable[[GatewayError, str, str], None]

_READ_AHEAD = 64 * 1024  # of a body that nobody reads yet, twice this is taken from the socket
_PARTINGS = 8  # connections whose unwanted bodies are read away at the same time
_PARTING_PAUSE_S = 0.5  # without a byte, after which another one gets its turn
_PARTING_S = 5.0  # how long a client that has got its last answer may be silent


class ProxyServer(web.Server):
    """Makes the connections of one worker and keeps their time.

    max_head_bytes: of a request. max_connections: beyond it new ones are closed, and `turned_away` is called. refused:
    called with each error that answers what is not yet a request, with the request id and the client's address.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        max_head_bytes: int,
        max_connections: int,
        timeouts: Timeouts,
        ids: RequestIds,
        refused: Refused,
        turned_away: Callable[[], None],
    ) -> None:
        super().__init__(
            cast("Any", handler),
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=0,  # the sweep keeps the time: no timer per connection
            read_bufsize=_READ_AHEAD,
            max_line_size=max_head_bytes,
            max_field_size=max_head_bytes,
            max_headers=256,
        )
        self.handler = handler
        self.max_head_bytes = max_head_bytes
        self._max_connections = max_connections
        self.ids = ids
        self.refused = refused
        self.turned_away = turned_away
        self.draining = False
        self.partings = Partings(_PARTINGS)
        self._emptied: asyncio.Future[None] | None = None
        self._limits = {
            "head": timeouts.client_headers_s,
            "body": timeouts.client_body_s,
            "request": timeouts.client_keepalive_s,
            "busy": float("inf"),
            "parting": _PARTING_S,
            "flushing": timeouts.between_bytes_s,
        }

    def __call__(self) -> RequestHandler:
        return ServerConnection(self, loop=self._loop, **self._kwargs)

    @property
    def full(self) -> bool:
        return len(self._connections) >= self._max_connections

    async def empty(self) -> None:
        """Waits until no client is connected and nobody is served."""
        while self._connections:
            self._emptied = self._loop.create_future()
            await self._emptied

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:  # noqa: ARG002
        task = handler._task_handler
        if task is None or task.done():
            self._forget(handler)
        else:
            task.add_done_callback(lambda _: self._forget(handler))

    def _forget(self, handler: RequestHandler) -> None:
        self._connections.pop(handler, None)
        self.partings.leave(cast("ServerConnection", handler))
        if not self._connections and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def sweep(self, now: float) -> None:
        """Ends connections that have waited too long, or whose client has left unnoticed. now: the loop's time."""
        for connection in self.connections:
            assert isinstance(connection, ServerConnection)
            if connection.awaiting == "parting" and now - connection.waiting_since > _PARTING_PAUSE_S:
                self.partings.leave(connection)  # it goes on being read, but nobody waits for it any more
            if now - connection.waiting_since > self._limits[connection.awaiting]:
                connection.time_out()
            elif connection.left():
                connection.abort()

    def drain(self, idle_s: float) -> None:
        """From now on each connection is closed with its next answer, and idle ones after `idle_s`."""
        self.draining = True
        self._limits["request"] = idle_s
        for connection in self.connections:
            assert isinstance(connection, ServerConnection)
            connection.begin_to_drain()

    def end_waits(self, error: GatewayError) -> None:
        """Ends all waiting for clients' bodies."""
        for connection in self.connections:
            assert isinstance(connection, ServerConnection)
            connection.end_wait(error)
