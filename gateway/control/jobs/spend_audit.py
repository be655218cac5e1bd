"""Holds the counters of spend against the ledger: what they say, less what is reserved, has to be what the ledger says
and what is still in the stream.

A counter that is too low is raised, for else money would be spent twice; one that is too high is only told of. Where
Redis has lost the counters, they are all made from the ledger, and spend limits are opened again.
"""

from collections.abc import Awaitable, Callable, Sequence

import msgspec
from sqlalchemy import select

from gateway.accounts.spend import Spend
from gateway.accounts.spend_audit import Counters, Look
from gateway.clock import Clock
from gateway.control.jobs.steadily import steadily
from gateway.control.ledger.consumer import Consumer
from gateway.control.ledger.progress import Progress
from gateway.control.ledger.spending import Spending, forgive, recent_ids, spending, spending_of
from gateway.control.sql.database import Database
from gateway.control.sql.tables import organizations
from gateway.redisdb.running import Running
from gateway.telemetry.logging import Logger
from gateway.telemetry.metrics import Metrics

_LOOK_S = 1.0
_CHECK_S = 300.0
_YOUNG_S = 30  # how long a Redis that has just come back is left alone: workers send again what it may have lost
_MOST = 5_000  # events that wait; with more the ledger is too far behind to be held against anything
_LATELY = 2  # days
_ALL = 8  # a week, and the day before
_NANO = 1e9


class Reset(msgspec.Struct, frozen=True):
    """What a reset did. opened: spend limits were closed. zeroed: what was counted is forgotten."""

    opened: bool
    zeroed: bool


class NotNowError(Exception):
    """The ledger cannot say what was spent; the message is for people."""


class _Held(msgspec.Struct, frozen=True):
    """What the counters say and what they should, without what is reserved; by field. new: what of that is not in the
    ledger yet, also of fields of which it has nothing."""

    look: Look
    should: Spending
    new: Spending

    @property
    def differences(self) -> Spending:
        """By how much counters are too low (more than 0) or too high."""
        found = {}
        for field, should in self.should.items():
            is_ = self.look.spent.get(field, 0) - self.look.held.get(field, 0)
            if should != is_:
                found[field] = should - is_
        return found


class SpendAudit:
    """Of one organization, where its ledger is folded."""

    def __init__(  # noqa: PLR0917
        self,
        organization_id: str,
        database: Database,
        consumer: Consumer,
        counters: Counters,
        spend: Spend,
        running: Callable[[], Awaitable[Sequence[Running]]],
        clock: Clock,
        metrics: Metrics,
        log: Logger,
    ) -> None:
        """running: which servers hold the counters."""
        self._organization_id = organization_id
        self._database = database
        self._consumer = consumer
        self._counters = counters
        self._spend = spend
        self._running = running
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._checked_at = 0.0

    async def keep_right(self) -> None:
        """For ever."""
        await steadily(self.look, _LOOK_S, self._refused)

    def _refused(self, reason: str) -> None:
        self._log.warning("spend_not_checked", reason=reason)

    async def look(self) -> None:
        """Does what is due. Raises RedisFailure, SQLAlchemyError."""
        if not self._consumer.holds:
            return
        if (await self._spend.read(self._organization_id, ())).epoch is None:
            if await self._was_opened():
                await self.rebuild()
        elif self._clock.monotonic() >= self._checked_at + _CHECK_S and not await self._is_young():
            await self.check()
            self._checked_at = self._clock.monotonic()

    async def _is_young(self) -> bool:
        return any(server.uptime_s < _YOUNG_S for server in await self._running())

    async def _was_opened(self) -> bool:
        ours = select(organizations.c.spend_opened_at).where(organizations.c.id == self._organization_id)
        async with self._database.transaction() as connection:
            return await connection.scalar(ours) is not None

    async def check(self) -> Spending:
        """Compares the counters of all who spent something lately, and raises those that are too low. Returns by how
        much each differed. Raises RedisFailure, SQLAlchemyError."""
        async with self._consumer.still() as progress:
            held = await self._hold(progress, days=_LATELY, lately=True) if progress is not None else None
            if held is None:
                return {}
            low = {field: nano_usd for field, nano_usd in held.differences.items() if nano_usd > 0}
            await self._counters.add(self._organization_id, low)
        high = {field: -nano_usd for field, nano_usd in held.differences.items() if nano_usd < 0}
        self._tell(low, high)
        return held.differences

    def _tell(self, low: Spending, high: Spending) -> None:
        for direction, fields in (("low", low), ("high", high)):
            self._metrics.set("gateway_spend_drift_usd", max(fields.values(), default=0) / _NANO, (direction,))
        self._metrics.flush()
        if low:
            self._log.error("spend_raised", counters=len(low), most_nano_usd=max(low.values()))
        if high:
            self._log.warning("spend_too_high", counters=len(high), most_nano_usd=max(high.values()))

    async def rebuild(self) -> bool:
        """Makes all counters from the ledger, and opens them; false if that cannot be done yet. Raises RedisFailure,
        SQLAlchemyError."""
        async with self._consumer.still() as progress:
            held = await self._hold(progress, days=_ALL) if progress is not None else None
            if held is None or held.look.epoch is not None:
                return False
            low = {field: nano_usd for field, nano_usd in held.differences.items() if nano_usd > 0}
            await self._counters.add(self._organization_id, low)
            await self._open()
        self._log.warning("spend_rebuilt", counters=len(low))
        return True

    async def reset(self, *, zero: bool) -> Reset:
        """Makes all counters what the ledger says, be they too high or too low, and opens them if they are closed.
        zero: all windows begin anew instead. Raises NotNowError, RedisFailure, SQLAlchemyError."""
        async with self._consumer.still() as progress:
            if progress is None:
                raise NotNowError("another control process, or another gateway on this Redis, keeps the ledger")
            held = await self._hold(progress, days=_ALL)
            if held is None:
                raise NotNowError("usage is still being folded; in a few seconds it can be said what was spent")
            if zero:
                await self._forgive(held)
                await self._spend.reset_spend(self._organization_id)
            else:
                await self._counters.add(self._organization_id, held.differences)
            opened = held.look.epoch is None
            if opened:
                await self._open()
        self._log.warning("spend_reset", organization=self._organization_id, opened=opened, zeroed=zero)
        return Reset(opened, zero)

    async def _forgive(self, held: _Held) -> None:
        """What is counted so far: it is as much as the ledger says, or more; what the ledger lacks it may get later."""
        async with self._database.transaction() as connection:
            await forgive(connection, self._organization_id, {**held.new, **held.should})

    async def _open(self) -> None:
        await self._spend.open_epoch(self._organization_id, str(int(self._clock.wall() * 1_000_000)))

    async def _hold(self, progress: Progress, *, days: int, lately: bool = False) -> _Held | None:
        """None: the ledger is too far behind, or of another stream than Redis has now."""
        at_us = (await self._spend.read(self._organization_id, ())).at_us
        async with self._database.transaction() as connection:
            should = await spending(connection, self._organization_id, at_us, days=days, lately=lately)
            ids = await recent_ids(connection, at_us)
        if not lately:
            await self._counters.remember(self._organization_id, ids)
        look = await self._counters.look(self._organization_id, list(should), progress.position, _MOST + 1)
        if len(look.waiting) > _MOST or (look.epoch or "") != progress.epoch:
            return None
        async with self._database.transaction() as connection:
            new = await self._consumer.unfolded(connection, look.waiting)
        more = spending_of(new.events, new.replaced)
        return _Held(look, {field: nano_usd + more.get(field, 0) for field, nano_usd in should.items()}, more)
