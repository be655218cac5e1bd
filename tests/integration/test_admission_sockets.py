"""Limits on WebSockets, with a real Redis: each response is admitted on its own, and nothing stays reserved."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from gateway.credentials import digest
from gateway.errors import INCORRECT_API_KEY
from gateway.limits import RateLimit, SpendLimit
from gateway.values import Checked
from tests.fakes.frames import CLOSE, TEXT, frame, read_frame, switching
from tests.fakes.limited_sockets import limited
from tests.fakes.redis_servers import Server, StartServer
from tests.fakes.socket_room import RESPONSES, Room, Talk
from tests.fakes.upstream import answer, saying, upstream
from tests.fakes.wire import soon, until
from tests.fakes.worker import KEY, PRINCIPAL
from tests.unit.usage.sockets.kit import sound

ONE_A_SECOND = RateLimit("requests_per_minute", 60, burst=1)
ONE_AN_HOUR = RateLimit("requests_per_day", 24, burst=1)
SECOND = 48_000  # bytes of sound


@pytest.fixture
async def room(valkey: Server, tmp_path: Path) -> AsyncIterator[Room]:
    talk = Talk()
    async with upstream(switching(talk)) as up, limited(up, valkey, tmp_path) as lim:
        yield Room(lim, up, talk)


async def test_a_realtime_response_is_reserved_and_settled(room: Room) -> None:
    await room.lim.limit(RateLimit("concurrent_requests", 5), SpendLimit("day", 10**12))
    await room.realtime()
    assert room.lim.living() == []  # the socket itself takes nothing
    room.says("response.create", event_id="mine")
    assert (await room.talk.heard("response.create"))["event_id"] == "mine"
    assert room.lim.keys("r:*") == [f"r:{room.request_id}/1"]
    assert room.lim.running() == ["c:p:proj_1"]
    held = (await room.lim.spent()).day
    assert held > 0
    await room.talk.begins("resp_1")
    await room.heard("response.created")
    await room.talk.ends("resp_1")
    await room.heard("response.done")
    (event,) = await room.lim.settled()  # while the socket is open
    assert event.id == f"{room.request_id}/1"
    assert event.lines[0].source == "reported"
    assert event.lines[0].nano_usd != held
    assert event.reserved is not None
    assert event.reserved.nano_usd == held
    assert event.limits == (
        Checked("concurrent_requests", "project", 5), Checked("spend.day", "project", 10**12)
    )  # fmt: skip
    assert [(one.attempt, one.upstream, one.status) for one in event.attempts] == [(1, "main", 101)]
    assert await room.leave() == ["1"]


async def test_a_realtime_response_is_refused(room: Room) -> None:
    await room.lim.limit(ONE_A_SECOND)
    await room.realtime()
    room.says("response.create")
    await room.talk.heard("response.create")
    room.says("response.create", event_id="second")
    error = (await room.refused("rate_limit_exceeded"))["error"]
    assert set(error) == {"message", "type", "param", "code", "event_id"}
    assert (error["type"], error["event_id"]) == ("requests", "second")
    assert "requests per min (RPM): Limit 60" in error["message"]
    assert "Please try again in" in error["message"]
    room.says("conversation.item.create", item={})
    await room.talk.heard("conversation.item.create")  # the socket stays, and the refused one did not go up
    await asyncio.sleep(1.05)
    room.says("response.create")
    await room.talk.heard("response.create")
    for number in (1, 2):
        await room.talk.begins(f"resp_{number}")
        await room.heard("response.created")
        await room.talk.ends(f"resp_{number}")
        await room.heard("response.done")
    assert await room.leave() == ["1", "3"]


async def test_responses_are_admitted_lane_by_lane(room: Room) -> None:
    await room.lim.limit(RateLimit("concurrent_requests", 1))
    await room.open(RESPONSES)
    room.says("response.create", model="gpt-5-mini", input="Hello", stream_id="a")
    await room.talk.heard("response.create")
    room.says("response.create", model="gpt-5-mini", input="Hello", stream_id="b")
    refusal = await room.refused("rate_limit_exceeded")
    assert (refusal["status"], refusal["stream_id"]) == (429, "b")
    assert set(refusal["error"]) == {"message", "type", "param", "code"}
    await room.talk.begins("resp_1", model="gpt-5-mini")
    await room.talk.ends("resp_1", "response.completed")
    await room.heard("response.created")
    await room.heard("response.completed")
    await room.lim.settled()
    room.says("response.create", model="gpt-5-mini", input="Hello", stream_id="b")
    await room.talk.heard("response.create")
    await room.talk.says("error", stream_id="b", status=400, error={"code": "invalid_value"})
    await room.heard("error")
    assert await room.leave() == ["1", "3"]


async def test_money_that_is_not_there(room: Room) -> None:
    await room.lim.limit(SpendLimit("total", 1))
    await room.open(RESPONSES)
    room.says("response.create", model="gpt-5-mini", input="Hello")
    refusal = await room.refused("project_spend_limit_exceeded")
    assert refusal["error"]["type"] == "insufficient_quota"
    assert await room.leave() == []
    assert (await room.lim.spent()).total == 0


async def test_what_bounds_a_response_in_strict_mode(room: Room) -> None:
    await room.lim.limit(RateLimit("tokens_per_minute", 1_000_000), reserve="strict")
    await room.open(RESPONSES)
    room.says("response.create", model="gpt-5-mini", input="x")  # by now the worker knows the limits
    await room.talk.heard("response.create")
    spent = (await room.lim.spent()).total
    room.says("response.create", model="gpt-5-mini", input="x" * 1000, max_output_tokens=7)
    await room.talk.heard("response.create")
    assert room.lim.buckets() == ["b:tokens_per_minute:p:proj_1"]
    spent = (await room.lim.spent()).total - spent
    assert 1000 * 250 < spent < 1200 * 250 + 7 * 2000
    before = (await room.lim.spent()).total
    room.says("response.create", model="gpt-5-mini", input="Hello", previous_response_id="resp_0")
    await room.talk.heard("response.create")
    assert (await room.lim.spent()).total - before >= 100_000 * 250  # all that it reads
    await room.leave()


@pytest.mark.parametrize("begun", [True, False])
async def test_what_is_under_way_when_the_socket_ends(room: Room, *, begun: bool) -> None:
    await room.lim.limit(RateLimit("concurrent_requests", 5), SpendLimit("day", 10**12))
    await room.realtime()
    for _ in range(3):
        room.says("response.create")
        await room.talk.heard("response.create")
    if begun:
        await room.talk.begins("resp_1")
        await room.heard("response.created")
    assert len(room.lim.keys("r:*")) == 3
    assert await room.leave() == ["1"]  # the others had not begun, and cost nothing


async def test_a_realtime_request_that_the_upstream_refuses(room: Room) -> None:
    await room.lim.limit(RateLimit("concurrent_requests", 5))
    await room.realtime()
    room.says("response.create", event_id="mine")
    await room.talk.heard("response.create")
    await room.talk.says("error", error={"code": "invalid_value", "event_id": "mine"})
    await room.heard("error")
    (event,) = await room.lim.settled()
    assert (event.id, event.lines) == (f"{room.request_id}/1", ())
    await room.leave()


async def test_models_are_checked(valkey: Server, tmp_path: Path) -> None:
    talk = Talk()
    routes = [{"models": ["gpt-realtime*", "gpt-5*", "whisper-1"], "upstreams": ["main"]},
              {"models": ["other-*"], "upstreams": ["second"]}, {"models": ["*"], "upstreams": ["main"]}]  # fmt: skip
    async with upstream(switching(talk)) as up, upstream(saying(answer())) as other:
        upstreams = {"main": {"base_url": up}, "second": {"base_url": other}}
        prices = {"unknown_model": "refuse"}
        async with limited(upstreams, valkey, tmp_path, routes=routes, prices=prices) as lim:
            room = Room(lim, up, talk)
            await room.realtime()
            for session, code in (
                ({"model": "other-1"}, "model_not_found"),
                ({"model": "nobody-knows-it"}, "model_not_allowed"),
                ({"audio": {"input": {"transcription": {"model": "other-2"}}}}, "model_not_found"),
                ({"input_audio_transcription": {"model": "nobody-knows-it"}}, "model_not_allowed"),
            ):
                room.says("session.update", event_id="ours", session=session)
                assert (await room.refused(code))["error"]["event_id"] == "ours"
            room.says("response.create", response={"model": "nobody-knows-it"})
            await room.refused("model_not_allowed")
            fine = {"model": "gpt-realtime-mini", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}
            room.says("session.update", session=fine)
            await room.talk.heard("session.update")
            await room.leave()


async def test_models_of_responses_are_checked(room: Room) -> None:
    await room.open(RESPONSES)
    both = b'{"type":"response.create","model":"gpt-5-mini","model":"gpt-5","input":"x"}'
    room.client.send(frame(TEXT, both, mask=True))
    await room.refused("duplicate_member")
    room.says("response.create", model=5, input="x")
    await room.refused("invalid_type")
    assert await room.leave() == []


async def test_messages_in_disguise(room: Room) -> None:
    """What another reader might take for a request for a response is none that passes unseen."""
    await room.lim.limit(ONE_AN_HOUR)
    await room.realtime()
    room.says("response.create", binary=True)
    await room.talk.heard("response.create")
    await room.talk.begins("resp_1")
    await room.heard("response.created")
    await room.talk.ends("resp_1")
    await room.heard("response.done")
    long = sound(10_000).encode()
    for data, code in (
        (b'{"type":"response.create","type":"x"}', "duplicate_member"),
        (b'{"type":"x","t\\u0079pe":"response.create"} ', "rate_limit_exceeded"),
        (b'{"t\\u0079pe":"response.create","type":"x"} ', "duplicate_member"),
        (b'{"type":"response\\u002ecreate"}', "rate_limit_exceeded"),
        (b'{"type":"input_audio_buffer.append","audio":"%b","type":"response.create"}' % long, "rate_limit_exceeded"),
        (b'{"type":"input_audio_buffer.append","type":"response.create","audio":"%b"}' % long, "rate_limit_exceeded"),
        (b'{"type":"response.create","response":{"instructions":"\\ud83d"}}', "rate_limit_exceeded"),
        (b'{"type":"response.create",}', None),
    ):
        room.client.send(frame(TEXT, data, mask=True))
        assert (await room.heard("error"))["error"]["code"] == code, data
    text = "Say response.create, \\u0061nd session.update."
    room.says("conversation.item.create", item={"content": [{"text": text}]})
    await room.talk.heard("conversation.item.create")
    assert await room.leave() == ["1"]


async def test_a_key_that_is_gone_ends_the_socket(room: Room) -> None:
    await room.open(RESPONSES)
    del room.lim.gw.keys.known[digest(KEY)]
    room.lim.gw.worker.keys.invalidate(digest(KEY))  # and the message for open sockets is late
    room.says("response.create", model="gpt-5-mini", input="x")
    assert (await room.heard("error"))["error"]["code"] == INCORRECT_API_KEY.code
    assert (await soon(read_frame(room.client))).kind == CLOSE
    await until(lambda: room.lim.gw.worker._websockets.open == 0)
    assert await room.leave() == []


async def test_a_key_whose_record_has_changed(room: Room) -> None:
    """The socket goes on under the newer record, without having heard of the change."""
    keys, known = room.lim.gw.keys, room.lim.gw.keys.known
    known[digest(KEY)] = msgspec.structs.replace(PRINCIPAL, version=3)
    await room.open(RESPONSES)
    known[digest(KEY)] = msgspec.structs.replace(PRINCIPAL, version=4)
    await room.lim.key_version(4)
    asked = len(keys.asked)
    room.says("response.create", model="gpt-5-mini", input="x")
    await room.talk.heard("response.create")
    assert len(keys.asked) == asked + 1
    await room.leave()


async def test_redis_is_away(start_server: StartServer, tmp_path: Path) -> None:
    talk = Talk()
    server = start_server()
    async with (
        upstream(switching(talk)) as up,
        limited(up, server, tmp_path, deadline_ms=500, limits={"when_redis_is_away": {"spend": "closed"}}) as lim,
    ):
        await lim.limit(SpendLimit("day", 10**12))
        room = Room(lim, up, talk)
        await room.realtime()
        room.says("response.create")
        await talk.heard("response.create")
        server.kill()
        room.says("response.create", event_id="second")
        assert (await room.refused("limit_check_unavailable"))["error"]["event_id"] == "second"
        await talk.begins("resp_1")
        await room.heard("response.created")
        await talk.ends("resp_1")
        await room.heard("response.done")
        room.client.close()
        await lim.gw.lines()
