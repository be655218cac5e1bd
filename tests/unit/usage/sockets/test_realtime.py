"""Realtime sockets. Shapes: OpenAI's package, types/realtime and types/beta/realtime."""

from typing import Any

import pytest

from tests.unit.usage.sockets.kit import Meter, sound

SECOND = 48_000  # bytes
USAGE = {
    "total_tokens": 150, "input_tokens": 100, "output_tokens": 50,
    "input_token_details": {
        "text_tokens": 40, "audio_tokens": 60, "image_tokens": 0, "cached_tokens": 64,
        "cached_tokens_details": {"text_tokens": 32, "audio_tokens": 32, "image_tokens": 0},
    },
    "output_token_details": {"text_tokens": 10, "audio_tokens": 40},
}  # fmt: skip
WRITTEN = "conversation.item.input_audio_transcription"


def session(**audio: Any) -> dict[str, Any]:
    return {
        "id": "sess_1", "object": "realtime.session", "type": "realtime", "model": "gpt-realtime-2025-08-28",
        "instructions": "x" * 45, "tools": [], "audio": audio,
    }  # fmt: skip


@pytest.fixture
def meter() -> Meter:
    meter = Meter("connectRealtime")
    transcription = {"model": "gpt-4o-transcribe", "language": "en"}
    form = {"type": "audio/pcm", "rate": 24_000}
    meter.down("session.created", session=session(input={"format": form, "transcription": None}))
    meter.down("session.updated", session=session(input={"format": form, "transcription": transcription}))
    return meter


