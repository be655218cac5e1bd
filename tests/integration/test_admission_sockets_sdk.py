"""The official client's sockets under limits, in front of the simulator: what is reserved becomes what its book says."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from gateway.limits import RateLimit, SpendLimit
from tests.fakes.limited_sockets import Limited, limited
from tests.fakes.redis_servers import Server
from tests.fakes.worker import KEY
from tests.integration.test_metering_sockets import SECOND, agree, settled, sound, until
from tests.unit.simulator.kit import Simulation, simulation

PLENTY = (SpendLimit("day", 10**12), RateLimit("concurrent_requests", 50), RateLimit("tokens_per_minute", 10**8))


@pytest.fixture
async def sim() -> AsyncIterator[Simulation]:
    async with simulation() as running:
        yield running


@pytest.fixture
async def lim(sim: Simulation, valkey: Server, tmp_path: Path) -> AsyncIterator[Limited]:
    async with limited(f"{sim.url}/v1", valkey, tmp_path) as running:
        await running.limit(*PLENTY)
        yield running


@pytest.fixture
async def client(lim: Limited) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=lim.gw.url, api_key=KEY, max_retries=0, timeout=20) as made:
        yield made


async def exact(lim: Limited, sim: Simulation, number: int) -> None:
    """So many events agree with the book, and what is spent with them."""
    pairs = await settled(lim.gw, sim)
    assert len(pairs) == number
    for event, record in pairs:
        agree(event, record)
    await lim.settled()


async def test_responses(lim: Limited, sim: Simulation, client: AsyncOpenAI) -> None:
    async with client.responses.connect() as connection:
        for number in range(5):
            tools: Any = [{"type": "web_search"}] if number % 2 else []
            await connection.response.create(model="gpt-5-mini", input=f"Tell {number} jokes.", tools=tools)
            await until(connection, "response.completed")
        for lane in ("a", "b", "c"):
            asked: Any = {"model": "gpt-5-mini+tokens=200", "input": f"Tell {lane}.", "stream_id": lane}
            await connection.response.create(**asked)
        for _ in range(3):
            await until(connection, "response.completed")
        await lim.limit(RateLimit("requests_per_day", 0))
        await connection.response.create(model="gpt-5-mini", input="Hello")
        refusal: Any = await until(connection, "error")
        assert (refusal.status, refusal.error.code) == (429, "rate_limit_exceeded")
    await exact(lim, sim, 8)


async def test_realtime(lim: Limited, sim: Simulation, client: AsyncOpenAI) -> None:
    async with client.realtime.connect(model="gpt-realtime") as connection:
        audio: Any = {"input": {"turn_detection": None, "transcription": {"model": "gpt-4o-transcribe"}}}
        await connection.session.update(session={"type": "realtime", "audio": audio, "instructions": "Be brief."})
        for seconds in (2.0, 1.5):
            await connection.input_audio_buffer.append(audio=sound(seconds))
            await connection.input_audio_buffer.commit()
            await until(connection, "conversation.item.input_audio_transcription.completed")
            await connection.response.create()
            await until(connection, "response.done")
        await lim.limit(SpendLimit("total", 1))
        await connection.response.create(event_id="last")
        refusal = await until(connection, "error")
        assert (refusal.error.code, refusal.error.event_id) == ("project_spend_limit_exceeded", "last")
        assert refusal.error.type == "insufficient_quota"
    await exact(lim, sim, 4)


async def test_turn_detection_without_room(lim: Limited, sim: Simulation, client: AsyncOpenAI) -> None:
    """Somebody speaks, and is answered; speaks again, and is not; a while later there is room again."""
    quiet = base64.b64encode(bytes(SECOND)).decode()
    await lim.limit(*PLENTY, RateLimit("requests_per_minute", 30, burst=1))
    async with client.realtime.connect(model="gpt-realtime+tokens=400+pace=2ms") as connection:

        async def speak() -> None:
            await connection.input_audio_buffer.append(audio=sound(1.0))
            await connection.input_audio_buffer.append(audio=quiet)

        await speak()
        done = await until(connection, "response.done")
        assert done.response.status == "completed"
        await speak()
        assert (await until(connection, "error")).error.code == "rate_limit_exceeded"
        done = await until(connection, "response.done")
        assert done.response.status == "cancelled"
        await speak()  # is not heard
        await asyncio.sleep(2.5)
        await speak()
        done = await until(connection, "response.done")
        assert done.response.status == "completed"
    await exact(lim, sim, 3)


async def test_live_and_translation(lim: Limited, sim: Simulation, client: AsyncOpenAI) -> None:
    append: Any = {"type": "session.input_audio.append", "audio": sound(6)}
    close: Any = {"type": "session.close"}
    async with client.live.connect() as live:
        await live.send({"type": "session.start", "session": {"model": "gpt-live-1"}})
        for _ in range(4):
            await live.send(append)
        while (await until(live, "session.usage.updated")).usage.seconds < 24:
            pass
        assert len(lim.keys("r:*")) == 3
        await live.send(close)
        await until(live, "session.closed")
    async with client.realtime.translations.connect(model="gpt-realtime-translate") as translating:
        await translating.session.input_audio_buffer.append(audio=sound(2.5))
        await until(translating, "session.output_audio.delta")
        await translating.session.close()
        await until(translating, "session.closed")
    await lim.gw.lines(2)
    found = await lim.settled()
    assert [event.lines[0].quantities.duration_ms for event in found] == [24_000, 2500]
