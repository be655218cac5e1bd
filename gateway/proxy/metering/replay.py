"""From disk to Redis: what a worker spooled, and what dead workers left behind."""

import asyncio
import contextlib
import random

from gateway.accounts.usage_stream import STREAM_FULL, Packed, UsageStream
from gateway.clock import Clock
from gateway.proxy.metering.recent import Recent, Sent
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
    """Sends batches to the stream, keeps what it has taken in `recent` for a while, and says what goes wrong and what
    became of events: in the log, in the metrics. full: the stream has no room, as it said last. behind: it had none at
    some time, and not all that waited then has been delivered yet."""

    def __init__(self, stream: UsageStream, recent: Recent, metrics: Metrics, log: Logger, clock: Clock) -> None:
        self._stream = stream
        self._recent = recent
        self._metrics = metrics
        self._counter = metrics.counter("gateway_usage_events_total")
        self._log = log
        self._clock = clock
        self._refused = ""
        self._spooled: dict[Spool, int] = {}
        self.full = self.behind = False
        metrics.set("gateway_usage_spool_bytes", 0)
        metrics.set("gateway_usage_stream_full", 0)

    def count(self, what: str, events: int) -> None:
        """what: delivered, spooled, replayed, repeated, dropped."""
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
        return await self._append(events, None) is not None

    async def repeat(self, sent: Sent) -> int | None:
        """What Redis may have lost; how many of these it had not; None if it did not say that it has them now."""
        missing = await self._append(sent.events, sent.epoch_to_say(self._clock.monotonic()))
        if missing is not None:
            self.count("repeated", len(sent.events))
        return missing

    async def _append(self, events: list[Packed], epoch: str | None) -> int | None:
        at = self._clock.monotonic()
        try:
            appended = await self._stream.append(events, epoch=epoch)
        except HotReplyError as error:
            self._is_full(error.code == STREAM_FULL)
            if not self.full and self._refused != str(error):  # once a reason, not once a batch
                self._refused = str(error)
                self._log.error("usage_refused_by_redis", reason=self._refused)
            return None
        except RedisFailure:
            self._is_full(False)  # as far as is known
            return None
        self._is_full(False)
        self._refused = ""
        self._recent.keep(events, at)
        return appended

    def _is_full(self, full: bool) -> None:
        if self.full != full:
            self.full = full
            self._metrics.set("gateway_usage_stream_full", int(full))
            if full and not self.behind:
                self.behind = True
                self._log.error("usage_stream_full", reason="nobody folds it: usage goes to disk")

    def caught_up(self) -> None:
        """All that waited has been delivered."""
        self.behind = False

    async def settle_ahead(self, events: list[Packed]) -> None:
        """What has been spooled because the stream is full is to hold nothing of limits any more. One try: what that
        does not end is charged as reserved when its lease is over, until its event comes."""
        by_organization: dict[str, list[Packed]] = {}
        for event in events:
            by_organization.setdefault(event.organization_id, []).append(event)
        with contextlib.suppress(RedisFailure):
            for ours in by_organization.values():
                for start in range(0, len(ours), BATCH_EVENTS):
                    await self._stream.settle_ahead(ours[start : start + BATCH_EVENTS])

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
