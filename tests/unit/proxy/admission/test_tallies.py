"""What admission counts."""

from typing import Any

import pytest

from gateway.clock import ManualClock
from gateway.limits import Applied
from gateway.proxy.admission import tallies as module
from gateway.proxy.admission.tallies import Tallies
from gateway.proxy.admission.told import Told
from gateway.telemetry.logging import make_logger
from gateway.telemetry.metrics import Metrics
from gateway.values import Taking, Used
from tests.unit.accounts.stand import plan_of, rate, spending
from tests.unit.proxy.admission.kit import Seen


class Tallying:
    def __init__(self) -> None:
        clock = ManualClock()
        self.logged: list[bytes] = []
        self.metrics = Metrics()
        told = Told(make_logger("worker", "info", clock, write=self.logged.append), clock)
        self.tallies = Tallies(self.metrics, told)

    def metric(self, name: str, **labels: str) -> Any:
        self.tallies.flush()
        return self.shown(name, **labels)

    def shown(self, name: str, **labels: str) -> Any:
        self.metrics.flush()
        return self.metrics.registry.get_sample_value(name, labels)

    def use(self, **projects: float) -> dict[str, float]:
        self.tallies.flush()
        return {
            name: self.shown("gateway_limit_utilization", project=name, limit="requests_per_minute")
            for name in projects
        }


@pytest.fixture
def tallying() -> Tallying:
    return Tallying()


def test_what_was_reserved_and_what_was_used(tallying: Tallying) -> None:
    tallying.tallies.reserved(Taking(tokens=100, nano_usd=2_000_000_000))
    tallying.tallies.reserved(Taking(tokens=11, nano_usd=1))
    tallying.tallies.settled(Used(tokens=7, nano_usd=500_000_000))
    for _ in range(2):  # flushed again, nothing is counted again
        assert tallying.metric("gateway_limit_tokens_total", what="reserved") == 111
        assert tallying.metric("gateway_limit_tokens_total", what="settled") == 7
        assert tallying.metric("gateway_limit_usd_total", what="reserved") == pytest.approx(2.000000001)
        assert tallying.metric("gateway_limit_usd_total", what="settled") == 0.5


def test_how_long_reserving_took(tallying: Tallying) -> None:
    for seconds in (0.001, 0.002):
        tallying.tallies.took(seconds)
    assert tallying.metric("gateway_reserve_seconds_sum") == pytest.approx(0.003)
    assert tallying.metric("gateway_reserve_seconds_count") == 2


def test_refusals_by_limit_and_scope(tallying: Tallying) -> None:
    limit, spend = rate("key", "key_1", "tokens_per_minute", 1), spending("user", "user_1", "day", 1)
    plan = plan_of(limit, spend)
    tallying.tallies.refused(plan, limit, Seen(request_id="req_1"), Taking(tokens=5), 3)
    tallying.tallies.refused(plan, spend, Seen(request_id="req_2"), Taking(nano_usd=5), 4)
    tallying.tallies.shadowed(plan, spend, Seen(request_id="req_3"), Taking(nano_usd=5))
    name = "gateway_limit_refusals_total"
    assert tallying.metric(name, limit="tokens_per_minute", scope="key", shadow="false") == 1
    assert tallying.metric(name, limit="spend.day", scope="user", shadow="false") == 1
    assert tallying.metric(name, limit="spend.day", scope="user", shadow="true") == 1
    assert len(tallying.logged) == 3
    tallying.tallies.without_redis("refused")
    assert tallying.metric("gateway_limits_without_redis_total", outcome="refused") == 1


def limit(of: str, number: int, burst: int | None = None) -> Applied:
    return rate("project", of, "requests_per_minute", number, burst=burst)


def test_how_much_of_projects_limits_is_used(tallying: Tallying) -> None:
    tallies = tallying.tallies
    tallies.used(limit("a", 100), 90)
    tallies.used(limit("a", 100), 70)
    tallies.used(limit("a", 100), 80)
    tallies.used(limit("b", 600, burst=20), 15)
    tallies.used(limit("c", 0), 0)
    tallies.used(rate("key", "d", "requests_per_minute", 10), 1)
    assert tallying.use(a=0, b=0, c=0, d=0) == {
        "a": pytest.approx(0.3), "b": pytest.approx(0.25), "c": None, "d": None,
    }, "of what may be used at once"  # fmt: skip


def test_use_is_shown_longer_than_between_two_flushes(monkeypatch: pytest.MonkeyPatch, tallying: Tallying) -> None:
    monkeypatch.setattr(module, "_SHOWN_FLUSHES", 3)
    tallying.tallies.used(limit("a", 100), 25)
    for _ in range(3):
        assert tallying.use(a=0) == {"a": 0.75}
    tallying.tallies.used(limit("a", 100), 50)
    for _ in range(3):
        assert tallying.use(a=0) == {"a": 0.75}
    for _ in range(3):
        assert tallying.use(a=0) == {"a": 0.5}
    assert tallying.use(a=0) == {"a": 0.0}
    assert tallying.tallies._used == tallying.tallies._used_before == {}