def hear(meter: Meter, seconds: int, item: str = "item_1") -> None:
    for _ in range(10 * seconds):
        meter.up("input_audio_buffer.append", audio=sound(SECOND // 10))
    meter.down("input_audio_buffer.committed", item_id=item, previous_item_id=None)


def speak(meter: Meter, seconds: int, text: str = "", of: str = "resp_1") -> None:
    for _ in range(20 * seconds):
        meter.down("response.output_audio.delta", response_id=of, item_id="item_9", delta=sound(SECOND // 20))
    meter.down("response.output_audio_transcript.delta", response_id=of, item_id="item_9", delta=text)


def done(meter: Meter, status: str = "completed", usage: Any = None, of: str = "resp_1") -> None:
    output = [{"id": "item_9", "type": "message"}]
    meter.down("response.done", response={"id": of, "status": status, "output": output, "usage": usage})


def created(meter: Meter, of: str = "resp_1") -> None:
    meter.down("response.created", response={"id": of, "status": "in_progress", "output": [], "usage": None})


@pytest.mark.parametrize("status", ["completed", "cancelled", "incomplete", "failed"])
def test_a_response_that_reports(meter: Meter, status: str) -> None:
    meter.up("response.create")
    created(meter)
    done(meter, status, USAGE)
    line = meter.line()
    assert (line.source, line.category, line.response_model, line.object_id) == (
        "reported", "completions", "gpt-realtime-2025-08-28", "resp_1",
    )  # fmt: skip
    used = line.quantities
    assert (used.input_tokens, used.input_audio_tokens, used.cached_tokens, used.cached_audio_tokens) == (
        100,
        60,
        64,
        32,
    )
    assert (used.output_tokens, used.output_audio_tokens) == (50, 40)
    meter.end()
    assert len(meter.found) == 1


def test_a_response_that_nobody_asked_for(meter: Meter) -> None:
    """The server's turn detection begins it."""
    created(meter)
    done(meter, usage=USAGE)
    assert (meter.found[0].begun_at, meter.used().output_tokens) == (1003, 50)


def test_what_failed_before_anything_was_made_is_refused(meter: Meter) -> None:
    created(meter)
    done(meter, "failed")
    assert meter.lines() == []


def test_a_transcription_is_apart(meter: Meter) -> None:
    hear(meter, 2)
    tokens = {"type": "tokens", "input_tokens": 20, "input_token_details": {"audio_tokens": 20}, "output_tokens": 6}
    meter.down(f"{WRITTEN}.delta", item_id="item_1", content_index=0, delta="Hello")
    meter.down(f"{WRITTEN}.completed", item_id="item_1", content_index=0, transcript="Hello", usage=tokens)
    line = meter.line()
    assert meter.found[0].apart
    assert (line.category, line.response_model, line.object_id) == (
        "audio_transcriptions",
        "gpt-4o-transcribe",
        "item_1",
    )
    assert (line.quantities.input_audio_tokens, line.quantities.output_tokens, line.quantities.duration_ms) == (
        20,
        6,
        2000,
    )


def test_a_transcription_by_duration(meter: Meter) -> None:
    hear(meter, 1)
    usage = {"type": "duration", "seconds": 1.25}
    meter.down(f"{WRITTEN}.completed", item_id="item_1", transcript="Hello", usage=usage)
    assert meter.used().duration_ms == 1250


def test_a_transcription_that_nobody_awaits_any_more_is_estimated(meter: Meter) -> None:
    hear(meter, 2)
    meter.down(f"{WRITTEN}.delta", item_id="item_1", delta="x" * 45)
    hear(meter, 1, "item_2")
    meter.down(f"{WRITTEN}.failed", item_id="item_2", error={"type": "server_error"})
    meter.end()
    used = meter.used()
    assert meter.line().source == "estimated"
    assert (used.input_audio_tokens, used.output_tokens, used.duration_ms) == (20, 10, 2000)


def test_the_beta_shape() -> None:
    meter = Meter("connectRealtime")
    beta = {
        "id": "sess_1", "model": "gpt-4o-realtime-preview", "instructions": "", "input_audio_format": "g711_ulaw",
        "output_audio_format": "g711_alaw", "input_audio_transcription": {"model": "whisper-1"},
    }  # fmt: skip
    meter.down("session.created", session=beta)
    meter.up("input_audio_buffer.append", audio=sound(8_000))
    meter.down("input_audio_buffer.committed", item_id="item_1")
    meter.down(f"{WRITTEN}.completed", item_id="item_1", transcript="Hello")
    assert (meter.line().response_model, meter.used().duration_ms) == ("whisper-1", 1000)
    created(meter)
    meter.down("response.audio.delta", response_id="resp_1", delta=sound(8_000))
    meter.down("response.text.delta", response_id="resp_1", delta="x" * 45)
    meter.end()
    assert (meter.used().input_audio_tokens, meter.used().output_audio_tokens, meter.used().output_tokens) == (
        10,
        20,
        30,
    )


def test_the_socket_ends_while_it_speaks(meter: Meter) -> None:
    """10 tokens a second heard, 20 a second spoken; instructions and texts at 4.5 bytes a token."""
    hear(meter, 3)
    meter.down(f"{WRITTEN}.failed", item_id="item_1")
    meter.up("response.create")
    created(meter)
    speak(meter, 2, "x" * 90)
    meter.end()
    line, used = meter.line(), meter.used()
    assert (line.source, line.response_model, meter.found[0].complete) == (
        "estimated",
        "gpt-realtime-2025-08-28",
        False,
    )
    assert (used.input_audio_tokens, used.output_audio_tokens) == (30, 40)
    assert (used.input_tokens, used.output_tokens) == (30 + 10 + 4, 40 + 20)


def test_the_conversation_so_far_is_read_again(meter: Meter) -> None:
    hear(meter, 3)
    created(meter)
    speak(meter, 2, "x" * 90)
    done(meter, usage=USAGE)
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x" * 90}]}
    meter.up("conversation.item.create", item=item)
    meter.down("conversation.item.added", item={"id": "item_2", "type": "message", "role": "user"})
    created(meter, "resp_2")
    meter.found.clear()
    meter.end()
    assert meter.used(0).input_audio_tokens == 30 + 20
    assert meter.used(0).input_tokens == 50 + (45 + 90 + 90) / 4.5 + 3 * 4


def test_what_is_cut_from_the_conversation_is_not_read(meter: Meter) -> None:
    hear(meter, 3)
    created(meter)
    speak(meter, 2)
    done(meter, usage=USAGE)
    meter.down("conversation.item.truncated", item_id="item_9", content_index=0, audio_end_ms=500)
    meter.down("conversation.item.deleted", item_id="item_1")
    item = {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": sound(SECOND)}]}
    meter.up("conversation.item.create", item=item)
    meter.down("conversation.item.created", item={"id": "item_2", "type": "message", "role": "user"})
    meter.down("conversation.item.deleted", item_id="item_2")
    created(meter, "resp_2")
    meter.found.clear()
    meter.end()
    assert meter.used(0).input_audio_tokens == 5


def test_a_response_outside_the_conversation(meter: Meter) -> None:
    hear(meter, 3)
    asked = {"conversation": "none", "instructions": "", "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x" * 45}]},
        {"type": "item_reference", "id": "item_1"},
    ]}  # fmt: skip
    meter.up("response.create", response=asked)
    created(meter)
    speak(meter, 5)
    done(meter, "completed")
    assert (meter.used().input_tokens, meter.used().input_audio_tokens) == (40, 30)
    created(meter, "resp_2")
    meter.found.clear()
    meter.end()
    assert meter.used(0).input_audio_tokens == 30


def test_speech_is_what_the_server_found_of_it(meter: Meter) -> None:
    meter.up("input_audio_buffer.append", audio=sound(10 * SECOND))
    meter.down("input_audio_buffer.speech_started", item_id="item_1", audio_start_ms=4000)
    meter.down("input_audio_buffer.speech_stopped", item_id="item_1", audio_end_ms=7000)
    meter.down("input_audio_buffer.committed", item_id="item_1")
    created(meter)
    meter.end()
    assert meter.used(0).input_audio_tokens == 30
    assert meter.used(1).duration_ms == 3000


def test_a_buffer_that_was_cleared_was_not_heard(meter: Meter) -> None:
    meter.up("input_audio_buffer.append", audio=sound(SECOND))
    meter.down("input_audio_buffer.cleared")
    hear(meter, 1)
    created(meter)
    meter.end()
    assert meter.used(0).input_audio_tokens == 10


def test_requests_that_were_refused(meter: Meter) -> None:
    meter.up("response.create")
    created(meter)
    meter.up("response.create", event_id="mine")
    meter.down("error", error={"code": "conversation_already_has_active_response", "event_id": "mine"})
    done(meter, usage=USAGE)
    meter.end()
    assert len(meter.found) == 1
    meter.up("response.create", event_id="mine")
    meter.down("error", error={"code": "invalid_value", "event_id": "other"})
    meter.end()
    assert (meter.line().source, meter.used().output_tokens) == ("estimated", 100)


def test_responses_at_the_same_time(meter: Meter) -> None:
    for name in ("resp_1", "resp_2"):
        meter.up("response.create", response={"conversation": "none"})
        created(meter, name)
    for _ in range(3):
        speak(meter, 1, of="resp_1")
        speak(meter, 1, "x" * 45, of="resp_2")
    done(meter, usage=USAGE, of="resp_2")
    meter.end()
    assert [meter.line(at).object_id for at in (0, 1)] == ["resp_2", "resp_1"]
    assert (meter.used(1).output_tokens, meter.used(1).output_audio_tokens) == (60, 60)


def test_a_transcription_session() -> None:
    meter = Meter("connectRealtime")
    made = {
        "id": "sess_1",
        "type": "transcription",
        "audio": {"input": {"transcription": {"model": "gpt-realtime-whisper"}}},
    }
    meter.down("session.updated", session=made)
    hear(meter, 1)
    meter.down(f"{WRITTEN}.completed", item_id="item_1", usage={"type": "duration", "seconds": 1})
    meter.end()
    assert (len(meter.found), meter.line().response_model) == (1, "gpt-realtime-whisper")
