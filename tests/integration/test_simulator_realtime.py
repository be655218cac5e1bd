"""The simulator's realtime WebSocket, through the official client; its events are looked at strictly."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

from gateway.simulator import tokens
from gateway.simulator.options import SimulatorOptions
from tests.unit.simulator.kit import KEY, Simulation, simulation

SECOND = 48_000  # bytes of 24 kHz PCM
CHECK: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.fixture
async def sim() -> AsyncIterator[Simulation]:
    async with simulation() as running:
        yield running


def sound(seconds: float, value: bytes = b"\x01") -> str:
    return base64.b64encode(value * int(SECOND * seconds)).decode()


async def until(connection: Any, kind: str) -> list[Any]:
    """The events up to the first of a kind, each looked at strictly."""
    events = []
    async for event in connection:
        CHECK.validate_python(event.model_dump(exclude_unset=True, by_alias=True))
        events.append(event)
        if event.type == kind:
            return events
    raise AssertionError(f"closed before {kind}: {[event.type for event in events]}")


async def ask(connection: Any, text: str) -> None:
    await connection.conversation.item.create(
        item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    )


async def use_text(connection: Any, **options: Any) -> None:
    await connection.session.update(session={"type": "realtime", "output_modalities": ["text"], **options})


async def test_a_conversation_in_text(sim: Simulation) -> None:
    async with sim.client().realtime.connect(model="gpt-realtime") as connection:
        first = await until(connection, "session.created")
        assert first[0].session.model == "gpt-realtime"
        await use_text(connection, instructions="Be brief.")
        assert (await until(connection, "session.updated"))[-1].session.output_modalities == ["text"]
        await ask(connection, "Hello!")
        added = await until(connection, "conversation.item.done")
        assert [event.type for event in added] == ["conversation.item.added", "conversation.item.done"]
        await connection.response.create()
        events = await until(connection, "response.done")
        assert [event.type for event in events if not event.type.endswith(".delta")] == [
            "response.created",
            "response.output_item.added",
            "conversation.item.added",
            "response.content_part.added",
            "response.output_text.done",
            "response.content_part.done",
            "conversation.item.done",
            "response.output_item.done",
            "response.done",
        ]
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        done = events[-1].response
        assert done.status == "completed"
        assert done.usage.output_tokens == tokens.count(text) == done.usage.output_token_details.text_tokens
        assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens
        assert (await until(connection, "rate_limits.updated"))[-1].rate_limits[0].name == "tokens"
    answer, connected = await sim.records()
    assert (answer.transport, answer.object_id, answer.ended) == ("websocket", done.id, "complete")
    assert (answer.usage.output_tokens, answer.output_tokens_sent) == (done.usage.output_tokens,) * 2
    assert answer.usage_sent
    assert (connected.operation, connected.status, connected.usage.total_tokens) == ("connectRealtime", 101, 0)


async def test_a_conversation_in_sound(sim: Simulation) -> None:
    async with sim.client().realtime.connect(model="gpt-realtime") as connection:
        await until(connection, "session.created")
        audio: Any = {"input": {"turn_detection": None, "transcription": {"model": "gpt-4o-transcribe"}}}
        await connection.session.update(session={"type": "realtime", "audio": audio})
        await until(connection, "session.updated")
        for _ in range(3):
            await connection.input_audio_buffer.append(audio=sound(1.0))
        await connection.input_audio_buffer.commit()
        committed = await until(connection, "conversation.item.input_audio_transcription.completed")
        assert committed[0].type == "input_audio_buffer.committed"
        assert committed[-1].usage.input_token_details.audio_tokens == 30
        assert committed[-1].usage.output_tokens == tokens.count(committed[-1].transcript) == 9
        await connection.response.create()
        events = await until(connection, "response.done")
        usage = events[-1].response.usage
        assert usage.input_token_details.audio_tokens == 30
        said = "".join(e.delta for e in events if e.type == "response.output_audio_transcript.delta")
        heard = sum(len(base64.b64decode(e.delta)) for e in events if e.type == "response.output_audio.delta")
        assert usage.output_token_details.text_tokens == tokens.count(said)
        assert usage.output_token_details.audio_tokens == 6 * tokens.count(said)
        assert heard == pytest.approx(SECOND * 0.3 * tokens.count(said), rel=0.01)
        await connection.response.create()
        again = (await until(connection, "response.done"))[-1].response.usage
        assert again.input_tokens > usage.input_tokens
    records = await sim.records()
    assert [(one.response_model, one.transport) for one in records[:3]] == [
        ("gpt-4o-transcribe", "websocket"),
        ("gpt-realtime", "websocket"),
        ("gpt-realtime", "websocket"),
    ]
    assert records[0].usage.seconds == 3.0


async def test_what_was_said_before_is_cached(sim: Simulation) -> None:
    async with sim.client().realtime.connect(model="gpt-realtime") as connection:
        await use_text(connection)
        cached = []
        for _ in range(2):
            await ask(connection, "word " * 200)
            await connection.response.create()
            done = (await until(connection, "response.done"))[-1].response
            cached.append(done.usage.input_token_details.cached_tokens)
        assert cached == [0, 192]


async def test_functions_are_called(sim: Simulation) -> None:
    async with sim.client().realtime.connect(model="gpt-realtime") as connection:
        await use_text(connection, tools=[TOOL])
        await ask(connection, "Weather?")
        await connection.response.create()
        events = await until(connection, "response.done")
        made = next(event for event in events if event.type == "response.function_call_arguments.done")
        assert json.loads(made.arguments).keys() == {"city"}
        await connection.conversation.item.create(
            item={"type": "function_call_output", "call_id": made.call_id, "output": "17"}
        )
        await connection.response.create()
        done = (await until(connection, "response.done"))[-1].response
        assert done.output[0].type == "message"


async def test_turns_are_detected(sim: Simulation) -> None:
    async with sim.client().realtime.connect(model="gpt-realtime") as connection:
        await use_text(connection)
        await connection.input_audio_buffer.append(audio=sound(0.4, b"\x00"))
        await connection.input_audio_buffer.append(audio=sound(1.0))
        for _ in range(3):
            await connection.input_audio_buffer.append(audio=sound(0.2, b"\x00"))
        events = await until(connection, "response.done")
        kinds = [event.type for event in events]
        started, stopped = (
            kinds.index("input_audio_buffer.speech_started"),
            kinds.index("input_audio_buffer.speech_stopped"),
        )
        assert started < stopped < kinds.index("input_audio_buffer.committed") < kinds.index("response.created")
        assert events[stopped].audio_end_ms == 1400
        await connection.input_audio_buffer.append(audio=sound(0.1))
        await connection.input_audio_buffer.clear()
        await until(connection, "input_audio_buffer.cleared")
        await connection.input_audio_buffer.commit()
        assert (await until(connection, "error"))[-1].error.code == "input_audio_buffer_commit_empty"


async def test_a_response_is_cancelled(sim: Simulation) -> None:
    async with sim.client().realtime.connect(model="gpt-realtime+tokens=900+pace=2ms") as connection:
        await use_text(connection)
        await connection.response.create()
        await until(connection, "response.output_text.delta")
        await connection.response.create()
        assert (await until(connection, "error"))[-1].error.code == "conversation_already_has_active_response"
        await connection.response.cancel()
        done = (await until(connection, "response.done"))[-1].response
        assert (done.status, done.status_details.reason) == ("cancelled", "client_cancelled")
        assert 0 < done.usage.output_tokens < 900
        await connection.response.cancel()
        assert (await until(connection, "error"))[-1].error.code == "response_cancel_not_active"
    record = (await sim.records())[0]
    assert record.usage.output_tokens == record.output_tokens_sent == done.usage.output_tokens


async def test_items_are_retrieved_truncated_and_deleted(sim: Simulation) -> None:
    async with sim.client().realtime.connect(model="gpt-realtime") as connection:
        await ask(connection, "Hello")
        item = (await until(connection, "conversation.item.done"))[-1].item
        await connection.conversation.item.retrieve(item_id=item.id)
        assert (await until(connection, "conversation.item.retrieved"))[-1].item == item
        await connection.conversation.item.truncate(item_id=item.id, content_index=0, audio_end_ms=5)
        await until(connection, "conversation.item.truncated")
        await connection.conversation.item.delete(item_id=item.id)
        await until(connection, "conversation.item.deleted")
        await connection.conversation.item.delete(item_id=item.id)
        assert (await until(connection, "error"))[-1].error.code == "item_not_found"
        await connection.send({"type": "nonsense"})  # type: ignore[arg-type]
        assert (await until(connection, "error"))[-1].error.param == "type"


async def test_limits_and_out_of_band_responses(sim: Simulation) -> None:
    async with sim.client().realtime.connect(model="gpt-realtime") as connection:
        await use_text(connection, max_output_tokens=5)
        await connection.response.create(response={"conversation": "none", "metadata": {"k": "v"}, "input": []})
        done = (await until(connection, "response.done"))[-1].response
        assert (done.status, done.status_details.reason) == ("incomplete", "max_output_tokens")
        assert (done.usage.output_tokens, done.metadata, done.conversation_id) == (5, {"k": "v"}, None)


async def test_transcription_sessions(sim: Simulation) -> None:
    secret = await sim.client().realtime.client_secrets.create(
        session={"type": "transcription", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}
    )
    assert secret.session.type == "transcription"
    client = sim.client().with_options(api_key=secret.value)
    async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        assert (await until(connection, "session.created"))[-1].session.type == "transcription"
        await connection.input_audio_buffer.append(audio=sound(2.0))
        await connection.input_audio_buffer.commit()
        done = (await until(connection, "conversation.item.input_audio_transcription.completed"))[-1]
        assert (done.usage.type, done.usage.seconds) == ("duration", 2.0)


async def test_client_secrets_are_keys() -> None:
    async with simulation(SimulatorOptions(keys=frozenset({KEY}))) as sim:
        secret = await sim.client().realtime.client_secrets.create(
            session={"type": "realtime", "model": "gpt-realtime", "instructions": "Sing."}
        )
        assert secret.value.startswith("ek_")
        async with sim.client().with_options(api_key=secret.value).realtime.connect() as connection:
            session = (await until(connection, "session.created"))[-1].session
            assert (session.model, session.instructions) == ("gpt-realtime", "Sing.")
        with pytest.raises(Exception, match="401"):
            async with sim.client().with_options(api_key="ek_wrong").realtime.connect(model="gpt-realtime"):
                pass
        status, _, made = await sim.post("/realtime/sessions", {"model": "gpt-4o-realtime-preview", "voice": "verse"})
        assert (status, made["voice"]) == (200, "verse")
        assert made["client_secret"]["value"].startswith("ek_")


async def test_a_browsers_handshake(sim: Simulation) -> None:
    url = f"{sim.url}/v1/realtime?model=gpt-realtime"
    protocols = ("realtime", f"openai-insecure-api-key.{KEY}")
    async with sim.session.ws_connect(url, protocols=protocols) as socket:
        assert socket.protocol == "realtime"
        assert (await socket.receive_json())["type"] == "session.created"
    for path, headers, status in (
        ("/realtime?model=gpt-realtime", {}, 401),
        ("/realtime?model=nope", sim.headers, 404),
        ("/realtime", sim.headers, 400),
        ("/realtime?model=gpt-realtime%2B503", sim.headers, 503),
        ("/nothing", sim.headers, 404),
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await sim.session.ws_connect(f"{sim.url}/v1{path}", headers=headers)
        assert caught.value.status == status
    async with sim.session.get(url, headers=sim.headers) as response:
        assert response.status == 426


async def test_cuts_stalls_and_leaving_clients(sim: Simulation) -> None:
    url = f"{sim.url}/v1/realtime?model=gpt-realtime%2Btokens=500"
    update = {"type": "session.update", "session": {"type": "realtime", "output_modalities": ["text"]}}
    for fault, ended in (("cut=6000", "cut"), ("stall=12", "client_left"), ("pace=3ms", "client_left")):
        headers = sim.headers | {"x-simulator-fault": fault}
        seen = 0
        async with sim.session.ws_connect(url, headers=headers) as socket:
            await socket.send_json(update)
            await socket.send_json({"type": "response.create"})
            while (message := await take(socket)) is not None:
                seen += len(message)
                if fault.startswith("pace") and seen > 3000:
                    break
        answer = next(one for one in reversed(await sim.records()) if one.transport == "websocket")
        assert (answer.ended, answer.usage.output_tokens) == (ended, 500)
        assert 0 < answer.output_tokens_sent < 500
        assert not answer.usage_sent


async def take(socket: aiohttp.ClientWebSocketResponse) -> str | None:
    try:
        message = await asyncio.wait_for(socket.receive(), 0.3)
    except TimeoutError:
        return None
    return str(message.data) if message.type == aiohttp.WSMsgType.TEXT else None


async def test_error_events(sim: Simulation) -> None:
    async with sim.client().realtime.connect(model="gpt-realtime+tokens=50+error_event=10") as connection:
        await use_text(connection)
        await connection.response.create()
        done = (await until(connection, "response.done"))[-1].response
        assert (done.status, done.usage.output_tokens) == ("failed", 10)
    assert (await sim.records())[0].ended == "error"


async def test_calls_answer_with_sdp(sim: Simulation) -> None:
    headers = sim.headers | {"content-type": "application/sdp"}
    async with sim.session.post(f"{sim.url}/v1/realtime/calls", data=b"v=0\r\n", headers=headers) as response:
        assert (response.status, response.content_type) == (201, "application/sdp")
        call_id = response.headers["location"].rpartition("/")[2]
        assert (await response.text()).startswith("v=0")
    await sim.client().realtime.calls.hangup(call_id)
    with pytest.raises(openai.NotFoundError):
        await sim.client().realtime.calls.hangup("rtc_unknown")
