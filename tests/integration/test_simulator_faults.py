"""Faults happen on the wire: looked at through bare sockets."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from gateway.simulator.options import SimulatorOptions
from tests.unit.simulator.kit import KEY, Simulation, simulation

HELLO: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture
async def sim() -> AsyncIterator[Simulation]:
    async with simulation() as running:
        yield running


class Answer:
    """What came over a socket until it closed. reset: whether it ended in a TCP reset."""

    def __init__(self, data: bytes, reset: bool, seconds: float) -> None:
        self.data, self.reset, self.seconds = data, reset, seconds
        self.head, _, self.body = data.partition(b"\r\n\r\n")

    def chunks(self) -> list[bytes]:
        found, rest = [], self.body
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            if not int(size, 16):
                break
            found.append(rest[: int(size, 16)])
            rest = rest[int(size, 16) + 2 :]
        return found


async def send(sim: Simulation, fault: str, *, stream: bool = False, wait_s: float = 5.0) -> Answer:
    """One request with `connection: close`, and all bytes of its answer."""
    body = json.dumps({"model": "gpt-4o", "messages": HELLO, "stream": stream, "max_tokens": 40}).encode()
    host, _, port = sim.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %b\r\nx-simulator-fault: %b\r\ncontent-length: %d\r\n\r\n%b"
        % (KEY.encode(), fault.encode(), len(body), body)
    )
    data, reset, began = b"", False, time.perf_counter()
    try:
        async with asyncio.timeout(wait_s):
            while piece := await reader.read(65536):
                data += piece
    except ConnectionResetError:
        reset = True
    except TimeoutError:
        pass
    writer.close()
    return Answer(data, reset, time.perf_counter() - began)


async def test_without_faults(sim: Simulation) -> None:
    answer = await send(sim, "")
    assert answer.head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert json.loads(answer.body)["usage"]["completion_tokens"] == 40
    record = await sim.last()
    assert (record.ended, record.bytes_sent, record.faults) == ("complete", len(answer.body), ())


async def test_delay(sim: Simulation) -> None:
    assert (await send(sim, "delay=150ms")).seconds >= 0.15


async def test_pace(sim: Simulation) -> None:
    answer = await send(sim, "pace=4ms,chunks=20", stream=True)
    assert answer.seconds >= 0.08
    assert answer.chunks()[-1] == b"data: [DONE]\n\n"


async def test_drip(sim: Simulation) -> None:
    answer = await send(sim, "drip=100:5ms")
    assert answer.seconds >= len(answer.body) // 100 * 0.005
    assert json.loads(answer.body)
    streamed = await send(sim, "drip=50:0,chunks=3", stream=True)
    assert max(map(len, streamed.chunks())) == 50
    assert b"".join(streamed.chunks()).endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("size", [0, 1, 200])
async def test_cut(sim: Simulation, size: int) -> None:
    answer = await send(sim, f"cut={size}")
    assert b"content-length: " in answer.head.lower()
    assert len(answer.body) == size
    record = await sim.last()
    assert (record.ended, record.bytes_sent, record.output_tokens_sent) == ("cut", size, 0)
    assert record.usage.output_tokens == 40
    assert not record.usage_sent


async def test_a_cut_stream_has_no_end(sim: Simulation) -> None:
    answer = await send(sim, "cut=1500", stream=True)
    assert sum(map(len, answer.chunks())) == 1500
    assert not answer.body.endswith(b"0\r\n\r\n")
    record = await sim.last()
    whole = b"".join(answer.chunks()).count(b"\n\n")
    assert (record.ended, record.events_sent, record.output_tokens_sent) == ("cut", whole, whole - 1)


async def test_a_cut_beyond_the_end_does_not_happen(sim: Simulation) -> None:
    answer = await send(sim, "cut=100000")
    assert json.loads(answer.body)
    assert (await sim.last()).ended == "complete"


async def test_reset(sim: Simulation) -> None:
    answer = await send(sim, "reset=100")
    assert answer.reset
    assert len(answer.body) <= 100
    assert (await sim.last()).ended == "cut"


async def test_no_head(sim: Simulation) -> None:
    assert (await send(sim, "cut_head")).data == b""
    record = await sim.last()
    assert (record.ended, record.status, record.usage.total_tokens) == ("cut", None, 0)


async def test_malformed(sim: Simulation) -> None:
    answer = await send(sim, "malformed")
    assert answer.data.startswith(b"HTTP/1.1 2OO")


async def test_malformed_json(sim: Simulation) -> None:
    answer = await send(sim, "malformed_json")
    assert answer.head.startswith(b"HTTP/1.1 200")
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.body)
    streamed = b"".join((await send(sim, "malformed_json", stream=True)).chunks()).split(b"\n\n")
    json.loads(streamed[1][6:])
    with pytest.raises(json.JSONDecodeError):
        json.loads(streamed[2][6:])


async def test_stall(sim: Simulation) -> None:
    answer = await send(sim, "stall=3", stream=True, wait_s=0.2)
    assert len(answer.chunks()) == 3
    record = await sim.last()
    assert (record.ended, record.events_sent, record.output_tokens_sent) == ("client_left", 3, 2)
    assert len((await send(sim, "stall=10", wait_s=0.2)).body) == 10
    assert (await send(sim, "stall", wait_s=0.2)).body == b""
    assert (await sim.last()).ended == "client_left"


async def test_statuses(sim: Simulation) -> None:
    for spec, status, retry_after in (
        ("status=429", 429, "1"), ("503", 503, "1"), ("500", 500, None), ("429, retry_after=7", 429, "7"),
        ("429, retry_after=0", 429, None), ("401", 401, None), ("502", 502, None), ("418", 418, None),
    ):  # fmt: skip
        got, head, body = await sim.post("/chat/completions", {"model": "gpt-4o"}, x_simulator_fault=spec)
        assert (got, head.get("retry-after")) == (status, retry_after)
        assert body["error"].keys() == {"message", "type", "param", "code"}
        record = await sim.last()
        assert (record.ended, record.status) == ("refused" if status < 500 else "error", status)
    with pytest.raises(openai.RateLimitError) as caught:
        await sim.client().chat.completions.create(model="gpt-4o+status=429", messages=HELLO)
    assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "requests")


async def test_a_share_of_requests_fails() -> None:
    async with simulation(SimulatorOptions(seed=5)) as sim:
        body = {"model": "gpt-4o+500@0.3", "messages": HELLO, "max_tokens": 1}
        first = [(await sim.post("/chat/completions", body))[0] for _ in range(60)]
        assert 5 <= first.count(500) <= 30
        async with sim.session.post(f"{sim.url}/_simulator/reset") as response:
            assert response.status == 200
        assert [(await sim.post("/chat/completions", body))[0] for _ in range(60)] == first


async def test_huge(sim: Simulation) -> None:
    answer = await send(sim, "huge=3")
    assert len(answer.body) == 3 << 20
    assert json.loads(answer.body)["usage"]["completion_tokens"] == 40
    streamed = b"".join((await send(sim, "huge=2", stream=True)).chunks()).split(b"\n\n")
    assert len(streamed[0]) == (2 << 20) + len(b"data: ")
    assert json.loads(streamed[0][6:])["object"] == "chat.completion.chunk"


async def test_gzip(sim: Simulation) -> None:
    answer = await send(sim, "gzip")
    assert b"content-encoding: gzip" in answer.head.lower()
    assert json.loads(gzip.decompress(b"".join(answer.chunks())))["object"] == "chat.completion"
    streamed = await send(sim, "gzip", stream=True)
    assert gzip.decompress(b"".join(streamed.chunks())).endswith(b"data: [DONE]\n\n")


async def test_chunks_and_tokens(sim: Simulation) -> None:
    client = sim.client()
    for specs, contents, count in (("chunks=7", 7, None), ("chunks=300", 300, None), ("tokens=123", 123, 123),
                                   ("tokens=10+chunks=3", 3, 10)):  # fmt: skip
        stream: Any = await client.chat.completions.create(
            model=f"gpt-4o+{specs}", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) == contents
        assert chunks[0].model == "gpt-4o-2024-08-06"
        assert count is None or chunks[-1].usage.completion_tokens == count
    for model in ("gpt-4o", "o3"):
        for options in ({}, {"tools": [{"type": "function", "function": {"name": "f"}}]}):
            named: Any = options
            answer = await client.chat.completions.create(model=f"{model}+tokens=500", messages=HELLO, **named)
            assert answer.usage is not None
            assert answer.usage.completion_tokens == 500
            assert answer.choices[0].finish_reason in {"stop", "tool_calls"}


async def test_error_events(sim: Simulation) -> None:
    client = sim.client()
    for specs, contents in (("tokens=20+error_event", 10), ("tokens=20+error_event=4", 4)):
        stream: Any = await client.chat.completions.create(model=f"gpt-4o+{specs}", messages=HELLO, stream=True)
        seen: list[Any] = []
        with pytest.raises(openai.APIError) as caught:
            await read(stream, seen)
        assert sum(bool(chunk.choices[0].delta.content) for chunk in seen) == contents
        assert caught.value.type == "server_error"
        record = await sim.last()
        assert (record.ended, record.output_tokens_sent, record.usage.output_tokens) == ("error", contents, 20)


async def test_no_usage(sim: Simulation) -> None:
    answer = await sim.client().chat.completions.create(model="gpt-4o+no_usage", messages=HELLO)
    assert answer.usage is None
    streamed = await send(sim, "no_usage", stream=True)
    assert b'"usage":{' not in streamed.body
    assert not (await sim.last()).usage_sent


async def test_unknown_faults_are_named(sim: Simulation) -> None:
    for body, fault in (({"model": "gpt-4o+foo=1", "messages": HELLO}, ""), ({"model": "gpt-4o"}, "foo=1")):
        status, _, answer = await sim.post("/chat/completions", body, x_simulator_fault=fault)
        assert status == 400
        assert answer["error"]["message"] == "Unknown fault 'foo=1'."


async def test_faults_without_a_model(sim: Simulation) -> None:
    async with sim.session.get(f"{sim.url}/v1/models", headers=sim.headers | {"x-simulator-fault": "503"}) as response:
        assert response.status == 503


async def read(stream: Any, into: list[Any]) -> None:
    async for chunk in stream:
        into.append(chunk)  # noqa: PERF401 - what came before an error counts
