import json
from typing import Any

import msgspec
import pytest

from gateway.simulator import answers, tokens
from gateway.simulator.answers import Ask
from gateway.simulator.faults import NONE, Faults
from gateway.simulator.text import Prose

PROSE = Prose()
TOOLS = (
    {"type": "function", "name": "first", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
    {"type": "custom", "name": "second", "parameters": None},
    {"type": "function", "name": "third", "parameters": None},
)


def made(faults: Faults = NONE, **asked: Any) -> answers.Answer:
    return answers.compose(PROSE, msgspec.structs.replace(Ask("gpt-4o", "Hello"), **asked), faults)


def test_an_answer_depends_on_all_of_its_question() -> None:
    texts = [made().text, made(model="gpt-4.1").text, made(prompt="Hi").text, made(choice=1).text, made(seed=1).text]
    assert len(set(texts)) == 5
    assert made().text == made().text


@pytest.mark.parametrize("limit", [1, 2, 17, 10_000])
def test_a_limit_cuts_exactly(limit: int) -> None:
    answer, free = made(limit=limit), made()
    assert answer.output_tokens == min(limit, free.output_tokens) == tokens.count(answer.text)
    assert answer.cut == (limit < free.output_tokens)
    assert free.text.startswith(answer.text)


@pytest.mark.parametrize("effort", ["none", "minimal", "low", "medium", "high"])
def test_reasoning_comes_first(effort: str) -> None:
    answer = made(model="o3", effort=effort)
    assert (answer.reasoning_tokens > 0) == (effort not in {"none", "minimal"})
    assert answer.output_tokens == answer.reasoning_tokens + len(answer.pieces)
    assert made(model="o3", effort="high", limit=10).reasoning_tokens == 10


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, ["first", "second"]),
        ({"parallel": False}, ["first"]),
        ({"tool_choice": "none"}, []),
        ({"tool_choice": "third"}, ["third"]),
        ({"users_turn": False}, []),
        ({"users_turn": False, "tool_choice": "required"}, ["first", "second"]),
    ],
)
def test_tools(asked: Any, names: list[str]) -> None:
    answer = made(tools=TOOLS, **asked)
    assert [call.name for call in answer.calls] == names
    assert answer.output_tokens == sum(call.tokens for call in answer.calls) + len(answer.pieces)
    for call in answer.calls:
        assert "".join(call.pieces) == call.arguments
        assert tokens.split(call.arguments) == list(call.pieces)


def test_a_limit_cuts_the_arguments_of_a_call() -> None:
    answer = made(tools=TOOLS, limit=4)
    assert answer.cut
    assert answer.output_tokens == 4


@pytest.mark.parametrize("count", [1, 40, 1000])
@pytest.mark.parametrize("asked", [{}, {"model": "o3"}, {"tools": TOOLS[:1]}, {"schema": {"type": "object"}}])
def test_a_fault_sets_the_length(count: int, asked: Any) -> None:
    answer = made(Faults(tokens=count), **asked)
    shortest = 12 if "tools" in asked else 2 if "schema" in asked else 0
    assert answer.output_tokens == count or (count < shortest and answer.output_tokens <= shortest)


def test_json_stays_json_however_long() -> None:
    answer = made(Faults(tokens=500), schema={"type": "object", "properties": {"a": {"type": "string"}}})
    assert answer.output_tokens == 500 == tokens.count(answer.text)
    assert isinstance(json.loads(answer.text)["a"], str)


def test_stop_words_end_the_text_and_are_left_out() -> None:
    text = made().text
    word = text.split()[3]
    assert made(stop=(word, "never there")).text == text[: text.index(word)]


@pytest.mark.parametrize(("pieces", "chunks"), [(10, 3), (3, 10), (0, 2), (5, 5), (7, None)])
def test_groups_have_all_pieces_in_order(pieces: int, chunks: int | None) -> None:
    given = [str(i) for i in range(pieces)]
    groups = list(answers.grouped(given, chunks))
    assert "".join(text for text, _ in groups) == "".join(given)
    assert sum(size for _, size in groups) == pieces
    assert len(groups) == (pieces if chunks is None else chunks)
