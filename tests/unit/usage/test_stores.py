"""What answers say of vector stores."""

import json
from typing import Any

import pytest

from gateway.usage.stores import named_in, stores_of
from gateway.values import SeenStore

STORE = {"id": "vs_1", "object": "vector_store", "usage_bytes": 7, "status": "completed", "name": "x"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (STORE, [SeenStore(id="vs_1", bytes=7)]),
        (STORE | {"status": "in_progress"}, [SeenStore(id="vs_1", bytes=7, changing=True)]),
        (STORE | {"status": "expired"}, [SeenStore(id="vs_1", bytes=7, gone=True)]),
        (STORE | {"usage_bytes": None}, [SeenStore(id="vs_1", changing=True)]),
        (STORE | {"usage_bytes": -1}, [SeenStore(id="vs_1", changing=True)]),
        (STORE | {"usage_bytes": True}, [SeenStore(id="vs_1", changing=True)]),
        (STORE | {"id": 5}, []),
        (STORE | {"id": "../files"}, []),
        (
            {"object": "list", "data": [STORE, STORE | {"id": "vs_2", "usage_bytes": 0}, {"object": "file"}]},
            [SeenStore(id="vs_1", bytes=7), SeenStore(id="vs_2", bytes=0)],
        ),
        ({"object": "list", "data": None}, []),
        ({"object": "list"}, []),
        ({"id": "vs_1", "object": "vector_store.deleted", "deleted": True}, [SeenStore(id="vs_1", gone=True)]),
        (
            {"id": "file_1", "object": "vector_store.file", "vector_store_id": "vs_1", "usage_bytes": 3},
            [SeenStore(id="vs_1", changing=True)],
        ),
        (
            {"id": "vsfb_1", "object": "vector_store.files_batch", "vector_store_id": "vs_1"},
            [SeenStore(id="vs_1", changing=True)],
        ),
        ({"id": "file_1", "object": "vector_store.file.deleted"}, [SeenStore(id="", changing=True)]),
        ({"error": {"message": "no"}}, []),
        ([STORE], []),
    ],
)  # fmt: skip
def test_answers(answer: Any, expected: list[SeenStore]) -> None:
    assert stores_of(json.dumps(answer).encode()) == expected


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"null", b"[" * 10_000])
def test_what_is_no_answer_tells_nothing(body: bytes) -> None:
    assert stores_of(body) == []


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/v1/vector_stores/vs_1/files/file_1", "vs_1"),
        ("/v1/vector_stores/vs_1", "vs_1"),
        ("/v1/vector_stores", ""),
        ("/v1/vector_stores/%76s_1/files/file_1", ""),
    ],
)
def test_paths(path: str, named: str) -> None:
    assert named_in(path) == named
