"""Ways to a Redis server: one that breaks when a reply comes back, and one on which replies take their time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from gateway.tasks import Tasks
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


class Slow:
    """A unix socket that leads to a server. delay_s: how much later than it was given each reply comes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.delay_s = 0.0

    @property
    def url(self) -> str:
        return f"unix://{self.path}"


@asynccontextmanager
async def slowing(server: Server, folder: Path) -> AsyncIterator[Slow]:
    slow, tasks = Slow(folder / "slow"), Tasks()

    async def there(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        last = 0.0
        with suppress(OSError):
            while data := await reader.read(65536):
                last = max(last, loop.time() + slow.delay_s)
                loop.call_at(last, writer.write, data)
        loop.call_at(last, writer.close)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(server.socket)
        tasks.spawn(there(reader, to_server), "to the server")
        tasks.spawn(back(from_server, writer), "from the server")

    async with await asyncio.start_unix_server(connected, slow.path):
        yield slow
        await tasks.cancel()
