"""Recorded streams of OpenAI and others, in pieces of any size: the usage that their index states. Where they are."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from gateway.usage.extract import Report, of_event, rules_of
from gateway.usage.sse import EventReader, parse_event

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "sse"
OPERATIONS = {"chat": "createChatCompletion", "completions": "createCompletion", "responses": "createResponse"}
NUMBERS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cached_tokens": "input_cached_tokens",
    "reasoning_tokens": "reasoning_tokens",
    "input_audio_tokens": "input_audio_tokens",
    "output_audio_tokens": "output_audio_tokens",
}


def streams() -> list[dict[str, Any]]:
    index = FOLDER / "index.json"
    return json.loads(index.read_text()) if index.exists() else []


@pytest.mark.skipif(not FOLDER.exists(), reason="the recorded streams are not here")
def test_recorded_streams() -> None:
    pieces = random.Random(7)
    for stream in streams():
        data = (FOLDER / stream["file"]).read_bytes()
        reader, rules = EventReader(), rules_of(OPERATIONS[stream["kind"]])
        events, at = [], 0
        while at < len(data):
            size = pieces.choice((1, 7, 60, 1460, 65536))
            events += reader.feed(data[at : at + size])
            at += size
        last: Report | None = None
        for event in map(parse_event, [*events, reader.take_rest()]):
            for report in of_event(event.name, event.data or b"", rules):
                last = last if report.category else report
        expected = stream["expected_usage"] or stream["expected_usage_alt_x_groq"]
        assert (last is not None) == bool(expected), stream["file"]
        for ours, theirs in NUMBERS.items() if expected else ():
            assert getattr(last and last.quantities, ours) == (expected[theirs] or 0), (stream["file"], ours)
    assert len(streams()) == 111
