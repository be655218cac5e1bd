"""From disk to Redis: what a worker spooled, and what dead workers left behind."""

import asyncio
import contextlib
import random

from gateway.accounts.usage_stream import Packed, UsageStream
from gateway.proxy.metering.spool import Spool, Spools
from gateway.redisdb.failures import HotReplyError, RedisFailure
from gateway.redisdb.hot_connection import backoff_s
from gateway.tasks import Tasks
from gateway.telemetry.logging import Logger
from gateway.telemetry.metrics import Metrics

BATCH_EVENTS = 200  # in one script call, which holds Redis up for less than a millisecond
BATCH_BYTES = 512 * 1024
_ADOPT_EVERY_S = 5.0


class Delivery:
    """Sends batches to the stream, and says what goes wrong and what became of events: in the log, in the metrics."""

    def __init__(self, stream: UsageStream, metrics: Metrics, log: Logger) -> None:
        self._stream = stream
        self._metrics = metrics
        self._counter = metrics.counter("gateway_usage_events_total")
        self._log = log
        self._refused = ""
        self._spooled: dict[Spool, int] = {}
        metrics.set("gateway_usage_spool_bytes", 0)

    def count(self, what: str, events: int) -> None:
        """what: delivered, spooled, replayed, dropped."""
        self._counter.add((what,), events)

    def shows(self, spool: Spool, *, released: bool = False) -> None:
        """Keeps the gauge of what is on disk."""
        if released:
            self._spooled.pop(spool, None)
        else:
            self._spooled[spool] = spool.size
        self._metrics.set("gateway_usage_spool_bytes", sum(self._spooled.values()))

    async def send(self, events: list[Packed]) -> bool:
        """Whether Redis said that it has them. If not, it may have them all the same, and they may be sent again."""
        try:
            await self._stream.append(events)
        except HotReplyError as error:
            if self._refused != str(error):  # once a reason, not once a batch
                self._refused = str(error)
                self._log.error("usage_refused_by_redis", reason=self._refused)
            return False
        except RedisFailure:
            return False
        self._refused = ""
        return True

    async def replay(self, spool: Spool) -> int | None:
        """Delivers one batch of a spool: how many events; None if Redis did not take it. Raises OSError."""
        batch = await asyncio.to_thread(spool.read, BATCH_EVENTS, BATCH_BYTES)
        if batch.events and not await self.send(batch.events):
            return None
        if batch.torn:  # its writer was killed before it could say that this is on disk
            self._log.warning("usage_spool_torn", bytes=batch.torn)
        if batch.unreadable:
            self._log.error("usage_spool_unreadable", lines=batch.unreadable)
            self.count("dropped", batch.unreadable)
        await asyncio.to_thread(spool.done, batch)
        self.count("replayed", len(batch.events))
        self.shows(spool)
        return len(batch.events)


class Adopter:
    """Looks for spools of dead workers, every few seconds, and delivers them, one after the other."""

    def __init__(self, delivery: Delivery, spools: Spools, log: Logger, *, every_s: float = _ADOPT_EVERY_S) -> None:
        self._delivery = delivery
        self._spools = spools
        self._log = log
        self._every_s = every_s
        self._ending = asyncio.Event()
        self._tasks = Tasks()
        self._running: asyncio.Task[None] | None = None
        self._said = ""

    def start(self) -> None:
        self._running = self._tasks.spawn(self._run(), "adopt spools")

    async def close(self) -> None:
        """Lets go of what it has not delivered: the next living worker takes it, from its first file's beginning."""
        self._ending.set()
        if self._running is not None:
            await self._running

    async def _run(self) -> None:
        while not self._ending.is_set():
            spool = None
            try:
                spool = await asyncio.to_thread(self._spools.adopt)
                if spool is not None:
                    await self._deliver(spool)
                self._said = ""
            except OSError as error:
                if self._said != str(error):
                    self._said = str(error)
                    self._log.error("usage_spool_not_read", reason=self._said)
            finally:
                if spool is not None:
                    self._delivery.shows(spool, released=True)
                    await asyncio.to_thread(spool.release)
            if spool is None or self._said:
                await self._pause(self._every_s * random.uniform(0.5, 1.0))  # noqa: S311 - so that workers take turns

    async def _deliver(self, spool: Spool) -> None:
        events = failures = 0
        self._delivery.shows(spool)
        self._log.info("usage_spool_adopted", bytes=spool.size)
        while not spool.empty and not self._ending.is_set():
            delivered = await self._delivery.replay(spool)
            if delivered is None:
                failures += 1
                await self._pause(backoff_s(failures))
            else:
                failures = 0
                events += delivered
        if spool.empty:
            self._log.info("usage_replayed", events=events)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)
