"""Chat completions: whole, streamed, with the client's own stream helper, with tools and formats; and stored ones."""

import json
from typing import Any

import openai
import pydantic
import pytest
from openai import AsyncOpenAI

from tests.compat.conftest import Make

HELLO: Any = [{"role": "user", "content": "Hello!"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


async def test_a_completion(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, n=2, max_tokens=12)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 24
    assert answer.model.startswith("gpt-4o-mini-")


async def test_a_stream_says_what_the_whole_says(client: AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    stream: Any = await client.chat.completions.create(
        model="gpt-4o-mini", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert (chunks[-1].choices, chunks[-1].usage) == ([], whole.usage)
    assert stream.response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert stream.response.headers["x-accel-buffering"] == "no"


async def test_a_stream_without_usage_has_none(client: AsyncOpenAI) -> None:
    stream: Any = await client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_a_long_stream_keeps_all_its_chunks(client: AsyncOpenAI) -> None:
    stream: Any = await client.chat.completions.create(model="gpt-4o+chunks=700", messages=HELLO, stream=True)
    contents = [chunk.choices[0].delta.content async for chunk in stream]
    assert sum(map(bool, contents)) == 700


async def test_the_clients_own_stream_helper(client: AsyncOpenAI) -> None:
    async with client.chat.completions.stream(
        model="gpt-4o-mini", messages=HELLO, stream_options={"include_usage": True}
    ) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= set(kinds)
    assert final.choices[0].message.content
    assert final.usage is not None


async def test_tools_are_called_and_answered(client: AsyncOpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "Weather in Oslo?"}]
    first = await client.chat.completions.create(model="gpt-4o", messages=messages, tools=[WEATHER])
    assert first.choices[0].finish_reason == "tool_calls"
    message: Any = first.choices[0].message
    call = message.tool_calls[0]
    assert json.loads(call.function.arguments).keys() == {"city"}
    messages += [message.to_dict(), {"role": "tool", "tool_call_id": call.id, "content": "17 degrees"}]
    last = await client.chat.completions.create(model="gpt-4o", messages=messages, tools=[WEATHER])
    assert last.choices[0].message.content
    async with client.chat.completions.stream(model="gpt-4o", messages=messages[:1], tools=[WEATHER]) as stream:
        done = [event async for event in stream if event.type == "tool_calls.function.arguments.done"]
    assert [event.arguments for event in done] == [call.function.arguments]


class Number(pydantic.BaseModel):
    n: int


async def test_structured_answers_are_parsed(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.parse(model="gpt-4o", messages=HELLO, response_format=Number)
    assert isinstance(answer.choices[0].message.parsed, Number)
    short = client.chat.completions.parse(model="gpt-4o", messages=HELLO, response_format=Number, max_tokens=1)
    with pytest.raises(openai.LengthFinishReasonError):
        await short


async def test_logprobs_images_audio_and_all_other_members_go_up(client: AsyncOpenAI) -> None:
    picture = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    parts: Any = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": picture}}]
    answer = await client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "developer", "content": "Täuschend «echt» 🎈"}, {"role": "user", "content": parts}],
        logprobs=True,
        top_logprobs=2,
        seed=7,
        temperature=0.1,
        metadata={"team": "compat"},
        user="someone",
        service_tier="default",
        extra_body={"a_member_that_nobody_knows": {"x": [1, 2.5, None]}},
    )
    assert answer.choices[0].logprobs is not None
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 85


async def test_stored_completions_are_read_changed_and_deleted(client: AsyncOpenAI, make: Make) -> None:
    made = await client.chat.completions.create(
        model="gpt-4o-mini", messages=HELLO, store=True, metadata={"mark": "stored"}
    )
    again = await client.chat.completions.retrieve(made.id)
    assert again.choices[0].message.content == made.choices[0].message.content
    loose = make(_strict_response_validation=False)  # in its strict mode it takes every message for an assistant's
    messages = [message async for message in loose.chat.completions.messages.list(made.id)]
    assert [message.content for message in messages] == ["Hello!"]
    changed = await client.chat.completions.update(made.id, metadata={"mark": "changed"})
    assert changed.id == made.id
    listed = [one.id async for one in client.chat.completions.list(metadata={"mark": "changed"})]
    assert made.id in listed
    assert (await client.chat.completions.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.retrieve(made.id)
