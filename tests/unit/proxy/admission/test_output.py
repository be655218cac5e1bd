"""What is learned of answers and bodies: percentiles within a bucket of the exact ones, and bounded memory."""

import math
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.admission.output import Histogram, Inputs, Outputs, bucket_of, largest_in


def exact_p95(values: Sequence[int]) -> int:
    """The smallest of them that at most one in twenty exceeds."""
    return sorted(values)[math.ceil(len(values) * 19 / 20) - 1]


@given(st.integers(0, 1 << 21))
def test_a_bucket_holds_its_numbers_and_is_at_most_a_quarter_wide(tokens: int) -> None:
    bucket = bucket_of(tokens)
    end, before = largest_in(bucket), largest_in(bucket - 1) if bucket else -1
    assert before < tokens <= end
    assert end - before <= max(1, (before + 1) / 4)


@given(st.lists(st.integers(0, 200_000) | st.integers(0, 50), min_size=1, max_size=900))
def test_p95_is_in_the_bucket_of_the_exact_one(values: list[int]) -> None:
    histogram = Histogram()
    for number, value in enumerate(values, 1):
        histogram.add(value)
        if number % 97 == 0 or number == len(values):
            assert histogram.p95 == largest_in(bucket_of(exact_p95(values[:number])))


def test_older_answers_fade() -> None:
    histogram = Histogram()
    for _ in range(5000):
        histogram.add(4000)
    for _ in range(5000):
        histogram.add(100)
    assert histogram.p95 == largest_in(bucket_of(100))
    assert histogram.total < 1000
    for _ in range(60):
        histogram.add(3000)
    assert histogram.p95 == largest_in(bucket_of(3000))


def test_a_key_is_known_after_twenty_answers_and_goes_by_its_model_until_then() -> None:
    outputs = Outputs()
    assert outputs.p95("a", "m") is None
    for _ in range(20):
        outputs.learn("a", "m", 500)
    assert outputs.p95("a", "m") == largest_in(bucket_of(500))
    assert outputs.p95("b", "m") == outputs.p95("a", "m")
    assert outputs.p95("b", "other") is None
    for _ in range(20):
        outputs.learn("b", "m", 20)
    assert outputs.p95("b", "m") == largest_in(bucket_of(20))
    assert outputs.p95("a", "m") == largest_in(bucket_of(500))


def test_what_was_not_used_for_longest_is_forgotten_first() -> None:
    outputs, inputs = Outputs(most_known=2), Inputs(0.25, most_known=2)
    for _ in range(20):
        for key in ("a", "b", "a"):
            outputs.learn(key, "m" + key, 100)
            inputs.learn("m" + key, 1000, 500)
    outputs.learn("c", "mc", 100)
    inputs.learn("mc", 1000, 500)
    assert outputs.p95("a", "ma") is not None
    assert outputs.p95("b", "mb") is None
    assert inputs.ratio("ma") > 0.25
    assert inputs.ratio("mb") == 0.25


def test_the_ratio_goes_to_what_was_reported_and_follows_it() -> None:
    inputs = Inputs(0.25)
    for _ in range(1000):
        inputs.learn("m", 1000, 400)
    assert abs(inputs.ratio("m") - 0.4) < 0.01
    for _ in range(5000):
        inputs.learn("m", 1000, 200)
    assert abs(inputs.ratio("m") - 0.2) < 0.01


@given(st.integers(0, 10_000), st.integers(0, 100_000))
def test_nothing_is_learned_of_what_cannot_be_the_body(size: int, tokens: int) -> None:
    inputs = Inputs(0.25)
    inputs.learn("m", size, tokens)
    plausible = tokens > 0 and 0.02 * size <= tokens <= 2 * size
    assert plausible or inputs.ratio("m") == 0.25
