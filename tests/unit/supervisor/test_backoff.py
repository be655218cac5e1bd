"""How soon a process that ends by itself is started again."""

from gateway.supervisor.backoff import Backoff


def test_the_first_ones_are_free_and_then_each_waits_twice_as_long() -> None:
    backoff = Backoff()
    assert [backoff.after(0.1) for _ in range(11)] == [0, 0, 0, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]


def test_a_process_that_lived_for_a_while_starts_anew() -> None:
    backoff = Backoff()
    assert [backoff.after(0.1) for _ in range(5)][-1] == 0.4
    assert backoff.after(60.0) == 0
    assert [backoff.after(0.1) for _ in range(4)] == [0, 0, 0, 0.2]


def test_it_never_gives_up_and_never_waits_longer() -> None:
    backoff = Backoff()
    assert max(backoff.after(0.0) for _ in range(5000)) == 10


def test_one_that_had_served_is_not_waited_for_long() -> None:
    backoff = Backoff()
    assert [backoff.after(0.5, was_ready=True) for _ in range(9)] == [0, 0, 0, 0.2, 0.4, 0.8, 1, 1, 1]
    assert backoff.after(0.5) == 10, "this one did not even start"
