"""A process more than serve: it has imported everything, and waits to take the place of a worker that ends.

A worker needs most of its start for imports: half a second of a free CPU, several times that of a busy one. So the one
after it is there before it is needed.
"""

import asyncio
from collections.abc import Mapping, Sequence
from socket import socket

from gateway.supervisor.backoff import Backoff
from gateway.supervisor.child import STANDBY, Child
from gateway.supervisor.post import READY_S
from gateway.tasks import Tasks
from gateway.telemetry.logging import Logger


class Standby:
    """Keeps one worker process waiting. sockets: of all slots, for it may be wanted at any of them."""

    def __init__(self, sockets: Sequence[socket], environment: Mapping[str, str], log: Logger) -> None:
        self._sockets = sockets
        self._environment = environment
        self._log = log
        self._tasks = Tasks()
        self._child: Child | None = None

    def start(self) -> None:
        """Begins to keep one."""
        self._tasks.spawn(self._keep(), "keep a standby")

    def take(self) -> Child | None:
        """The process that waits, if there is one. It is the caller's from now on."""
        child, self._child = self._child, None
        return child if child is not None and not child.has_exited else None

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff()
        while True:
            began = loop.time()
            child = Child("worker", STANDBY, self._log)
            try:
                await child.spawn(self._sockets, self._environment)
                self._child = child
                if await child.until_begun():
                    await child.until_ready(READY_S)  # the next one must not take the time that this one needs
                    continue
                self._log.warning("standby_ended", child=child.pid, status=await child.until_exited())
            except OSError as error:
                self._log.warning("standby_not_started", reason=str(error))
            finally:
                if not child.begun:
                    self._child = None
                    await child.close()
            await asyncio.sleep(backoff.after(loop.time() - began))

    async def stop(self) -> None:
        await self._tasks.cancel()
