"""Callers that keep calling a gateway, and notice everything that goes wrong.

Each has one connection at a time, which it keeps as long as the gateway does. They know their local ports, so a failure
can be laid at the door of the process that had the connection.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from gateway.tasks import Tasks
from tests.fakes.gateway_process import HELLO, KEY

PATIENCE_S = 15.0  # an answer that takes longer is a hang


class Failure(msgspec.Struct, frozen=True):
    """A call that did not get a whole answer of status 200. Times are the loop's."""

    port: int
    began: float
    ended: float
    error: str


class Load:
    """What the callers have seen."""

    def __init__(self) -> None:
        self.callers: list[_Caller] = []
        self.answers = 0
        self.connections = 0
        self.failures: list[Failure] = []
        self.slowest_s = 0.0  # of the calls that were answered

    def stop(self) -> None:
        """Lets each caller end with the call that it has begun."""
        for caller in self.callers:
            caller.stopping = True


class _Caller:
    def __init__(self, port: int, load: Load, request: bytes, keep: int | None) -> None:
        self._port = port
        self._load = load
        self._request = request
        self._keep = keep
        self._loop = asyncio.get_running_loop()
        self.stopping = False

    async def run(self) -> None:
        """Connects and calls, again and again, until `stopping`. A call that has begun is seen through."""
        while not self.stopping:
            began = self._loop.time()
            local = 0
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError as error:
                self._failed(local, began, error)
                continue
            self._load.connections += 1
            local = writer.get_extra_info("sockname")[1]
            try:
                await self._use(reader, writer, local)
            finally:
                writer.close()

    async def _use(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, local: int) -> None:
        calls = 0
        keep = True
        while keep and not self.stopping and (self._keep is None or calls < self._keep):
            began = self._loop.time()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    writer.write(self._request)
                    keep = await self._answer(reader)
            except (OSError, EOFError, ValueError) as error:
                self._failed(local, began, error)
                return
            calls += 1
            self._load.answers += 1
            self._load.slowest_s = max(self._load.slowest_s, self._loop.time() - began)

    def _failed(self, local: int, began: float, error: Exception) -> None:
        text = "hang" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
        self._load.failures.append(Failure(local, began, self._loop.time(), text))

    @staticmethod
    async def _answer(reader: asyncio.StreamReader) -> bool:
        """Reads an answer; whether the connection stays. ValueError: it is not what was hoped for."""
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b"\r\ntransfer-encoding: chunked" in head:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                await reader.readexactly(size + 2)
            await reader.readexactly(2)
        else:
            await reader.readexactly(int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]))
        if not head.startswith(b"http/1.1 200 "):
            raise ValueError(head.decode())
        return b"\r\nconnection: close" not in head


def chat_request(model: str = "gpt-4o-mini", key: str = KEY) -> bytes:
    body = json.dumps({"model": model, "messages": HELLO, "max_tokens": 5}).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b" % (key.encode(), len(body), body)
    )


@asynccontextmanager
async def load(
    port: int, callers: int = 8, *, request: bytes | None = None, keep: int | None = None
) -> AsyncIterator[Load]:
    """Callers at work until the end of the block; calls under way are seen through. keep: calls on a connection."""
    seen = Load()
    tasks = Tasks()
    seen.callers = [_Caller(port, seen, request or chat_request(), keep) for _ in range(callers)]
    running = [tasks.spawn(caller.run(), "caller") for caller in seen.callers]
    try:
        yield seen
    finally:
        seen.stop()
        await asyncio.gather(*running)


def clients_of(pid: int, port: int) -> set[int]:
    """The local ports of those who are connected to `port` in this process: accepted, and not closed by it."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        local, remote, inode = words[1], words[2], words[9]
        if inode in inodes and int(local.rpartition(":")[2], 16) == port:
            found.add(int(remote.rpartition(":")[2], 16))
    return found - {0}
