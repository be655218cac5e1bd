"""The matcher: the table's own paths, every other path, and what it costs."""

import re
import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.operations.matcher import Matcher, params
from gateway.operations.table import Operation, load_operations, parse_operations

OPERATIONS = load_operations()
MATCHER = Matcher(OPERATIONS)
METHODS = sorted({operation.method for operation in OPERATIONS})
WORDS = sorted({word for operation in OPERATIONS for word in operation.path.split("/")[1:] if word[0] != "{"})

segments = st.text(min_size=1).filter(lambda text: "/" not in text)
# Near misses are what finds mistakes, so most segments are words of the table.
paths = st.lists(st.sampled_from(WORDS) | st.sampled_from(["", "{thread_id}", "x"]) | segments, max_size=12).map(
    lambda parts: "/" + "/".join(parts)
)


@pytest.mark.parametrize(
    ("method", "path", "id_"),
    [
        ("POST", "/chat/completions", "createChatCompletion"),
        ("GET", "/chat/completions", "listChatCompletions"),
        ("GET", "/responses", "connectResponses"),
        ("POST", "/responses/compact", "Compactconversation"),
        ("GET", "/responses/compact", "getResponse"),
        ("POST", "/threads/runs", "createThreadAndRun"),
        ("POST", "/threads/thread_1", "modifyThread"),
        ("POST", "/threads/thread_1/runs", "createRun"),
        ("POST", "/threads/runs/runs", "createRun"),
        ("GET", "/threads/runs/runs/runs/steps/steps", "getRunStep"),
        ("GET", "/agents/environments/templates", "listAgentEnvironmentTemplates"),
        ("GET", "/agents/environments/templates/files", "getAgentEnvironmentTemplate"),
        ("GET", "/agents/environments/env_1/files", "listAgentEnvironmentFiles"),
        ("GET", "/models/ft:gpt-4o:acme::7p", "retrieveModel"),
        ("GET", "/models/é {} %2F", "retrieveModel"),
        ("DELETE", "/organization/projects/p/users/u", "delete-project-user"),
        ("GET", "/projects/p/users/u/roles/r", "retrieve-project-user-role"),
    ],
)
def test_known(method: str, path: str, id_: str) -> None:
    found = MATCHER.match(method, path)
    assert found is not None
    assert found.id == id_


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/chat/completions/"),
        ("POST", "/chat//completions"),
        ("POST", "chat/completions"),
        ("POST", "/Chat/Completions"),
        ("POST", "/chat/completions?model=x"),
        ("post", "/chat/completions"),
        ("PATCH", "/chat/completions"),
        ("GET", "/models/"),
        ("GET", "/models//"),
        ("GET", "/models/org/model"),
        ("GET", "/threads//messages"),
        ("GET", "/chat"),
        ("GET", "/"),
        ("GET", ""),
        ("", ""),
        ("GET", "/" * 10_000),
        ("GET", "/threads" + "/a" * 10_000),
    ],
)
def test_unknown(method: str, path: str) -> None:
    assert MATCHER.match(method, path) is None


def test_backtracking() -> None:
    rows = """
        GET /a/{x}/{y}/d  general  proxied - none - -
        GET /a/b/{y}/e    half     proxied - none - -
        GET /a/b/c/f      static   proxied - none - -
        GET /a/{x}/c/{z}  leftmost proxied - none - -
    """
    matcher = Matcher(parse_operations(rows))

    def found(path: str) -> str | None:
        operation = matcher.match("GET", path)
        return None if operation is None else operation.id

    assert found("/a/b/c/f") == "static"
    assert found("/a/b/c/e") == "half"
    assert found("/a/b/c/d") == "leftmost"
    assert found("/a/b/x/d") == "general"
    assert found("/a/x/c/d") == "leftmost"
    assert found("/a/b/x/x") is None


def test_methods_of_a_path() -> None:
    assert MATCHER.methods("/chat/completions") == {"GET", "POST"}
    assert MATCHER.methods("/embeddings") == {"POST"}
    assert MATCHER.methods("/files/file_1") == {"GET", "DELETE"}
    assert MATCHER.methods("/nothing/of/the/kind") == frozenset()


def test_parameters() -> None:
    path = "/threads/thread_1/runs/run_1"
    operation = MATCHER.match("GET", path)
    assert operation is not None
    assert params(operation, path) == {"thread_id": "thread_1", "run_id": "run_1"}
    with pytest.raises(ValueError, match="zip"):
        params(operation, "/threads/thread_1")


@given(st.sampled_from(METHODS) | st.text(), paths | st.text())
def test_it_finds_what_the_templates_say(method: str, path: str) -> None:
    """Any strings at all: never an error, and the same as comparing each template segment by segment."""
    assert MATCHER.match(method, path) == naive(method, path)
    assert MATCHER.methods(path) == {known for known in METHODS if naive(known, path)}


@given(st.data(), st.sampled_from(OPERATIONS))
def test_a_filled_template_is_its_own_row(data: st.DataObject, operation: Operation) -> None:
    ids = segments.filter(lambda text: text not in WORDS)
    values = {name: data.draw(ids) for name in re.findall(r"{(\w+)}", operation.path)}
    path = re.sub(r"{(\w+)}", lambda found: values[found[1]], operation.path)
    assert MATCHER.match(operation.method, path) is operation
    assert params(operation, path) == values


def naive(method: str, path: str) -> Operation | None:
    """What fits, and of that what is static farthest to the left."""
    parts = path.split("/")
    fitting = [
        operation
        for operation in OPERATIONS
        for template in [operation.path.split("/")]
        if operation.method == method and len(template) == len(parts)
        if all(word == part or (word[:1] == "{" and part) for word, part in zip(template, parts, strict=True))
    ]
    return min(fitting, key=lambda operation: [w[:1] == "{" for w in operation.path.split("/")], default=None)


def test_cost() -> None:
    """Under 2 µs a match over all of the table. The least of many rounds is without the machine's noise."""
    targets = [
        (operation.method, "/v1" + re.sub(r"{(\w+)}", r"\1_68f5a1b2c3d4e5f6", operation.path))
        for operation in OPERATIONS
    ]

    def all_of_them() -> None:
        for method, target in targets:
            MATCHER.match(method, target[3:])  # a new string, as in life: its hash is not known yet

    least_s = min(timeit.repeat(all_of_them, number=3, repeat=100)) / 3 / len(targets)
    assert least_s < 2e-6
