"""Limits on WebSockets, with a real Redis: each response is admitted on its own, and nothing stays reserved."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.credentials import digest
from gateway.errors import INCORRECT_API_KEY
from gateway.limits import RateLimit, SpendLimit
from tests.fakes.frames import BINARY, CLOSE, TEXT, frame, opened, read_frame, switching
from tests.fakes.limited import Limited, limited
from tests.fakes.redis_servers import Server, StartServer, eventually
from tests.fakes.upstream import Exchange, Upstream, answer, saying, upstream
from tests.fakes.wire import soon, until
from tests.fakes.worker import KEY, PRINCIPAL, Client
from tests.unit.usage.sockets.kit import encoded, sound

RESPONSES = "/v1/responses"
REALTIME = "/v1/realtime?model=gpt-realtime"
ONE_A_SECOND = RateLimit("requests_per_minute", 60, burst=1)
ONE_AN_HOUR = RateLimit("requests_per_day", 24, burst=1)
TOKENS = {"input_tokens": 11, "output_tokens": 5, "total_tokens": 16}
SECOND = 48_000  # bytes of sound


class Talk:
    """An upstream's socket, played by hand."""

    def __init__(self) -> None:
        self._exchange: asyncio.Future[Exchange] = asyncio.get_running_loop().create_future()

    async def __call__(self, exchange: Exchange) -> None:
        self._exchange.set_result(exchange)
        await exchange.gone()

    async def heard(self, kind: str) -> dict[str, Any]:
        """What has come next, which is of this type."""
        exchange = await soon(self._exchange)
        found: dict[str, Any] = json.loads((await soon(read_frame(exchange.wire))).data)
        assert found["type"] == kind
        return found

    async def says(self, kind: str, **members: Any) -> None:
        (await soon(self._exchange)).wire.send(frame(TEXT, encoded({"type": kind, **members})))

    async def begins(self, response_id: str, **members: Any) -> None:
        await self.says("response.created", response={"id": response_id, "status": "in_progress", **members})

    async def ends(self, response_id: str, kind: str = "response.done", status: str = "completed") -> None:
        await self.says(kind, response={"id": response_id, "status": status, "output": [], "usage": TOKENS})


