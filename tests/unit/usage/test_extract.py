"""What answers report, shape by shape. The expected numbers are written down here, beside the answers."""

import json
from typing import Any

import pytest

from gateway.operations.table import load_operations
from gateway.usage.extract import Report, of_body, of_event, rules_of
from gateway.usage.rules import QUANTITIES, RULES
from gateway.values import Quantities

CHAT_USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 300,
    "total_tokens": 1300,
    "prompt_tokens_details": {"cached_tokens": 400, "audio_tokens": 50, "image_tokens": 20, "cache_write_tokens": 100},
    "completion_tokens_details": {"reasoning_tokens": 120, "audio_tokens": 30, "rejected_prediction_tokens": 5},
}
CHAT = Quantities(
    input_tokens=1000,
    cached_tokens=400,
    cache_write_tokens=100,
    output_tokens=300,
    reasoning_tokens=120,
    input_audio_tokens=50,
    output_audio_tokens=30,
    input_image_tokens=20,
)
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "model": "gpt-5",
    "service_tier": "Flex",
    "usage": {
        "input_tokens": 10,
        "input_tokens_details": {
            "cached_tokens": 4,
            "cache_write_tokens": 5,
            "cache_write_tokens_details": {"ttl_30m_tokens": 2, "ttl_12h_tokens": 3},
        },
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 17,
    },
    "tool_usage": {
        "web_search": {"num_requests": 3},
        "image_gen": {"input_tokens": 20, "output_tokens": 30, "total_tokens": 50},
    },
    "output": [
        {"type": "file_search_call"},
        {"type": "code_interpreter_call", "container_id": "cntr_1"},
        {"type": "code_interpreter_call", "container_id": "cntr_1"},
        {"type": "code_interpreter_call", "container_id": "cntr_2"},
        {"type": "file_search_call"},
        {"type": "message"},
    ],
}
RESPONSE_MAIN = Quantities(
    input_tokens=10,
    cached_tokens=4,
    cache_write_tokens=5,
    cache_write_12h_tokens=3,
    output_tokens=7,
    reasoning_tokens=2,
)


def body(operation: str, value: object) -> list[Report]:
    return of_body(json.dumps(value).encode(), rules_of(operation))


def event(operation: str, name: str, value: object) -> list[Report]:
    return of_event(name, json.dumps(value).encode(), rules_of(operation))


def test_chat() -> None:
    answer = {"id": "chatcmpl-1", "model": "gpt-4o-2024-08-06", "service_tier": "default", "usage": CHAT_USAGE}
    expected = [Report(CHAT, model="gpt-4o-2024-08-06", service_tier="default", object_id="chatcmpl-1")]
    assert body("createChatCompletion", answer) == expected
    assert event("createChatCompletion", "", answer) == expected
    assert event("createChatCompletion", "", {"id": "x", "usage": None, "choices": []}) == []


def test_a_response_and_its_tools() -> None:
    lines = {
        report.category: report for report in body("createResponse", RESPONSE) if not report.category.startswith("code")
    }
    assert lines[""] == Report(RESPONSE_MAIN, model="gpt-5", service_tier="flex", object_id="resp_1")
    assert lines["web_search_calls"].quantities == Quantities(web_searches=3)
    assert lines["file_search_calls"].quantities == Quantities(file_searches=2)
    assert lines["images"].quantities == Quantities(input_tokens=20, output_tokens=30)
    sessions = [report for report in body("createResponse", RESPONSE) if report.category == "code_interpreter_sessions"]
    assert [(report.quantities, report.object_id) for report in sessions] == [
        (Quantities(sessions=1), "cntr_1"),
        (Quantities(sessions=1), "cntr_2"),
    ]


@pytest.mark.parametrize("state", ["completed", "incomplete", "failed", "cancelled"])
def test_events_of_a_response(state: str) -> None:
    value = {"type": f"response.{state}", "response": RESPONSE}
    assert event("createResponse", f"response.{state}", value) == body("createResponse", RESPONSE)
    assert all(report.each for report in event("connectResponses", "", value))
    assert event("createResponse", "response.created", {"type": "response.created", "response": RESPONSE}) == []
    assert (
        event(
            "createResponse",
            "",
            {"type": "response.failed", "response": RESPONSE | {"usage": None, "tool_usage": None, "output": []}},
        )
        == []
    )


