"""WebSockets through a worker yield an event for each response, however they end."""

import asyncio
import json
from typing import Any

import pytest

from gateway.credentials import digest, incorrect
from gateway.values import UsageEvent
from tests.fakes.frames import CLOSE, TEXT, close_frame, echo, frame, opened, read_frame, switching
from tests.fakes.upstream import Exchange, Script, upstream
from tests.fakes.wire import Wire, soon, until
from tests.fakes.worker import KEY, Client, Gateway, gateway
from tests.unit.usage.sockets.kit import encoded, sound

RESPONSES = "/v1/responses"
REALTIME = "/v1/realtime?model=gpt-realtime"
ASKED = {"type": "response.create", "model": "gpt-5-mini", "input": "Say something short."}
RESPONSE = {"id": "resp_1", "model": "gpt-5-mini-2025-08-07", "status": "in_progress", "usage": None}
USAGE = {"input_tokens": 11, "output_tokens": 5, "total_tokens": 16}


def said(wire: Wire, kind: str, **members: Any) -> None:
    """An event from the upstream."""
    wire.send(frame(TEXT, encoded({"type": kind, **members})))


def says(client: Client, message: dict[str, Any]) -> None:
    client.send(frame(TEXT, encoded(message), mask=True))


async def heard(client: Client, kind: str) -> dict[str, Any]:
    """The event that the client gets next, which is of this type."""
    found: dict[str, Any] = json.loads((await soon(read_frame(client))).data)
    assert found["type"] == kind
    return found


def begins(*endings: str) -> Script:
    """Answers one request: begins, says something, and tells usage if it comes to an end."""

    async def talk(exchange: Exchange) -> None:
        await read_frame(exchange.wire)
        said(exchange.wire, "response.created", response=RESPONSE)
        said(exchange.wire, "response.output_text.delta", delta="Something short.")
        for ending in endings:
            said(exchange.wire, ending, response={**RESPONSE, "status": "completed", "usage": USAGE})
        await exchange.gone()

    return switching(talk)


async def under_way(gw: Gateway) -> Client:
    """A client whose response has begun."""
    client = await opened(gw, RESPONSES)
    says(client, ASKED)
    await heard(client, "response.created")
    await heard(client, "response.output_text.delta")
    return client


async def only(gw: Gateway, ended: str) -> UsageEvent:
    """The only event, an estimate of what was under way."""
    await until(lambda: gw.events)
    await gw.lines()
    (event,) = gw.events
    (line,) = event.lines
    assert (event.ended, line.source, line.object_id) == (ended, "estimated", "resp_1")
    assert line.quantities.output_tokens == round(len("Something short.") / 4.5)
    assert line.nano_usd
    return event


async def test_responses_are_events_of_their_own() -> None:
    async def talk(exchange: Exchange) -> None:
        for number in (1, 2, 3):
            await read_frame(exchange.wire)
            response = {**RESPONSE, "id": f"resp_{number}"}
            said(exchange.wire, "response.created", response=response)
            said(exchange.wire, "response.completed", response={**response, "usage": USAGE})
        await exchange.gone()

    async with upstream(switching(talk)) as up, gateway(up) as gw:
        client = await opened(gw, RESPONSES)
        for _ in range(3):
            says(client, ASKED)
            await heard(client, "response.created")
            await heard(client, "response.completed")
        assert len(gw.events) == 3  # while the socket is open
        client.close()
        line = (await gw.lines())[0]
        first = gw.events[0]
        assert [event.id for event in gw.events] == [f"{line['request_id']}/{number}" for number in (1, 2, 3)]
        assert (first.operation, first.category, first.status, first.ended) == (
            "connectResponses", "completions", 101, "complete",
        )  # fmt: skip
        assert (first.key_id, first.project_id) == ("key_1", "proj_1")
        used = first.lines[0]
        assert (used.upstream, used.request_model, used.response_model) == ("main", "gpt-5-mini", RESPONSE["model"])
        assert (used.source, used.nano_usd) == ("reported", 11 * 250 + 5 * 2000)
        assert first.at_us <= gw.events[1].at_us <= gw.events[2].at_us
        labels = {"project": "proj_1", "model": "gpt-5-mini", "batch": "false"}
        assert gw.metric("gateway_usage_completions_num_model_requests_total", **labels) == 3
        assert gw.metric("gateway_usage_completions_input_tokens_total", **labels) == 33


