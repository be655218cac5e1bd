"""The table against its sources: nothing of OpenAI's API is missing, nothing is made up, no column contradicts them.

A newer SDK or description with more operations fails here: that is how one learns of them.
"""

import re
from importlib import resources

import pytest

from gateway.operations.table import FILE, Operation, load_operations
from tests.unit.operations.sources import (
    DESCRIPTIONS,
    NEWER,
    OLDER,
    SDK,
    Known,
    described,
    sdk_calls,
    sdk_sockets,
    shape,
)

needs_descriptions = pytest.mark.skipif(not DESCRIPTIONS.is_dir(), reason="OpenAI's API descriptions are not here")
# The `model` of a new voice is the version of what designs it ("auto", "2026-10-08"): no model that anybody is billed by.
NO_MODEL = {"createVoice"}


@pytest.fixture(scope="module")
def rows() -> dict[str, Operation]:
    return {shape(operation.method, operation.path): operation for operation in load_operations()}


@pytest.fixture(scope="module")
def sdk() -> dict[str, Known]:
    return sdk_calls()


@pytest.fixture(scope="module")
def older() -> dict[str, Known]:
    return described(OLDER)


@pytest.fixture(scope="module")
def newer() -> dict[str, Known]:
    return described(NEWER)


@needs_descriptions
def test_every_operation_of_the_older_description_is_a_row(rows: dict[str, Operation], older: dict[str, Known]) -> None:
    assert len(older) == 110
    found = {key: (rows[key].path, rows[key].id) for key in older if key in rows}
    assert found == {key: (known.path, known.id) for key, known in older.items()}


@needs_descriptions
def test_every_operation_of_the_newer_description_is_a_row(
    rows: dict[str, Operation], older: dict[str, Known], newer: dict[str, Known]
) -> None:
    assert len(newer) == 281  # 288 less 7 `?beta=true` twins
    expected = {key: older.get(key, known) for key, known in newer.items()}
    found = {key: (rows[key].path, rows[key].id) for key in newer if key in rows}
    assert found == {key: (known.path, known.id) for key, known in expected.items()}


def test_every_call_of_the_sdk_is_a_row(rows: dict[str, Operation], sdk: dict[str, Known]) -> None:
    assert len(sdk) > 300, "the SDK's sources no longer look as they did"
    assert sorted(set(sdk) - set(rows)) == []


def test_every_socket_of_the_sdk_is_a_row_and_no_other(rows: dict[str, Operation]) -> None:
    sockets = {shape("GET", path) for path in sdk_sockets()}
    assert sockets == {key for key, row in rows.items() if "websocket" in row.body}


@needs_descriptions
def test_no_row_is_made_up_and_each_stands_under_its_source(
    rows: dict[str, Operation], older: dict[str, Known], newer: dict[str, Known], sdk: dict[str, Known]
) -> None:
    sockets = {shape("GET", path) for path in sdk_sockets()}
    sources = [(set(older), OLDER), (set(newer), NEWER), (set(sdk) | sockets, SDK)]
    expected = {key: next((name for keys, name in sources if key in keys), "no source") for key in rows}
    found: dict[str, str] = {}
    source = ""
    for line in resources.files("gateway.operations").joinpath(FILE).read_text().splitlines():
        if heading := re.fullmatch(r"# .*: (2\.3\.0|2026-08|SDK 3\.54)", line):
            source = heading[1]
        elif line and not line.startswith("#"):
            found[shape(*line.split()[:2])] = source
    assert found == expected


def test_plane_is_the_sdks(rows: dict[str, Operation], sdk: dict[str, Known]) -> None:
    assert {key for key in sdk if rows[key].plane == "admin"} == {key for key, known in sdk.items() if known.admin}


@needs_descriptions
def test_bodies_are_the_descriptions_or_else_the_sdks(
    rows: dict[str, Operation], older: dict[str, Known], newer: dict[str, Known], sdk: dict[str, Known]
) -> None:
    none = Known(path="")
    for key, row in rows.items():
        expected = older.get(key, none).body | newer.get(key, none).body
        if key not in older and key not in newer:
            expected = sdk.get(key, Known(path="", body=frozenset({"websocket"}))).body
        assert row.body == expected, key
        assert sdk.get(key, none).body <= row.body, key


@needs_descriptions
def test_models_stand_where_the_sources_have_them(
    rows: dict[str, Operation], older: dict[str, Known], newer: dict[str, Known], sdk: dict[str, Known]
) -> None:
    places = {"json": "body", "multipart": "form"}
    for key, row in rows.items():
        if row.id in NO_MODEL or (row.model <= {"path", "query"} and row.model):
            continue
        known = any(key in source and source[key].model for source in (older, newer, sdk))
        assert row.model == ({places[kind] for kind in row.body} if known else set()), key


@needs_descriptions
def test_what_may_stream_is_what_the_sources_stream(
    rows: dict[str, Operation], older: dict[str, Known], newer: dict[str, Known], sdk: dict[str, Known]
) -> None:
    streams = {key for source in (older, newer, sdk) for key, known in source.items() if known.stream}
    assert {key for key, row in rows.items() if "stream" in row.flags} == streams


def test_what_may_be_binary_is_what_the_sdk_does_not_parse(rows: dict[str, Operation], sdk: dict[str, Known]) -> None:
    binary = {key for key, known in sdk.items() if known.binary}
    assert {key for key, row in rows.items() if "binary" in row.flags} == binary
