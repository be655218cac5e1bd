"""How a gateway ends: what is in flight ends first, and nothing keeps it longer than it may."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import AUTH, HELLO, Gateway
from tests.fakes.redis_servers import eventually
from tests.fakes.streams import Stream

pytestmark = pytest.mark.alone  # it looks at what is under way in a moment of that
SLOW = "gpt-4o-mini+delay=3000ms"


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers=AUTH, timeout=aiohttp.ClientTimeout(30)) as session:
        yield session


async def call(gateway: Gateway, client: aiohttp.ClientSession, model: str) -> tuple[int, str]:
    body = {"model": model, "messages": list(HELLO)}
    async with client.post(f"{gateway.base_url}/chat/completions", json=body) as answer:
        return answer.status, await answer.text()


async def ended(gateway: Gateway, within_s: float = 20.0) -> int:
    assert gateway.process is not None
    process = gateway.process
    await eventually(lambda: process.poll() is not None, within_s=within_s)
    return process.returncode


async def refuses(gateway: Gateway, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return True
    writer.close()
    return False


def to_supervisor(gateway: Gateway) -> None:
    gateway.signal(signal.SIGTERM)


def to_foreground_group(gateway: Gateway) -> None:
    """What a terminal does at ^C."""
    os.killpg(os.getpgid(gateway.pid), signal.SIGINT)


@pytest.mark.parametrize("end", [to_supervisor, to_foreground_group])
async def test_what_is_in_flight_ends_first(
    start_gateway: StartGateway, client: aiohttp.ClientSession, end: Callable[[Gateway], None]
) -> None:
    gateway = start_gateway(timeouts={"drain_s": 10, "drain_idle_s": 0.5})
    port = gateway.port
    stream = await Stream(gateway, client).begun()
    calls = [asyncio.get_running_loop().create_task(call(gateway, client, SLOW)) for _ in range(8)]
    await eventually(lambda: gateway.metric("gateway_requests_in_flight") == 9)
    end(gateway)
    await eventually(lambda: refuses(gateway, port), within_s=2)
    assert gateway.readyz()[0] == 503, "the operations listener answers to the end"
    for status, text in await asyncio.gather(*calls):
        assert status == 200
        assert '"chat.completion"' in text
    await stream.leave()
    assert await ended(gateway) == 0
    assert gateway.events("stopped")
    assert not gateway.events("process_killed")
    assert not gateway.events("process_ended")


async def test_a_stream_gets_an_error_event_at_the_deadline(
    start_gateway: StartGateway, client: aiohttp.ClientSession
) -> None:
    gateway = start_gateway(timeouts={"drain_s": 1.5}, workers={"count": 1})
    stream = await Stream(gateway, client).begun()
    loop = asyncio.get_running_loop()
    began = loop.time()
    gateway.signal(signal.SIGTERM)
    await stream.ended()
    assert 1.4 < loop.time() - began < 4
    assert (stream.error["type"], stream.error["code"]) == ("service_unavailable_error", "server_is_shutting_down")
    assert stream.broke is not None, "a cut stream has no clean end"
    assert b"[DONE]" not in stream.data
    assert await ended(gateway) == 0


async def test_a_second_signal_hurries(start_gateway: StartGateway, client: aiohttp.ClientSession) -> None:
    gateway = start_gateway(timeouts={"drain_s": 60})
    streams = [await Stream(gateway, client).begun() for _ in range(4)]
    gateway.signal(signal.SIGINT)
    await eventually(lambda: gateway.events("stopping"))
    await eventually(lambda: gateway.metric("gateway_workers", state="draining") == 2)
    gateway.signal(signal.SIGINT)
    assert await ended(gateway, within_s=5) == 0
    await asyncio.gather(*(stream.ended() for stream in streams))
    assert all(stream.error["code"] == "server_is_shutting_down" for stream in streams)


async def test_idle_connections_do_not_keep_it(start_gateway: StartGateway) -> None:
    gateway = start_gateway(timeouts={"drain_s": 30, "drain_idle_s": 0.5})
    connections = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(5)]
    await eventually(lambda: gateway.metric("gateway_client_connections") == 5)
    gateway.signal(signal.SIGTERM)
    assert await ended(gateway, within_s=5) == 0
    for reader, writer in connections:
        assert await reader.read() == b"", "an end in order, not a reset"
        writer.close()


async def test_a_process_that_hangs_is_killed(start_gateway: StartGateway) -> None:
    """And a connection that it has not accepted is ended too, not held until somebody's patience ends."""
    gateway = start_gateway(timeouts={"drain_s": 0.5}, workers={"count": 1})
    worker = gateway.one("worker")
    gateway.signal(signal.SIGSTOP, worker)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
    gateway.signal(signal.SIGTERM)
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(reader.read(), 15)
    writer.close()
    assert await ended(gateway, within_s=15) == 0
    assert [line["child"] for line in gateway.events("process_killed")] == [worker]
