"""A scripted upstream on a real socket: bytes in, bytes out, and a record of exactly what came.

Its answers are bytes that the test writes; no HTTP library makes or mends them. What it receives it frames strictly,
so that a request that was smuggled through shows up as one request more, or as an error.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.tasks import Tasks
from tests.fakes.wire import Headers, Wire, chunk, until

_REQUEST_LINE = re.compile(rb"([!-~]+) ([\x21-\xff]+) HTTP/1\.1")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([^\x00\r\n]*)")

SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"


def answer(
    body: bytes = b'{"ok":true}',
    *headers: tuple[bytes, bytes],
    status: bytes = b"200 OK",
    chunks: Iterable[bytes] | None = None,
    kind: bytes = b"application/json",
) -> bytes:
    """A plain answer: with a Content-Length, or in the chunks given."""
    fields = [(b"Content-Type", kind)] if kind else []
    fields += headers
    if chunks is None:
        fields.append((b"Content-Length", b"%d" % len(body)))
    else:
        fields.append((b"Transfer-Encoding", b"chunked"))
        body = b"".join(map(chunk, chunks)) + b"0\r\n\r\n"
    return b"HTTP/1.1 " + status + b"\r\n" + b"".join(b"%b: %b\r\n" % f for f in fields) + b"\r\n" + body


class Exchange:
    """One request as it came, and the means to answer it.

    head: its bytes up to and with the empty line. body: as far as it was read.
    """

    def __init__(self, wire: Wire, head: bytes) -> None:
        self.wire = wire
        self.head = head
        first, *rest = head[:-4].split(b"\r\n")
        found = _REQUEST_LINE.fullmatch(first)
        assert found, f"no request line: {first!r}"
        self.method, self.target = found[1], found[2]
        self.headers: Headers = []
        for text in rest:
            field = _HEADER.fullmatch(text)
            assert field, f"no header: {text!r}"
            self.headers.append((field[1], field[2]))
        self.body = bytearray()
        self.trailers: Headers = []
        self.complete = False
        self._left = self._framing()

    def _framing(self) -> int:
        """Bytes of the body that are to come, -1 for chunks. A request that could be read in two ways is none."""
        lengths, codings = self.values(b"content-length"), self.values(b"transfer-encoding")
        assert len(lengths) + len(codings) <= 1, f"ambiguous framing: {self.head!r}"
        if codings:
            assert codings == [b"chunked"], codings
            return -1
        assert not lengths or lengths[0].isdigit(), lengths
        return int(lengths[0]) if lengths else 0

    def values(self, name: bytes) -> list[bytes]:
        return [value for given, value in self.headers if given.lower() == name]

    def header(self, name: bytes) -> bytes | None:
        found = self.values(name)
        return found[0] if found else None

    async def read(self, most: int = 1 << 30) -> bytes:
        """More of the body; empty at its end. Raises EOFError if the other side breaks off."""
        if self.complete:
            return b""
        if self._left >= 0:
            data = await self.wire.some(min(most, self._left)) if self._left else b""
            self._left -= len(data)
            self.complete = not self._left
        else:
            data = await self.wire.chunked()
            if not data:
                self.trailers = await self.wire.trailers()
                self.complete = True
        self.body += data
        return data

    async def whole(self) -> bytes:
        """The whole body."""
        while await self.read():
            pass
        return bytes(self.body)

    def send(self, data: bytes) -> None:
        self.wire.send(data)

    async def gone(self) -> None:
        """Waits until the connection has ended, from either side."""
        await self.wire.ended.wait()


Script = Callable[[Exchange], Awaitable[None]]


def saying(*pieces: bytes) -> Script:
    """Reads the body, then says these bytes at once."""

    async def script(exchange: Exchange) -> None:
        await exchange.whole()
        exchange.send(b"".join(pieces))

    return script


def closing(*pieces: bytes) -> Script:
    """Reads the body, says these bytes, and closes the connection."""

    async def script(exchange: Exchange) -> None:
        await exchange.whole()
        exchange.send(b"".join(pieces))
        exchange.wire.close()

    return script


async def silent(exchange: Exchange) -> None:
    """Reads the body and never answers."""
    await exchange.whole()
    await exchange.gone()


OK = saying(answer())


class Upstream:
    """What came so far, and what is answered. `script` runs once for each request and may be changed at any time."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.port = 0
        self.path = ""  # of the unix socket, if it listens on one
        self.scheme = "http"
        self.wires: list[Wire] = []
        self.requests: list[Exchange] = []
        self.errors: list[BaseException] = []
        self.accepting = True  # False resets each connection as soon as it is made
        self._tasks = Tasks()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/v1"

    @property
    def last(self) -> Exchange:
        return self.requests[-1]

    @property
    def open(self) -> int:
        """Connections that stand."""
        return sum(not wire.ended.is_set() for wire in self.wires)

    async def request(self, number: int = 1) -> Exchange:
        """The request of that number, when its head has come."""
        await until(lambda: len(self.requests) >= number or self.errors)
        assert not self.errors, self.errors
        return self.requests[number - 1]

    async def emptied(self) -> None:
        """Waits until no connection stands."""
        await until(lambda: not self.open)

    def _connected(self, wire: Wire) -> None:
        self.wires.append(wire)
        if self.accepting:
            self._tasks.spawn(self._serve(wire), "serve")
        else:
            wire.reset()

    async def _serve(self, wire: Wire) -> None:
        try:
            while True:
                exchange = Exchange(wire, await self._head(wire))
                self.requests.append(exchange)
                await self.script(exchange)
                if exchange.header(b"upgrade"):
                    return  # what follows are frames
                await exchange.whole()
        except EOFError:
            return
        except Exception as error:  # noqa: BLE001 - the test is told
            self.errors.append(error)
            wire.reset()

    async def _head(self, wire: Wire) -> bytes:
        try:
            return await wire.upto(b"\r\n\r\n")
        except EOFError:
            if wire.unread:
                self.errors.append(AssertionError(f"no request: {wire.take(200)!r}"))
            raise

    async def listen(self, path: Path | None = None, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        """Accepts connections (again)."""
        loop = asyncio.get_running_loop()
        if path is not None:
            self.path = str(path)
            self._server = await loop.create_unix_server(lambda: Wire(self._connected), self.path)
            return
        self._server = await loop.create_server(lambda: Wire(self._connected), "127.0.0.1", port, ssl=tls, backlog=1000)
        self.port = self._server.sockets[0].getsockname()[1]
        self.scheme = "https" if tls else "http"

    def refuse(self) -> None:
        """From now on connections are refused; those that stand stay."""
        assert self._server is not None
        self._server.close()

    async def close(self) -> None:
        self.refuse()
        for wire in self.wires:
            if not wire.ended.is_set():
                wire.transport.abort()
        await self._tasks.cancel()


@asynccontextmanager
async def upstream(
    script: Script = OK, *, path: Path | None = None, tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[Upstream]:
    """A running upstream. At its end it fails the test if something came that was no request."""
    made = Upstream(script)
    await made.listen(path, tls, port)
    try:
        yield made
        assert not made.errors, made.errors
    finally:
        await made.close()
