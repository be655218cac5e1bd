"""Ends the reservations of workers that died: what they took is charged as reserved, unless it is settled yet."""

from gateway.accounts.reservations import Reservations
from gateway.control.jobs.steadily import steadily
from gateway.telemetry.logging import Logger

_EVERY_S = 2.0
_PER_SWEEP = 100


class Sweeper:
    """Sweeps one organization, as long as it runs. Several may: a reservation is swept once."""

    def __init__(self, reservations: Reservations, organization_id: str, log: Logger) -> None:
        self._reservations = reservations
        self._organization_id = organization_id
        self._log = log

    async def keep_swept(self) -> None:
        """For ever, also after Redis was away; others say that it is."""
        await steadily(self._sweep, _EVERY_S, self._refused)

    async def _sweep(self) -> None:
        while swept := await self._reservations.sweep(self._organization_id, _PER_SWEEP):
            self._log.warning("reservations_expired", organization=self._organization_id, number=swept)

    def _refused(self, reason: str) -> None:
        self._log.error("reservations_not_swept", organization=self._organization_id, reason=reason)
