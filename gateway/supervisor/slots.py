"""The worker slots: each has its listening socket for life, and one worker at a time that accepts from it."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from socket import socket

import msgspec

from gateway import nursery
from gateway.process import Start
from gateway.settings.model import Settings
from gateway.settings.transfer import encode
from gateway.supervisor.child import Child
from gateway.supervisor.launch import Launch, execute
from gateway.supervisor.nursery import Nursery
from gateway.supervisor.post import READY_S, Post
from gateway.telemetry.logging import Logger
from gateway.telemetry.metrics import FOLDER_VARIABLE, Counts, Metrics, lane_ended


class Lanes:
    """Which process counts where (telemetry/metrics.py). A lane is one process's at a time; the next one that takes it
    counts on from there, so there are no more lanes than processes were alive at once.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._folder = folder
        self._taken: dict[Child, str] = {}

    def take(self, child: Child) -> str:
        """The first lane that is free."""
        taken = set(self._taken.values())
        number = 0
        while (lane := f"{self._name}-{number}") in taken:
            number += 1
        self._taken[child] = lane
        return lane

    def give_back(self, child: Child) -> None:
        """The process has ended."""
        lane = self._taken.pop(child, None)
        if lane is not None:
            lane_ended(self._folder, lane)


class _Slot(msgspec.Struct, frozen=True):
    """One slot, and what its processes are started with."""

    number: int
    opened: socket
    lanes: Lanes
    redis_url: Callable[[], str | None]

    def start(self, child: Child, settings: bytes) -> Start:
        return Start(
            settings=msgspec.Raw(settings),
            sockets=[self.opened.fileno()],
            slot=str(self.number),
            lane=self.lanes.take(child),
            redis_url=self.redis_url(),
        )


class Slots:
    """All worker slots. Starting and replacing is all or nothing. redis_url: of the embedded server, once it runs."""

    def __init__(
        self,
        sockets: list[socket],
        settings: Settings,
        *,
        metrics_folder: Path,
        metrics: Metrics,
        redis_url: Callable[[], str | None],
        log: Logger,
    ) -> None:
        self._settings = encode(settings)
        environment = {FOLDER_VARIABLE: str(metrics_folder)}
        restarts = metrics.counter("gateway_restarts_total")
        self._nursery = Nursery(environment, restarts, log) if sockets and nursery.possible() else None
        launch = self._nursery.fork if self._nursery is not None else execute("worker", environment)
        self._slots = [_Slot(n, opened, Lanes(f"w{n}", metrics_folder), redis_url) for n, opened in enumerate(sockets)]
        self._posts = [self._post(slot, launch, restarts, log) for slot in self._slots]

    def _post(self, slot: _Slot, launch: Launch, restarts: Counts, log: Logger) -> Post:
        return Post(
            "worker",
            str(slot.number),
            [slot.opened],
            launch,
            lambda child: slot.start(child, self._settings),
            log=log,
            restarts=restarts,
            gone=slot.lanes.give_back,
        )

    def __iter__(self) -> Iterator[Post]:
        return iter(self._posts)

    def __len__(self) -> int:
        return len(self._posts)

    async def prepare(self) -> None:
        """Begins to start what takes time before it needs to know anything. Raises OSError."""
        if self._nursery is not None:
            self._nursery.start()
            return
        for post in self._posts:
            await post.prepare()

    async def roll(self, settings: Settings, drain_s: float) -> str | None:
        """Puts a new worker on every slot; returns None, or why it could not be done: then nothing has changed.

        The new ones serve only when all of them are ready. The sockets are open all the time, so that no connection
        finds a closed door. A worker that ends meanwhile is replaced by another with the settings of before. Not to be
        called while it runs.
        """
        encoded = encode(settings)
        new: list[tuple[Post, Child]] = []
        done = False
        try:
            problem = await self._prepare(encoded, new)
            done = problem is None
            if done:
                self._settings = encoded
                for post, child in new:
                    post.adopt(child, drain_s)
            return problem
        finally:
            if not done:
                await asyncio.gather(*(post.forget(child) for post, child in new))

    async def _prepare(self, settings: bytes, new: list[tuple[Post, Child]]) -> str | None:
        """Starts a process for every slot; returns None when all are ready, or what was wrong with one."""
        try:
            for slot, post in zip(self._slots, self._posts, strict=True):
                new.append((post, await post.spawn(partial(slot.start, settings=settings))))
        except OSError as error:
            return error.strerror or str(error)
        await asyncio.gather(*(child.until_ready(READY_S) for _, child in new))
        return next((child.why() for _, child in new if not child.is_ready), None)

    async def stop(self, drain_s: float) -> None:
        await asyncio.gather(*(post.stop(drain_s) for post in self._posts))
        if self._nursery is not None:
            await self._nursery.stop()

    def counts(self) -> dict[str, int]:
        """How many processes are ready, starting and draining."""
        children = [child for post in self._posts for child in post.children if not child.has_exited]
        return {
            "ready": sum(c.is_ready and not c.draining for c in children),
            "starting": sum(not c.is_ready and not c.draining for c in children),
            "draining": sum(c.draining for c in children),
        }
