"""The table's file: what a row becomes, what is refused, and the rows that money hangs on."""

from typing import get_args

import pytest

from gateway.operations.table import (
    Body,
    Category,
    Flag,
    ModelPlace,
    Operation,
    TableError,
    load_operations,
    parse_operations,
)

GOOD = "POST /images/edits createImageEdit proxied images json|multipart body|form stream"


@pytest.fixture(scope="module")
def rows() -> dict[str, Operation]:
    return {operation.id: operation for operation in load_operations()}


def test_a_row() -> None:
    text = f"# family: source\n\n{GOOD}\nGET\t/files/{{file_id}}/content\tdownloadFile\tproxied\t-\tnone\t-\tbinary\n"
    assert parse_operations(text) == (
        Operation(
            method="POST",
            path="/images/edits",
            id="createImageEdit",
            plane="proxied",
            category="images",
            body=frozenset({"json", "multipart"}),
            model=frozenset({"body", "form"}),
            flags=frozenset({"stream"}),
        ),
        Operation(
            method="GET",
            path="/files/{file_id}/content",
            id="downloadFile",
            plane="proxied",
            category=None,
            body=frozenset(),
            model=frozenset(),
            flags=frozenset({"binary"}),
        ),
    )


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("GET /a getA proxied - none -", "7 columns instead of 8: method path id plane category body model flags"),
        ("GET /a getA proxied - none - - why", "9 columns instead of 8: "),
        ("get /a getA proxied - none - -", "Invalid enum value 'get' - at `$.method`"),
        ("GET /a getA public - none - -", "Invalid enum value 'public' - at `$.plane`"),
        ("GET /a getA proxied tokens none - -", "Invalid enum value 'tokens' - at `$.category`"),
        ("GET /a getA proxied - json|xml - -", "Invalid enum value 'xml' - at `$.body[1]`"),
        ("GET /a getA proxied - - - -", "Invalid enum value '-' - at `$.body[0]`"),
        ("GET /a getA proxied - none header -", "Invalid enum value 'header' - at `$.model[0]`"),
        ("GET /a getA proxied - none - stream,", "Invalid enum value '' - at `$.flags[1]`"),
        ("GET a getA proxied - none - -", "a is not a path template"),
        ("GET /a/ getA proxied - none - -", "/a/ is not a path template"),
        ("GET /a/{b}c getA proxied - none - -", "/a/{b}c is not a path template"),
        ("GET /a/{} getA proxied - none - -", "/a/{} is not a path template"),
        ("GET /a/{b}/c/{b} getA proxied - none - -", "/a/{b}/c/{b} has two parameters of one name"),
        ("GET /organization/a getA proxied - none - -", "/organization/a is of the other plane: "),
        ("GET /projects getA proxied - none - -", "/projects is of the other plane: "),
        ("GET /projects_a getA admin - none - -", "/projects_a is of the other plane: "),
        ("POST /organization/a a admin images json - -", "an admin operation has no category"),
        ("POST /a a proxied - websocket - -", "a websocket is a GET and nothing else"),
        ("GET /a a proxied - json|websocket - -", "a websocket is a GET and nothing else"),
        ("GET /a/{model} a proxied - none - -", "model is `path` exactly if the path has {model}"),
        ("GET /a/{b} a proxied - none path -", "model is `path` exactly if the path has {model}"),
        ("POST /a a proxied - json form -", "model form does not go with body json"),
        ("POST /a a proxied - none body|form -", "model body|form does not go with body none"),
        (GOOD.replace("createImageEdit", "edit"), "POST /images/edits stands in line 2 already"),
        (GOOD.replace("POST", "GET"), "createImageEdit stands in line 2 already"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(row: str, complaint: str) -> None:
    with pytest.raises(TableError) as caught:
        parse_operations(f"# head\n{GOOD}\n{row}\n")
    assert str(caught.value).startswith(f"operations.tsv:3: {complaint}")


def test_templates_that_differ_in_names_alone_are_the_same() -> None:
    rows = "GET /a/{b} one proxied - none - -\nGET /a/{c} two proxied - none - -\n"
    with pytest.raises(TableError, match=r"^operations.tsv:2: GET /a/\{\} stands in line 1 already$"):
        parse_operations(rows)


def test_no_word_is_idle(rows: dict[str, Operation]) -> None:
    used = rows.values()
    assert {flag for row in used for flag in row.flags} == set(get_args(Flag))
    assert {place for row in used for place in row.model} == set(get_args(ModelPlace))
    # Bytes are for what the table does not know; searches of the web are made inside of other calls.
    assert {kind for row in used for kind in row.body} == set(get_args(Body)) - {"binary"}
    assert {row.category for row in used} - {None} == set(get_args(Category)) - {"web_search_calls"}


def test_ways_around_the_meter(rows: dict[str, Operation]) -> None:
    """Each one more that is not refused is a hole; each one too many is a function less."""
    assert sorted(row.path for row in rows.values() if "unmetered" in row.flags) == [
        "/agents/automations",
        "/chatkit/sessions",
        "/live/sessions",
        "/live/sessions/{session_id}/accept",
        "/live/sessions/{session_id}/fork",
        "/realtime/calls",
        "/realtime/calls/{call_id}/accept",
        "/realtime/client_secrets",
        "/realtime/sessions",
        "/realtime/transcription_sessions",
        "/realtime/translations/client_secrets",
    ]


def test_what_creates_usage(rows: dict[str, Operation]) -> None:
    """Reading never bills: what has a category is a POST or a socket, and it is no `stored` row."""
    billed = [row for row in rows.values() if row.category]
    assert [row.id for row in billed if row.method != "POST" and "websocket" not in row.body] == []
    assert [row.id for row in billed if "stored" in row.flags] == []
    assert [row.id for row in rows.values() if {"deferred", "stored"} <= row.flags] == []


@pytest.mark.parametrize(
    ("id_", "category"),
    [
        ("createChatCompletion", "completions"),
        ("createResponse", "completions"),
        ("Compactconversation", "completions"),
        ("Getinputtokencounts", None),
        ("createRun", "completions"),
        ("createImageVariation", "images"),
        ("createSpeech", "audio_speeches"),
        ("createTranslation", "audio_transcriptions"),
        ("CreateContainer", "code_interpreter_sessions"),
        ("searchVectorStore", "file_search_calls"),
        ("createVectorStoreFile", "vector_stores"),
        ("createDecision", "decisions"),
        ("createBatch", None),
        ("createVideo", None),
        ("getChatCompletion", None),
    ],
)
def test_categories(rows: dict[str, Operation], id_: str, category: str | None) -> None:
    assert rows[id_].category == category
