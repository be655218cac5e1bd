"""How much later a chunk arrives because of the gateway: 100 streams at once, each chunk timed from write to read."""

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import KEY
from tests.fakes.measuring import Size
from tests.proofs.test_memory import head
from tests.proofs.upstreams import SSE_HEAD, upstream

pytestmark = [pytest.mark.proof, pytest.mark.timeout(1500)]
STREAMS = 100
INTERVAL_S = 0.1


async def one_stream(port: int, chunks: int, started: asyncio.Event) -> list[float]:
    """Delays of a stream's chunks, seconds; each chunk says when it was written."""
    body = b'{"model":"gpt-4o-mini","stream":true,"messages":[]}'
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await started.wait()
    writer.write(head("POST", "/v1/chat/completions", len(body), key=KEY, content_type="application/json") + body)
    await reader.readuntil(b"\r\n\r\n")
    delays = []
    for _ in range(chunks):
        line = await reader.readuntil(b"\n\n")
        delays.append(time.perf_counter() - float(line.rpartition(b"data: ")[2]))
    writer.close()
    return delays


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(len(values) * share)]


async def test_added_delay(start_gateway: StartGateway, size: Size, measured: Callable[..., None]) -> None:
    chunks = size(small=30, full=600)
    phases = itertools.count()  # streams write at different moments, as those of different clients do

    async def paced(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _head: bytes) -> None:
        writer.write(SSE_HEAD)
        due = asyncio.get_running_loop().time() + next(phases) % STREAMS / STREAMS * INTERVAL_S
        for _ in range(chunks):
            due += INTERVAL_S
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            event = b"data: %.9f\n\n" % time.perf_counter()
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async with upstream(paced) as url:
        settings: dict[str, Any] = {"workers": {"count": 1}, "upstreams": {"simulator": {"base_url": f"{url}/v1"}}}
        gateway = start_gateway(**settings)
        results = {}
        for name, port in (("directly", int(url.rpartition(":")[2])), ("through the gateway", gateway.port)):
            started = asyncio.Event()
            streams = [asyncio.create_task(one_stream(port, chunks, started)) for _ in range(STREAMS)]
            started.set()
            results[name] = [delay * 1000 for delays in await asyncio.gather(*streams) for delay in delays]
        for name, delays in results.items():
            measured(f"a chunk's way {name}, p50 of {len(delays)}", quantile(delays, 0.5), "ms")
            measured(f"a chunk's way {name}, p99", quantile(delays, 0.99), "ms")
        added = quantile(results["through the gateway"], 0.99) - quantile(results["directly"], 0.99)
        measured("added delay, p99", added, "ms", "< 5 ms")
        assert added < 5
