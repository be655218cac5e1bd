"""The book has everything, also what the client did not wait for."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.simulator.app import make_app
from gateway.simulator.options import Latency, SimulatorOptions
from tests.unit.simulator.kit import KEY, Simulation, simulation

HELLO: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture
async def sim() -> AsyncIterator[Simulation]:
    async with simulation() as running:
        yield running


async def test_a_record_names_both_sides(sim: Simulation) -> None:
    raw = await sim.client(default_headers={"x-request-id": "gw-1", "x-client-request-id": "mine"}).chat.completions.with_raw_response.create(
        model="gpt-4o+pace=0", messages=HELLO
    )  # fmt: skip
    record = await sim.last()
    assert record.request_id == raw.headers["x-request-id"]
    assert (record.incoming_request_id, record.client_request_id) == ("gw-1", "mine")
    assert record.key == hashlib.sha256(KEY.encode()).hexdigest()[:12]
    assert (record.operation, record.method, record.path) == ("createChatCompletion", "POST", "/v1/chat/completions")
    assert (record.request_model, record.response_model) == ("gpt-4o+pace=0", "gpt-4o-2024-08-06")
    assert (record.status, record.stream, record.batch, record.ended) == (200, False, False, "complete")
    answer = raw.parse()
    assert record.object_id == answer.id
    assert answer.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (
        answer.usage.prompt_tokens,
        answer.usage.completion_tokens,
    )
    assert record.usage_sent
    assert record.output_tokens_sent == record.usage.output_tokens
    assert record.ended_at >= record.started_at


async def test_clients_that_leave_are_in_the_book(sim: Simulation) -> None:
    client = sim.client()
    for leave_after in (1, 5, 20):
        stream: Any = await client.chat.completions.create(
            model="gpt-4o+pace=2ms+tokens=400", messages=HELLO, stream=True
        )
        seen = 0
        async for chunk in stream:
            seen += bool(chunk.choices[0].delta.content)
            if seen == leave_after:
                break
        await stream.close()
        record = await sim.last()
        assert record.ended == "client_left"
        assert leave_after <= record.output_tokens_sent < 400
        assert record.usage.output_tokens == 400
        assert not record.usage_sent


async def test_clients_that_leave_before_an_answer_are_in_the_book(sim: Simulation) -> None:
    asked = asyncio.ensure_future(sim.client().chat.completions.create(model="gpt-4o+delay=20s", messages=HELLO))
    while not await in_flight(sim):
        await asyncio.sleep(0)
    asked.cancel()
    record = await sim.last()
    assert (record.ended, record.status, record.usage.total_tokens) == ("client_left", None, 0)


async def test_clients_that_leave_within_their_own_body_are_in_the_book(sim: Simulation) -> None:
    host, _, port = sim.url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n"
        b"authorization: Bearer %b\r\n\r\n{" % KEY.encode()
    )
    while not await in_flight(sim):
        await asyncio.sleep(0)
    writer.close()
    assert (await sim.last()).ended == "client_left"


async def in_flight(sim: Simulation) -> int:
    async with sim.session.get(f"{sim.url}/_simulator/stats") as response:
        return int((await response.json())["in_flight"])


async def test_many_requests_are_all_there_exactly_once(sim: Simulation) -> None:
    body = json.dumps({"model": "gpt-4o+tokens=5", "messages": HELLO}).encode()

    async def some(number: int) -> list[str]:
        ids = []
        for _ in range(number):
            async with sim.session.post(f"{sim.url}/v1/chat/completions", data=body, headers=sim.headers) as response:
                assert response.status == 200
                ids.append(response.headers["x-request-id"])
                await response.read()
        return ids

    ids = [made for part in await asyncio.gather(*(some(100) for _ in range(20))) for made in part]
    records = await sim.records()
    assert [record.sequence for record in records] == list(range(1, 2001))
    assert {record.request_id for record in records} == set(ids)
    assert sum(record.usage.output_tokens for record in records) == 10_000
    async with sim.session.get(f"{sim.url}/_simulator/stats") as response:
        stats = await response.json()
    assert (stats["records"], stats["usage"]["output_tokens"], stats["in_flight"]) == (2000, 10_000, 0)


async def test_the_own_paths(sim: Simulation) -> None:
    async with sim.session.get(f"{sim.url}/_simulator/health") as response:
        assert await response.json() == {"status": "ok"}
    await sim.client().models.list()
    async with sim.session.post(f"{sim.url}/_simulator/reset") as response:
        assert response.status == 200
    assert await sim.records() == []
    async with sim.session.get(f"{sim.url}/_simulator/served?since=x") as response:
        assert response.status == 400


async def test_a_reset_ends_what_runs_in_the_background(sim: Simulation) -> None:
    answer = await sim.client().responses.create(model="gpt-4o+pace=1s", input="Work.", background=True)
    async with sim.session.post(f"{sim.url}/_simulator/reset") as response:
        assert response.status == 200
    assert await sim.records() == []
    async with sim.session.get(f"{sim.url}/v1/responses/{answer.id}", headers=sim.headers) as response:
        assert response.status == 404


async def test_a_server_that_does_not_cancel_handlers_notices_leaving_clients_too() -> None:
    runner = web.AppRunner(make_app(), handler_cancellation=False)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession() as session:
        sim = Simulation(url, session)
        for fault in ("stall=3", "pace=5ms,tokens=400"):
            headers = sim.headers | {"x-simulator-fault": fault}
            body = {"model": "gpt-4o", "messages": HELLO, "stream": True}
            async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as response:
                await response.content.readline()
                response.close()
            assert (await sim.last()).ended == "client_left"
    await runner.cleanup()


async def test_answers_take_their_time_if_told_so() -> None:
    async with simulation(SimulatorOptions(latency=Latency(0.05, 0.002))) as sim:
        for body in ({}, {"stream": True}):
            asked: Any = {"model": "gpt-4o+tokens=30", "messages": HELLO} | body
            async with sim.session.post(f"{sim.url}/v1/chat/completions", json=asked, headers=sim.headers) as response:
                await response.read()
            record = await sim.last()
            assert record.ended_at - record.started_at >= 0.05 + 30 * 0.002
