"""A server that is not there: what it was sent is a list of commands, and the test says when it answers what."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import cast

import structlog

from gateway.clock import Clock, SystemClock
from gateway.redisdb.address import Address
from gateway.redisdb.breaker import Breaker
from gateway.redisdb.command import pack
from gateway.redisdb.hot_connection import Greeting, HotConnection
from gateway.redisdb.hot_wire import Wire
from tests.fakes.redis_servers import eventually

FAR = 1e18


class FakeTransport:
    """Keeps what is written. `commands` are those not answered yet, each as its words."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.writes = 0
        self.commands: list[list[bytes]] = []
        self.broken = self.greeted = False
        self._socket, self._peer = socket.socketpair()
        wire.connection_made(cast("asyncio.Transport", self))

    def get_extra_info(self, name: str) -> socket.socket | None:
        return self._socket if name == "socket" else None

    def arrive(self) -> None:
        """A reply has come, and waits to be read."""
        self._peer.send(b"x")

    def read(self, data: bytes) -> None:
        """It is read."""
        self._socket.recv(100)
        self.wire.data_received(data)

    def write(self, data: bytes) -> None:
        assert not self.broken
        self.writes += 1
        self.commands += parse(data)

    def abort(self) -> None:
        if not self.broken:
            self.broken = True
            self._socket.close()
            self._peer.close()
            asyncio.get_running_loop().call_soon(self.wire.connection_lost, None)

    def answer(self, with_: Callable[[list[bytes]], bytes] | None = None, *, count: int | None = None) -> bytes:
        """Takes commands off and returns the bytes of their replies; without `with_` each is the command's last word."""
        taken = self.commands[:count]
        del self.commands[: len(taken)]
        return b"".join((with_ or bulk)(command) for command in taken)


def parse(data: bytes) -> list[list[bytes]]:
    """Commands as words. The words of these tests have no line ends in them."""
    lines = iter(data.split(b"\r\n")[:-1])
    commands = []
    for head in lines:
        assert head[:1] == b"*"
        words = []
        for _ in range(int(head[1:])):
            next(lines)
            words.append(next(lines))
        commands.append(words)
    return commands


def bulk(command: list[bytes]) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(command[-1]), command[-1])


class FakeServer:
    """Where a HotConnection connects to. It answers the greeting at once, unless `silent`."""

    def __init__(self) -> None:
        self.transports: list[FakeTransport] = []
        self.away = False
        self.silent = False
        self.role = b"master"

    @property
    def last(self) -> FakeTransport:
        return self.transports[-1]

    async def resolve(self) -> Address:
        return Address("h", 1)

    async def dial(self, address: Address) -> Wire:
        if self.away:
            raise ConnectionRefusedError("away")
        wire = Wire()
        transport = FakeTransport(wire)
        self.transports.append(transport)
        if not self.silent:
            asyncio.get_running_loop().call_soon(self.greet, transport)
        return wire

    def greet(self, transport: FakeTransport) -> None:
        def reply(command: list[bytes]) -> bytes:
            return b"*1\r\n" + bulk([self.role]) if command == [b"ROLE"] else b"+OK\r\n"

        if transport.commands:  # all of the greeting: it is one write
            transport.wire.data_received(transport.answer(reply))
            transport.greeted = True
        elif not transport.broken:
            asyncio.get_running_loop().call_soon(self.greet, transport)

    def connection(
        self,
        *,
        clock: Clock | None = None,
        greeting: Greeting | None = None,
        breaker: Breaker | None = None,
        stall_s: float = 1.0,
    ) -> HotConnection:
        clock = clock or SystemClock()
        return HotConnection(
            "test",
            self.resolve,
            self.dial,
            greeting or Greeting(),
            breaker or Breaker(1_000_000, 1.0, clock, lambda _: None),
            stall_s=stall_s,
            deadline_s=0.05,
            clock=clock,
            log=structlog.get_logger(),
        )


async def ticks(count: int = 5) -> None:
    """Lets everything run that can run now."""
    for _ in range(count):
        await asyncio.sleep(0)


async def outcome(future: "asyncio.Future[object]") -> object:
    """The result, or the error's class, or "cancelled"."""
    with suppress(asyncio.CancelledError):
        await asyncio.wait([future])
    if future.cancelled():
        return "cancelled"
    error = future.exception()
    return future.result() if error is None else type(error)


@asynccontextmanager
async def connected(server: FakeServer, connection: HotConnection) -> AsyncIterator[HotConnection]:
    connection.start()
    try:
        await eventually(lambda: server.transports and server.last.greeted)
        await ticks()
        yield connection
    finally:
        await connection.aclose()


def get(connection: HotConnection, word: str, due: float = FAR) -> "asyncio.Future[object]":
    return connection.send(pack(("GET", word)), due)
