"""The connections of one worker's clients, and their time."""

import asyncio
from collections.abc import Callable

from gateway.errors import GatewayError
from gateway.proxy.http.connection import Handler, ServerConnection
from gateway.proxy.http.partings import Partings
from gateway.proxy.http.request import RequestIds
from gateway.settings.model import Timeouts
from gateway.tasks import Tasks

Refused = Callable[[GatewayError, str, str], None]

_PARTINGS = 8  # connections whose unwanted bodies are read away at the same time
_PARTING_PAUSE_S = 0.5  # without a byte, after which another one gets its turn
_PARTING_S = 5.0  # how long a client that has got its last answer may be silent


class ProxyServer:
    """Makes the connections of one worker, as a protocol factory, and keeps their time.

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
        self.handler = handler
        self.max_head_bytes = max_head_bytes
        self._max_connections = max_connections
        self.ids = ids
        self.refused = refused
        self.turned_away = turned_away
        self.draining = False
        self.partings = Partings(_PARTINGS)
        self.tasks = Tasks()
        self._loop = asyncio.get_running_loop()
        self._connections: set[ServerConnection] = set()
        self._emptied: asyncio.Future[None] | None = None
        self._limits = {
            "head": timeouts.client_headers_s,
            "body": timeouts.client_body_s,
            "request": timeouts.client_keepalive_s,
            "busy": float("inf"),
            "parting": _PARTING_S,
            "flushing": timeouts.between_bytes_s,
        }

    def __call__(self) -> ServerConnection:
        return ServerConnection(self, self._loop)

    @property
    def connections(self) -> list[ServerConnection]:
        """Those that are connected, or still being served."""
        return list(self._connections)

    @property
    def full(self) -> bool:
        return len(self._connections) >= self._max_connections

    async def empty(self) -> None:
        """Waits until no client is connected and nobody is served."""
        while self._connections:
            self._emptied = self._loop.create_future()
            await self._emptied

    async def close(self) -> None:
        """Ends all connections, and what they serve."""
        for connection in self.connections:
            connection.abort()
        await self.tasks.cancel()

    def joined(self, connection: ServerConnection) -> None:
        """A client has connected."""
        self._connections.add(connection)

    def lost(self, connection: ServerConnection) -> None:
        """A client has gone. It counts until what it was served has ended."""
        task = connection.serving
        if task is None or task.done():
            self._forget(connection)
        else:
            task.add_done_callback(lambda _: self._forget(connection))

    def _forget(self, connection: ServerConnection) -> None:
        self._connections.discard(connection)
        self.partings.leave(connection)
        if not self._connections and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def sweep(self, now: float) -> None:
        """Ends connections that have waited too long, or whose client has left unnoticed. now: the loop's time."""
        for connection in self.connections:
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
            connection.begin_to_drain()

    def end_waits(self, error: GatewayError) -> None:
        """Ends all waiting for clients' bodies."""
        for connection in self.connections:
            connection.end_wait(error)