class Room:
    """A worker with limits, the upstream behind it, and a client's socket between them."""

    def __init__(self, lim: Limited, up: Upstream, talk: Talk) -> None:
        self.lim, self.up, self.talk = lim, up, talk
        self.client: Client
        self.request_id = ""

    async def open(self, target: str) -> None:
        self.client = await opened(self.lim.gw, target)
        self.request_id = (self.up.last.header(b"x-request-id") or b"").decode()

    def says(self, kind: str, *, binary: bool = False, **members: Any) -> None:
        data = encoded({"type": kind, **members})
        self.client.send(frame(BINARY if binary else TEXT, data, mask=True))

    async def heard(self, kind: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((await soon(read_frame(self.client))).data)
        assert found["type"] == kind, found
        return found

    async def refused(self, code: str) -> dict[str, Any]:
        found = await self.heard("error")
        assert found["error"]["code"] == code
        return found

    async def leave(self) -> list[str]:
        """The client goes; ids of all events, without the request's."""
        self.client.close()
        await self.lim.gw.lines()
        found = await self.lim.settled()
        assert {event.id.rpartition("/")[0] for event in found} <= {self.request_id}
        return [event.id.rpartition("/")[2] for event in found]

    async def realtime(self) -> None:
        await self.open(REALTIME)
        await self.talk.says("session.created", session={"type": "realtime", "model": "gpt-realtime"})
        await self.heard("session.created")


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
    assert room.lim.keys("c:*") == ["c:p:proj_1"]
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
    assert room.lim.keys("b:*") == ["b:tokens_per_minute:p:proj_1"]
    spent = (await room.lim.spent()).total - spent
    assert 1000 * 250 < spent < 1200 * 250 + 7 * 2000
    before = (await room.lim.spent()).total
    room.says("response.create", model="gpt-5-mini", input="Hello", previous_response_id="resp_0")
    await room.talk.heard("response.create")
    assert (await room.lim.spent()).total - before >= 100_000 * 250  # all that it reads
    await room.leave()


async def test_a_response_that_nobody_asked_for(room: Room) -> None:
    await room.lim.limit(ONE_A_SECOND, SpendLimit("day", 10**12))
    await room.realtime()
    await room.talk.begins("resp_1")
    await room.heard("response.created")
    await eventually(lambda: room.lim.keys("r:*") == [f"r:{room.request_id}/1"])
    await room.talk.ends("resp_1")
    await room.heard("response.done")
    (event,) = await room.lim.settled()
    assert event.id == f"{room.request_id}/1"
    await room.leave()


async def test_sound_is_refused_until_there_is_room(room: Room) -> None:
    await room.lim.limit(RateLimit("requests_per_minute", 30, burst=1))
    await room.realtime()
    append: dict[str, Any] = {"audio": sound(2400)}
    room.says("input_audio_buffer.append", **append)
    await room.talk.heard("input_audio_buffer.append")
    room.says("response.create")
    await room.talk.heard("response.create")
    await room.talk.begins("resp_1")
    await room.heard("response.created")
    await room.talk.begins("resp_2")  # of what the server has heard
    await room.heard("response.created")
    refusal = await room.refused("rate_limit_exceeded")
    assert refusal["error"]["event_id"] is None
    cancel = await room.talk.heard("response.cancel")
    assert (cancel["response_id"], set(cancel)) == ("resp_2", {"type", "event_id", "response_id"})
    for _ in range(5):
        room.says("input_audio_buffer.append", audio=sound(60_000))
    room.says("input_audio_buffer.clear")
    await room.talk.heard("input_audio_buffer.clear")  # none of the others went up
    await room.talk.ends("resp_2", status="cancelled")
    await room.heard("response.done")
    await room.talk.ends("resp_1")
    await room.heard("response.done")
    await asyncio.sleep(1.05)
    room.says("input_audio_buffer.append", **append)
    again = await room.refused("rate_limit_exceeded")  # one in a second
    assert again["event_id"] != refusal["event_id"]
    await asyncio.sleep(1.1)
    room.says("input_audio_buffer.append", **append)
    await room.talk.heard("input_audio_buffer.append")
    await eventually(lambda: not room.lim.living())
    await room.talk.begins("resp_3")  # what was tried has been given back
    await room.heard("response.created")
    await room.talk.ends("resp_3")
    await room.heard("response.done")
    assert len(await room.leave()) == 3


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


async def test_a_translation_is_reserved_in_pieces(room: Room) -> None:
    await room.lim.limit(SpendLimit("day", 10**12), RateLimit("concurrent_requests", 1), ONE_AN_HOUR)
    await room.open("/v1/realtime/translations?model=gpt-realtime-translate")
    kind, four = "session.input_audio_buffer.append", base64.b64encode(b"\x01" * 4 * SECOND).decode()
    spent = []
    for _ in range(6):
        room.says(kind, audio=four)
        await room.talk.heard(kind)
        spent.append((await room.lim.spent()).day)
    piece = spent[0]
    assert spent == [piece, piece, 2 * piece, 2 * piece, 2 * piece, 3 * piece]
    assert piece > 0
    assert len(room.lim.keys("r:*")) == 3
    assert room.lim.keys("c:*") == ["c:p:proj_1"]
    await room.lim.limit(SpendLimit("day", 3 * piece + 1))
    room.says(kind, audio=four)
    await room.talk.heard(kind)
    room.says(kind, audio=four)
    await room.refused("project_spend_limit_exceeded")
    room.says(kind, audio=four)
    room.says("session.close")
    await room.talk.heard("session.close")
    await room.talk.says("session.closed")
    await room.heard("session.closed")
    (event,) = await room.lim.settled()
    assert event.id == f"{room.request_id}/1"
    assert event.lines[0].quantities.duration_ms == 28_000
    assert await room.leave() == ["1"]


async def test_a_live_session_that_ends_early(room: Room) -> None:
    await room.lim.limit(SpendLimit("day", 10**12), RateLimit("concurrent_requests", 1))
    await room.open("/v1/live/sessions")
    room.says("session.start", session={"model": "gpt-live-1"})
    await room.talk.heard("session.start")
    for seconds in (25, 1):
        room.says("session.input_audio.append", audio=sound(seconds * SECOND))
        await room.talk.heard("session.input_audio.append")
    assert len(room.lim.keys("r:*")) == 3
    await room.talk.says("session.usage.updated", usage={"seconds": 31})
    await room.heard("session.usage.updated")
    await eventually(lambda: len(room.lim.keys("r:*")) == 4)
    assert await room.leave() == ["1"]
    assert room.lim.gw.events[0].lines[0].quantities.duration_ms == 31_000


async def test_a_session_that_only_writes_down_what_it_hears(room: Room) -> None:
    await room.lim.limit(SpendLimit("day", 10**12), RateLimit("concurrent_requests", 2))
    await room.open("/v1/realtime?intent=transcription")
    audio = {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}
    await room.talk.says("session.created", session={"type": "transcription", "audio": audio})
    await room.heard("session.created")
    done = "conversation.item.input_audio_transcription.completed"
    for number in range(2):
        room.says("input_audio_buffer.append", audio=sound(12 * SECOND))
        await room.talk.heard("input_audio_buffer.append")
        assert room.lim.keys("r:*")
        await room.talk.says("input_audio_buffer.committed", item_id=f"item_{number}")
        await room.heard("input_audio_buffer.committed")
        usage = {"type": "tokens", "input_tokens": 120, "output_tokens": 20, "total_tokens": 140}
        await room.talk.says(done, item_id=f"item_{number}", transcript="So it is.", usage=usage)
        await room.heard(done)
    assert [event.category for event in room.lim.gw.events] == ["audio_transcriptions"] * 2
    ids = await room.leave()
    assert len(ids) == len(set(ids)) == 2


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
        limited(up, server, tmp_path, limits={"when_redis_is_away": {"spend": "closed"}}) as lim,
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
