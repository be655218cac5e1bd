"""What the gateway asked for and the client did not is taken out of streams, and not a byte more."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.usage.strip import UsageStripper, strip

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "sse"
CHUNK: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
text = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from([',"usage":null', '"usage"', "}\n\n", "\\"])


def dumps(value: object, tight: bool) -> bytes:
    return json.dumps(value, separators=(",", ":") if tight else (", ", ": "), ensure_ascii=tight).encode()


@given(st.lists(text, min_size=1, max_size=5), st.integers(0, 5), st.booleans(), st.sampled_from(["\n", "\r\n", "\r"]))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_what_is_left_is_the_stream_of_who_did_not_ask(deltas: list[str], place: int, tight: bool, end: str) -> None:
    """The same upstream asked without usage, whatever the texts, wherever the member stands."""
    gap = (end * 2).encode()
    asked, plain = b"", b""
    for delta in deltas:
        chunk = CHUNK | {
            "choices": [{"index": 0, "delta": {"content": delta}, "finish_reason": None}],
            "obfuscation": "x",
        }
        members = list(chunk.items())
        plain += b"data: " + dumps(dict(members), tight) + gap
        members.insert(min(place, len(members)), ("usage", None))
        asked += b"data: " + dumps(dict(members), tight) + gap
    asked += (
        b"data: " + dumps(CHUNK | {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}, tight) + gap
    )
    asked, plain = asked + b"data: [DONE]" + gap, plain + b"data: [DONE]" + gap
    for size in (1, 7, 100, 10_000):
        stripper = UsageStripper()
        got = b"".join(stripper.feed(asked[at : at + size]) for at in range(0, len(asked), size)) + stripper.end()
        assert got == plain, size


@pytest.mark.parametrize(
    ("event", "left"),
    [
        (b'data: {"usage":null,"choices":[{"usage":null}]}\n\n', b'data: {"choices":[{"usage":null}]}\n\n'),
        (b'data: {"choices":[{"usage":null}],"usage":null}\n\n', b'data: {"choices":[{"usage":null}]}\n\n'),
        (b'data: {"usage":null}\n\n', b"data: {}\n\n"),
        (b'data:{"choices":[{}], "usage" : null }\n\n', b'data:{"choices":[{}] }\n\n'),
        (b'data: {"choices":[{}],"usage":{"a":1},"x":2}\n\n', b'data: {"choices":[{}],"x":2}\n\n'),
        (b'data: {"choices":[],"usage":{"a":1}}\n\n', b""),
    ],
)
def test_where_it_stands(event: bytes, left: bytes) -> None:
    assert strip(event) == left


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices":[{"usage":null}]}\n\n',
        b'data: {"choices":[{"delta":{"content":",\\"usage\\":null"}}]}\n\n',
        b'data: {"choices":[],"usage":null,\n\n',
        b'data: {"choices":[],\ndata: "usage":{"a":1}}\n\n',
        b'event: x\ndata: {"choices":[],"usage":{"a":1}}\n\n',
        b'id: 4\ndata: {"error":{"message":"usage","usage":null}}\n\n',
        b': "usage"\n\n',
        b"data: [DONE]\n\n",
        b'data: {"choices":[{"x":{"usage":null}}],"y":"}"}\n\n',
    ],
)
def test_what_is_not_expected_passes_untouched(event: bytes) -> None:
    assert strip(event) == event


def test_a_stream_that_ends_in_the_middle_passes_to_its_last_byte() -> None:
    stripper = UsageStripper()
    assert stripper.feed(b'data: {"a":1}\n\ndata: {"usa') == b'data: {"a":1}\n\n'
    assert stripper.end() == b'data: {"usa'


def test_an_event_too_large_to_hold_passes() -> None:
    stripper = UsageStripper()
    piece = b"x" * (1 << 20)
    passed = stripper.feed(b"data: ")
    for _ in range(40):
        passed += stripper.feed(piece)
    assert passed + stripper.end() == b"data: " + piece * 40


@pytest.mark.skipif(not FOLDER.exists(), reason="the recorded streams are not here")
def test_recorded_streams_lose_only_usage() -> None:
    pieces = random.Random(3)
    for stream in json.loads((FOLDER / "index.json").read_text()):
        if stream["kind"] != "chat":
            continue
        data = (FOLDER / stream["file"]).read_bytes()
        stripper, passed, at = UsageStripper(), b"", 0
        while at < len(data):
            size = pieces.choice((1, 7, 60, 1460, 65536))
            passed += stripper.feed(data[at : at + size])
            at += size
        passed += stripper.end()
        before, after = chunks_of(data), chunks_of(passed)
        wanted = [without(chunk) for chunk in before if not (chunk.get("usage") and chunk.get("choices") == [])]
        assert after == wanted, stream["file"]
        if not any("usage" in chunk for chunk in before):
            assert passed == data


def chunks_of(data: bytes) -> list[dict[str, Any]]:
    lines = [line[5:].strip() for line in data.split(b"\n") if line.startswith(b"data:")]
    return [json.loads(line) for line in lines if line.startswith(b"{")]


def without(chunk: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in chunk.items() if name != "usage"}
