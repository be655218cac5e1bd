"""Records of refusals, on a real server."""

from collections.abc import AsyncIterator

import pytest

from gateway.accounts import refusals as module
from gateway.accounts.refusals import Refusal, Refusals
from gateway.redisdb.client import Client, connect
from gateway.redisdb.failures import RedisFailure
from tests.fakes.events import AT_US, KEYS, ORG
from tests.fakes.redis_servers import Server


@pytest.fixture
async def client(valkey: Server) -> AsyncIterator[Client]:
    client = connect(valkey.settings())
    yield client
    await client.aclose()


def refusal(number: int, organization_id: str = ORG) -> Refusal:
    return Refusal(
        at_us=AT_US + number,
        organization_id=organization_id,
        project_id="proj_1",
        user_id="user_1",
        key_id="key_1",
        limit="spend.month",
        scope="project",
        subject="proj_1",
        model='a "model"',
        request_id=f"req_{number}",
    )


async def test_what_is_recorded_can_be_read_the_newest_first(valkey: Server, client: Client) -> None:
    refusals = Refusals(client, KEYS)
    await refusals.append([])
    assert valkey.command("EXISTS", KEYS.refusals(ORG)) == 0
    await refusals.append([refusal(n) for n in range(5)] + [refusal(9, "org-b")])
    assert await refusals.newest(ORG, 3) == [refusal(4), refusal(3), refusal(2)]
    assert await refusals.newest("org-b") == [refusal(9, "org-b")]
    assert await refusals.newest("org-c") == []
    assert valkey.command("EXISTS", KEYS.usage(ORG)) == 0, "they are no usage"


async def test_old_ones_go(monkeypatch: pytest.MonkeyPatch, valkey: Server, client: Client) -> None:
    monkeypatch.setattr(module, "_MOST_KEPT", 100)
    refusals = Refusals(client, KEYS)
    for start in range(0, 1000, 100):
        await refusals.append([refusal(n) for n in range(start, start + 100)])
    assert 100 <= valkey.command("XLEN", KEYS.refusals(ORG)) <= 300, "whole nodes of the stream go"
    assert (await refusals.newest(ORG, 1))[0].request_id == "req_999"


async def test_a_server_that_is_away(valkey: Server) -> None:
    client = connect(Server(valkey.binary, valkey.folder / "none", []).settings())
    with pytest.raises(RedisFailure):
        await Refusals(client, KEYS).append([refusal(1)])
    await client.aclose()
