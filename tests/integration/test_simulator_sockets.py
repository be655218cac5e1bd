"""The simulator's other WebSockets: Responses, live sessions, translations."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.unit.simulator.kit import Simulation, simulation


@pytest.fixture
async def sim() -> AsyncIterator[Simulation]:
    async with simulation() as running:
        yield running


def sound(seconds: float) -> str:
    return base64.b64encode(b"\x01" * int(48_000 * seconds)).decode()


async def test_responses_over_a_socket(sim: Simulation) -> None:
    client = sim.client()
    whole = await client.responses.create(model="gpt-4o", input="Say hello.")
    async with client.responses.connect() as connection:
        await connection.response.create(model="gpt-4o", input="Say hello.", store=False)
        events = []
        async for event in connection:
            events.append(event)
            if event.type == "response.completed":
                break
        done: Any = events[-1]
        assert done.response.output_text == whole.output_text
        assert done.response.usage == whole.usage
        assert [getattr(event, "sequence_number", None) for event in events] == list(range(len(events)))
        await connection.response.create(model="gpt-4o", input="Go on.", previous_response_id=done.response.id)
        async for event in connection:
            if event.type == "response.completed":
                assert whole.usage is not None
                assert event.response.usage is not None
                assert event.response.usage.input_tokens > whole.usage.total_tokens
                break
        await connection.response.create(model="nope", input="x", stream_id="s1")
        async for event in connection:
            refused: Any = event
            assert (refused.type, refused.status, refused.stream_id) == ("error", 404, "s1")
            break
    records = [one for one in await sim.records() if one.transport == "websocket"]
    assert [(one.status, one.ended, one.operation) for one in records] == [
        (200, "complete", "connectResponses"),
        (200, "complete", "connectResponses"),
        (404, "refused", "connectResponses"),
    ]
    assert records[0].usage.total_tokens == done.response.usage.total_tokens
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(done.response.id)


async def test_streams_on_one_socket_run_side_by_side(sim: Simulation) -> None:
    async with sim.session.ws_connect(f"{sim.url}/v1/responses", headers=sim.headers) as socket:
        for stream_id in ("a", "b"):
            body = {"model": "gpt-4o+pace=2ms+tokens=30", "input": "x", "stream_id": stream_id}
            await socket.send_json({"type": "response.create"} | body)
        events: list[tuple[str, str]] = []
        while sum(kind == "response.completed" for _, kind in events) < 2:
            event = await socket.receive_json()
            events.append((event["stream_id"], event["type"]))
    first_end = next(i for i, (_, kind) in enumerate(events) if kind == "response.completed")
    assert {stream_id for stream_id, kind in events[:first_end] if kind.endswith(".delta")} == {"a", "b"}


async def test_live_sessions_report_cumulative_seconds(sim: Simulation) -> None:
    async with sim.client().live.connect() as connection:
        await connection.send({"type": "session.start", "session": {"model": "gpt-live-1"}})
        seconds: list[float] = []
        started: Any = None
        for part in range(3):
            await connection.send({"type": "session.input_audio.append", "audio": sound(1.5 if part else 0.5)})
        async for event in connection:
            if event.type == "session.started":
                started = event.session
            if event.type == "session.usage.updated":
                seconds.append(event.usage.seconds)
                if len(seconds) == 3:
                    await connection.send({"type": "session.close"})
            if event.type == "session.closed":
                seconds.append(event.usage.seconds)
                break
    assert seconds == [0.5, 2.0, 3.5, 3.5]
    (record, _) = await sim.records()
    assert (record.usage.seconds, record.object_id, record.ended) == (3.5, started.id, "complete")
    async with sim.session.ws_connect(f"{sim.url}/v1/live/sessions/{started.id}/attach", headers=sim.headers) as socket:
        await socket.receive_json()
        assert (await socket.receive_json())["usage"] == {"seconds": 3.5}


async def test_translations(sim: Simulation) -> None:
    url = f"{sim.url}/v1/realtime/translations?model=gpt-realtime-translate"
    async with sim.session.ws_connect(url, headers=sim.headers) as socket:
        assert (await socket.receive_json())["session"]["type"] == "translation"
        await socket.send_json({"type": "session.input_audio_buffer.append", "audio": sound(1.0)})
        kinds = [(await socket.receive_json())["type"] for _ in range(3)]
        assert kinds == [
            "session.input_transcript.delta",
            "session.output_transcript.delta",
            "session.output_audio.delta",
        ]
        await socket.send_json({"type": "session.close"})
        assert (await socket.receive_json())["type"] == "session.closed"
    (record, _) = await sim.records()
    assert (record.usage.seconds, record.usage_sent) == (1.0, False)