def test_images() -> None:
    usage = {
        "input_tokens": 60,
        "input_tokens_details": {"text_tokens": 20, "image_tokens": 40},
        "output_tokens": 1000,
        "output_tokens_details": {"image_tokens": 900, "text_tokens": 100},
    }
    expected = Quantities(input_tokens=60, output_tokens=1000, input_image_tokens=40, output_image_tokens=900)
    value = {"data": [{"b64_json": "x" * 100}], "usage": usage, "size": "1024x1024", "quality": "high"}
    assert body("createImage", value) == [Report(expected, size="1024x1024", quality="high", each=True)]
    done = {"type": "image_edit.completed", "b64_json": "x", "usage": usage}
    assert event("createImageEdit", "image_edit.completed", done) == [Report(expected, each=True)]
    assert event("createImageEdit", "image_edit.partial_image", {"type": "image_edit.partial_image"}) == []
    assert body("createImage", {"created": 1, "data": [{"url": "u"}]}) == []


def test_audio() -> None:
    tokens = {"type": "tokens", "input_tokens": 14, "input_token_details": {"audio_tokens": 14}, "output_tokens": 45}
    heard = Quantities(input_tokens=14, input_audio_tokens=14, output_tokens=45)
    assert body("createTranscription", {"text": "a", "usage": tokens}) == [Report(heard)]
    assert body("createTranscription", {"usage": {"type": "duration", "seconds": 9.25}}) == [
        Report(Quantities(duration_ms=9250))
    ]
    assert event("createTranscription", "", {"type": "transcript.text.done", "usage": tokens}) == [Report(heard)]
    said = {"type": "speech.audio.done", "usage": {"input_tokens": 3, "output_tokens": 9, "total_tokens": 12}}
    assert event("createSpeech", "", said) == [Report(Quantities(input_tokens=3, output_tokens=9))]


def test_a_run_counts_once_and_its_steps_do_not() -> None:
    run = {
        "id": "run_1",
        "object": "thread.run",
        "model": "gpt-4o",
        "usage": {"prompt_tokens": 8, "completion_tokens": 2},
    }
    expected = [Report(Quantities(input_tokens=8, output_tokens=2), model="gpt-4o", object_id="run_1")]
    assert event("createRun", "thread.run.completed", run) == expected
    assert event("createRun", "thread.run.step.completed", run) == []
    assert body("createThreadAndRun", run | {"usage": None}) == []


def test_realtime() -> None:
    usage = {
        "input_tokens": 100,
        "output_tokens": 50,
        "input_token_details": {
            "text_tokens": 30, "audio_tokens": 70, "cached_tokens": 60,
            "cached_tokens_details": {"text_tokens": 20, "audio_tokens": 40},
        },
        "output_token_details": {"text_tokens": 10, "audio_tokens": 40},
    }  # fmt: skip
    done = {"type": "response.done", "response": {"id": "resp_7", "usage": usage}}
    quantities = Quantities(
        input_tokens=100,
        output_tokens=50,
        input_audio_tokens=70,
        cached_tokens=60,
        cached_audio_tokens=40,
        output_audio_tokens=40,
    )
    assert event("connectRealtime", "", done) == [Report(quantities, object_id="resp_7", each=True)]
    heard = {
        "type": "conversation.item.input_audio_transcription.completed",
        "usage": {"type": "duration", "seconds": 3},
    }
    assert event("connectRealtime", "", heard) == [
        Report(Quantities(duration_ms=3000), category="audio_transcriptions", each=True)
    ]


def test_a_live_session_counts_the_whole_each_time() -> None:
    found = event("connectLiveSession", "", {"type": "session.usage.updated", "usage": {"seconds": 61}})
    assert found == [Report(Quantities(duration_ms=61_000))]
    assert not found[0].each


@pytest.mark.parametrize(
    "junk",
    [
        b"", b"[]", b"{", b'"x"', b"null", b'{"usage":[1]}', b'{"usage":"1"}', b'{"usage":{"prompt_tokens":-1}}',
        b'{"usage":{"prompt_tokens":"7"}}', b'{"usage":{"prompt_tokens":1.5}}', b'{"usage":{"prompt_tokens":true}}',
        b'{"usage":{"prompt_tokens":99999999999999999999}}', b'{"usage":{"seconds":-1}}', b"\xff\xfe",
        b'{"usage":{"prompt_tokens_details":[]}}', b"[" * 5000,
    ],
)  # fmt: skip
def test_junk_reports_nothing(junk: bytes) -> None:
    for rule in RULES:
        for operation in rule.operations:
            assert of_body(junk, rules_of(operation)) == []
            assert of_event("response.completed", junk, rules_of(operation)) == []


def test_rules_name_operations_and_quantities_that_are_there() -> None:
    known = {operation.id for operation in load_operations()}
    assert {name for rule in RULES for name in rule.operations} <= known
    assert set(QUANTITIES) <= set(Quantities.__struct_fields__)
    tools = {tool.quantity for rule in RULES for tool in rule.tools if tool.quantity}
    assert tools <= set(Quantities.__struct_fields__)
    assert all(rule.source for rule in RULES)
