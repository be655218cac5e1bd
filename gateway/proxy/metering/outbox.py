"""A worker's usage events on their way to Redis, past the disk if they must: in order, and each once by its id."""

import asyncio
from collections import deque
from typing import Protocol

from gateway.accounts.usage_stream import Packed, UsageStream, pack
from gateway.clock import Clock
from gateway.proxy.metering.intents import Intents
from gateway.proxy.metering.recent import RECENT_S, Recent, Sent
from gateway.proxy.metering.replay import BATCH_BYTES, BATCH_EVENTS, Adopter, Delivery
from gateway.proxy.metering.spool import Spool, Spools
from gateway.redisdb.hot_connection import backoff_s
from gateway.tasks import Tasks
from gateway.telemetry.logging import Logger
from gateway.telemetry.metrics import Metrics
from gateway.values import UsageEvent

_MOST_WAITING = 20_000  # events in memory; some 2 KB each
_SPOOL_EVENTS = 5_000  # in one write to disk
_SPOOL_BYTES = 4 * 1024 * 1024
_DISK_AGAIN_S = 1.0  # after a disk did not take events
_SAY_AGAIN_S = 10.0  # between two lines about events that are being dropped


class Sink(Protocol):
    """Where usage events go."""

    def add(self, event: UsageEvent | Packed) -> None: ...


