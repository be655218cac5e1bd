"""Records of refusals, on a real server."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
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


async def test_ten_of_a_minute_are_told_whoever_tells_them(client: Client) -> None:
    """Two workers, of which each hands on ten at most."""
    one, other = Refusals(client, KEYS), Refusals(client, KEYS)
    await one.append([refusal(n) for n in range(4)])
    await other.append([refusal(n) for n in range(10, 20)])
    await one.append([refusal(20)])
    await one.append([msgspec.structs.replace(refusal(30), request_id="", model="", count=7)])
    found = (await one.newest(ORG))[::-1]
    assert [(told.request_id, told.count) for told in found] == [
        *((f"req_{n}", 1) for n in range(4)),
        *((f"req_{n}", 1) for n in range(10, 16)),
        ("", 4),
        ("", 1),
        ("", 7),
    ]
    assert all(told.model == "" for told in found if not told.request_id)


@pytest.mark.parametrize("other", [
    {"at_us": AT_US + 60_000_000}, {"key_id": "key_2"}, {"limit": "spend.day"}, {"scope": "key"}, {"subject": "proj_2"}, {"shadow": True},
    {"organization_id": "org-b"},
])  # fmt: skip
async def test_others_are_told_apart(client: Client, other: dict[str, Any]) -> None:
    refusals = Refusals(client, KEYS)
    await refusals.append([refusal(n) for n in range(11)])
    second = [msgspec.structs.replace(refusal(n), **other) for n in range(10)]
    await refusals.append(second)
    assert (await refusals.newest(second[0].organization_id, 10))[::-1] == second


async def test_what_was_told_is_forgotten(valkey: Server, client: Client) -> None:
    await Refusals(client, KEYS).append([refusal(0)])
    assert 60 < valkey.command("TTL", KEYS.refusals_told(ORG, AT_US // 60_000_000)) <= 300


async def test_old_ones_go(monkeypatch: pytest.MonkeyPatch, valkey: Server, client: Client) -> None:
    monkeypatch.setattr(module, "_MOST_KEPT", 100)
    refusals = Refusals(client, KEYS)
    for start in range(0, 1000, 100):  # of a key each, so that all are told
        await refusals.append([
            msgspec.structs.replace(refusal(n), key_id=f"key_{n}") for n in range(start, start + 100)
        ])  # fmt: skip
    assert 100 <= valkey.command("XLEN", KEYS.refusals(ORG)) <= 300, "whole nodes of the stream go"
    assert (await refusals.newest(ORG, 1))[0].request_id == "req_999"


async def test_a_server_that_is_away(valkey: Server) -> None:
    client = connect(Server(valkey.binary, valkey.folder / "none", []).settings())
    with pytest.raises(RedisFailure):
        await Refusals(client, KEYS).append([refusal(1)])
    await client.aclose()
