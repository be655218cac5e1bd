"""Tells of spend that has reached an alert's threshold: once in each window of the alert.

A row of `spend_alerts` says how far that is: `told_window` is the last window of which telling it was begun,
`attempts` how often it was tried: 0 when it is done, and 20 without a `next_at` when it was given up. Before each try
the row is claimed, in a transaction that succeeds for one process only, and says when the next try is due. So several
control processes may do this, and what one of them does not live to end is tried again. All go by Redis's clock.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Row, select, update

from gateway.accounts.spend import Spend, Spent
from gateway.clock import Clock
from gateway.control.jobs.mail import Mail
from gateway.control.jobs.news import News, NotToldError, Teller, window_name
from gateway.control.jobs.steadily import steadily
from gateway.control.jobs.webhooks import Webhooks
from gateway.control.registry.channels import Channel, read_channel
from gateway.control.sql.database import Database
from gateway.control.sql.tables import projects, spend_alerts
from gateway.settings.model import Alerts
from gateway.telemetry.logging import Logger

T = TypeVar("T")

_EVERY_S = 10.0
_PER_READ = 100  # subjects whose spend is read at once
_AT_ONCE = 5  # alerts that are being told
_FIRST_S, _LONGEST_S = 30, 3600  # pauses between tries; the first is longer than a try may take
_TRIES = 20
_STATE = ("window", "nano_usd", "told_window", "attempts", "next_at")  # what the claim of a row must find as it was
_MISSING = MappingProxyType({"email": "alerts.smtp is not set", "webhook": "alerts.webhook_secret is not set"})


def tellers(settings: Alerts) -> dict[str, Teller]:
    """By type of channel; those that the settings do not provide for are missing."""
    found: dict[str, Teller] = {}
    if settings.smtp is not None:
        found["email"] = Mail(settings.smtp)
    if settings.webhook_secret is not None:
        found["webhook"] = Webhooks(settings, settings.webhook_secret)
    return found


class Telling(msgspec.Struct, frozen=True):
    """What is due for an alert. attempt: from 1. spent: None if the window is over."""

    alert: Row[Any]
    window: str
    attempt: int
    spent: int | None

    @property
    def pause_s(self) -> int:
        return min(_FIRST_S << (self.attempt - 1), _LONGEST_S)


def due(alert: Row[Any], spent: Spent, at_us: int) -> Telling | None:
    """What is to be told now, if anything. A window that is over is told too, unless the next one has reached the
    threshold meanwhile."""
    so_far = int(getattr(spent, alert.window))
    window = window_name(alert.window, at_us)
    if alert.told_window != window and so_far >= alert.nano_usd:
        return Telling(alert, window, 1, so_far)
    if alert.next_at is not None and alert.next_at <= at_us // 1_000_000:
        same = alert.told_window == window
        return Telling(alert, alert.told_window, alert.attempts + 1, so_far if same else None)
    return None


class SpendAlerts:
    """Tells of one organization's alerts, as long as it runs. Several may."""

    def __init__(  # noqa: PLR0917
        self,
        organization_id: str,
        database: Database,
        spend: Spend,
        told_by: Mapping[str, Teller],
        clock: Clock,
        log: Logger,
        *,
        every_s: float = _EVERY_S,
    ) -> None:
        self._organization_id = organization_id
        self._database = database
        self._spend = spend
        self._told_by = told_by
        self._clock = clock
        self._log = log
        self._every_s = every_s
        self._missed: set[str] = set()  # types of channels that the log has been told of

    async def keep_told(self) -> None:
        """For ever, also after Redis or the database was away."""
        await steadily(self.look, self._every_s, self._refused)

    def _refused(self, reason: str) -> None:
        self._log.warning("spend_alerts_not_read", reason=reason)

    async def look(self) -> None:
        """Looks at all alerts once. Raises RedisFailure, SQLAlchemyError, OSError."""
        by_subject: dict[str, list[Row[Any]]] = {}
        for alert in await self._alerts():
            by_subject.setdefault(alert.subject, []).append(alert)
        for subjects in _pieces(list(by_subject), _PER_READ):
            read = await self._spend.read(self._organization_id, subjects)
            read_at = self._clock.monotonic()
            if read.epoch is None:
                return  # what has been spent is not known yet
            found = (due(alert, read.by_subject[s], read.at_us) for s in subjects for alert in by_subject[s])
            for some in _pieces([telling for telling in found if telling is not None], _AT_ONCE):
                now = int(read.at_us / 1_000_000 + self._clock.monotonic() - read_at)
                ends = await asyncio.gather(*(self._tell(one, now) for one in some), return_exceptions=True)
                for error in ends:
                    if error is not None:
                        raise error

    async def _alerts(self) -> list[Row[Any]]:
        """Those for which there is somebody to tell."""
        ours = spend_alerts.c.organization_id == self._organization_id
        async with self._database.transaction() as connection:
            rows = list(await connection.execute(select(spend_alerts).where(ours)))
        missing = {row.channel["type"] for row in rows} - self._told_by.keys()
        for kind in sorted(missing - self._missed):
            self._log.warning("spend_alerts_cannot_be_told", channel=kind, reason=_MISSING[kind])
        self._missed |= missing
        return [row for row in rows if row.channel["type"] not in missing]

    async def _tell(self, telling: Telling, now: int) -> None:
        claimed = await self._claim(telling, now)
        teller = self._told_by.get(claimed[0]) if claimed is not None else None
        if claimed is None or teller is None:
            return
        kind, channel, news = claimed
        said = {"alert": news.alert_id, "channel": kind, "window": news.window, "attempt": telling.attempt}
        try:
            remark = await teller.tell(channel, news)
        except Exception as error:  # noqa: BLE001 - what fails with one alert must not end the others
            expected = isinstance(error, NotToldError)
            again_s = telling.pause_s if telling.attempt < _TRIES else None
            reason = str(error) if expected else type(error).__name__
            self._log.warning(
                "spend_alert_not_told", **said, reason=reason, again_in_s=again_s, exc_info=None if expected else error
            )
            if again_s is None:
                await self._ended(telling, now, attempts=telling.attempt)
        else:
            self._log.info("spend_alert_told", **said, **({"remark": remark} if remark is not None else {}))
            await self._ended(telling, now, attempts=0)

    async def _claim(self, telling: Telling, now: int) -> tuple[str, Channel, News] | None:
        """Takes it on, so that nobody else does before its pause is over. None: somebody else has, or it was changed.
        The channel is the one that it has now."""
        alert, columns = telling.alert, spend_alerts.c
        same = [columns[name].is_not_distinct_from(getattr(alert, name)) for name in _STATE]
        taken = update(spend_alerts).where(columns.id == alert.id, *same)
        values = {"told_window": telling.window, "attempts": telling.attempt, "next_at": now + telling.pause_s}
        async with self._database.transaction() as connection:
            channel = await connection.scalar(taken.values(**values).returning(columns.channel))
            if channel is None:
                return None
            project_id = alert.subject.partition(":")[2]
            name = await connection.scalar(select(projects.c.name).where(projects.c.id == project_id))
        news = News(
            alert.id,
            self._organization_id,
            alert.subject,
            alert.window,
            alert.nano_usd,
            telling.window,
            telling.spent,
            now,
            name,
        )
        return channel["type"], read_channel(channel), news

    async def _ended(self, telling: Telling, now: int, *, attempts: int) -> None:
        """It is not tried again, unless it was changed meanwhile."""
        mine = {"told_window": telling.window, "attempts": telling.attempt, "next_at": now + telling.pause_s}
        columns = spend_alerts.c
        same = update(spend_alerts).where(columns.id == telling.alert.id, *(columns[n] == v for n, v in mine.items()))
        async with self._database.transaction() as connection:
            await connection.execute(same.values(attempts=attempts, next_at=None))


def _pieces(items: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    return (items[start : start + most] for start in range(0, len(items), most))
