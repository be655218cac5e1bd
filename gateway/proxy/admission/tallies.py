"""What admission counts, as metrics."""

from gateway.accounts.plan import Plan
from gateway.limits import Applied, RateLimit
from gateway.proxy.admission.told import Named, Told, name_of
from gateway.telemetry.metrics import Metrics
from gateway.values import Taking, Used

_SHOWN_FLUSHES = 60  # for about so many a limit's use is shown: calls may be rarer than flushes


class Tallies:
    """Counts for one worker; `flush` carries them over a few times a second."""

    def __init__(self, metrics: Metrics, told: Told) -> None:
        self._metrics = metrics
        self._told = told
        self._refusals = metrics.counter("gateway_limit_refusals_total")
        self._without = metrics.counter("gateway_limits_without_redis_total")
        self._tokens = metrics.counter("gateway_limit_tokens_total")
        self._usd = metrics.counter("gateway_limit_usd_total")
        self._histogram = metrics.histogram("gateway_reserve_seconds")
        self._seconds = self._histogram.counted()
        self._reserved_tokens = self._reserved_nano_usd = self._settled_tokens = self._settled_nano_usd = 0
        self._flushes = 0
        self._used: dict[tuple[str, str], float] = {}
        self._used_before: dict[tuple[str, str], float] = {}
        self._shown: set[tuple[str, str]] = set()

    def took(self, seconds: float) -> None:
        """A reserve had its answer, or its deadline."""
        self._seconds.add(seconds)

    def reserved(self, taking: Taking) -> None:
        self._reserved_tokens += taking.tokens
        self._reserved_nano_usd += taking.nano_usd

    def settled(self, used: Used) -> None:
        """What a call that was admitted really used."""
        self._settled_tokens += used.tokens
        self._settled_nano_usd += used.nano_usd

    def used(self, applied: Applied, remaining: int) -> None:
        """What a call's tightest limit has left. Of projects' limits, the largest share of the last seconds shows."""
        limit = applied.limit
        if applied.scope in {"project", "project_model"} and isinstance(limit, RateLimit) and limit.limit:
            capacity = limit.limit if limit.burst is None else min(limit.limit, limit.burst)
            key, share = (applied.subject, limit.kind), 1 - remaining / capacity
            if share > self._used.get(key, -1.0):
                self._used[key] = share

    def without_redis(self, outcome: str) -> None:
        """Redis did not take a reserve, or does not know what is spent. outcome: admitted, refused."""
        self._without.add((outcome,))

    def refused(self, plan: Plan, applied: Applied, seen: Named, taking: Taking, used: int) -> None:
        """used: of the limit, in its unit, before this call."""
        self._refusals.add((name_of(applied), applied.scope, "false"))
        self._told.add(plan, applied, seen, taking, used, shadow=False)

    def shadowed(self, plan: Plan, applied: Applied, seen: Named, taking: Taking) -> None:
        """A call passed that a limit would have refused if it were not a shadow."""
        self._refusals.add((name_of(applied), applied.scope, "true"))
        self._told.add(plan, applied, seen, taking, None, shadow=True)

    def flush(self) -> None:
        seconds, self._seconds = self._seconds, self._histogram.counted()
        self._histogram.carry_over(seconds)
        if self._reserved_tokens or self._reserved_nano_usd:
            self._tokens.add(("reserved",), self._reserved_tokens)
            self._usd.add(("reserved",), self._reserved_nano_usd / 1e9)
        if self._settled_tokens or self._settled_nano_usd:
            self._tokens.add(("settled",), self._settled_tokens)
            self._usd.add(("settled",), self._settled_nano_usd / 1e9)
        self._reserved_tokens = self._reserved_nano_usd = self._settled_tokens = self._settled_nano_usd = 0
        self._show_use()

    def _show_use(self) -> None:
        used = dict(self._used_before)
        for key, share in self._used.items():
            used[key] = max(share, used.get(key, 0.0))
        for key in self._shown - used.keys():
            self._metrics.set("gateway_limit_utilization", 0.0, key)
        for key, share in used.items():
            self._metrics.set("gateway_limit_utilization", share, key)
        self._shown = set(used)
        self._flushes += 1
        if self._flushes >= _SHOWN_FLUSHES:
            self._flushes, self._used_before, self._used = 0, self._used, {}
