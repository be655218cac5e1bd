"""Keeps an organization's counters small: fields of the two hashes that hold them do not expire by themselves."""

from typing import Protocol

from gateway.control.jobs.steadily import steadily
from gateway.telemetry.logging import Logger

_EVERY_S = 60.0


class Counters(Protocol):
    """`accounts.prune` in Redis."""

    async def prune(self, organization_id: str) -> int:
        """Takes away what nobody needs; returns how many fields. Raises RedisFailure."""


class Pruner:
    """Prunes one organization, as long as it runs. Several may."""

    def __init__(self, counters: Counters, organization_id: str, log: Logger) -> None:
        self._counters = counters
        self._organization_id = organization_id
        self._log = log

    async def keep_pruned(self) -> None:
        """For ever, also after Redis was away; others say that it is."""
        await steadily(self._prune, _EVERY_S, self._refused)

    async def _prune(self) -> None:
        await self._counters.prune(self._organization_id)

    def _refused(self, reason: str) -> None:
        self._log.warning("counters_not_pruned", organization=self._organization_id, reason=reason)
