"""Ends the reservations of workers that died: what they took is charged as reserved, unless it is settled yet."""

import asyncio

from gateway.accounts.reservations import Reservations
from gateway.redisdb.failures import RedisFailure, RedisReplyError
from gateway.telemetry.logging import Logger

_EVERY_S = 2.0
_PER_SWEEP = 100


class Sweeper:
    """Sweeps one organization, as long as it runs. Several may: a reservation is swept once."""

    def __init__(self, reservations: Reservations, organization_id: str, log: Logger) -> None:
        self._reservations = reservations
        self._organization_id = organization_id
        self._log = log
        self._refused = ""

    async def keep_swept(self) -> None:
        while True:
            try:
                while swept := await self._reservations.sweep(self._organization_id, _PER_SWEEP):
                    self._log.warning("reservations_expired", organization=self._organization_id, number=swept)
                self._refused = ""
            except RedisReplyError as error:
                if self._refused != str(error):  # once a reason
                    self._refused = str(error)
                    self._log.error("reservations_not_swept", organization=self._organization_id, reason=self._refused)
            except RedisFailure:
                pass  # whoever publishes says so
            await asyncio.sleep(_EVERY_S)
