"""The connections of one worker to one upstream."""

import asyncio
import socket
import ssl
from collections import deque

import aiohappyeyeballs
import msgspec

from gateway.errors import OVERLOADED, UPSTREAM_UNREACHABLE, GatewayError
from gateway.proxy.upstream.connection import UpstreamConnection, response_sorter
from gateway.sockets import unread

_PEEK_AFTER_S = 1.0  # how long a connection may have been idle before it is looked at again before use
_ADDRESSES_S = 30.0  # how long a host's addresses are believed


class Address(msgspec.Struct, frozen=True):
    """Where an upstream is: a host and port, or the path of a unix socket."""

    host: str = ""
    port: int = 0
    unix_path: str = ""


class Pool:
    """Keeps idle connections, newest first, and makes new ones; at most `limit` at once if there is a limit.

    Errors: UPSTREAM_UNREACHABLE if no connection can be made within `connect_s`, OVERLOADED if none comes free.
    """

    def __init__(
        self,
        address: Address,
        *,
        tls: ssl.SSLContext | None = None,
        limit: int | None = None,
        keepalive_s: float = 45.0,
        connect_s: float = 5.0,
    ) -> None:
        self._address = address
        self.tls = tls
        self._limit = limit
        self._keepalive_s = keepalive_s
        self._connect_s = connect_s
        self._loop = asyncio.get_running_loop()
        self._idle: list[UpstreamConnection] = []
        self._all: set[UpstreamConnection] = set()
        self._connecting = 0  # places taken by connections that are being made
        self._waiters: deque[asyncio.Future[UpstreamConnection | None]] = deque()
        self._addresses: list[aiohappyeyeballs.AddrInfoType] = []
        self._addresses_until = 0.0
        self._closed = False
        self.sorter = response_sorter()

    def __len__(self) -> int:
        return len(self._all)

    @property
    def idle(self) -> int:
        return len(self._idle)

    def take(self, *, sure: bool = False) -> UpstreamConnection | None:
        """An idle connection that still looks alive, or None. sure: look closely, for sending cannot be repeated."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.transport is None or connection.transport.is_closing():
                continue
            idle_s = self._loop.time() - connection.idle_since
            if (sure or idle_s > _PEEK_AFTER_S) and unread(connection.transport):
                connection.close()  # it said something, most likely goodbye, that the loop has not read yet
                continue
            connection.reused = True
            return connection
        return None

    async def connect(self) -> UpstreamConnection:
        """A new connection; if the limit is reached, waits for a place or for a connection that comes free."""
        given = await self._place()
        if given is not None:
            return given
        try:
            async with asyncio.timeout(self._connect_s):
                connection = await self._open()
        except (OSError, ssl.SSLError, ssl.CertificateError, TimeoutError) as error:
            raise GatewayError(UPSTREAM_UNREACHABLE) from error
        else:
            self._all.add(connection)
            if connection.transport is None:
                self._all.discard(connection)  # it has gone already
            return connection
        finally:
            self._connecting -= 1
            self._place_free()

    async def _place(self) -> UpstreamConnection | None:
        """Takes a place for a new connection, None, or a connection that came free meanwhile."""
        if self._limit is None or (not self._waiters and len(self._all) + self._connecting < self._limit):
            self._connecting += 1
            return None
        waiter: asyncio.Future[UpstreamConnection | None] = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(self._connect_s):
                return await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():
                self._hand_back(waiter.result())  # it was given to us just when we stopped waiting
            if isinstance(error, TimeoutError):
                raise GatewayError(OVERLOADED) from None
            raise

    def _hand_back(self, given: UpstreamConnection | None) -> None:
        if given is not None:
            self.release(given)
            return
        self._connecting -= 1
        self._place_free()

    def _place_free(self) -> None:
        """Gives a free place, if there is one, to whoever has waited longest."""
        if self._limit is not None and self._waiters and len(self._all) + self._connecting < self._limit:
            self._connecting += 1
            if not self._give(None):
                self._connecting -= 1

    def _give(self, given: UpstreamConnection | None) -> bool:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(given)
                return True
        return False

    async def _open(self) -> UpstreamConnection:
        loop, address = self._loop, self._address
        if address.unix_path:
            _, connection = await loop.create_unix_connection(lambda: UpstreamConnection(self, loop), address.unix_path)
            return connection
        opened = await aiohappyeyeballs.start_connection(
            await self._resolve(), happy_eyeballs_delay=0.25, interleave=1, loop=loop
        )
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            _, connection = await loop.create_connection(
                lambda: UpstreamConnection(self, loop),
                sock=opened,
                ssl=self.tls,
                server_hostname=address.host if self.tls else None,
            )
        except BaseException:
            opened.close()
            raise
        return connection

    async def _resolve(self) -> list[aiohappyeyeballs.AddrInfoType]:
        """The host's addresses; asked for again after a while. Those of before do if nobody can tell."""
        if self._loop.time() >= self._addresses_until:
            try:
                self._addresses = list(
                    await self._loop.getaddrinfo(self._address.host, self._address.port, type=socket.SOCK_STREAM)
                )
            except OSError:
                if not self._addresses:
                    raise
            self._addresses_until = self._loop.time() + _ADDRESSES_S
        return self._addresses

    def release(self, connection: UpstreamConnection) -> None:
        """An exchange has ended well, or was never begun, and the connection may serve another."""
        if self._closed:
            connection.close()
            return
        if self._waiters:
            connection.reused = True
            if self._give(connection):
                return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection has gone."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._place_free()

    def sweep(self, now: float) -> None:
        """Closes what has been idle for too long. now: the loop's time."""
        oldest = now - self._keepalive_s
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle.pop(0).close()

    def close(self) -> None:
        """Keeps no connection any more: closes the idle ones now, and each other one when its exchange ends."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
