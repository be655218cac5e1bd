"""Keeps the nursery: a process that has imported what a worker needs, and forks one when one is wanted.

A worker that is forked is there in a tenth of the time that imports take, shares memory with the others as far as
nobody writes to it, and has its code at the same addresses, so that workers which take turns on a CPU find it warm.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from gateway import nursery
from gateway.nursery import Born, Ended, Fork, NotBorn, Waiting
from gateway.supervisor.backoff import Backoff
from gateway.supervisor.launch import Launched, execute
from gateway.tasks import Tasks
from gateway.telemetry.logging import Logger
from gateway.telemetry.metrics import Counts

_ENDED = "no process can be forked: the nursery has ended"
_WAIT_S = 60.0  # for a nursery that is being started
UNKNOWN = 255  # the exit status of a process whose nursery ended before it


class Forked:
    """A process that the nursery has forked."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._descriptor = descriptor
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        """Its exit status, when it has ended."""
        return await asyncio.shield(self._status)

    def kill(self) -> None:
        """Raises ProcessLookupError if it has ended."""
        if self._status.done():
            raise ProcessLookupError
        signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def ended(self, status: int) -> None:
        """It has, and was seen to the grave."""
        if not self._status.done():
            self._status.set_result(status)
            os.close(self._descriptor)

    def orphaned(self) -> None:
        """Nobody will tell of its end: it is watched from here."""
        loop = asyncio.get_running_loop()
        descriptor = self._descriptor

        def seen() -> None:
            loop.remove_reader(descriptor)
            self.ended(UNKNOWN)

        loop.add_reader(descriptor, seen)


class Nursery:
    """One nursery process, kept running from `start` to `stop`. environment: of it and of all that it forks."""

    def __init__(self, environment: Mapping[str, str], restarts: Counts, log: Logger) -> None:
        self._execute = execute("nursery", environment)
        self._restarts = restarts
        self._log = log
        self._tasks = Tasks()
        self._settled = asyncio.Event()  # there is one that is ready, or it has ended before it was
        self._end: socket.socket | None = None  # of one that is ready
        self._asked: deque[asyncio.Future[Forked]] = deque()
        self._alive: dict[int, Forked] = {}

    def start(self) -> None:
        """Begins to keep one."""
        self._tasks.spawn(self._keep(), "keep the nursery")

    async def fork(self, label: str, leash: socket.socket, sockets: Sequence[socket.socket]) -> Launched:
        """A new process. Waits for the nursery if need be. Raises OSError; then, or if this is cancelled, there is no
        process."""
        if self._end is None:
            async with asyncio.timeout(_WAIT_S):
                await self._settled.wait()
        if self._end is None:
            raise OSError("the nursery cannot start; see its log lines")
        try:
            nursery.tell(self._end, Fork(label), [leash.fileno(), *(s.fileno() for s in sockets)])
        except ConnectionError:
            raise OSError(_ENDED) from None
        born: asyncio.Future[Forked] = asyncio.get_running_loop().create_future()
        self._asked.append(born)
        return await born

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff()
        while True:
            began = loop.time()
            self._settled.clear()
            try:
                status = await self._life()
            except OSError as error:
                self._settled.set()
                self._log.error("process_not_started", role="nursery", reason=str(error))
            else:
                self._restarts.add(("nursery",))
                self._log.error("process_ended", role="nursery", status=status)
            await asyncio.sleep(backoff.after(loop.time() - began))

    async def _life(self) -> int:
        """One nursery, from its start to its end; its exit status. Raises OSError."""
        ours, theirs = nursery.pair()
        with ours:
            with theirs:
                process = await self._execute("0", theirs, [])
            ours.setblocking(False)
            loop = asyncio.get_running_loop()
            gone = asyncio.Event()
            loop.add_reader(ours, self._hear, ours, gone.set)
            try:
                await gone.wait()
                return await process.wait()
            finally:
                loop.remove_reader(ours)
                self._gone()
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    def _hear(self, ours: socket.socket, gone: Callable[[], None]) -> None:
        try:
            heard = nursery.hear(ours)
        except BlockingIOError:
            return
        if heard is None:
            asyncio.get_running_loop().remove_reader(ours)
            gone()
            return
        message, descriptors = heard
        if isinstance(message, Waiting):
            self._end = ours
            self._settled.set()
        elif isinstance(message, Ended):
            self._alive.pop(message.pid).ended(message.status)
        elif isinstance(message, NotBorn):
            self._answer(OSError(f"no process can be forked: {message.reason}"))
        elif isinstance(message, Born):
            forked = self._alive[message.pid] = Forked(message.pid, descriptors[0])
            self._answer(forked)

    def _answer(self, answer: Forked | OSError) -> None:
        born = self._asked.popleft()
        if isinstance(answer, OSError):
            if not born.done():
                born.set_exception(answer)
        elif not born.done():
            born.set_result(answer)
        else:  # whoever asked for it has left
            with contextlib.suppress(ProcessLookupError):
                answer.kill()

    def _gone(self) -> None:
        """What it has forked lives on."""
        if self._end is None:
            self._settled.set()
        else:
            self._settled.clear()
        self._end = None
        while self._asked:
            self._answer(OSError(_ENDED))
        for forked in self._alive.values():
            forked.orphaned()
        self._alive.clear()

    async def stop(self) -> None:
        await self._tasks.cancel()
