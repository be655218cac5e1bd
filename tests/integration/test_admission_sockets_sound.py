"""Limits on sockets that hear: responses that nobody asked for, and sessions that are admitted in pieces of sound."""

import asyncio
import base64
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.limits import RateLimit, SpendLimit
from tests.fakes.frames import switching
from tests.fakes.limited_sockets import limited
from tests.fakes.redis_servers import Server, eventually
from tests.fakes.socket_room import TOKENS, Room, Talk
from tests.fakes.upstream import upstream
from tests.unit.usage.sockets.kit import sound

ONE_A_SECOND = RateLimit("requests_per_minute", 60, burst=1)
ONE_AN_HOUR = RateLimit("requests_per_day", 24, burst=1)
SECOND = 48_000  # bytes of sound


@pytest.fixture
async def room(valkey: Server, tmp_path: Path) -> AsyncIterator[Room]:
    talk = Talk()
    async with upstream(switching(talk)) as up, limited(up, valkey, tmp_path) as lim:
        yield Room(lim, up, talk)


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
    assert room.lim.running() == ["c:p:proj_1"]
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


async def test_what_a_live_session_hands_to_others(room: Room) -> None:
    await room.lim.limit(SpendLimit("day", 10**12), ONE_AN_HOUR)
    await room.open("/v1/live/sessions")
    used: dict[str, Any] = {"id": "resp_1", "model": "gpt-5-mini", "status": "in_progress"}
    await room.talk.says("response.event", delegation_id="d_1", event={"type": "response.created", "response": used})
    await room.heard("response.event")
    await eventually(lambda: room.lim.keys("r:*") == [f"r:{room.request_id}/1"])
    done: dict[str, Any] = {"type": "response.completed", "response": {**used, "status": "completed", "usage": TOKENS}}
    await room.talk.says("response.event", delegation_id="d_1", event=done)
    await room.heard("response.event")
    await room.lim.settled()
    again = {"type": "response.created", "response": {**used, "id": "resp_2"}}
    await room.talk.says("response.event", delegation_id="d_2", event=again)
    await room.heard("response.event")
    await room.refused("rate_limit_exceeded")
    room.says("session.input_audio.append", audio=sound(9000))
    room.says("session.close")
    await room.talk.heard("session.close")
    done["response"]["id"] = "resp_2"
    await room.talk.says("response.event", delegation_id="d_2", event=done)
    await room.heard("response.event")
    assert len(await room.leave()) == 2


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


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_nothing_stays_reserved(room: Room, seed: int) -> None:
    """Requests, responses and refusals in any order: what is spent is what the events say, and nothing lives on."""
    choose = random.Random(seed)
    limits = (SpendLimit("day", 10**12), RateLimit("concurrent_requests", 3), RateLimit("requests_per_minute", 60, 20))
    await room.lim.limit(*limits)
    await room.realtime()
    begun: list[str] = []
    for number in range(80):
        match choose.randrange(7):
            case 0 | 1:
                room.says("response.create", event_id=f"mine_{number}")
            case 2:
                room.says("input_audio_buffer.append", audio=sound(choose.randrange(1, 9000)))
            case 3 | 4:
                begun.append(f"resp_{number}")
                await room.talk.begins(begun[-1])
            case 5 if begun:
                await room.talk.ends(
                    begun.pop(choose.randrange(len(begun))), status=choose.choice(["completed", "failed"])
                )
            case _:
                error = {"code": "invalid_value", "event_id": f"mine_{choose.randrange(number + 1)}"}
                await room.talk.says("error", error=error)
        if choose.random() < 0.3:
            await asyncio.sleep(0.01)
    if seed % 2:
        await room.lim.limit(RateLimit("requests_per_day", 0))
    ids = await room.leave()
    assert len(set(ids)) == len(ids) > 5
