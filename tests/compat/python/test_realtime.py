"""Realtime over WebSockets, with keys in the header and in the subprotocol; sessions and client secrets."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import websockets
from openai import AsyncOpenAI
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from tests.compat.conftest import Make
from tests.compat.stand import Gate
from tests.fakes.tls_front import OPENSSL, Certificate, self_signed, tls_front

SECOND = 48_000  # bytes of 24 kHz PCM


def sound(seconds: float, value: bytes = b"\x01") -> str:
    return base64.b64encode(value * int(SECOND * seconds)).decode()


async def until(connection: Any, kind: str) -> list[Any]:
    """The events up to the first of a kind."""
    events = []
    async for event in connection:
        events.append(event)
        if event.type == kind:
            return events
    raise AssertionError(f"closed before {kind}: {[event.type for event in events]}")


async def talk(connection: Any) -> Any:
    """One question and its answer in text → the response."""
    await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
    await connection.conversation.item.create(
        item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello!"}]}
    )
    await connection.response.create()
    events = await until(connection, "response.done")
    assert any(event.type == "response.output_text.delta" for event in events)
    return events[-1].response


async def test_a_conversation_in_text(client: AsyncOpenAI) -> None:
    async with client.realtime.connect(model="gpt-realtime") as connection:
        first: Any = await connection.recv()
        assert (first.type, first.session.model) == ("session.created", "gpt-realtime")
        answer = await talk(connection)
        assert (answer.status, answer.usage.total_tokens > 0) == ("completed", True)


async def test_a_conversation_in_sound(client: AsyncOpenAI) -> None:
    async with client.realtime.connect(model="gpt-realtime") as connection:
        audio: Any = {"input": {"turn_detection": None, "transcription": {"model": "gpt-4o-transcribe"}}}
        await connection.session.update(session={"type": "realtime", "audio": audio})
        await connection.input_audio_buffer.append(audio=sound(20.0))  # a message of more than a megabyte
        await connection.input_audio_buffer.commit()
        done = (await until(connection, "conversation.item.input_audio_transcription.completed"))[-1]
        assert done.usage.input_token_details.audio_tokens == 200
        await connection.response.create()
        events = await until(connection, "response.done")
    heard = sum(len(base64.b64decode(e.delta)) for e in events if e.type == "response.output_audio.delta")
    assert heard > SECOND


async def test_a_response_is_cancelled(client: AsyncOpenAI) -> None:
    async with client.realtime.connect(model="gpt-realtime+tokens=900+pace=2ms") as connection:
        await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        await connection.response.create()
        await until(connection, "response.output_text.delta")
        await connection.response.cancel()
        assert (await until(connection, "response.done"))[-1].response.status == "cancelled"


async def test_refused_handshakes_say_why(make: Make) -> None:
    for model, key, status, code in (
        ("gpt-realtime", "sk-gw-wrong-key-000000000000000000", 401, "invalid_api_key"),
        ("nope", None, 404, "model_not_found"),
        ("gpt-realtime+503", None, 503, "server_is_overloaded"),
    ):
        client = make(**({"api_key": key} if key else {}))
        with pytest.raises(InvalidStatus) as caught:
            async with client.realtime.connect(model=model):
                pass
        response = caught.value.response
        assert response.status_code == status
        assert json.loads(response.body)["error"]["code"] == code
        assert response.headers["x-request-id"].startswith("req_")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_sessions_and_client_secrets(client: AsyncOpenAI, make: Make) -> None:
    session = await client.beta.realtime.sessions.create(model="gpt-4o-realtime-preview", voice="verse")
    assert session.client_secret.value.startswith("ek_")
    transcription = await client.beta.realtime.transcription_sessions.create()
    assert transcription.client_secret.value.startswith("ek_")
    secret = await client.realtime.client_secrets.create(session={"type": "realtime", "model": "gpt-realtime"})
    assert secret.value.startswith("ek_")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    if OPENSSL is None:
        pytest.skip("needs openssl on PATH")
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def secure_url(gate: Gate, certificate: Certificate) -> AsyncIterator[str]:
    """The gateway behind TLS."""
    async with tls_front(certificate, gate.url) as url:
        yield f"{url}/v1"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_both_clients_behind_tls(make: Make, secure_url: str, certificate: Certificate) -> None:
    """The older of the two speaks `wss` only."""
    client = make(base_url=secure_url)
    options: Any = {"websocket_connection_options": {"ssl": certificate.trusting(), "open_timeout": 60}}
    async with client.realtime.connect(model="gpt-realtime", **options) as connection:
        assert (await talk(connection)).status == "completed"
    async with client.beta.realtime.connect(model="gpt-4o-realtime-preview", **options) as older:
        first: Any = await older.recv()
        assert first.type == "session.created"


async def test_a_browsers_key_is_in_its_subprotocol(gate: Gate) -> None:
    url = gate.url.replace("http", "ws") + "/v1/realtime?model=gpt-realtime"
    offered = [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{gate.keys['raw']}")]
    async with websockets.connect(url, subprotocols=offered) as socket:
        assert socket.subprotocol == "realtime"
        assert json.loads(await socket.recv())["type"] == "session.created"
        await socket.ping()
    wrong = [Subprotocol("realtime"), Subprotocol("openai-insecure-api-key.sk-wrong-0000000000000000")]
    with pytest.raises(InvalidStatus) as caught:
        await websockets.connect(url, subprotocols=wrong)
    assert caught.value.response.status_code == 401


async def test_a_socket_that_breaks_upstream_does_not_end_cleanly(gate: Gate) -> None:
    headers = {"authorization": f"Bearer {gate.keys['raw']}", "x-simulator-fault": "cut=6000"}
    url = gate.base_url + "/realtime?model=gpt-realtime%2Btokens=500"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, headers=headers) as socket:
        update = {"type": "session.update", "session": {"type": "realtime", "output_modalities": ["text"]}}
        await socket.send_json(update)
        await socket.send_json({"type": "response.create"})
        async with asyncio.timeout(10):
            async for message in socket:
                assert message.type is aiohttp.WSMsgType.TEXT
        assert socket.close_code not in {None, 1000, 1005}


async def test_translations(client: AsyncOpenAI) -> None:
    async with client.realtime.translations.connect(model="gpt-realtime-translate") as connection:
        first: Any = await connection.recv()
        assert first.session.type == "translation"
        append: Any = {"type": "session.input_audio_buffer.append", "audio": sound(1.0)}
        close: Any = {"type": "session.close"}
        await connection.send(append)
        await until(connection, "session.output_audio.delta")
        await connection.send(close)
        await until(connection, "session.closed")
    session: Any = {"model": "gpt-realtime-translate", "audio": {"output": {"language": "fr"}}}
    secret = await client.realtime.translations.client_secrets.create(session=session)
    assert secret.value.startswith("ek_")
