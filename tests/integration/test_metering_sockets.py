"""The official client's sockets in front of the simulator: the events say what the simulator's book says, to the token."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import AsyncOpenAI

from gateway.simulator.book import Record
from gateway.values import UsageEvent
from tests.fakes.worker import KEY, Gateway, gateway
from tests.unit.simulator.kit import Simulation, simulation

NAMES = (
    "input_tokens", "cached_tokens", "cached_audio_tokens", "input_audio_tokens", "output_tokens", "reasoning_tokens",
    "output_audio_tokens", "web_searches", "file_searches",
)  # fmt: skip
SECOND = 48_000  # bytes


@pytest.fixture
async def sim() -> AsyncIterator[Simulation]:
    async with simulation() as running:
        yield running


@pytest.fixture
async def gw(sim: Simulation) -> AsyncIterator[Gateway]:
    async with gateway(f"{sim.url}/v1") as running:
        yield running


@pytest.fixture
async def client(gw: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=gw.url, api_key=KEY, max_retries=0, timeout=20) as made:
        yield made


def sound(seconds: float) -> str:
    return base64.b64encode(b"\x01" * int(SECOND * seconds)).decode()


async def until(connection: Any, kind: str) -> Any:
    async for event in connection:
        if event.type == kind:
            return event
    raise AssertionError(f"closed before {kind}")


async def settled(gw: Gateway, sim: Simulation) -> list[tuple[UsageEvent, Record]]:
    """Each event with the book's record of the same object."""
    await gw.lines()
    records = [record for record in await sim.records() if record.transport == "websocket" and record.object_id]
    events = {event.lines[0].object_id: event for event in gw.events if event.lines}
    assert set(events) == {record.object_id for record in records}
    assert len(events) == len([event for event in gw.events if event.lines])
    return [(events[record.object_id], record) for record in records if record.object_id]


def agree(event: UsageEvent, record: Record) -> None:
    for name in NAMES:
        assert sum(getattr(line.quantities, name) for line in event.lines) == getattr(record.usage, name), name
    assert event.lines[0].response_model == record.response_model
    assert {line.source for line in event.lines} == {"reported"}


async def test_responses(gw: Gateway, sim: Simulation, client: AsyncOpenAI) -> None:
    async with client.responses.connect() as connection:
        for number in range(6):
            tools: Any = [{"type": "web_search"}] if number % 2 else []
            await connection.response.create(model="gpt-5-mini", input=f"Tell {number} jokes.", tools=tools)
            await until(connection, "response.completed")
        for lane in ("a", "b", "c"):
            asked: Any = {"model": "gpt-5-mini+tokens=200", "input": f"Tell {lane}.", "stream_id": lane}
            await connection.response.create(**asked)
        for _ in range(3):
            await until(connection, "response.completed")
        await connection.response.create(model="nobody-knows-it", input="Hello")
        await until(connection, "error")
    pairs = await settled(gw, sim)
    assert len(pairs) == 9
    for event, record in pairs:
        agree(event, record)
        assert event.lines[0].request_model == record.request_model
    assert sorted(event.id.rpartition("/")[2] for event in gw.events) == sorted(map(str, range(1, 11)))
    assert sum(not event.lines for event in gw.events) == 1


async def test_realtime(gw: Gateway, sim: Simulation, client: AsyncOpenAI) -> None:
    async with client.realtime.connect(model="gpt-realtime") as connection:
        audio: Any = {"input": {"turn_detection": None, "transcription": {"model": "gpt-4o-transcribe"}}}
        await connection.session.update(session={"type": "realtime", "audio": audio, "instructions": "Be brief."})
        for seconds in (2.0, 1.5):
            await connection.input_audio_buffer.append(audio=sound(seconds))
            await connection.input_audio_buffer.commit()
            await until(connection, "conversation.item.input_audio_transcription.completed")
            await connection.response.create()
            await until(connection, "response.done")
    pairs = await settled(gw, sim)
    assert [event.category for event, _ in pairs].count("audio_transcriptions") == 2
    assert len(pairs) == 4
    for event, record in pairs:
        agree(event, record)
        if event.category == "audio_transcriptions":
            assert event.lines[0].quantities.duration_ms == round(record.usage.seconds * 1000)


async def test_realtime_with_turn_detection_and_interruptions(
    gw: Gateway, sim: Simulation, client: AsyncOpenAI
) -> None:
    """Responses that nobody asked for, one of them interrupted."""
    quiet = base64.b64encode(bytes(SECOND)).decode()
    async with client.realtime.connect(model="gpt-realtime+tokens=900+pace=1ms") as connection:
        await connection.input_audio_buffer.append(audio=sound(1.0))
        await connection.input_audio_buffer.append(audio=quiet)
        await until(connection, "response.output_audio.delta")
        await connection.input_audio_buffer.append(audio=sound(1.0))
        done = await until(connection, "response.done")
        assert done.response.status == "cancelled"
    pairs = await settled(gw, sim)
    assert len(pairs) == 1
    agree(*pairs[0])


async def test_a_client_that_leaves_is_charged_about_what_was_served(
    gw: Gateway, sim: Simulation, client: AsyncOpenAI
) -> None:
    async with client.realtime.connect(model="gpt-realtime+tokens=900+pace=2ms") as connection:
        audio: Any = {"input": {"turn_detection": None}}
        await connection.session.update(session={"type": "realtime", "audio": audio})
        await connection.input_audio_buffer.append(audio=sound(3.0))
        await connection.input_audio_buffer.commit()
        await connection.response.create()
        for _ in range(10):
            await until(connection, "response.output_audio.delta")
    ((event, record),) = await settled(gw, sim)
    (line,) = event.lines
    assert (event.ended, record.ended, line.source) == ("client_left", "client_left", "estimated")
    assert line.quantities.input_audio_tokens == record.usage.input_audio_tokens == 30
    assert 0.5 <= line.quantities.output_tokens / record.output_tokens_sent <= 2


async def test_live_and_translation(gw: Gateway, sim: Simulation, client: AsyncOpenAI) -> None:
    append: Any = {"type": "session.input_audio.append", "audio": sound(1.25)}
    close: Any = {"type": "session.close"}
    async with client.live.connect() as live:
        await live.send({"type": "session.start", "session": {"model": "gpt-live-1"}})
        for _ in range(3):
            await live.send(append)
        while (await until(live, "session.usage.updated")).usage.seconds < 3.75:
            pass
        await live.send(close)
        await until(live, "session.closed")
    async with client.realtime.translations.connect(model="gpt-realtime-translate") as translating:
        await translating.session.input_audio_buffer.append(audio=sound(2.5))
        await until(translating, "session.output_audio.delta")
        await translating.session.close()
        await until(translating, "session.closed")
    await gw.lines(2)
    pairs = await settled(gw, sim)
    assert [(event.operation, event.ended) for event, _ in pairs] == [
        ("connectLiveSession", "complete"), ("connectRealtimeTranslation", "complete"),
    ]  # fmt: skip
    for event, record in pairs:
        assert event.lines[0].quantities.duration_ms == round(record.usage.seconds * 1000)
        assert event.lines[0].nano_usd
