"""Rate limits while Redis is away: each worker applies its share of them by itself."""

from collections.abc import Iterable

import msgspec

from gateway.clock import Clock
from gateway.limits import CONCURRENT, RATES, Applied, RateLimit
from gateway.values import Taking

_MOST_BUCKETS = 50_000
Bucket = tuple[str, str, str, str]


class Hit(msgspec.Struct, frozen=True):
    """A limit that refused. used: in the limit's unit, of this worker's share. wait_us: 0 if nobody knows, as with what
    runs; None if it will never pass.
    """

    applied: Applied
    used: int
    wait_us: int | None


class LocalLimits:
    """The buckets and counts of one worker. A share is the limit divided by the number of workers, one call at least.

    Buckets refill continuously and take a call or refuse it as a whole, like those in Redis; they begin full. A call
    that fits the limit but not the share passes when the bucket is full, and all of it is waited for afterwards.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._full_at: dict[Bucket, float] = {}  # µs of the monotonic clock
        self._running: dict[Bucket, int] = {}

    def take(self, entries: Iterable[Applied], taking: Taking, workers: int) -> tuple[Bucket, ...] | Hit:
        """All or nothing: what is to be given back when the call has ended, or the limit that refused."""
        now = self._clock.monotonic() * 1e6
        full_at: dict[Bucket, float] = {}
        counted: list[Bucket] = []
        for applied in entries:
            limit = applied.limit
            if not isinstance(limit, RateLimit) or limit.limit is None:
                continue
            bucket: Bucket = (applied.scope, applied.subject, applied.model, limit.kind)
            if limit.kind == CONCURRENT:
                running = self._running.get(bucket, 0)
                if running >= max(min(1, limit.limit), limit.limit // workers) and not limit.shadow:
                    return Hit(applied, running, 0 if limit.limit else None)
                counted.append(bucket)
                continue
            amount = getattr(taking, RATES[limit.kind].unit)
            if not amount:
                continue
            moved = self._moved(bucket, limit, amount, workers, now)
            if isinstance(moved, float):
                full_at[bucket] = moved
            elif not limit.shadow:
                return Hit(applied, *moved)
        self._full_at.update(full_at)
        for bucket in counted:
            self._running[bucket] = self._running.get(bucket, 0) + 1
        if len(self._full_at) > _MOST_BUCKETS:
            self._prune(now)
        return tuple(counted)

    def give_back(self, counted: Iterable[Bucket]) -> None:
        """The call has ended."""
        for bucket in counted:
            left = self._running.get(bucket, 0) - 1
            if left > 0:
                self._running[bucket] = left
            else:
                self._running.pop(bucket, None)

    def _prune(self, now: float) -> None:
        """Forgets full buckets; if that is too few, for clients name models, then those that are full first."""
        left = sorted(((at, name) for name, at in self._full_at.items() if at > now), reverse=True)
        self._full_at = {name: at for at, name in left[: _MOST_BUCKETS // 2]}

    def _moved(
        self, bucket: Bucket, limit: RateLimit, amount: int, workers: int, now: float
    ) -> float | tuple[int, int | None]:
        """When the bucket would be full again after this; or how much of it is used, and how long to wait."""
        rate = RATES[limit.kind]
        assert limit.limit is not None
        share = max(limit.limit * rate.factor / workers, min(1, limit.limit))
        if not share:
            return 0, None
        most = limit.limit if limit.burst is None else min(limit.limit, limit.burst)  # at once, of all workers
        us_each = rate.period_us / share
        start = max(now, self._full_at.get(bucket, 0.0))
        if amount > most * rate.factor:
            return round((start - now) / us_each), None
        capacity = max(amount, min(share, most * rate.factor / workers))
        over = start + amount * us_each - now - capacity * us_each
        if over <= 1.0:
            return start + amount * us_each
        return round((start - now) / us_each), int(over)
