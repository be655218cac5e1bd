"""Folds the usage stream into the ledger, batch by batch, and says how far behind it is."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from gateway.clock import Clock
from gateway.control.jobs.steadily import steadily
from gateway.telemetry.logging import Logger
from gateway.telemetry.metrics import Metrics

_EVERY_S = 0.5
_AT_ONCE = 50  # batches, before others that look at what is left get their turn


class Batches(Protocol):
    """`ledger.consumer`. holds: whether it is us who folds."""

    @property
    def holds(self) -> bool: ...

    async def step(self) -> int:
        """Folds a batch; returns how many entries that were. Raises RedisFailure, SQLAlchemyError."""

    async def release(self) -> None:
        """Lets others fold. Raises SQLAlchemyError."""


class Waits(Protocol):
    """The stream: `accounts.usage_stream.Outlet`. Methods raise RedisFailure."""

    async def waiting(self) -> int:
        """How many entries there are."""

    async def oldest_ms(self) -> int | None:
        """When the first entry came, in milliseconds since 1970; None if there is none."""


class Folding:
    """Of one organization."""

    def __init__(self, consumer: Batches, stream: Waits, clock: Clock, metrics: Metrics, log: Logger) -> None:
        self._consumer = consumer
        self._stream = stream
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._seconds = metrics.histogram("gateway_ledger_fold_seconds")

    @property
    def holds(self) -> bool:
        """Whether it is us who folds."""
        return self._consumer.holds

    async def keep_folded(self) -> None:
        """For ever."""
        await steadily(self.fold, _EVERY_S, self._refused)

    async def close(self) -> None:
        """Somebody else may go on at once."""
        with contextlib.suppress(SQLAlchemyError, OSError):
            await self._consumer.release()

    def _refused(self, reason: str) -> None:
        self._log.warning("usage_not_folded", reason=reason)

    async def fold(self) -> int:
        """All that waits, or a good deal of it; returns how many entries that were. Raises RedisFailure,
        SQLAlchemyError."""
        folded = 0
        try:
            for _ in range(_AT_ONCE):
                some = await self._timed(self._consumer.step)
                folded += some
                if not some:
                    break
        finally:
            await self._show()
        return folded

    async def _timed(self, step: Callable[[], Awaitable[int]]) -> int:
        began = self._clock.monotonic()
        entries = await step()
        if entries:
            counted = self._seconds.counted()
            counted.add(self._clock.monotonic() - began)
            self._seconds.carry_over(counted)
        return entries

    async def _show(self) -> None:
        """Of several replicas only the one that folds says how far it is."""
        waiting, lag_s = 0, 0.0
        if self._consumer.holds:
            waiting = await self._stream.waiting()
            oldest = await self._stream.oldest_ms() if waiting else None
            lag_s = max(0.0, self._clock.wall() - oldest / 1000) if oldest is not None else 0.0
        self._metrics.set("gateway_ledger_waiting_events", waiting)
        self._metrics.set("gateway_ledger_lag_seconds", lag_s)
        self._metrics.set("gateway_ledger_folding", int(self._consumer.holds))
        self._metrics.flush()
