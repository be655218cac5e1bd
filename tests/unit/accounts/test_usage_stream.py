"""Events into the stream, each once, and out again: against a real Valkey."""

import asyncio
from collections.abc import AsyncIterator

import hiredis
import msgspec
import pytest

from gateway.accounts.usage_stream import (
    CLAIM_S,
    MARKER_S,
    Entry,
    Outlet,
    Packed,
    Settlement,
    UsageStream,
    append_script,
    pack,
    settle_args,
    unpack,
)
from gateway.redisdb.client import Client, connect
from gateway.redisdb.command import Script
from gateway.redisdb.failures import RedisFailure, RedisReplyError
from tests.fakes.events import AT_US, KEYS, MINUTE, ORG, event, ids, packed, streamed
from tests.fakes.redis_servers import Server


@pytest.fixture
async def client(valkey: Server) -> AsyncIterator[Client]:
    client = connect(valkey.settings())
    yield client
    await client.aclose()


@pytest.fixture
def stream(client: Client) -> UsageStream:
    return UsageStream(client, KEYS, append_script())


async def test_what_goes_in_comes_out(stream: UsageStream, client: Client) -> None:
    given = [event(1), event("2/3", end_user='"\n\u2028é'), event(3, at_us=AT_US + 90_000_000)]
    assert await stream.append([pack(one) for one in given]) == 3
    found = [entry async for entry in Outlet(client, KEYS, ORG).entries()]
    assert [entry.event() for entry in found] == given
    assert [entry.id for entry in found] == [one.id for one in given]


async def test_each_once_however_often_and_in_whatever_order(stream: UsageStream, valkey: Server) -> None:
    assert await stream.append(packed(1, 2, 3)) == 3
    assert await stream.append(packed(1, 2, 3)) == 0
    assert await stream.append(packed(3, 4, 2, 4, 5)) == 2
    assert streamed(valkey) == ids(1, 2, 3, 4, 5)


async def test_many_at_once(stream: UsageStream, valkey: Server) -> None:
    await asyncio.gather(*(stream.append(packed(*range(first, first + 20))) for first in range(0, 100, 10)))
    found = streamed(valkey)
    assert len(found) == 110
    assert set(found) == set(ids(*range(110)))


async def test_ids_are_kept_by_the_events_own_minute_and_for_a_while(stream: UsageStream, valkey: Server) -> None:
    await stream.append([pack(event(1)), pack(event(2, at_us=AT_US + 60_000_000)), pack(event(3))])
    first, second = KEYS.usage_ids(ORG, MINUTE), KEYS.usage_ids(ORG, MINUTE + 1)
    assert set(valkey.command("SMEMBERS", first)) == {b"req_1", b"req_3"}
    assert valkey.command("SMEMBERS", second) == [b"req_2"]
    for key in (first, second):
        assert MARKER_S - 5 < valkey.command("TTL", key) <= MARKER_S
    valkey.command("EXPIRE", first, 5)
    await stream.append([pack(event(1))])
    assert valkey.command("TTL", first) > MARKER_S - 5


async def test_organizations_have_streams_of_their_own(stream: UsageStream, valkey: Server) -> None:
    await stream.append([pack(event(1, organization_id="org-a"))])
    await stream.append([pack(event(1, organization_id="org-b"))])
    assert streamed(valkey, "org-a") == streamed(valkey, "org-b") == ["req_1"]
    with pytest.raises(AssertionError):
        await stream.append([pack(event(1)), pack(event(2, organization_id="org-a"))])
    assert "{org-a}" in KEYS.usage("org-a")
    assert "{org-a}" in KEYS.usage_ids("org-a", 1)


async def test_what_the_stream_did_not_take_is_not_taken_for_appended(stream: UsageStream, valkey: Server) -> None:
    valkey.command("SET", KEYS.usage(ORG), "no stream")
    with pytest.raises(RedisReplyError, match="WRONGTYPE"):
        await stream.append(packed(1, 2))
    assert valkey.command("EXISTS", KEYS.usage_ids(ORG, MINUTE)) == 0
    valkey.command("DEL", KEYS.usage(ORG))
    assert await stream.append(packed(1, 2)) == 2
    assert streamed(valkey) == ids(1, 2)


