"""What requests ask for, as far as it tells what they will use."""

import json
from typing import Any

import pytest

from gateway.usage.asked import Asked, of_form, of_json, rough_text_bytes
from gateway.usage.kinds import Basis
from gateway.values import FormFacts

LARGE = "word " * 60_000


def asked(basis: Basis, **body: Any) -> Asked:
    return of_json(json.dumps(body).encode(), basis)


def test_texts_and_messages() -> None:
    messages = [{"role": "user", "content": "abc"}, {"role": "assistant", "content": "dé"}]
    assert asked("text", messages=messages) == Asked(text_bytes=6, texts=("abc", "dé"), messages=2, plain=True)
    assert asked("text", input="abcd", n=3) == Asked(text_bytes=4, texts=("abcd",), number=3, plain=True)
    assert asked("speech", input="dé").characters == 2


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "web_search"}]},
        {"functions": [{"name": "f"}]},
        {"response_format": {"type": "json_object"}},
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
    ],
    ids=lambda more: next(iter(more)),
)
def test_what_a_model_reads_besides(more: dict[str, Any]) -> None:
    """Such a call tells nothing of how long tokens are. Schemas are read, too."""
    found = asked("text", input="abcd", **more)
    assert not found.plain
    (value,) = more.values()
    schema = 0 if isinstance(value, str) else len(json.dumps(value, separators=(",", ":")))
    assert found.text_bytes == 4 + schema


def test_prompts_given_as_tokens() -> None:
    assert asked("input", input=[1, 2, 3, 4]).text_bytes == 18
    assert asked("input", input=[[1, 2], [3, 4]]).text_bytes == 18
    assert asked("text", prompt=[[1, 2], [3, 4]]).text_bytes == 18
    assert asked("input", input=[]).text_bytes == 0


def test_large_bodies_are_not_looked_at_closely() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}}
    found = asked("text", messages=[{"role": "user", "content": [{"type": "text", "text": LARGE}, picture]}])
    assert found.text_bytes == pytest.approx(len(LARGE), rel=0.01)
    assert not found.plain
    assert asked("images", prompt=LARGE, n=2, size="1024x1024").number == 2
    sound = {"type": "input_audio", "input_audio": {"data": "B" * 400_000, "format": "wav"}}
    assert rough_text_bytes(json.dumps([sound, LARGE]).encode()) == pytest.approx(len(LARGE), rel=0.01)
    assert rough_text_bytes(b'{"data":"never closed') > 0


def test_what_cannot_be_read_is_taken_for_text() -> None:
    assert of_json(b'{"input": "abc', "text") == Asked(text_bytes=14)
    assert of_json(b"\xff\xfe", "text") == Asked(text_bytes=2)
    assert of_json(b"", "text") == Asked()


@pytest.mark.parametrize("wrong", [0, -1, 101, True, "x", 2.5, None, [2]], ids=str)
def test_numbers_that_are_none_are_one(wrong: object) -> None:
    assert asked("images", n=wrong).number == 1


def test_lengths_of_videos() -> None:
    for given, ms in (("8", 8000), (12, 12_000), ("0.5", 500), (None, 4000), ("long", 4000), ([8], 4000)):
        assert asked("video", seconds=given).duration_ms == ms
    assert of_form(FormFacts({"seconds": "8"}), "video").duration_ms == 8000


def test_audio_that_does_not_tell_its_length() -> None:
    assert of_form(FormFacts(file_size=32_000), "audio").duration_ms == 2000
    assert of_form(FormFacts(), "audio").duration_ms == 1
