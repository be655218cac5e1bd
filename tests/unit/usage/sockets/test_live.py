"""Live and translation sockets. Shapes: OpenAI's package, types/live and types/realtime."""

from typing import Any

import pytest

from tests.unit.usage.sockets.kit import Meter, sound

SECOND = 48_000  # bytes


@pytest.fixture
def meter() -> Meter:
    meter = Meter("connectLiveSession")
    meter.up("session.start", session={"model": "gpt-live-1"})
    started = {
        "id": "sess_1",
        "model": "gpt-live-1-2026-05-01",
        "audio": {"format": {"type": "audio/pcm", "rate": 24000}},
    }
    meter.down("session.started", session=started)
    return meter


def delegated(meter: Meter, kind: str, delegation: str, **members: Any) -> None:
    meter.down("response.event", delegation_id=delegation, event={"type": kind, **members})


def test_the_last_of_its_seconds_count(meter: Meter) -> None:
    for seconds in (0.5, 1, 61.004):
        meter.down("session.usage.updated", usage={"seconds": seconds})
    meter.end()
    done, line = meter.found[0], meter.line()
    assert (done.begun_at, done.complete, done.model) == (1002, False, "gpt-live-1")
    assert (line.response_model, line.object_id, line.source) == ("gpt-live-1-2026-05-01", "sess_1", "reported")
    assert line.quantities.duration_ms == 61_004


def test_its_end_says_it_once_more(meter: Meter) -> None:
    meter.down("session.usage.updated", usage={"seconds": 3})
    meter.down("session.closed", reason="close_requested", session={}, usage={"seconds": 4})
    meter.end()
    assert (len(meter.found), meter.found[0].complete, meter.used().duration_ms) == (1, True, 4000)


def test_a_session_in_which_nothing_was_used(meter: Meter) -> None:
    meter.down("session.closed", reason="close_requested", session={}, usage={"seconds": 0})
    meter.end()
    assert meter.found == []


def test_a_session_that_ends_before_it_tells(meter: Meter) -> None:
    meter.up("session.input_audio.append", audio=sound(3 * SECOND))
    meter.down("session.output_audio.delta", delta=sound(SECOND))
    meter.end()
    assert (meter.line().source, meter.used().duration_ms) == ("estimated", 3000)


def test_what_it_delegates_counts_by_response(meter: Meter) -> None:
    usage = {"input_tokens": 7, "output_tokens": 3}
    for number in (1, 2, 3):
        response = {"id": f"resp_{number}", "model": "gpt-5-mini-2025-08-07", "status": "in_progress", "usage": None}
        delegated(meter, "response.created", f"dlg_{number}", response=response)
    delegated(meter, "response.output_text.delta", "dlg_2", delta="x" * 90)
    delegated(meter, "response.completed", "dlg_1", response={"id": "resp_1", "status": "completed", "usage": usage})
    delegated(meter, "response.failed", "dlg_3", response={"id": "resp_3", "status": "failed", "usage": None})
    meter.down("session.usage.updated", usage={"seconds": 3})
    meter.end()
    assert [done.apart for done in meter.found] == [True, True, True, False]
    assert (meter.line(0).response_model, meter.used(0).input_tokens) == ("gpt-5-mini-2025-08-07", 7)
    assert meter.lines(1) == []
    assert (meter.line(2).source, meter.used(2).output_tokens) == ("estimated", 20)
    assert meter.used(3).duration_ms == 3000


def test_decisions_have_a_category_of_their_own(meter: Meter) -> None:
    decision = {"id": "dec_1", "model": "gpt-6-luna", "usage": {"input_tokens": 9, "output_tokens": 1}}
    meter.down("decision.event", delegation_id=None, event={"type": "decision.completed", "decision": decision})
    line = meter.line()
    assert (meter.found[0].category, line.category, line.response_model) == ("decisions", "decisions", "gpt-6-luna")
    assert line.quantities.input_tokens == 9


@pytest.mark.parametrize("closed", [True, False])
def test_a_translation_does_not_tell(closed: bool) -> None:
    meter = Meter("connectRealtimeTranslation")
    meter.down("session.created", session={"id": "sess_1", "model": "gpt-realtime-translate", "audio": {}})
    meter.up("session.input_audio_buffer.append", audio=sound(2 * SECOND))
    if closed:
        meter.down("session.closed")
    meter.end()
    (done,) = meter.found
    assert (done.complete, meter.line().source, meter.used().duration_ms) == (closed, "estimated", 2000)


def test_a_translation_that_tells() -> None:
    meter = Meter("connectRealtimeTranslation")
    meter.up("session.input_audio_buffer.append", audio=sound(2 * SECOND))
    meter.down("response.done", response={"id": "resp_1", "usage": {"input_tokens": 20, "output_tokens": 40}})
    meter.end()
    assert (len(meter.found), meter.line().source, meter.used().output_tokens) == (1, "reported", 40)


def test_nothing_at_all() -> None:
    for operation in ("connectLiveSession", "connectLiveSessionFork", "connectRealtimeTranslation"):
        meter = Meter(operation)
        meter.end()
        assert meter.found == []