async def test_a_socket_on_which_nothing_is_used() -> None:
    async with upstream(switching(echo)) as up, gateway(up) as gw:
        for target in (RESPONSES, REALTIME, "/v1/live/sessions", "/v1/realtime/translations?model=m", "/v1/some/other"):
            client = await opened(gw, target)
            client.send(frame(TEXT, b"no event", mask=True))
            assert (await soon(read_frame(client))).data == b"no event"
            client.close()
        await gw.lines(5)
        assert gw.events == []


async def test_what_repeats_a_sessions_usage_is_free() -> None:
    async def talk(exchange: Exchange) -> None:
        said(exchange.wire, "session.usage.updated", usage={"seconds": 9})
        await exchange.gone()

    async with upstream(switching(talk)) as up, gateway(up) as gw:
        client = await opened(gw, "/v1/live/sessions/sess_1/attach")
        await heard(client, "session.usage.updated")
        client.close()
        await gw.lines()
        assert gw.events == []


@pytest.mark.parametrize("way", ["close", "reset", "goodbye"])
async def test_the_client_leaves(way: str) -> None:
    async with upstream(begins()) as up, gateway(up) as gw:
        client = await under_way(gw)
        if way == "goodbye":
            client.send(close_frame(1000, mask=True))
            assert (await soon(read_frame(up.wires[0]))).kind == CLOSE
            up.wires[0].send(close_frame(1000))
        else:
            getattr(client, way)()
        event = await only(gw, "client_left")
        assert event.lines[0].quantities.input_tokens == round(len("Say something short.") / 4.5)
        await up.emptied()


@pytest.mark.parametrize("way", ["close", "reset", "goodbye"])
async def test_the_upstream_leaves(way: str) -> None:
    async with upstream(begins()) as up, gateway(up) as gw:
        client = await under_way(gw)
        if way == "goodbye":
            up.wires[0].send(close_frame(1001))
        else:
            getattr(up.wires[0], way)()
        assert (await soon(read_frame(client))).kind == CLOSE
        client.send(close_frame(1000, mask=True))
        await only(gw, "cut")
        await client.closed()


async def test_a_drain() -> None:
    async with upstream(begins()) as up, gateway(up, tidy=False) as gw:
        client = await under_way(gw)
        draining = asyncio.ensure_future(gw.worker.drain(0.1))
        await heard(client, "error")
        assert (await soon(read_frame(client))).code == 1001
        client.send(close_frame(1001, mask=True))
        await only(gw, "cut")
        await soon(draining)
        await up.emptied()


async def test_a_revoked_key() -> None:
    async with upstream(begins()) as up, gateway(up) as gw:
        client = await under_way(gw)
        gw.worker.exchanges.end_of_key(digest(KEY), incorrect("*" * 8))
        await heard(client, "error")
        assert (await soon(read_frame(client))).code == 1008
        client.send(close_frame(1008, mask=True))
        await only(gw, "cut")
        await up.emptied()


async def test_silence() -> None:
    async with upstream(begins()) as up, gateway(up, timeouts={"between_bytes_s": 0.4}) as gw:
        client = await under_way(gw)
        await heard(client, "error")
        client.close()
        await only(gw, "cut")


async def test_a_report_that_the_client_does_not_take_any_more_counts() -> None:
    """The client has said goodbye; the upstream had not heard it when it completed the response."""
    async with upstream(begins()) as up, gateway(up) as gw:
        client = await under_way(gw)
        client.send(close_frame(1000, mask=True))
        assert (await soon(read_frame(up.wires[0]))).kind == CLOSE
        said(up.wires[0], "response.completed", response={**RESPONSE, "usage": USAGE})
        up.wires[0].send(close_frame(1000))
        await until(lambda: gw.events)
        await gw.lines()
        (event,) = gw.events
        assert (event.ended, event.lines[0].source) == ("complete", "reported")


