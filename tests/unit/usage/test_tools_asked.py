"""What requests say of their tools."""

import json
from typing import Any

import pytest

from gateway.usage.tools_asked import ToolsAsked, completed, of_json, of_path, of_tools
from gateway.values import UsageLine

FILES = {"type": "file_search", "vector_store_ids": ["vs_1"]}


def asked(*tools: Any) -> ToolsAsked:
    return of_json(json.dumps({"model": "gpt-5-mini", "tools": tools}).encode())


@pytest.mark.parametrize(
    ("tool", "level"),
    [
        ({"type": "web_search"}, "medium"),
        ({"type": "web_search", "search_context_size": "low"}, "low"),
        ({"type": "web_search_preview_2025_03_11", "search_context_size": "high"}, "high"),
        ({"type": "web_search", "search_context_size": "huge"}, "medium"),
        ({"type": "web_search", "search_context_size": ["low"]}, "medium"),
        (FILES, ""),
        ({"type": "function", "name": "web_search"}, ""),
    ],
)
def test_how_much_context(tool: Any, level: str) -> None:
    assert asked(tool).context_level == level


@pytest.mark.parametrize(
    ("tools", "store"),
    [
        ([FILES], "vs_1"),
        ([FILES, FILES, {"type": "web_search"}], "vs_1"),
        ([{"type": "file_search", "vector_store_ids": ["vs_1", "vs_2"]}], ""),
        ([FILES, {"type": "file_search", "vector_store_ids": ["vs_2"]}], ""),
        ([{"type": "file_search"}], ""),
        ([{"type": "file_search", "vector_store_ids": "vs_1"}], ""),
        ([{"type": "file_search", "vector_store_ids": [1, None, {}]}], ""),
        ([{"type": "file_search", "vector_store_ids": ["x" * 65]}], ""),
        ([{"type": "web_search"}], ""),
    ],
)
def test_which_store(tools: Any, store: str) -> None:
    assert asked(*tools).vector_store_id == store


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b'{"tools":5}', b'{"tools":[1,null,"x",{"type":3},{}]}', b"[" * 100_000]
)
def test_nothing_that_comes_raises(body: bytes) -> None:
    assert of_json(body) == ToolsAsked()


@pytest.mark.parametrize(
    ("path", "store"),
    [("/v1/vector_stores/vs_1/search", "vs_1"), ("/v1/vector_stores/vs_1/search/", "vs_1"), ("/v1/models", "")],
)
def test_a_search_by_hand(path: str, store: str) -> None:
    assert of_path(path).vector_store_id == store


def test_lines_of_searches_and_no_others() -> None:
    lines = tuple(UsageLine(category=one) for one in ("completions", "web_search_calls", "file_search_calls"))
    assert of_tools(lines)
    assert not of_tools(lines[:1])
    text, web, files = completed(lines, ToolsAsked("low", "vs_1"))
    assert text == lines[0]
    assert (web.context_level, web.vector_store_id) == ("low", "")
    assert (files.context_level, files.vector_store_id) == ("", "vs_1")


@pytest.mark.parametrize(
    ("container", "left"),
    [("cntr_1", ["cntr_2"]), ({"type": "auto"}, ["cntr_1", "cntr_2"]), (None, ["cntr_1", "cntr_2"])],
)
def test_sessions_that_had_begun_before(container: Any, left: list[str]) -> None:
    lines = tuple(UsageLine(category="code_interpreter_sessions", object_id=one) for one in ("cntr_1", "cntr_2"))
    assert of_tools(lines)
    tools = asked({"type": "code_interpreter", "container": container})
    assert [line.object_id for line in completed(lines, tools)] == left