class Outbox:
    """Takes events and sees to it that they reach Redis, as long as Redis or the disk takes them.

    One task sends, one batch at a time, so that order holds: all that was added in one tick of the event loop, or while
    a batch was under way. What Redis does not acknowledge goes to the spool, and behind it all that comes until the
    spool has been delivered. Where neither takes events, `most_waiting` are kept in memory; then the oldest are dropped
    with an error in the log.

    What Redis has acknowledged lately is sent again when Redis may have lost it: behind a new connection, and when its
    counters are new ones. `intents` hears of which calls the event is in Redis or on disk.
    """

    def __init__(
        self,
        stream: UsageStream,
        spools: Spools,
        *,
        metrics: Metrics,
        log: Logger,
        clock: Clock,
        most_waiting: int = _MOST_WAITING,
        recent: Recent | None = None,
        intents: Intents | None = None,
    ) -> None:
        self._recent = recent or Recent()
        self._intents = intents
        self._delivery = Delivery(stream, self._recent, metrics, log, clock)
        self._spools = spools
        self._adopter = Adopter(self._delivery, spools, log)
        self._log = log
        self._clock = clock
        self._most_waiting = most_waiting
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        self._running: asyncio.Task[None] | None = None
        self._waiting: deque[UsageEvent | Packed] = deque()
        self._in_hand: list[Packed] = []  # being sent or written; they come before those that wait
        self._again: deque[Sent] = deque()  # what Redis had acknowledged, and is to get again
        self._repeated = self._missing = 0  # events of these: sent so far; not there any more
        self._listening = False  # for new events
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._closing = False
        self._spool: Spool | None = None
        self._replayed = 0
        self._redis_failures = 0
        self._redis_at = self._disk_at = 0.0  # when each may be tried again, by the clock
        self._disk_said = ""
        self._dropped = 0  # since the log said so
        self._say_at = 0.0

    def start(self) -> None:
        self._running = self._tasks.spawn(self._run(), "deliver usage")
        self._adopter.start()

    def add(self, event: UsageEvent | Packed) -> None:
        """Takes an event; returns at once and raises nothing."""
        self._waiting.append(event)
        if self._listening:
            self._listening = False
            self._wake.set()
        elif len(self._waiting) > self._most_waiting:
            self._drop_oldest()

    @property
    def full(self) -> bool:
        """Whether the stream has no room for usage, which goes to disk."""
        return self._delivery.full

    def linked(self, made: bool) -> None:
        """A connection to Redis was lost, or made anew: then there may be less behind it than before."""
        if made:
            self._send_again(self._recent.take())
        else:
            self._recent.forget_before(self._clock.monotonic() - RECENT_S)

    def epoch_is(self, organization_id: str, epoch: str | None) -> None:
        """The epoch of an organization's counters, None if they are closed; told again and again."""
        self._send_again(self._recent.epoch_is(organization_id, epoch))

    def _send_again(self, batches: list[Sent]) -> None:
        self._again.extend(batches)
        if batches:
            self._wake.set()

    async def drain(self) -> None:
        """Returns when all that was added is in Redis or on disk, and what is sent again is in Redis."""
        while self._waiting or self._in_hand or self._again:
            self._settled.clear()
            await self._settled.wait()

    async def close(self) -> None:
        """Delivers what is left, to Redis or to disk; what neither takes is lost, and said to be. Nothing is added
        after it. It waits for Redis no longer than one call may."""
        self._closing = True
        self._wake.set()
        if self._running is not None:
            await self._running
        await self._adopter.close()
        while self._again and await self._repeat():
            pass
        if self._spool is None:
            while self._waiting and await self._send():
                pass
        while self._waiting and await self._write():
            pass
        if self._waiting:  # the last chance: Redis may be back
            while self._spool is not None and await self._replay():
                pass
            while self._waiting and self._spool is None and await self._send():
                pass
        self._drop(len(self._waiting))
        self._waiting.clear()
        self._say_dropped()
        if self._spool is not None:
            await asyncio.to_thread(self._spool.release)
            self._spool = None
        self._settled.set()

    @property
    def _on_disk(self) -> int:
        """Bytes of this worker that are still to be delivered from there."""
        return self._spool.unread if self._spool is not None else 0

    async def _run(self) -> None:
        while not self._closing:
            try:
                await self._step()
            except Exception:  # noqa: BLE001 - else one mistake would end all metering of the worker
                self._log.exception("usage_delivery_failed")
                self._put_back()
                await asyncio.sleep(_DISK_AGAIN_S)

    async def _step(self) -> None:
        """Does one thing, or waits until there is something to do."""
        now = self._clock.monotonic()
        if self._again and now >= self._redis_at:
            await self._repeat()
            return
        if self._spool is not None and now >= self._redis_at and await self._replay():
            if self._on_disk <= BATCH_BYTES:
                return  # new events wait a moment longer, and go straight away behind the last of the spool
            if not self._waiting:
                return
        if self._waiting and self._spool is None and now >= self._redis_at:
            await self._send()
        elif self._waiting and now >= self._disk_at:
            await self._write()
        else:
            await self._rest()

    async def _rest(self) -> None:
        """Until an event comes, or until it is time to try Redis or the disk again."""
        if not self._waiting:
            self._settled.set()
            self._say_dropped()
        now = self._clock.monotonic()
        again = self._redis_at if self._spool is not None or self._again else float("inf")
        if self._waiting:
            again = min(self._redis_at, self._disk_at)
        if again <= now or self._closing:
            return
        self._wake.clear()
        # A new event is no reason to wake up as long as nobody takes it.
        self._listening = not self._waiting and (self._spool is None or now >= self._disk_at)
        timer = self._loop.call_later(again - now, self._wake.set) if again < float("inf") else None
        await self._wake.wait()
        self._listening = False
        if timer is not None:
            timer.cancel()

    async def _send(self) -> bool:
        """One batch straight to Redis."""
        batch = self._take(BATCH_EVENTS, BATCH_BYTES, one_organization=True)
        if batch and not await self._delivery.send(batch):
            self._put_back()
            self._redis_failed()
            return False
        self._taken(batch)
        self._redis_failures = 0
        self._disk_said = ""
        self._delivery.count("delivered", len(batch))
        self._delivery.caught_up()
        return True

    async def _repeat(self) -> bool:
        """One batch that Redis may have lost."""
        missing = await self._delivery.repeat(self._again[0])
        if missing is None:
            self._redis_failed()
            return False
        self._redis_failures = 0
        self._missing += missing
        self._repeated += len(self._again.popleft().events)
        if not self._again:
            say = self._log.warning if self._missing else self._log.info
            say("usage_repeated", events=self._repeated, missing=self._missing)
            self._repeated = self._missing = 0
        return True

    async def _write(self) -> bool:
        """One batch to the disk."""
        batch = self._take(_SPOOL_EVENTS, _SPOOL_BYTES)
        try:
            if batch:
                await asyncio.to_thread(self._write_blocking, b"".join([event.json + b"\n" for event in batch]))
        except OSError as error:
            self._put_back()
            self._disk_at = self._clock.monotonic() + _DISK_AGAIN_S
            if self._disk_said != str(error):  # once a reason, not once a second
                self._disk_said = str(error)
                self._log.error("usage_not_spooled", reason=self._disk_said)
            return False
        self._taken(batch)
        self._disk_said = ""
        self._delivery.count("spooled", len(batch))
        if self._spool is not None:
            self._delivery.shows(self._spool)
        if self._delivery.behind:
            await self._delivery.settle_ahead(batch)
        return True

    def _write_blocking(self, lines: bytes) -> None:
        self._spools.check_room(len(lines))
        spool = self._spool or self._spools.open()
        try:
            spool.write(lines)
        finally:
            if not spool.empty:
                if self._spool is None:
                    self._log.warning("usage_spooled", reason="Redis does not take it")
                self._spool = spool
            elif self._spool is None:
                spool.release()

    async def _replay(self) -> bool:
        """One batch from the disk to Redis."""
        assert self._spool is not None
        try:
            delivered = await self._delivery.replay(self._spool)
        except OSError as error:
            self._log.error("usage_spool_not_read", reason=str(error))
            delivered = None
        if delivered is None:
            self._redis_failed()
            return False
        self._redis_failures = 0
        self._replayed += delivered
        if self._spool.empty:
            await asyncio.to_thread(self._spool.release)
            self._spool = None
            self._log.info("usage_replayed", events=self._replayed)
            self._replayed = 0
        return True

    def _taken(self, batch: list[Packed]) -> None:
        """Redis or the disk has it."""
        self._in_hand = []
        if self._intents:
            self._intents.over([event.id for event in batch])

    def _redis_failed(self) -> None:
        self._redis_failures += 1
        self._redis_at = self._clock.monotonic() + backoff_s(self._redis_failures)

    def _take(self, most_events: int, most_bytes: int, *, one_organization: bool = False) -> list[Packed]:
        """Takes the next events in hand."""
        batch = self._in_hand = []
        size = 0
        waiting = self._waiting
        while waiting and len(batch) < most_events:
            event = waiting[0]
            if not isinstance(event, Packed):
                try:
                    event = pack(event)
                except (ValueError, TypeError, OverflowError) as error:
                    self._log.error("usage_event_unusable", id=event.id, reason=type(error).__name__)
                    self._delivery.count("dropped", 1)
                    waiting.popleft()
                    continue
            size += len(event.json) + 1
            other = one_organization and bool(batch) and event.organization_id != batch[0].organization_id
            if batch and (size > most_bytes or other):
                waiting[0] = event
                break
            batch.append(event)
            waiting.popleft()
        return batch

    def _put_back(self) -> None:
        """What was in hand is the first again of those that wait."""
        self._waiting.extendleft(reversed(self._in_hand))
        self._in_hand = []
        while len(self._waiting) > self._most_waiting:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._waiting.popleft()
        self._drop(1)

    def _drop(self, events: int) -> None:
        if events:
            self._dropped += events
            self._delivery.count("dropped", events)
            if self._clock.monotonic() >= self._say_at:
                self._say_dropped()

    def _say_dropped(self) -> None:
        if self._dropped:
            self._log.error("usage_lost", events=self._dropped, reason="neither Redis nor the disk takes it")
            self._dropped = 0
            self._say_at = self._clock.monotonic() + _SAY_AGAIN_S
