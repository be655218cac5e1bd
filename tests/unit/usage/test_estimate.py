"""Estimates of tokens: near the truth on English prose from the first call, nearer after reports, never zero."""

import json

import pytest

from gateway.simulator.text import Prose
from gateway.simulator.tokens import count
from gateway.usage.estimate import Densities, size_of, texts_in, texts_of_answer, texts_of_request
from gateway.usage.extract import rules_of
from gateway.usage.taps import EventTap

PROSE = """The gateway keeps what it owes to its clients: an answer, in the order in which it was asked for, and an account
of what it cost. When a reader stops in the middle of a sentence, whatever was already written has been paid for by
somebody, and the ledger has to say by whom. So it estimates, from the length of what went by and from what similar calls
have reported before, and it marks the number as an estimate. Nobody is surprised by a rounded figure; everybody is by a
missing one. """


def test_english_prose_is_within_15_percent_unlearned() -> None:
    for text in (PROSE, PROSE * 7, PROSE[:200]):
        guess = Densities().tokens("gpt-4o", "output", len(text.encode()))
        assert guess == pytest.approx(count(text), rel=0.15)


def test_what_is_learned_of_a_model_counts_for_it_alone() -> None:
    densities = Densities()
    for _ in range(40):
        densities.learn("dense", "output", 2000, 1000)
    assert densities.tokens("dense", "output", 2000) == pytest.approx(1000, rel=0.05)
    assert densities.tokens("dense", "input", 2000) == pytest.approx(444, rel=0.01)
    assert densities.tokens("other", "output", 2000) == pytest.approx(444, rel=0.01)


def test_one_odd_call_does_not_spoil_it() -> None:
    densities = Densities()
    densities.learn("m", "input", 10, 10_000)  # an image: its tokens are not its text's
    densities.learn("m", "input", 0, 5)
    densities.learn("m", "input", 1_000_000, 1)
    assert densities.tokens("m", "input", 4500) == pytest.approx(1000, rel=0.01)


def test_what_is_not_seen_is_as_in_other_calls() -> None:
    densities = Densities()
    assert (densities.typical_output("m"), densities.typical_reasoning("m")) == (100, 0)
    for _ in range(100):
        densities.learn_output("m", 500, 320)
    assert (densities.typical_output("m"), densities.typical_reasoning("m")) == (500, 320)
    densities.learn_output("m", 0, 0)
    assert (densities.typical_output("m"), densities.typical_reasoning("m")) == (475, 304)


def test_never_zero() -> None:
    assert Densities().tokens("m", "output", 0) == 1
    assert Densities().tokens("m", "output", 1) == 1


def test_memory_of_models_is_bounded() -> None:
    densities = Densities()
    for number in range(5000):
        densities.learn(f"m{number}", "input", 450, 100)
    assert len(densities._seen) == 1024


def text_of_request(body: bytes) -> tuple[int, int]:
    _, messages, size = texts_of_request(body)
    return size, messages


def text_of_answer(body: bytes) -> int:
    return size_of(texts_of_answer(body))


def test_texts_of_requests() -> None:
    chat = {"model": "gpt-4o", "messages": [{"role": "user", "content": "abc"}, {"role": "system", "content": "dé"}]}
    assert text_of_request(json.dumps(chat).encode()) == (6, 2)
    parts = [{"type": "text", "text": "abc"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,xxxx"}}]
    assert text_of_request(json.dumps({"messages": [{"role": "user", "content": parts}]}).encode()) == (3, 1)
    assert text_of_request(b'{"input":["ab","cd"],"model":"text-embedding-3-small"}') == (4, 0)
    assert text_of_request(b'{"prompt":"abcd","suffix":"e"}') == (5, 0)
    assert text_of_request(b'{"input":"abcd","instructions":"ef"}') == (6, 0)
    assert text_of_request(b"[1]") == (0, 0)
    assert text_of_request(b"\xff") == (0, 0)


def test_texts_of_answers() -> None:
    delta = {
        "id": "chatcmpl-1",
        "choices": [{"delta": {"role": "assistant", "content": " hello"}}],
        "obfuscation": "xyz",
    }
    assert text_of_answer(json.dumps(delta).encode()) == 6
    call = {"choices": [{"delta": {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": '{"a":1}'}}]}}]}
    assert text_of_answer(json.dumps(call).encode()) == 8
    assert text_of_answer(b'{"type":"response.output_text.delta","delta":"abc","item_id":"m"}') == 3
    assert text_of_answer(b'{"choices":[{"text":"ab"}]}') == 2
    response = {"instructions": "Be brief.", "output": [{"type": "message", "content": [{"text": "abc"}]}]}
    assert text_of_answer(json.dumps(response).encode()) == 3


def test_depth_is_bounded() -> None:
    value: object = "x"
    for _ in range(500):
        value = {"content": value} if isinstance(value, str) else {"a": value}
    assert texts_in(value) == []


def test_the_text_of_a_long_stream_is_measured_in_a_sample() -> None:
    """However long a stream is, its text is known to a few percent."""
    pieces = Prose().pieces(11, 20_000)
    for length in (150, 250, 400, 1_000, 20_000):
        tap = EventTap(rules_of("createChatCompletion"))
        for piece in pieces[:length]:
            chunk = {"id": "chatcmpl-1", "choices": [{"delta": {"content": piece}}], "obfuscation": "x" * 200}
            tap.feed([b"data: %b\n\n" % json.dumps(chunk).encode()])
        assert tap.end(True).text_bytes == pytest.approx(len("".join(pieces[:length])), rel=0.08)
