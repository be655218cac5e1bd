"""Answers that break off: the client raises, whatever breaks where. A broken answer never looks complete."""

import asyncio
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.compat.conftest import Make
from tests.compat.stand import Gate

HELLO: Any = [{"role": "user", "content": "Hello!"}]


async def drain(stream: Any, into: list[Any]) -> None:
    async for event in stream:
        into.append(event)  # noqa: PERF401 - what came before an error counts


async def chat_stream(client: AsyncOpenAI, fault: str) -> Any:
    return await client.chat.completions.create(
        model="gpt-4o+tokens=40", messages=HELLO, stream=True, extra_headers={"x-simulator-fault": fault}
    )


async def test_an_error_event_of_the_upstreams(client: AsyncOpenAI) -> None:
    seen: list[Any] = []
    with pytest.raises(openai.APIError) as caught:
        await drain(await chat_stream(client, "error_event=4"), seen)
    assert sum(bool(chunk.choices[0].delta.content) for chunk in seen) == 4
    assert caught.value.type == "server_error"


@pytest.mark.parametrize("fault", ["cut=700", "cut=1500", "cut=1501", "cut=3210", "reset=2000", "cut=5,gzip"])
async def test_a_chat_stream_that_is_cut(client: AsyncOpenAI, fault: str) -> None:
    """Within an event or between two: an error event, or a connection that ends before its body does."""
    seen: list[Any] = []
    with pytest.raises(openai.APIError) as caught:
        await drain(await chat_stream(client, fault), seen)
    assert not any(chunk.choices[0].finish_reason for chunk in seen)
    if not isinstance(caught.value, openai.APIConnectionError):
        assert (caught.value.type, caught.value.code) == ("server_error", "upstream_cut")


async def test_between_two_events_the_error_is_an_event(make: Make, strict: Gate) -> None:
    """A stream that stalls stands between two events: the gateway can say what happened, and it does."""
    client = make(base_url=strict.base_url)
    chat, response = (
        await chat_stream(client, "stall=3"),
        await client.responses.create(model="gpt-4o+stall=3", input="x", stream=True),
    )
    seen: tuple[list[Any], list[Any]] = ([], [])
    errors = await asyncio.gather(drain(chat, seen[0]), drain(response, seen[1]), return_exceptions=True)
    for error in errors:
        assert isinstance(error, openai.APIError)
        assert (error.type, error.code) == ("server_error", "upstream_timeout")
    assert len(seen[0]) == 3
    assert [event.sequence_number for event in seen[1]] == [0, 1, 2]


async def test_a_response_stream_that_is_cut(client: AsyncOpenAI) -> None:
    for fault in ("cut=2500", "reset=2501", "error_event=3"):
        stream = await client.responses.create(
            model="gpt-4o+tokens=40", input="x", stream=True, extra_headers={"x-simulator-fault": fault}
        )
        seen: list[Any] = []
        with pytest.raises(openai.APIError):
            await drain(stream, seen)
        assert "response.completed" not in {event.type for event in seen}


async def test_an_image_stream_that_is_cut(client: AsyncOpenAI) -> None:
    stream = await client.images.generate(
        model="gpt-image-1", prompt="x", stream=True, partial_images=2, extra_headers={"x-simulator-fault": "cut=900"}
    )
    with pytest.raises(openai.APIError):
        await drain(stream, [])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_run_stream_that_is_cut(client: AsyncOpenAI) -> None:
    helper = await client.beta.assistants.create(model="gpt-4o")
    stream: Any = await client.beta.threads.create_and_run(
        assistant_id=helper.id, stream=True, extra_headers={"x-simulator-fault": "cut=1200"}
    )
    with pytest.raises(openai.APIError):
        await drain(stream, [])


@pytest.mark.parametrize("fault", ["cut=0", "cut=1", "cut=200", "reset=200", "cut=20,gzip"])
async def test_a_plain_answer_that_is_cut(client: AsyncOpenAI, fault: str) -> None:
    with pytest.raises(openai.APIConnectionError):
        await client.chat.completions.create(model="gpt-4o", messages=HELLO, extra_headers={"x-simulator-fault": fault})


async def test_binary_answers_that_are_cut(client: AsyncOpenAI, make: Make, strict: Gate) -> None:
    with pytest.raises(openai.APIConnectionError):
        await client.audio.speech.create(model="tts-1+cut=500", voice="alloy", input="Hello there")
    file = await client.files.create(file=("a", bytes(200_000)), purpose="user_data")
    with pytest.raises(openai.APIConnectionError):
        await client.files.content(file.id, extra_headers={"x-simulator-fault": "cut=150000"})
    stalled = make(base_url=strict.base_url)
    with pytest.raises(openai.APIConnectionError):
        await stalled.audio.speech.create(model="tts-1+stall=500", voice="alloy", input="Hello there")
