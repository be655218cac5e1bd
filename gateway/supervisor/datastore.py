"""The Redis of a gateway, as its supervisor sees it: an embedded one that it runs, or another one that it looks at."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from gateway.redisdb.client import connect
from gateway.redisdb.embedded import EmbeddedValkey, find_binary
from gateway.redisdb.failures import RedisFailure, RedisMisconfigured
from gateway.redisdb.server_check import check_server
from gateway.settings.model import Redis
from gateway.supervisor.backoff import Backoff
from gateway.supervisor.post import StartError
from gateway.tasks import Tasks
from gateway.telemetry.logging import Logger
from gateway.telemetry.metrics import Counts

_CHECK_EVERY_S = 1.0
_PATIENCE_S = 5.0


class Datastore(Protocol):
    """Either of the two.

    url: of the embedded one. accepted: it has been seen to be one that counters can be trusted to. away: why it cannot
    be used just now, if that is known here.
    """

    url: str | None
    accepted: bool
    away: str | None

    async def start(self) -> None:
        """Raises StartError."""

    async def stop(self) -> None: ...


class Embedded:
    """A Valkey of our own: started, and started again when it ends."""

    accepted = True

    def __init__(self, folder: Path, settings: Redis, restarts: Counts, log: Logger) -> None:
        self.url: str | None = None
        self.away: str | None = "the embedded Valkey has not started yet"
        self._folder = folder
        self._binary = settings.binary
        self._restarts = restarts
        self._log = log
        self._tasks = Tasks()
        self._valkey: EmbeddedValkey | None = None

    async def start(self) -> None:
        try:
            self._valkey = EmbeddedValkey(self._folder, find_binary(self._binary), self._log)
            await self._valkey.start()
        except (RedisMisconfigured, OSError) as error:
            raise StartError(f"the embedded Valkey cannot start: {error}") from None
        self.url = self._valkey.url
        self.away = None
        self._tasks.spawn(self._keep(self._valkey), "keep valkey")

    async def _keep(self, valkey: EmbeddedValkey) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff()
        while True:
            began = loop.time()
            status = await valkey.wait()
            self.away = "the embedded Valkey has ended and is being started again"
            self._restarts.add(("valkey",))
            delay = backoff.after(loop.time() - began)
            self._log.error("process_ended", role="valkey", child=valkey.pid, status=status, restart_in_s=delay)
            while self.away is not None:
                await asyncio.sleep(delay)
                try:
                    await valkey.start()
                    self.away = None
                except (RedisMisconfigured, OSError) as error:
                    self.away = str(error)
                    delay = max(_CHECK_EVERY_S, backoff.after(0.0))
                    self._log.error("process_not_started", role="valkey", reason=str(error), next_in_s=delay)

    async def stop(self) -> None:
        await self._tasks.cancel()
        if self._valkey is not None:
            await self._valkey.stop()


class External:
    """Somebody else's Redis. It may be away, also at the start; but it must be fit for counters, or we do not serve.

    unfit: called when that turns out only after the start, with the reason.
    """

    url: str | None = None

    def __init__(self, settings: Redis, unfit: Callable[[str], None], log: Logger) -> None:
        self.accepted = False
        self.away: str | None = "it has not been checked yet"
        self._settings = settings
        self._unfit = unfit
        self._log = log
        self._tasks = Tasks()
        self._known = asyncio.Event()
        self._problem: str | None = None
        self._started = False

    async def start(self) -> None:
        """Waits until it is known how Redis is, but not for long."""
        self._tasks.spawn(self._judge(), "check redis")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await self._known.wait()
        if self._problem is not None:
            raise StartError(self._problem)
        self._started = True

    async def _judge(self) -> None:
        self._problem = await self._check()
        self._known.set()
        if self._problem is not None and self._started:
            self._unfit(self._problem)

    async def _check(self) -> str | None:
        """Waits until Redis answers; returns why it cannot be used, or None if it can."""
        try:
            client = connect(self._settings)
        except RedisMisconfigured as error:
            return f"the settings of Redis cannot be used: {error}"
        try:
            while True:
                try:
                    warnings = await check_server(client, allow_volatile=self._settings.allow_volatile)
                except RedisMisconfigured as error:
                    return f"this Redis cannot be used: {error}"
                except RedisFailure as error:
                    if self.away != str(error):  # once a reason, not once a second
                        self.away = str(error)
                        self._log.warning("redis_does_not_answer", reason=self.away)
                    self._known.set()
                    await asyncio.sleep(_CHECK_EVERY_S)
                    continue
                self.away = None
                self.accepted = True
                self._log.info("redis_accepted")
                for warning in warnings:
                    self._log.warning("redis_warning", warning=warning)
                return None
        finally:
            await client.aclose()

    async def stop(self) -> None:
        await self._tasks.cancel()
