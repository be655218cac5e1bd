"""Bytes on a socket, for fakes of both sides: what came, waited for with a deadline, and the ways to end."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

T = TypeVar("T")
Headers = list[tuple[bytes, bytes]]

PATIENCE_S = 10.0


async def soon(what: Awaitable[T], seconds: float = PATIENCE_S) -> T:
    """What a test waits for; fails it when it does not come."""
    return await asyncio.wait_for(what, seconds)


async def until(true: Callable[[], Any], seconds: float = PATIENCE_S) -> None:
    """Polls until something is true that cannot be waited for."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.002)


def chunk(data: bytes) -> bytes:
    """One piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def lines_of(head: bytes) -> tuple[bytes, Headers]:
    """The first line of a head and its headers, as they stand."""
    first, *rest = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    fields: Headers = []
    for line in rest:
        name, colon, value = line.partition(b":")
        assert colon, line
        assert name.strip() == name != b"", line
        fields.append((name, value.removeprefix(b" ")))
    return first, fields


class Wire(asyncio.Protocol):
    """One side of a connection.

    raw: all that came. ended: set when the connection has gone, at `ended_at` (the loop's time); error: how, if badly.
    finished: the other side has said that it will send no more.
    """

    def __init__(self, made: Callable[["Wire"], None] = lambda _: None) -> None:
        self._made = made
        self._buffer = bytearray()
        self._news = asyncio.Event()
        self.transport = cast("asyncio.Transport", None)
        self.raw = bytearray()
        self.ended = asyncio.Event()
        self.ended_at = 0.0
        self.error: Exception | None = None
        self.finished = False
        self.room = asyncio.Event()  # set while the socket takes more
        self.room.set()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._made(self)

    def data_received(self, data: bytes) -> None:
        self.raw += data
        self._buffer += data
        self._news.set()

    def eof_received(self) -> bool:
        self.finished = True
        self._news.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self.ended_at = asyncio.get_running_loop().time()
        self.ended.set()
        self.room.set()
        self._news.set()

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()

    # Reading

    async def more(self) -> bool:
        """Waits for more bytes; False if none will come."""
        if self.finished or self.ended.is_set():
            return False
        self._news.clear()
        await self._news.wait()
        return True

    async def upto(self, mark: bytes) -> bytes:
        """What comes up to and with a mark. Raises EOFError if it does not come."""
        while (end := self._buffer.find(mark)) < 0:
            if not await self.more():
                raise EOFError
        return self.take(end + len(mark))

    async def some(self, most: int = 1 << 40) -> bytes:
        """At least one byte, at most so many. Raises EOFError."""
        while not self._buffer:
            if not await self.more():
                raise EOFError
        return self.take(most)

    async def exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            data += await self.some(size - len(data))
        return bytes(data)

    async def chunked(self) -> bytes:
        """One chunk of a chunked body; empty for the last, after which trailers follow."""
        size = int((await self.upto(b"\r\n"))[:-2], 16)
        if not size:
            return b""
        data = await self.exactly(size)
        assert await self.exactly(2) == b"\r\n"
        return data

    async def trailers(self) -> Headers:
        fields: Headers = []
        while (line := await self.upto(b"\r\n")) != b"\r\n":
            name, _, value = line[:-2].partition(b":")
            fields.append((name, value.strip()))
        return fields

    def take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    @property
    def unread(self) -> int:
        return len(self._buffer)

    def stop_reading(self) -> None:
        """Takes nothing from the socket any more, until `read_on`."""
        self.transport.pause_reading()

    def read_on(self) -> None:
        self.transport.resume_reading()

    # Writing and ending

    def send(self, data: bytes) -> None:
        """Sends, if the connection still stands."""
        if not self.transport.is_closing():
            self.transport.write(data)

    async def has_room(self) -> None:
        """Waits until the socket takes more, and lets the loop run: one that is being closed always takes more, and
        only the loop says that it has ended."""
        await self.room.wait()
        await asyncio.sleep(0)

    async def send_all(self, data: bytes, step: int = 65536) -> int:
        """Sends as fast as the other side takes it; returns how much the socket took before the connection ended."""
        for start in range(0, len(data), step):
            await self.has_room()
            if self.ended.is_set():
                return start
            self.send(data[start : start + step])
        return len(data)

    def close(self) -> None:
        """Says goodbye in order (FIN), after what is still to be sent."""
        self.transport.close()

    def reset(self) -> None:
        """Breaks off (RST)."""
        found: Any = self.transport.get_extra_info("socket")
        if found is not None and found.family != socket.AF_UNIX:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
