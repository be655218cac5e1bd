"""Rate limits of a worker alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import ManualClock
from gateway.limits import CONCURRENT, Applied, RateLimit
from gateway.proxy.admission import local as module
from gateway.proxy.admission.local import Hit, LocalLimits
from gateway.values import Taking
from tests.unit.accounts.stand import rate

RPM, TPM = "requests_per_minute", "tokens_per_minute"


@given(
    limit=st.integers(1, 500),
    burst=st.none() | st.integers(1, 500),
    workers=st.integers(1, 8),
    steps=st.lists(st.tuples(st.floats(0, 20), st.integers(1, 60)), max_size=80),
)
def test_no_window_lets_more_pass_than_the_share(
    limit: int, burst: int | None, workers: int, steps: list[tuple[float, int]]
) -> None:
    clock = ManualClock()
    limits, entries = LocalLimits(clock), [rate("key", "key_1", TPM, limit, burst=burst)]
    share = max(limit / workers, 1)
    most = min(limit, burst or limit)
    passed: list[tuple[float, int]] = []
    for pause, tokens in steps:
        clock.advance(pause)
        found = limits.take(entries, Taking(tokens=tokens), workers)
        if not isinstance(found, Hit):
            passed.append((clock.monotonic(), tokens))
            assert tokens <= most
            continue
        assert (found.wait_us is None) == (tokens > most), "only what is larger than the whole limit never passes"
        if found.wait_us is not None:
            clock.advance(found.wait_us / 1e6 + 1e-3)
            assert limits.take(entries, Taking(tokens=tokens), workers) == (), "it passes when it was told to"
            passed.append((clock.monotonic(), tokens))
    for first in range(len(passed)):
        total = 0
        for at, tokens in passed[first:]:
            total += tokens
            largest = max(tokens for _, tokens in passed[first:])
            capacity = max(min(share, max(1, most / workers)), largest)
            assert total <= capacity + (at - passed[first][0]) * share / 60 + 1e-3


def test_all_or_nothing() -> None:
    limits = LocalLimits(ManualClock())
    entries = [rate("key", "k", RPM, 2), rate("key", "k", CONCURRENT, 5), rate("user", "u", TPM, 10)]
    for _ in range(5):
        found = limits.take(entries, Taking(tokens=11), 1)
        assert isinstance(found, Hit)
        assert (found.applied, found.wait_us) == (entries[2], None)
    assert limits._running == {}
    for _ in range(2):
        assert not isinstance(limits.take(entries, Taking(), 1), Hit)
    found = limits.take(entries, Taking(), 1)
    assert isinstance(found, Hit)
    assert (found.applied, found.used, found.wait_us) == (entries[0], 2, 30_000_000)


def test_each_subject_and_model_has_its_own() -> None:
    limits = LocalLimits(ManualClock())
    for entry in (
        rate("key", "k1", RPM, 1),
        rate("key", "k2", RPM, 1),
        rate("user", "k1", RPM, 1),
        rate("project_model", "p", RPM, 1, model="a"),
        rate("project_model", "p", RPM, 1, model="b"),
        rate("key", "k1", "requests_per_day", 1),
    ):
        assert limits.take([entry], Taking(), 1) == ()
        assert isinstance(limits.take([entry], Taking(), 1), Hit)


@pytest.mark.parametrize(("limit", "workers", "passing"), [(6, 1, 6), (6, 2, 3), (6, 4, 1), (6, 100, 1), (0, 2, 0)])
def test_concurrency_is_shared_out_and_given_back(limit: int, workers: int, passing: int) -> None:
    limits, entries = LocalLimits(ManualClock()), [rate("project", "p", CONCURRENT, limit)]
    for _ in range(3):
        held = []
        for _ in range(passing):
            taken = limits.take(entries, Taking(), workers)
            assert isinstance(taken, tuple)
            held.append(taken)
        found = limits.take(entries, Taking(), workers)
        assert isinstance(found, Hit)
        assert (found.used, found.wait_us) == (passing, 0 if limit else None)
        for taken in held:
            limits.give_back(taken)
        assert limits._running == {}, "nothing is kept of what does not run"


def test_a_call_larger_than_the_share_but_not_than_the_limit_has_its_turn() -> None:
    clock = ManualClock()
    limits, entries = LocalLimits(clock), [rate("key", "k", TPM, 1000)]
    assert limits.take(entries, Taking(tokens=900), 4) == ()
    found = limits.take(entries, Taking(tokens=1), 4)
    assert isinstance(found, Hit)
    assert found.wait_us == pytest.approx(651 / 250 * 60e6, rel=0.01)
    clock.advance(900 / 250 * 60)
    assert limits.take(entries, Taking(tokens=900), 4) == (), "again, in the time that the share takes for it"
    found = limits.take(entries, Taking(tokens=1001), 4)
    assert isinstance(found, Hit)
    assert found.wait_us is None


def test_megabytes_are_counted_in_bytes() -> None:
    limits, entries = LocalLimits(ManualClock()), [rate("key", "k", "audio_megabytes_per_minute", 2)]
    assert limits.take(entries, Taking(audio_bytes=1_500_000), 1) == ()
    found = limits.take(entries, Taking(audio_bytes=600_000), 1)
    assert isinstance(found, Hit)
    assert (found.used, found.wait_us) == (1_500_000, 3_000_000)


def test_a_limit_of_nothing_lets_nothing_pass() -> None:
    found = LocalLimits(ManualClock()).take([rate("key", "k", RPM, 0)], Taking(), 3)
    assert isinstance(found, Hit)
    assert found.wait_us is None


def test_shadows_and_what_is_lifted_refuse_nobody() -> None:
    limits = LocalLimits(ManualClock())
    lifted = Applied("key", "k", RateLimit(RPM, None))
    entries = [rate("key", "k", RPM, 0, shadow=True), rate("key", "k", CONCURRENT, 1, shadow=True), lifted]
    for _ in range(3):
        assert not isinstance(limits.take(entries, Taking(), 1), Hit)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients name models, and with `*` each has buckets."""
    monkeypatch.setattr(module, "_MOST_BUCKETS", 100)
    clock = ManualClock()
    limits = LocalLimits(clock)
    busy = rate("key", "busy", "requests_per_day", 1)
    limits.take([busy], Taking(), 1)
    for number in range(1000):
        limits.take([rate("project_model", "p", RPM, 60, model=str(number))], Taking(), 1)
        assert len(limits._full_at) <= 101
    assert isinstance(limits.take([busy], Taking(), 1), Hit), "those that have longest to refill are kept"
    clock.advance(2)
    for number in range(101):
        limits.take([rate("project_model", "p", RPM, 60, model=f"n{number}")], Taking(), 1)
    assert len(limits._full_at) <= 101
