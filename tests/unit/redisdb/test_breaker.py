"""The breaker, on a clock that stands still."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import ManualClock
from gateway.redisdb.breaker import Breaker, State


def make(failures: int = 3) -> tuple[Breaker, ManualClock, list[State]]:
    clock = ManualClock()
    seen: list[State] = []
    return Breaker(failures, 1.0, clock, seen.append), clock, seen


def test_failures_in_a_row_open_it_and_a_success_between_starts_the_count_anew() -> None:
    breaker, _, seen = make()
    for outcome in (breaker.failed, breaker.failed, breaker.succeeded, breaker.failed, breaker.failed):
        outcome()
        assert breaker.admits()
    breaker.failed()
    assert (breaker.state, breaker.admits(), seen) == ("open", False, ["open"])


def test_one_probe_goes_out_and_its_success_closes() -> None:
    breaker, clock, seen = make(failures=1)
    breaker.failed()
    clock.advance(0.9)
    assert not breaker.admits()
    clock.advance(0.1)
    assert [breaker.admits() for _ in range(3)] == [True, False, False]
    assert breaker.state == "half_open"
    breaker.succeeded()
    assert breaker.admits()
    assert seen == ["open", "half_open", "closed"]


def test_a_failed_probe_opens_again_for_the_whole_time() -> None:
    breaker, clock, seen = make(failures=1)
    breaker.failed()
    clock.advance(1.0)
    assert breaker.admits()
    clock.advance(0.5)
    breaker.failed()
    clock.advance(0.9)
    assert not breaker.admits()
    clock.advance(0.1)
    assert breaker.admits()
    assert seen == ["open", "half_open", "open", "half_open"]


def test_a_probe_that_is_never_heard_of_is_followed_by_another() -> None:
    breaker, clock, _ = make(failures=1)
    breaker.failed()
    clock.advance(1.0)
    assert breaker.admits()
    clock.advance(0.9)
    assert not breaker.admits()
    clock.advance(0.1)
    assert breaker.admits()


def test_answers_to_earlier_calls_do_not_close_it() -> None:
    breaker, _, seen = make(failures=1)
    breaker.failed()
    breaker.succeeded()
    assert (breaker.state, seen) == ("open", ["open"])


@given(st.lists(st.sampled_from(["ok", "bad", "ask", "wait"]), max_size=200))
def test_an_open_breaker_admits_at_most_one_call_in_its_time(steps: list[str]) -> None:
    breaker, clock, seen = make(failures=2)
    admitted: list[float] = []
    for step in steps:
        if step == "ok":
            breaker.succeeded()
        elif step == "bad":
            breaker.failed()
        elif step == "wait":
            clock.advance(0.3)
        elif breaker.state != "closed" and breaker.admits():
            admitted.append(clock.monotonic())
            assert breaker.state == "half_open"
        if breaker.state == "closed":
            admitted.clear()
    assert all(later - earlier > 0.99 for earlier, later in pairwise(admitted))
    assert all(one != other for one, other in pairwise(seen))
