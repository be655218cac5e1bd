"""A way to a Redis server that can break when a reply comes back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.fakes.redis_servers import Server


@asynccontextmanager
async def dropping_replies_to(command: bytes, server: Server, folder: Path) -> AsyncIterator[Path]:
    """The path of a unix socket. What is sent to it reaches the server; before a reply to `command` does, it breaks."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(server.socket)
        with suppress(OSError):
            while request := await reader.read(65536):
                to_server.write(request)
                reply = await from_server.read(65536)
                if command in request:
                    break
                writer.write(reply)
        to_server.close()
        writer.close()

    path = folder / "proxy"
    async with await asyncio.start_unix_server(pass_on, path):
        yield path
