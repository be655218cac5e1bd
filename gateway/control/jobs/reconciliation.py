"""Compares days of the ledger with what upstreams say of them: each day some hours after its end, and whenever somebody
asks for it.

Any control process does it, and several may at once: what came of a day takes the place of what was there of it.
"""

import asyncio
import datetime as dt
from collections.abc import Mapping
from typing import Literal

import msgspec

from gateway.clock import Clock
from gateway.control.jobs.steadily import steadily
from gateway.control.jobs.upstream_books import DAY_S, BooksError, Pause, UpstreamBooks
from gateway.control.ledger.comparison import COSTS, Difference, Drift, compare, drifts, fields_of
from gateway.control.ledger.day_sums import sums_of_all, sums_of_upstream
from gateway.control.ledger.reconciliations import keep, kept, newest_day
from gateway.control.sql.database import Database
from gateway.settings.model import Settings
from gateway.telemetry.logging import Logger
from gateway.telemetry.metrics import Metrics
from gateway.usage.fields import FIELDS

_LOOK_S = 60.0
_AGAIN_S = 900.0  # after a failure
_MINUTE_S = 60


class ReconciliationError(Exception):
    """There is nothing to compare. The message is for people."""


class Compared(msgspec.Struct, frozen=True, omit_defaults=True):
    """A day of one upstream. of: where our side is from; `calls`: single ones, `days`: sums of whatever upstream.
    left_out: what could not be compared, and why. error: why nothing could be; then there are no differences."""

    upstream: str
    of: Literal["calls", "days"]
    error: str = ""
    left_out: tuple[str, ...] = ()
    drifts: tuple[Drift, ...] = ()
    differences: tuple[Difference, ...] = ()


class Report(msgspec.Struct, frozen=True):
    """day: YYYY-MM-DD, UTC. over: whether it is; both sides are still growing otherwise. passed: whether all upstreams
    were compared, and are no further apart than the tolerance, a share of 0 to 1."""

    day: str
    over: bool
    tolerance: float
    passed: bool
    upstreams: tuple[Compared, ...]


class Reconciliation:
    """Of one organization with those of its upstreams that are asked. pause: see `UpstreamBooks`."""

    def __init__(  # noqa: PLR0917
        self,
        settings: Settings,
        database: Database,
        clock: Clock,
        metrics: Metrics,
        log: Logger,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._organization_id = settings.organization_id
        self._database = database
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._failures = metrics.counter("gateway_reconciliation_failures_total")
        self._books = {
            name: UpstreamBooks(upstream, upstream.reconciliation, pause)
            for name, upstream in settings.upstreams.items()
            if upstream.reconciliation is not None
        }
        self._again_at: dict[str, float] = {}  # by upstream, of the clock
        self._shown: dict[str, tuple[int, int]] = {}

    async def keep_reconciled(self) -> None:
        """For ever; nothing if no upstream is asked."""
        if self._books:
            await steadily(self.reconcile_due, _LOOK_S, self._refused)

    def _refused(self, reason: str) -> None:
        self._log.warning("days_not_reconciled", reason=reason)

    async def reconcile_due(self) -> None:
        """The newest day that has to be whole by now, unless that is done; and what the newest one's drift is. Raises
        SQLAlchemyError."""
        due = int(self._clock.wall() - self._settings.reconciliation.after_s) // DAY_S - 1
        for name in self._books:
            newest = await newest_day(self._database, self._organization_id, name)
            is_done = newest is not None and newest[0] * _MINUTE_S >= due * DAY_S
            if not is_done and self._clock.monotonic() >= self._again_at.get(name, 0.0):
                compared = await self._compare(name, due * DAY_S)
                if compared.error:
                    self._again_at[name] = self._clock.monotonic() + _AGAIN_S
            await self._show(name)
        self._metrics.flush()

    async def reconcile(self, day: str) -> Report:
        """A day, YYYY-MM-DD in UTC, also one that is not over: that is not kept. Raises ReconciliationError,
        SQLAlchemyError."""
        if not self._books:
            raise ReconciliationError(
                "no upstream has settings of reconciliation (upstreams.….reconciliation.admin_key)"
            )
        begin = _begin_of(day)
        if begin > self._clock.wall():
            raise ReconciliationError(f"{day} has not begun, in UTC")
        found = []
        for name in self._books:
            found.append(await self._compare(name, begin))
            await self._show(name)
        self._metrics.flush()
        tolerance = self._settings.reconciliation.tolerance
        passed = all(not one.error and all(drift.ratio <= tolerance for drift in one.drifts) for one in found)
        return Report(day, self._is_over(begin), tolerance, passed, tuple(found))

    def _is_over(self, begin: int) -> bool:
        return begin + DAY_S <= self._clock.wall()

    async def _compare(self, name: str, begin: int) -> Compared:
        """A day of an upstream. It is kept if it is over. Raises SQLAlchemyError."""
        alone = len(self._settings.upstreams) == 1
        of: Literal["calls", "days"] = "days" if alone else "calls"
        at = begin // _MINUTE_S
        try:
            if not alone and begin < self._clock.wall() - self._settings.ledger.events_days * DAY_S:
                raise BooksError(
                    "its calls cannot be told from those of other upstreams: single calls are kept no longer"
                )
            read = await self._books[name].of_day(begin)
        except BooksError as error:
            self._failures.add((name,), 1)
            self._log.warning("day_not_reconciled", upstream=name, day=_name_of(begin), reason=str(error))
            return Compared(name, of, error=str(error))
        if alone:
            ours = await sums_of_all(self._database, self._organization_id, at)
        else:
            ours = await sums_of_upstream(self._database, self._organization_id, at, name)
        differences = compare(ours, read.theirs)
        found = drifts(differences)
        if self._is_over(begin):
            now = int(self._clock.wall())
            await keep(self._database, self._organization_id, name, at, differences, now)
            largest = max((one.ratio for one in found), default=0.0)
            self._log.info("day_reconciled", upstream=name, day=_name_of(begin), drift=round(largest, 6))
        return Compared(name, of, "", read.left_out, tuple(found), tuple(differences))

    async def _show(self, name: str) -> None:
        """The newest day's drift, whoever has found it: another control process, or one before us."""
        newest = await newest_day(self._database, self._organization_id, name)
        if newest is None or self._shown.get(name) == newest:
            return
        found = drifts(await kept(self._database, self._organization_id, name, newest[0]))
        ratios: Mapping[tuple[str, str], float] = {(one.category, one.field): one.ratio for one in found}
        for category in (*FIELDS, COSTS):
            for field in fields_of(category):
                ratio = ratios.get((category, field), 0.0)
                self._metrics.set("gateway_reconciliation_drift_ratio", ratio, (name, category, field))
        self._metrics.set("gateway_reconciliation_day_timestamp_seconds", newest[0] * _MINUTE_S, (name,))
        self._shown[name] = newest


def _begin_of(day: str) -> int:
    """In seconds since 1970. Raises ReconciliationError."""
    try:
        return int(dt.datetime.combine(dt.date.fromisoformat(day), dt.time(), dt.UTC).timestamp())
    except ValueError:
        raise ReconciliationError("expected a day as 2026-11-22") from None


def _name_of(begin: int) -> str:
    return dt.datetime.fromtimestamp(begin, dt.UTC).date().isoformat()