async def test_a_server_without_room_takes_all_of_a_batch_or_nothing(stream: UsageStream, valkey: Server) -> None:
    valkey.command("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(RedisFailure):
            await stream.append(packed(1, 2))
    finally:
        valkey.command("CONFIG", "SET", "maxmemory", "0")
    assert streamed(valkey) == []
    assert await stream.append(packed(1, 2)) == 2


async def test_reading_goes_on_behind_a_position(stream: UsageStream, client: Client) -> None:
    await stream.append(packed(*range(10)))
    outlet = Outlet(client, KEYS, ORG)
    first = await outlet.read(most=4)
    then = await outlet.read(first[-1].position, 100)
    assert [entry.id for entry in first + then] == ids(*range(10))
    assert await outlet.read(then[-1].position) == []
    assert [entry.id async for entry in outlet.entries(first[-1].position)] == ids(*range(4, 10))


async def test_what_is_trimmed_is_gone_and_nothing_else(stream: UsageStream, client: Client) -> None:
    outlet = Outlet(client, KEYS, ORG)
    assert (await outlet.waiting(), await outlet.oldest_ms(), await outlet.newest()) == (0, None, "")
    await stream.append(packed(*range(10)))
    found = await outlet.read()
    assert await outlet.oldest_ms() == int(found[0].position.partition("-")[0])
    await outlet.trim(found[6].position)
    assert [entry.id for entry in await outlet.read()] == ids(7, 8, 9)
    await outlet.trim(found[9].position)
    assert (await outlet.waiting(), await outlet.newest()) == (0, found[9].position)


async def test_a_stream_is_claimed_for_a_while(client: Client, valkey: Server) -> None:
    outlet = Outlet(client, KEYS, ORG)
    assert await outlet.claim("one") == ""
    await client.execute("HSET", KEYS.versions(ORG), "epoch", "17")
    assert (await outlet.claim("one"), await outlet.claim("other")) == ("17", None)
    assert 0 < valkey.command("TTL", f"{KEYS.base(ORG)}:usage:ledger") <= CLAIM_S
    valkey.command("DEL", f"{KEYS.base(ORG)}:usage:ledger")
    assert (await outlet.claim("other"), await outlet.claim("one")) == ("17", None)


def test_events_of_another_version_travel_as_they_are() -> None:
    line = b'{"id":"req_1","new":{"a":[1]},"at_us":60000000,"organization_id":"org-x","lines":"of another kind"}'
    one = unpack(line)
    assert (one.id, one.organization_id, one.minute, one.json) == ("req_1", "org-x", 1, line)
    assert one.nano_usd == 0
    with pytest.raises(msgspec.MsgspecError):
        Entry("0-1", "req_1", line).event()


def test_what_was_spooled_still_knows_its_price() -> None:
    one = pack(event(1))
    assert one.nano_usd == 75_150
    assert unpack(one.json) == one
    assert (
        unpack(b'{"id":"r","at_us":1,"organization_id":"o","lines":[{},{"nano_usd":null},{"nano_usd":7}]}').nano_usd
        == 7
    )


@pytest.mark.parametrize("line", [b"", b"{", b"{}", b"\xff", b'{"id":"\xff","at_us":1,"organization_id":"o"}', b"[]"])
def test_what_is_no_event(line: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        unpack(line)


def test_a_packed_event_is_one_line() -> None:
    assert b"\n" not in pack(event(1, end_user="a\nb\r\n")).json
    with pytest.raises(ValueError):
        pack(event(1, end_user="\ud800"))


def test_the_script_is_valid_also_for_an_older_server(redis_server: Server) -> None:
    script: Script = append_script()

    def append(*ids: str, to: str = ORG) -> int:
        settlements = [Settlement(event=Packed(id, to, 1, b"{}", 5)) for id in ids]  # noqa: A001
        keys, args = settle_args(KEYS, settlements)
        found: int = redis_server.command("EVAL", script.source, len(keys), *keys, *args)
        return found

    assert append("a", "b") == 2
    assert append("b", "c") == 1
    assert redis_server.command("XLEN", KEYS.usage(ORG)) == 3
    redis_server.command("SET", KEYS.usage("org-other"), "no stream")
    with pytest.raises(hiredis.ReplyError, match="WRONGTYPE"):
        append("a", to="org-other")
