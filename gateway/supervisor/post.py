"""A place at which one process runs: kept running, replaced, ended."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from socket import socket

from gateway.process import Start
from gateway.supervisor.backoff import Backoff
from gateway.supervisor.child import Child
from gateway.supervisor.launch import Launch
from gateway.tasks import Tasks
from gateway.telemetry.logging import Logger
from gateway.telemetry.metrics import Counts

READY_S = 60.0  # for a process to start


class StartError(Exception):
    """Something that the gateway needs cannot start; the message is for people."""


class Post:
    """One place. `child` is the process that holds it; others may be starting, or ending what they have in flight.

    launch: starts a process. start: what it is told to be, asked each time. gone: called when a process has ended and
    is forgotten.
    """

    def __init__(
        self,
        role: str,
        label: str,
        sockets: Sequence[socket],
        launch: Launch,
        start: Callable[[Child], Start],
        *,
        log: Logger,
        restarts: Counts,
        gone: Callable[[Child], None] = lambda _: None,
    ) -> None:
        self.role = role
        self.label = label
        self.child: Child | None = None
        self._sockets = sockets
        self._launch = launch
        self._start = start
        self._log = log
        self._restarts = restarts
        self._gone = gone
        self._tasks = Tasks()
        self._keeping: asyncio.Task[None] | None = None
        self._backoff = Backoff()
        self._children: set[Child] = set()
        self._prepared: Child | None = None
        self._stopping = False

    @property
    def children(self) -> Collection[Child]:
        """All processes of this place, whatever they are doing."""
        return self._children

    @property
    def is_ready(self) -> bool:
        return self.child is not None and self.child.is_ready

    async def open(self) -> None:
        """Starts the first process, waits until it is ready, and keeps one running from then on. Raises StartError."""
        try:
            child = await self.spawn()
        except OSError as error:
            raise StartError(f"the {self.role} process cannot start: {error.strerror or error}") from None
        if not await child.until_ready(READY_S):
            reason = child.why()
            await self.forget(child)
            raise StartError(f"the {self.role} process cannot start: {reason}")
        self.adopt(child, 0)

    async def spawn(self, start: Callable[[Child], Start] | None = None) -> Child:
        """Starts a process, which holds the place only once `adopt` says so. start: instead of this place's own.

        Raises OSError; then there is none.
        """
        child, self._prepared = self._prepared, None
        if child is None or child.has_exited:
            child = await self._new()
        child.begin((start or self._start)(child))
        return child

    async def prepare(self) -> None:
        """Starts a process that waits to be told what to be, by the next `spawn`. Raises OSError."""
        self._prepared = await self._new()

    async def _new(self) -> Child:
        child = Child(self.role, self.label, self._log)
        self._children.add(child)
        try:
            await child.spawn(self._launch, self._sockets)
        except BaseException:
            await self.forget(child)
            raise
        return child

    def adopt(self, child: Child, drain_s: float) -> None:
        """Gives the place to a process, and lets the one before end what it has in flight."""
        before, self.child = self.child, child
        self._keep_from_now_on(child)
        if before is not None:
            # One that is not ready yet serves nobody.
            ending = self.retire(before, drain_s) if before.is_ready else self.forget(before)
            self._tasks.spawn(ending, f"end {self.role} {self.label}")

    def _keep_from_now_on(self, child: Child | None) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
        self._keeping = self._tasks.spawn(self._keep(child), f"keep {self.role} {self.label}")

    async def retire(self, child: Child, drain_s: float) -> None:
        """Ends a process in peace, if it has begun to be anything."""
        if child.begun:
            await child.drain(drain_s)
        await self.forget(child)

    async def forget(self, child: Child) -> None:
        """Ends a process that does nothing of worth."""
        await child.close()
        if child in self._children:
            self._children.discard(child)
            self._gone(child)

    async def _keep(self, child: Child | None) -> None:
        """Sees to it that a process holds the place: watches the one that does, and starts another when it has ended.

        Cancelled when the place is given to a process from outside.
        """
        while True:
            delay = await self._until_ended(child) if child is not None else 0.0
            await asyncio.sleep(delay)
            try:
                child = self.child = await self.spawn()
            except OSError as error:
                child = None
                self._log_not_started(error)
                await asyncio.sleep(self._backoff.after(0.0))

    async def _until_ended(self, child: Child) -> float:
        """Lets a process work until it ends by itself; returns how long to wait before the next one."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        was_ready = await child.until_ready(READY_S)
        if was_ready:
            child.go()
        elif not child.has_exited:
            self._log.error("process_not_ready_in_time", **self._naming(child))
            child.kill()
        status = await child.until_exited()
        self.child = None
        delay = self._backoff.after(loop.time() - began, was_ready=was_ready)
        self._restarts.add((self.role,))
        self._log.error("process_ended", **self._naming(child), status=status, reason=child.failure, restart_in_s=delay)
        await self.forget(child)
        return delay

    def _naming(self, child: Child) -> dict[str, object]:
        return {"role": self.role, "label": self.label, "child": child.pid}

    def _log_not_started(self, error: OSError) -> None:
        self._log.error("process_not_started", role=self.role, label=self.label, reason=str(error))

    async def replace(self, drain_s: float) -> bool:
        """Ends the process and then starts another: for a place that two must not hold at once. Whether it is ready.

        If it is not, it is tried again and again, as after any other end.
        """
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
        before, self.child = self.child, None
        if before is not None:
            await self.retire(before, drain_s)
        try:
            self.child = await self.spawn()
        except OSError as error:
            self._log_not_started(error)
        child = self.child
        self._keep_from_now_on(child)
        return child is not None and await child.until_ready(READY_S)

    async def stop(self, drain_s: float) -> None:
        """Ends all processes of the place, for good."""
        self._stopping = True
        await self._tasks.cancel()
        self.child = None
        await asyncio.gather(*(self.retire(child, drain_s) for child in list(self._children)))

    async def hurry(self) -> None:
        """Ends at once what `stop` is waiting for."""
        if self._stopping:
            await asyncio.gather(*(child.drain(0) for child in list(self._children)))
