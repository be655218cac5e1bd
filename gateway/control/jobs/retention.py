"""Removes usage that is older than it is kept, once an hour, where the ledger is folded."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.clock import Clock
from gateway.control.jobs.steadily import steadily
from gateway.control.ledger.retention import Removed
from gateway.telemetry.logging import Logger

_LOOK_S = 60.0  # who folds may change
_EVERY_S = 3600.0


class Folds(Protocol):
    """`folding.Folding`. holds: whether it is us who folds, and thus who removes."""

    @property
    def holds(self) -> bool: ...


class Retention:
    """remove: of `ledger.retention`, given the time in seconds since 1970."""

    def __init__(
        self, remove: Callable[[float], Awaitable[Removed]], folding: Folds, clock: Clock, log: Logger
    ) -> None:
        self._remove = remove
        self._folding = folding
        self._clock = clock
        self._log = log
        self._next_at = 0.0  # as the clock's wall has it: at once

    async def keep_removed(self) -> None:
        """For ever."""
        await steadily(self.look, _LOOK_S, self._refused)

    async def look(self) -> None:
        """Removes what is too old, if it is time. Raises SQLAlchemyError."""
        now = self._clock.wall()
        if now < self._next_at or not self._folding.holds:
            return
        removed = await self._remove(now)
        self._next_at = now + _EVERY_S
        if removed:
            self._log.info("usage_removed", rows=removed.rows, partitions=list(removed.partitions))

    def _refused(self, reason: str) -> None:
        self._log.warning("usage_not_removed", reason=reason)
