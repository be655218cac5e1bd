import pytest

from gateway.clock import ManualClock
from gateway.simulator.headers import Limits, go_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0001, "0s"),
        (0.00264, "2ms"),
        (0.02, "20ms"),
        (0.999, "999ms"),
        (1, "1s"),
        (8.64, "8.64s"),
        (6.5, "6.5s"),
        (360, "6m0s"),
        (692.334, "11m32.334s"),
        (1396.298, "23m16.298s"),
        (3600, "1h0m0s"),
        (90061.001, "25h1m1.001s"),
    ],
)
def test_durations_look_like_gos(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


def test_buckets_refill() -> None:
    clock = ManualClock()
    limits = Limits(clock)
    head = dict(limits.headers("gpt-4o", 2_500_000))
    assert head["x-ratelimit-limit-requests"] == "30000"
    assert head["x-ratelimit-remaining-requests"] == "29999"
    assert head["x-ratelimit-remaining-tokens"] == "147500000"
    assert head["x-ratelimit-reset-requests"] == "2ms"
    assert head["x-ratelimit-reset-tokens"] == "1s"
    clock.advance(60)
    assert dict(limits.headers("gpt-4o", 0))["x-ratelimit-remaining-tokens"] == "150000000"
    assert dict(limits.headers("o3", 10))["x-ratelimit-remaining-tokens"] == "149999990"
