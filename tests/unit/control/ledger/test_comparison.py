"""Both sides' numbers: what is compared, and how far apart they are."""

import pytest

from gateway.control.ledger.comparison import (
    COSTS,
    NANO_USD,
    Difference,
    Drift,
    Place,
    Theirs,
    compare,
    drifts,
    fields_of,
    place_of,
    subject_of,
)
from gateway.control.ledger.day_sums import DaySums
from gateway.control.ledger.fold import Use
from gateway.usage.fields import FIELDS
from gateway.values import Quantities

USED = Quantities(input_tokens=100, cached_tokens=30, output_tokens=20)
ALL = {category: fields_of(category) for category in (*FIELDS, COSTS)}


def sums(*usage: tuple[str, str, Use], **costs: int) -> DaySums:
    return DaySums({(category, model): use for category, model, use in usage}, costs)


def test_what_is_the_same_differs_by_nothing() -> None:
    ours = sums(("completions", "m", Use(2, USED)))
    numbers = {
        Place("completions", "m", "num_model_requests"): 2,
        Place("completions", "m", "input_tokens"): 100,
        Place("completions", "m", "input_cached_tokens"): 30,
        Place("completions", "m", "output_tokens"): 20,
    }
    found = compare(ours, Theirs(numbers, ALL))
    assert {Place(one.category, one.model, one.field): one.ours for one in found} == numbers
    assert all(one.ours == one.theirs for one in found)
    assert {drift.ratio for drift in drifts(found)} == {0.0}


def test_what_one_side_has_alone_is_there() -> None:
    ours = sums(("embeddings", "mine", Use(1, Quantities(input_tokens=10))))
    numbers = {Place("embeddings", "yours", "input_tokens"): 30}
    assert compare(ours, Theirs(numbers, ALL)) == [
        Difference("embeddings", "mine", "input_tokens", 10, 0),
        Difference("embeddings", "mine", "num_model_requests", 1, 0),
        Difference("embeddings", "yours", "input_tokens", 0, 30),
    ]


def test_what_the_upstream_does_not_say_is_not_compared() -> None:
    ours = sums(("completions", "m", Use(1, USED)), ("embeddings", "m", Use(1, USED)))
    theirs = Theirs({Place("completions", "m", "input_tokens"): 90}, {"completions": {"input_tokens"}})
    assert compare(ours, theirs) == [Difference("completions", "m", "input_tokens", 100, 90)]


def test_units_are_openais() -> None:
    ours = sums(
        ("audio_transcriptions", "whisper-1", Use(1, Quantities(duration_ms=2_600))),
        ("code_interpreter_sessions", "gpt-4o", Use(0, Quantities(sessions=1))),
        ("code_interpreter_sessions", "gpt-5", Use(0, Quantities(sessions=2))),
        ("somebody_elses", "m", Use(1, USED)),
    )
    found = {(one.category, one.model, one.field): one.ours for one in compare(ours, Theirs({}, ALL))}
    assert found == {
        ("audio_transcriptions", "whisper-1", "num_model_requests"): 1,
        ("audio_transcriptions", "whisper-1", "seconds"): 3,
        ("code_interpreter_sessions", "", "num_sessions"): 3,
    }


def test_costs_are_of_what_a_line_item_names_first() -> None:
    ours = DaySums({}, {"m, input_tokens": 10, "m, output_tokens": 20, "web searches": 5})
    theirs = {Place(COSTS, "m", NANO_USD): 30}
    assert compare(ours, Theirs(theirs, ALL)) == [
        Difference(COSTS, "m", NANO_USD, 30, 30),
        Difference(COSTS, "web searches", NANO_USD, 5, 0),
    ]
    assert subject_of("gpt-5.5, input") == subject_of("gpt-5.5") == "gpt-5.5"


@pytest.mark.parametrize(
    ("numbers", "ratio"),
    [([(10, 10)], 0.0), ([(9, 10)], 0.1), ([(10, 0), (0, 10)], 1.0), ([(10, 10), (0, 10)], 0.5), ([(-1, 1)], 1.0)],
)
def test_a_drift_is_a_share_over_all_models(numbers: list[tuple[int, int]], ratio: float) -> None:
    found = [Difference("c", f"m{n}", "f", ours, theirs) for n, (ours, theirs) in enumerate(numbers)]
    assert drifts(found) == [Drift("c", "f", ratio)]


def test_names_are_as_databases_take_them() -> None:
    assert place_of("c", "a\0" + "b" * 300, "f") == Place("c", "a\ufffd" + "b" * 254, "f")
