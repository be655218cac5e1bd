"""A worker that is killed while Redis is away: what it had sent upstream is charged all the same."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.fakes.events import KEYS
from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import KEY
from tests.fakes.kept_events import events_so_far
from tests.fakes.redis_servers import VALKEY, StartServer, eventually
from tests.unit.simulator.kit import Simulation

SLOW = "gpt-4o-mini+pace=100ms+tokens=400"


@pytest.mark.parametrize("others", [0, 5], ids=["alone", "after others that ended"])
async def test_calls_that_run_without_redis_outlive_their_worker(
    start_gateway: StartGateway, start_server: StartServer, simulator_url: str, others: int
) -> None:
    server = start_server(VALKEY, "--appendonly", "yes", "--appendfsync", "always")
    gateway = start_gateway(redis={"url": server.url, "prefix": KEYS.prefix}, workers={"count": 1})
    url, headers = f"{gateway.base_url}/chat/completions", {"authorization": f"Bearer {KEY}"}
    spool = Path(gateway.data_dir) / "spool"

    async with aiohttp.ClientSession(headers=headers) as session:
        book = Simulation(simulator_url, session)
        before = len(await book.records())

        async def ended() -> None:
            async with session.post(url, json=body("gpt-4o-mini")) as response:
                assert response.status == 200
                await response.read()

        await ended()
        await asyncio.to_thread(server.kill)
        for _ in range(others):
            await ended()
        async with session.post(url, json=body(SLOW, stream=True, max_tokens=500)) as running:
            await running.content.readline()
            if others:
                await eventually(lambda: list(spool.glob("[0-9]*/*.jsonl")))
            assert list(spool.glob("intents-*/*.jsonl"))
            await asyncio.to_thread(gateway.kill, "worker")
            with pytest.raises(aiohttp.ClientError):
                await running.read()
        await asyncio.to_thread(server.start)
        await eventually(lambda: len(events_so_far(server, gateway)) >= others + 2, within_s=30)
        await eventually(lambda: not list(spool.iterdir()), within_s=30)
        records = (await book.records())[before:]
    found = events_so_far(server, gateway)
    assert [event.id for event in found] == sorted(str(record.incoming_request_id) for record in records), "each once"
    (lost,) = (event for event in found if event.unconfirmed)
    assert lost.lines[0].request_model == SLOW
    assert lost.lines[0].quantities.output_tokens == 500, "as it was reserved"
    assert lost.at_us > 0
    assert all(event.lines[0].source == "reported" for event in found if event is not lost)


def body(model: str, **more: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "Hello!"}], **more}
