"""Makes the parts of this room, and keeps them running."""

import asyncio
import contextlib
import os
import secrets
import socket

from gateway.accounts.refusals import Refusals
from gateway.accounts.reservations import Reservations
from gateway.clock import Clock
from gateway.operations.table import load_operations
from gateway.pricing.book import Book
from gateway.process import usable_cpus
from gateway.proxy.admission.bounds import Assumed
from gateway.proxy.admission.estimate import Estimator
from gateway.proxy.admission.leases import Leases
from gateway.proxy.admission.plans import Plans
from gateway.proxy.admission.reserve import Admission, Intents
from gateway.proxy.admission.tallies import Tallies
from gateway.proxy.admission.told import Told
from gateway.redisdb.failures import RedisFailure
from gateway.settings.limits import nano_usd
from gateway.settings.model import Settings
from gateway.telemetry.logging import Logger
from gateway.telemetry.metrics import Metrics

_RECORD_S = 1.0


class Limits:
    """The limits of one worker."""

    def __init__(
        self,
        settings: Settings,
        reservations: Reservations,
        patient: Reservations | None,
        book: Book,
        *,
        metrics: Metrics,
        log: Logger,
        clock: Clock,
        intents: Intents | None = None,
    ) -> None:
        """patient: for what no call waits for, so that a slow Redis does not keep it from being done; else all is done
        with `reservations`. intents: None for none.
        """
        limits, count = settings.limits, settings.workers.count
        self._metrics = metrics
        self._plans = Plans(spend_closes=limits.when_redis_is_away.spend == "closed", log=log)
        self._told = Told(log, clock)
        self._tallies = Tallies(metrics, self._told)
        self.leases = Leases(
            patient or reservations,
            f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
            lambda: self._plans.organizations,
            lease_s=limits.lease_s,
            clock=clock,
            least_workers=count if isinstance(count, int) else usable_cpus(),
        )
        assumed = Assumed(
            flat_nano_usd=nano_usd(limits.unknown_call_usd),
            stream_bytes=settings.bodies.stream_mib * 1024 * 1024,
        )
        self.admission = Admission(
            reservations,
            self.leases,
            plans=self._plans,
            estimator=Estimator(book, load_operations(), assumed),
            tallies=self._tallies,
            away=limits.when_redis_is_away,
            clock=clock,
            intents=intents,
        )

    def start(self) -> None:
        """Begins to renew what is reserved."""
        self.leases.start()

    def flush(self) -> None:
        """Carries over what was counted."""
        self._tallies.flush()
        self._metrics.set("gateway_reservations", len(self.leases))

    async def record(self, refusals: Refusals) -> None:
        """For ever: writes down what was refused."""
        while True:
            await asyncio.sleep(_RECORD_S)
            try:
                await refusals.append(self._told.take())
            except RedisFailure:
                continue  # they are in the metrics, and the first ones in the log

    async def record_rest(self, refusals: Refusals) -> None:
        """Writes down what is left, as far as one try goes."""
        with contextlib.suppress(RedisFailure):
            await refusals.append(self._told.end())

    async def close(self) -> None:
        await self.leases.close()
