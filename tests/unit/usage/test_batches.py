"""A batch's output file: the same lines however it is cut, and what each request used."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.operations.table import load_operations
from gateway.usage.batches import ENDPOINTS, BatchLine, BatchReader
from gateway.usage.extract import Report
from gateway.values import Quantities

CHAT = {
    "id": "chatcmpl-1",
    "model": "gpt-4o",
    "service_tier": "default",
    "usage": {"prompt_tokens": 8, "completion_tokens": 2},
}
REPORT = Report(
    Quantities(input_tokens=8, output_tokens=2), model="gpt-4o", service_tier="default", object_id="chatcmpl-1"
)


def line(custom_id: str, body: Any, status: int = 200, error: Any = None) -> bytes:
    response = {"status_code": status, "request_id": "req_1", "body": body} if status else None
    return json.dumps({"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": error}).encode()


LINES = [
    line("a", CHAT),
    line("b", {"error": {"message": "no"}}, 400),
    line("ü", CHAT),
    line("d", None, 0, {"code": "batch_expired"}),
]
EXPECTED = [
    BatchLine("a", 200, failed=False, reports=(REPORT,)),
    BatchLine("b", 400, failed=True, reports=()),
    BatchLine("ü", 200, failed=False, reports=(REPORT,)),
    BatchLine("d", 0, failed=True, reports=()),
]


@given(st.lists(st.integers(1, 300), max_size=40), st.sampled_from([b"\n", b"\r\n", b"\n\n"]), st.booleans())
def test_in_any_chunking(sizes: list[int], ending: bytes, ended: bool) -> None:
    data, at, reader = ending.join(LINES) + ending * ended, 0, BatchReader("/v1/chat/completions")
    found = []
    for size in [*sizes, len(data)]:
        found += reader.feed(data[at : at + size])
        at += size
    assert found + reader.end() == EXPECTED
    assert (reader.skipped, reader.unreadable) == (0, 0)


@pytest.mark.parametrize("size", [1, 50, 10_000])
def test_too_long_and_unreadable_lines_are_passed_over(size: int) -> None:
    reader = BatchReader("/v1/chat/completions", longest=500)
    data = b"\n".join(
        [line("long", CHAT | {"x": "y" * 900}), LINES[0], b"junk", b"[]", b'{"custom_id":3}', b"\xff", LINES[2]]
    )
    found = [seen for at in range(0, len(data), size) for seen in reader.feed(data[at : at + size])]
    assert found + reader.end() == [EXPECTED[0], EXPECTED[2]]
    assert (reader.skipped, reader.unreadable) == (1, 4)
    assert len(reader._rest) <= 500


@pytest.mark.parametrize(
    ("endpoint", "body", "reports"),
    [
        ("/v1/completions", CHAT, [REPORT]),
        ("/v1/embeddings", {"model": "e", "usage": {"prompt_tokens": 5, "total_tokens": 5}}, [Report(Quantities(input_tokens=5), model="e")]),
        ("/v1/moderations", {"id": "modr-1", "results": []}, []),
        ("/v1/images/generations", {"usage": {"input_tokens": 1, "output_tokens": 2}, "size": "auto"}, [Report(Quantities(input_tokens=1, output_tokens=2), size="auto", each=True)]),
        ("/v1/new", CHAT, [REPORT]),
        ("", CHAT, [REPORT]),
    ],
)  # fmt: skip
def test_by_endpoint(endpoint: str, body: Any, reports: list[Report]) -> None:
    (found,) = BatchReader(endpoint).feed(line("a", body) + b"\n")
    assert list(found.reports) == reports


def test_responses_and_their_tools() -> None:
    body = {
        "id": "resp_1",
        "model": "gpt-5",
        "usage": {"input_tokens": 1, "output_tokens": 2},
        "output": [{"type": "file_search_call"}],
    }
    (found,) = BatchReader("/v1/responses").feed(line("a", body) + b"\n")
    assert [report.category for report in found.reports] == ["", "file_search_calls"]


def test_endpoints_are_operations() -> None:
    known = {operation.id: operation for operation in load_operations()}
    for endpoint, operation in ENDPOINTS.items():
        assert (known[operation].method, "/v1" + known[operation].path) == ("POST", endpoint)
