"""Which refusals are recorded: the first ones of a key, a limit and a minute one by one, of the others the number.

A worker hands on no more than all workers together may tell; `accounts.refusals` sees to these.
"""

from typing import Protocol

import msgspec

from gateway.accounts.plan import Plan
from gateway.accounts.refusals import MOST_TOLD, Refusal, more_of
from gateway.clock import Clock
from gateway.errors import without_keys
from gateway.limits import CONCURRENT, RATES, Applied, RateLimit
from gateway.telemetry.logging import Logger
from gateway.values import Taking

_MOST_KEPT = 10_000  # keys and limits in a minute; what is refused beyond is only in the metrics
_MOST_WAITING = 20_000  # that were not taken yet; of what comes then, the same holds
_LONGEST_MODEL = 200
_MINUTE_S = 60


class Named(Protocol):
    """A request as refusals name it. model: as its client does."""

    @property
    def request_id(self) -> str: ...
    @property
    def model(self) -> str: ...


class _Kept:
    __slots__ = ("first", "number")

    def __init__(self, first: Refusal) -> None:
        self.first = first
        self.number = 0


class Told:
    """What of one worker's refusals is to be recorded. Bounded; `take` gives what has come up since the last time."""

    def __init__(self, log: Logger, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._minute = 0
        self._kept: dict[tuple[str, str, str, str, bool], _Kept] = {}
        self._waiting: list[Refusal] = []

    def add(self, plan: Plan, applied: Applied, seen: Named, taking: Taking, used: int | None, *, shadow: bool) -> None:
        """A call was refused, or would have been. used: of the limit, before it; None: nobody knows."""
        self._turn()
        limit = applied.limit
        refusal = Refusal(
            at_us=int(self._clock.wall() * 1e6),
            organization_id=plan.organization_id,
            project_id=plan.project_id,
            user_id=plan.user_id,
            key_id=plan.key_id,
            limit=name_of(applied),
            scope=applied.scope,
            subject=applied.subject,
            model=_shown(seen.model),
            request_id=seen.request_id,
            shadow=shadow,
            value=limit.limit if isinstance(limit, RateLimit) else limit.nano_usd,
            used=used,
            wanted=_wanted(applied, taking),
        )
        key = (plan.key_id, refusal.limit, applied.scope, applied.subject, shadow)
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) >= _MOST_KEPT:
                return
            kept = self._kept[key] = _Kept(refusal)
            self._log.info("limit_would_refuse" if shadow else "limit_refuses", **msgspec.structs.asdict(refusal))
        kept.number += 1
        if kept.number <= MOST_TOLD:
            self._wait(refusal)

    def take(self) -> list[Refusal]:
        self._turn()
        waiting, self._waiting = self._waiting, []
        return waiting

    def end(self) -> list[Refusal]:
        """All that is left, the counts of this minute too."""
        self._minute = -1
        return self.take()

    def _turn(self) -> None:
        """A new minute: of the last one, those that were not told are summed up."""
        minute = int(self._clock.wall()) // _MINUTE_S
        if minute == self._minute:
            return
        self._minute = minute
        for kept in self._kept.values():
            more = kept.number - MOST_TOLD
            if more > 0:
                self._wait(more_of(kept.first, more))
        self._kept.clear()

    def _wait(self, refusal: Refusal) -> None:
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append(refusal)


def _wanted(applied: Applied, taking: Taking) -> int:
    """What a call takes of a limit, in the unit in which that is counted."""
    limit = applied.limit
    if not isinstance(limit, RateLimit):
        return taking.nano_usd
    amount: int = 1 if limit.kind == CONCURRENT else getattr(taking, RATES[limit.kind].unit)
    return amount


def _shown(model: str) -> str:
    """A client's words, as they may stand in a log and in JSON."""
    return without_keys(model[:_LONGEST_MODEL]).encode("utf-8", "replace").decode()


def name_of(applied: Applied) -> str:
    """A limit's name: as in settings."""
    limit = applied.limit
    return limit.kind if isinstance(limit, RateLimit) else f"spend.{limit.window}"
