"""Upstreams for measurements: they do next to nothing, so that what is measured is the gateway."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from gateway.tasks import Tasks

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]

SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*(\d+)")
_PIECE = 1 << 20


async def discard_body(reader: asyncio.StreamReader, head: bytes) -> int:
    """Reads a request's body of declared length away; returns its size."""
    found = _LENGTH.search(head)
    left = size = int(found[1]) if found else 0
    while left:
        left -= len(await reader.readexactly(min(left, _PIECE)))
    return size


async def answer_ok(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _head: bytes) -> None:
    body = b'{"object":"chat.completion","choices":[]}'
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()


@asynccontextmanager
async def upstream(answer: Answer = answer_ok) -> AsyncIterator[str]:
    """An upstream whose requests are read away and answered by `answer`; its URL without /v1."""
    tasks = Tasks()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await discard_body(reader, head)
                await answer(reader, writer, head)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.spawn(serve(reader, writer), "serve")

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=4 * _PIECE, backlog=2048)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await tasks.cancel()
