"""Objects that finish later: golden ones with what they are expected to say, and junk."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.usage.deferred import DEFERRED, Settled, settled

GOLDEN = sorted((Path(__file__).resolve().parents[2] / "golden" / "deferred").glob("*.json"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    golden: dict[str, Any] = json.loads(path.read_text())
    expected = msgspec.convert({"kind": golden["kind"], **golden["expected"]}, Settled)
    assert settled(golden["kind"], json.dumps(golden["object"]).encode()) == expected


def test_golden_data_covers_every_kind_before_and_after() -> None:
    seen = {
        (golden["kind"], golden["expected"]["final"]) for golden in (json.loads(path.read_text()) for path in GOLDEN)
    }
    assert seen == {(kind, final) for kind in DEFERRED for final in (True, False)}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b"{", b"{}", b'{"id":"x"}', b'{"status":"completed"}', b'{"id":1,"status":"completed"}', b"\xff", b"[" * 5000,
        b'{"error":{"message":"No batch found","code":null}}',
    ],
)  # fmt: skip
def test_what_is_no_such_object(body: bytes) -> None:
    for kind in [*DEFERRED, "unheard_of"]:
        assert settled(kind, body) is None


@pytest.mark.parametrize(
    "members",
    [
        {"usage": 1, "per_model_usage": 1, "trained_tokens": "x", "seconds": "1e9", "request_counts": 3},
        {"usage": [], "per_model_usage": [1, {}, {"prompt_tokens": "1"}], "trained_tokens": -1, "seconds": -1, "request_counts": {"completed": "1"}},
        {"seconds": "9" * 100, "trained_tokens": 1 << 70, "request_counts": {"completed": True}, "endpoint": 1, "output_file_id": []},
        {"seconds": "٣", "trained_tokens": True, "per_model_usage": {"prompt_tokens": 1}, "request_counts": {"completed": -1}},
    ],
)  # fmt: skip
def test_junk_members_report_nothing(members: dict[str, Any]) -> None:
    for kind, how in DEFERRED.items():
        for status in how.final:
            found = settled(kind, json.dumps({"id": "x", "status": status, **members}).encode())
            assert found == Settled(kind, "x", status, True)


def test_a_kind_says_where_it_is_written() -> None:
    for how in DEFERRED.values():
        assert how.source
        assert how.charged <= how.final
        assert bool(how.rules) + bool(how.members) + bool(how.each) == 1
