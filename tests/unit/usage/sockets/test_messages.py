"""Messages: what is long is sized as what is short is, and nothing that comes can raise."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.usage.sockets.messages import read
from gateway.usage.sockets.session import SESSIONS
from tests.unit.usage.sockets.kit import Meter, encoded, sound


@pytest.mark.parametrize("size", [0, 1, 2, 3, 2_998, 2_999, 3_000, 49_152, 3_000_000])
@pytest.mark.parametrize("kind", ["response.output_audio.delta", "response.audio.delta", "session.output_audio.delta"])
def test_sound_that_comes(kind: str, size: int) -> None:
    found = read(encoded({"type": kind, "response_id": "resp_1", "item_id": "item_1", "delta": sound(size)}))
    assert found is not None
    assert (found.kind, found.response_id, found.item_id) == (kind, "resp_1", "item_1")
    assert size <= found.sound_bytes <= size + 2


@pytest.mark.parametrize("size", [0, 1, 3_000, 3_000_000])
def test_sound_that_goes(size: int) -> None:
    for message in (
        {"type": "input_audio_buffer.append", "audio": sound(size)},
        {"audio": sound(size), "type": "input_audio_buffer.append"},
        {"event_id": "x", "type": "input_audio_buffer.append", "audio": sound(size)},
    ):
        found = read(encoded(message))
        assert found is not None
        assert found.kind == "input_audio_buffer.append"
        assert size <= found.sound_bytes <= size + 2


def test_a_long_message_that_only_looks_like_sound() -> None:
    found = read(encoded({"type": "session.thinking.append", "content": "x" * 10_000, "event_id": "mine"}))
    assert found is not None
    assert (found.kind, found.event_id, found.sound_bytes) == ("session.thinking.append", "mine", 0)
    assert read(b'{"type":"input_audio_buffer.append","audio":"' + b"A" * 10_000) is None


@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"input_audio_buffer.append","audio":"%b","type":"response.create"}',
        b'{"type":"input_audio_buffer.append","type":"response.create","audio":"%b"}',
        b'{"type":"input_audio_buffer.append","audio":"%b","t\\u0079pe":"response.create"}',
        b'{"type":"input_audio_buffer.append","audio":"%b",' + b" " * 300 + b'"type":"response.create"}',
    ],
)
def test_a_long_message_with_two_types(data: bytes) -> None:
    """The last one counts, as it does for most readers."""
    found = read(data % (b"A" * 10_000))
    assert found is not None
    assert found.kind == "response.create"


def test_half_a_character() -> None:
    found = read(b'{"type":"response.create","response":{"instructions":"\\ud83d"}}')
    assert found is not None
    assert found.kind == "response.create"
    assert read(b'{"type":"response.create","response":{"instructions":"\\ud83d"') is None


TYPES = [
    "response.create", "response.created", "response.completed", "response.done", "response.output_text.delta", "error",
    "response.output_audio.delta", "session.created", "session.updated", "session.closed", "session.usage.updated",
    "input_audio_buffer.append", "input_audio_buffer.committed", "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped", "conversation.item.create", "conversation.item.added", "response.event",
    "conversation.item.deleted", "conversation.item.truncated", "decision.event", "session.start", "response.failed",
    "conversation.item.input_audio_transcription.completed", "conversation.item.input_audio_transcription.delta",
]  # fmt: skip
MEMBERS = [
    "response_id", "stream_id", "item_id", "delta", "audio", "item", "response", "session", "error", "event", "usage",
    "audio_start_ms", "audio_end_ms", "model", "user", "id", "status", "content", "input", "output", "conversation",
    "instructions", "tools", "transcription", "format", "rate", "type", "seconds", "delegation_id", "decision",
]  # fmt: skip
LEAVES = (
    st.none() | st.booleans() | st.integers(-5, 1 << 70) | st.floats() | st.text(max_size=5) | st.sampled_from(TYPES)
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=5)
)
MESSAGES = st.tuples(
    st.booleans(), st.sampled_from(TYPES), st.dictionaries(st.sampled_from(MEMBERS[:-1]), VALUES, max_size=6)
)


@given(st.sampled_from(sorted(SESSIONS)), st.lists(MESSAGES, max_size=12))
def test_nothing_that_comes_raises(operation: str, messages: list[tuple[bool, str, dict[str, Any]]]) -> None:
    meter = Meter(operation)
    for up, kind, members in messages:
        members.pop("type", None)
        given_up = {**members}
        meter.up(kind, **given_up) if up else meter.down(kind, **given_up)
    meter.end()
    for at in range(len(meter.found)):
        for line in meter.lines(at):
            assert min(line.quantities.input_tokens, line.quantities.output_tokens, line.quantities.duration_ms) >= 0


@pytest.mark.parametrize("operation", sorted(SESSIONS))
def test_no_bytes_raise(operation: str) -> None:
    chosen = random.Random(5)
    session = Meter(operation).session
    whole = [encoded({"type": kind, "response": {"id": "r", "usage": {"input_tokens": 1}}}) for kind in TYPES]
    for message in [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff" * 9000,
        b'{"type":1}',
        b"[" * 9000,
        b'"x"',
        b'{"type":"\\ud800"}',
    ]:
        assert [*session.up(message), *session.down(message)] == []
    for _ in range(2000):
        broken = bytearray(chosen.choice(whole))
        broken[chosen.randrange(len(broken))] = chosen.randrange(256)
        cut = chosen.randrange(len(broken))
        list(session.down(bytes(broken)))
        list(session.up(bytes(broken[:cut])))
    list(session.end())