async def test_a_refused_response_has_no_lines() -> None:
    async def talk(exchange: Exchange) -> None:
        await read_frame(exchange.wire)
        said(exchange.wire, "error", status=404, error={"code": "model_not_found"})
        await exchange.gone()

    async with upstream(switching(talk)) as up, gateway(up) as gw:
        client = await opened(gw, RESPONSES)
        says(client, ASKED)
        await heard(client, "error")
        client.close()
        await gw.lines()
        (event,) = gw.events
        assert (event.status, event.ended, event.lines) == (404, "complete", ())


async def test_a_conversation_in_sound_that_breaks_off() -> None:
    """The model of the target and the one that transcribes are priced each for itself."""
    session = {
        "model": "gpt-realtime-2025-08-28",
        "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}},
    }

    async def talk(exchange: Exchange) -> None:
        wire = exchange.wire
        said(wire, "session.created", session=session)
        for _ in range(10):
            await read_frame(wire)
        said(wire, "input_audio_buffer.committed", item_id="item_1")
        said(wire, "response.created", response={"id": "resp_1", "status": "in_progress"})
        for _ in range(5):
            said(wire, "response.output_audio.delta", response_id="resp_1", delta=sound(9_600))
        usage = {"type": "tokens", "input_tokens": 10, "input_token_details": {"audio_tokens": 10}, "output_tokens": 4}
        said(wire, "conversation.item.input_audio_transcription.completed", item_id="item_1", usage=usage)
        await exchange.gone()

    async with upstream(switching(talk)) as up, gateway(up) as gw:
        client = await opened(gw, REALTIME)
        await heard(client, "session.created")
        for _ in range(10):
            says(client, {"type": "input_audio_buffer.append", "audio": sound(4_800)})
        await heard(client, "input_audio_buffer.committed")
        await until(lambda: gw.events)
        up.wires[0].reset()
        await until(lambda: len(gw.events) == 2)
        written, spoken = gw.events
        assert (written.category, written.ended, written.lines[0].request_model) == (
            "audio_transcriptions", "complete", "gpt-4o-transcribe",
        )  # fmt: skip
        assert written.lines[0].quantities.duration_ms == 1000
        line = spoken.lines[0]
        assert (spoken.category, spoken.ended, line.source) == ("completions", "cut", "estimated")
        assert (line.request_model, line.response_model) == ("gpt-realtime", "gpt-realtime-2025-08-28")
        assert (line.quantities.input_audio_tokens, line.quantities.output_audio_tokens) == (10, 20)
        assert gw.metric(
            "gateway_usage_audio_transcriptions_num_model_requests_total",
            project="proj_1", model="gpt-4o-transcribe", batch="false",
        ) == 1  # fmt: skip
        client.close()


async def test_a_client_that_does_not_read_is_charged_for_what_came() -> None:
    """What it is owed waits in the gateway, and is metered though nobody takes it."""

    async def talk(exchange: Exchange) -> None:
        await read_frame(exchange.wire)
        said(exchange.wire, "response.created", response=RESPONSE)
        while not stopped.is_set():
            await exchange.wire.has_room()
            said(exchange.wire, "response.output_text.delta", delta="x" * 60_000)
            await asyncio.sleep(0)
        await exchange.gone()

    stopped = asyncio.Event()
    async with upstream(switching(talk)) as up, gateway(up) as gw:
        client = await opened(gw, RESPONSES)
        says(client, ASKED)
        await heard(client, "response.created")
        client.stop_reading()
        await until(lambda: not up.wires[0].room.is_set())
        client.read_on()
        client.reset()
        stopped.set()
        await until(lambda: gw.events)
        assert gw.events[0].lines[0].quantities.output_tokens > 10_000
