"""Live sessions over WebSockets, and what the REST side does with sessions and calls. Media themselves pass by."""

import base64
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.compat.conftest import Make

OFFER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
SESSION: Any = {"model": "gpt-live-1"}
START: Any = {"type": "session.start", "session": SESSION}
HALF_A_SECOND: Any = {"type": "session.input_audio.append", "audio": base64.b64encode(b"\x01" * 24_000).decode()}
CLOSE: Any = {"type": "session.close"}
WEBRTC: Any = {"type": "webrtc", "sdp": OFFER}


async def talk(connection: Any) -> list[Any]:
    """A session of half a second → its events."""
    await connection.send(START)
    await connection.send(HALF_A_SECOND)
    events = []
    async for event in connection:
        events.append(event)
        if event.type == "session.usage.updated":
            assert event.usage.seconds == 0.5
            await connection.send(CLOSE)
        if event.type == "session.closed":
            break
    return events


async def test_a_session_its_observer_and_its_fork(client: AsyncOpenAI) -> None:
    async with client.live.connect() as connection:
        events = await talk(connection)
    assert events[0].type == "session.started"
    session = events[0].session.id
    async with client.live.sideband.connect(session_id=session) as beside:
        first: Any = await beside.recv()
        assert (first.type, first.session.id) == ("session.started", session)
    async with client.live.forks.connect(session_id=session) as fork:
        assert (await talk(fork))[-1].type == "session.closed"


async def test_sessions_over_rest(make: Make) -> None:
    client = make(_strict_response_validation=False)  # of sessions over WebRTC the simulator knows the least
    made = await client.live.create(session=SESSION, transport=WEBRTC)
    session = made.session.id
    sessions = client.live.sessions
    await sessions.accept(session, session=SESSION)
    assert (await sessions.fork(session, transport=WEBRTC)).session.id != session
    assert (await sessions.download_recording(session)).content
    await sessions.refer(session, target_uri="tel:+4712345678")
    await sessions.reject(session, status_code=486)
    await sessions.hangup(session)
    with pytest.raises(openai.NotFoundError):
        await sessions.hangup("sess_unknown")


async def test_calls(client: AsyncOpenAI) -> None:
    answer = await client.realtime.calls.create(sdp=OFFER, session={"type": "realtime", "model": "gpt-realtime"})
    assert answer.response.headers["content-type"] == "application/sdp"
    assert answer.text.startswith("v=0")
    call = answer.response.headers["location"].rpartition("/")[2]
    calls = client.realtime.calls
    await calls.accept(call, type="realtime", model="gpt-realtime")
    await calls.refer(call, target_uri="tel:+4712345678")
    await calls.reject(call, status_code=486)
    await calls.hangup(call)
    with pytest.raises(openai.NotFoundError):
        await calls.hangup("rtc_unknown")
