"""What is trimmed, against a real Valkey."""

from collections.abc import AsyncIterator

import pytest
import structlog

from gateway.clock import SystemClock
from gateway.control.jobs import usage_trimmer as module
from gateway.control.jobs.usage_trimmer import UsageTrimmer
from gateway.redisdb.client import Client, connect
from gateway.tasks import Tasks
from tests.fakes.events import KEYS, ORG
from tests.fakes.redis_servers import Server, StartServer, eventually

KEY = KEYS.usage(ORG)
HOUR_AGO_MS = int((SystemClock.wall() - 3600) * 1000)


@pytest.fixture
async def client(valkey: Server) -> AsyncIterator[Client]:
    client = connect(valkey.settings())
    yield client
    await client.aclose()


def trimmer(client: Client) -> UsageTrimmer:
    return UsageTrimmer(client, KEYS, ORG, SystemClock(), structlog.get_logger())


def fill(server: Server, number: int, at_ms: int) -> None:
    for n in range(number):
        server.command("XADD", KEY, f"{at_ms}-{n + 1}", "id", f"{at_ms}-{n}", "e", "{}")


async def test_the_old_go_and_the_young_stay(valkey: Server, client: Client) -> None:
    fill(valkey, 300, HOUR_AGO_MS)
    fill(valkey, 10, int(SystemClock.wall() * 1000))
    assert await trimmer(client).trim() == 300
    assert valkey.command("XLEN", KEY) == 10
    assert await trimmer(client).trim() == 0


async def test_too_many_go(valkey: Server, client: Client) -> None:
    fill(valkey, 1000, int(SystemClock.wall() * 1000))
    assert await trimmer(client).trim(most=100) >= 800
    assert 100 <= valkey.command("XLEN", KEY) <= 200


async def test_no_stream_is_no_trouble_and_is_not_made(valkey: Server, client: Client) -> None:
    assert await trimmer(client).trim() == 0
    assert valkey.command("EXISTS", KEY) == 0


async def test_it_goes_on_after_redis_was_away(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_EVERY_S", 0.01)
    server, tasks = start_server(start=False), Tasks()
    client = connect(server.settings())
    task = tasks.spawn(trimmer(client).keep_trimmed(), "trim")
    try:
        server.start()
        fill(server, 300, HOUR_AGO_MS)
        await eventually(lambda: server.command("XLEN", KEY) == 0)
        server.command("SET", KEY, "no stream")
        await eventually(lambda: "usage_not_trimmed" in capsys.readouterr().out)
        server.command("DEL", KEY)
        fill(server, 300, HOUR_AGO_MS)
        await eventually(lambda: server.command("XLEN", KEY) == 0)
        assert not task.done()
        assert "usage_not_trimmed" not in capsys.readouterr().out
    finally:
        await tasks.cancel()
        await client.aclose()
