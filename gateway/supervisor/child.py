"""One child process, from its start to its end."""

import asyncio
import contextlib
import socket
from collections.abc import Sequence

from gateway.process import Channel, Drain, Failed, Go, Health, Ready, Start, ToSupervisor
from gateway.supervisor.launch import Launch, Launched
from gateway.tasks import Tasks
from gateway.telemetry.logging import Logger

KILL_AFTER_S = 5.0  # after a drain's deadline, for what a child needs to end by itself


class Child:
    """A process on a leash (process.py). role and label: for people, in log lines and in `ps`.

    away: what it says is away. failure: why it cannot work, if it has said so.
    """

    def __init__(self, role: str, label: str, log: Logger) -> None:
        self.role = role
        self.label = label
        self.away: dict[str, str] = {}
        self.failure: str | None = None
        self.begun = False  # it has been told what to be
        self._begun_at = 0.0
        self.draining = False
        self._log = log
        self._tasks = Tasks()
        self._channel: Channel | None = None
        self._process: Launched | None = None
        self._status: int | None = None
        self._exited = asyncio.Event()
        self._said_ready = False
        self._settled = asyncio.Event()  # it is ready, or has ended before it was

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def is_ready(self) -> bool:
        return self._said_ready and not self.has_exited

    @property
    def has_exited(self) -> bool:
        return self._exited.is_set()

    async def spawn(self, launch: Launch, sockets: Sequence[socket.socket]) -> None:
        """Starts the process, which then waits for `begin`. Raises OSError if it cannot be started.

        After a failure, or if this is cancelled, there is no process.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            self._channel = await Channel.over(ours, ToSupervisor)
            try:
                self._process = await launch(self.label, theirs, sockets)
            except BaseException:
                self._channel.close()
                self._ended(-1)
                raise
        self._tasks.spawn(self._listen(self._channel), f"listen to {self.role}")
        self._tasks.spawn(self._wait(self._process), f"wait for {self.role}")

    def begin(self, start: Start) -> None:
        """Tells the process what to be; `until_ready` tells when it is."""
        self.begun = True
        self._begun_at = asyncio.get_running_loop().time()
        if self._channel is not None:
            self._channel.send(start)

    async def _listen(self, channel: Channel) -> None:
        loop = asyncio.get_running_loop()
        while (message := await channel.receive()) is not None:
            if isinstance(message, Ready):
                self._said_ready = True
                self._settled.set()
                after_s = round(loop.time() - self._begun_at, 3)
                self._log.info("process_ready", role=self.role, label=self.label, child=self.pid, after_s=after_s)
            elif isinstance(message, Health):
                self.away = message.away
            elif isinstance(message, Failed):
                self.failure = message.reason

    async def _wait(self, process: Launched) -> None:
        self._ended(await process.wait())

    def _ended(self, status: int) -> None:
        self._status = status
        self._exited.set()
        self._settled.set()

    async def until_ready(self, within_s: float) -> bool:
        """Waits until it serves; False if it ends before, or if it takes longer than this."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._settled.wait()
        return self.is_ready

    def go(self) -> None:
        """Lets a ready process begin to serve."""
        if self._channel is not None:
            self._channel.send(Go())

    async def until_exited(self) -> int:
        """Waits until it has ended; its exit status, negative if a signal ended it."""
        await self._exited.wait()
        assert self._status is not None
        return self._status

    def why(self) -> str:
        """Why it is not ready, for people."""
        if self.failure is not None:
            return self.failure
        if self.has_exited:
            return f"it ended with status {self._status}; see its log lines"
        return "it is not ready in time"

    async def drain(self, deadline_s: float) -> None:
        """Tells the process to end, waits until it has, and kills it if it takes too long.

        May be called again meanwhile: a later deadline takes the place of an earlier one.
        """
        self.draining = True
        if self._channel is not None:
            self._channel.send(Drain(deadline_s))
        try:
            async with asyncio.timeout(deadline_s + KILL_AFTER_S):
                await self._exited.wait()
        except TimeoutError:
            self._log.warning("process_killed", role=self.role, label=self.label, child=self.pid)
            self.kill()
            await self._exited.wait()

    def kill(self) -> None:
        """Ends the process without asking."""
        if self._process is not None and not self.has_exited:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def close(self) -> None:
        """Ends the process if it has not ended yet, and lets go of the leash."""
        if self._process is not None:
            self.kill()
            await self._exited.wait()
        if self._channel is not None:
            self._channel.close()
        await self._tasks.cancel()
