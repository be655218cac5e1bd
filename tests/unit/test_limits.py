"""The words of limits: what patterns stand for, and which group a model is in."""

import re

from hypothesis import given
from hypothesis import strategies as st

from gateway.limits import RATES, group_of, matches


@given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
def test_patterns_against_regular_expressions(pattern: str, model: str) -> None:
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), model) is not None
    assert matches(pattern, model) == expected


def test_a_pattern_takes_no_time() -> None:
    assert not matches("a*" * 200 + "c*", "a" * 100_000)


def test_groups() -> None:
    groups = {"gpt-6": ("gpt-6-*",), "small": ("*-mini", "*-nano")}
    assert group_of(groups, "gpt-6-astra") == "gpt-6"
    assert group_of(groups, "gpt-6") == "gpt-6", "its own name belongs to it"
    assert group_of(groups, "o9-nano") == "small"
    assert group_of(groups, "o9") is None


def test_kinds_are_called_what_they_are() -> None:
    assert all(name == kind.name for name, kind in RATES.items())
