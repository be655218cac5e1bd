"""Responses: whole, streamed, with the client's helper, in the background, over a WebSocket; and conversations."""

import json
from typing import Any

import openai
import pydantic
import pytest
from openai import AsyncOpenAI

from tests.fakes.redis_servers import eventually

WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


async def test_a_response_is_kept(client: AsyncOpenAI) -> None:
    made = await client.responses.create(model="gpt-4o", input="Say hello.", instructions="Be kind.")
    assert made.output_text
    assert made.usage is not None
    assert await client.responses.retrieve(made.id) == made
    assert [item.type async for item in client.responses.input_items.list(made.id)] == ["message"]
    following = await client.responses.create(model="gpt-4o", input="Again.", previous_response_id=made.id)
    assert following.usage is not None
    assert following.usage.input_tokens > made.usage.total_tokens
    await client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)


async def test_a_stream_says_what_the_whole_says(client: AsyncOpenAI) -> None:
    whole = await client.responses.create(model="gpt-4o", input="Say hello.")
    stream = await client.responses.create(model="gpt-4o", input="Say hello.", stream=True)
    events: list[Any] = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text
    assert events[-1].response.usage == whole.usage


class Number(pydantic.BaseModel):
    n: int


async def test_the_clients_own_stream_helper(client: AsyncOpenAI) -> None:
    async with client.responses.stream(model="o3", input="A number.", text_format=Number) as stream:
        kinds = {event.type async for event in stream}
        final = await stream.get_final_response()
    assert "response.completed" in kinds
    assert isinstance(final.output_parsed, Number)
    parsed = await client.responses.parse(model="gpt-4o", input="A number.", text_format=Number)
    assert isinstance(parsed.output_parsed, Number)


async def test_tools_of_both_kinds(client: AsyncOpenAI) -> None:
    first = await client.responses.create(model="gpt-4o", input="Weather in Oslo?", tools=[WEATHER])
    call: Any = first.output[0]
    assert json.loads(call.arguments).keys() == {"city"}
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "17 degrees"}
    last = await client.responses.create(model="gpt-4o", previous_response_id=first.id, tools=[WEATHER], input=[output])
    assert last.output_text
    hosted: Any = [{"type": "web_search"}, {"type": "image_generation"}]
    found = await client.responses.create(model="gpt-4o", input="Tell me", tools=hosted)
    assert [item.type for item in found.output] == ["web_search_call", "image_generation_call", "message"]


async def test_a_background_response_is_polled_and_its_stream_resumed(client: AsyncOpenAI) -> None:
    made = await client.responses.create(model="gpt-4o", input="Work.", background=True)
    assert made.status == "queued"

    async def completed() -> bool:
        return (await client.responses.retrieve(made.id)).status == "completed"

    await eventually(completed)
    stream = await client.responses.retrieve(made.id, stream=True, starting_after=3)
    events: list[Any] = [event async for event in stream]
    assert (events[0].sequence_number, events[-1].type) == (4, "response.completed")
    async with client.responses.stream(response_id=made.id, starting_after=5) as resumed:
        assert (await resumed.get_final_response()).id == made.id


async def test_a_background_response_is_cancelled(client: AsyncOpenAI) -> None:
    made = await client.responses.create(model="gpt-4o+tokens=2000+pace=5ms", input="Work.", background=True)
    assert (await client.responses.cancel(made.id)).status == "cancelled"


async def test_counting_and_compacting(client: AsyncOpenAI) -> None:
    counted = await client.responses.input_tokens.count(model="gpt-4o", input="Say hello.")
    made = await client.responses.create(model="gpt-4o", input="Say hello.")
    assert made.usage is not None
    assert counted.input_tokens == made.usage.input_tokens
    compacted = await client.responses.compact(model="gpt-4o", previous_response_id=made.id)
    assert compacted.usage.output_tokens


async def test_responses_over_a_websocket(client: AsyncOpenAI) -> None:
    async with client.responses.connect() as connection:
        for text in ("One.", "Two."):
            await connection.response.create(model="gpt-4o", input=text)
            async for event in connection:
                if event.type == "response.completed":
                    assert event.response.output_text
                    break
        await connection.response.create(model="nope", input="x", stream_id="s1")
        async for event in connection:
            refused: Any = event
            assert (refused.type, refused.status, refused.stream_id) == ("error", 404, "s1")
            break


async def test_the_beta_of_responses(client: AsyncOpenAI) -> None:
    """The same paths with `?beta=true`: they are the same operations."""
    beta = client.beta.responses
    made = await beta.create(model="gpt-4o", input="Say hello.")
    assert (await beta.retrieve(made.id)).id == made.id
    assert [item.type async for item in beta.input_items.list(made.id)] == ["message"]
    assert (await beta.input_tokens.count(model="gpt-4o", input="Say hello.")).input_tokens
    assert (await beta.compact(model="gpt-4o", previous_response_id=made.id)).usage.output_tokens
    stream = await beta.create(model="gpt-4o", input="Say hello.", stream=True)
    assert [event.type async for event in stream][-1] == "response.completed"
    await beta.delete(made.id)
    slow = await beta.create(model="gpt-4o+tokens=2000+pace=5ms", input="Work.", background=True)
    assert (await beta.cancel(slow.id)).status == "cancelled"
    async with beta.connect() as connection:
        await connection.response.create(model="gpt-4o", input="One.")
        async for event in connection:
            if event.type == "response.completed":
                break


async def test_conversations(client: AsyncOpenAI) -> None:
    made = await client.conversations.create(
        metadata={"a": "b"}, items=[{"type": "message", "role": "user", "content": "First."}]
    )
    answer = await client.responses.create(model="gpt-4o", input="Second.", conversation=made.id)
    assert answer.conversation is not None
    items = [item async for item in client.conversations.items.list(made.id, order="asc", limit=1)]
    assert [getattr(item, "role", None) for item in items] == ["user", "user", "assistant"]
    one = await client.conversations.items.retrieve(items[0].id or "", conversation_id=made.id)
    assert one == items[0]
    added = await client.conversations.items.create(
        made.id, items=[{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Third."}]}]
    )
    await client.conversations.items.delete(added.data[0].id or "", conversation_id=made.id)
    assert (await client.conversations.update(made.id, metadata={"c": "d"})).metadata == {"c": "d"}
    assert (await client.conversations.retrieve(made.id)).metadata == {"c": "d"}
    assert (await client.conversations.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.conversations.retrieve(made.id)
