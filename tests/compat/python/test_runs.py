"""Runs: polled, streamed with the client's helper, with tools, cancelled; their steps."""

from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.beta.threads import Run

from tests.fakes.redis_servers import eventually

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


async def assistant(client: AsyncOpenAI, **options: Any) -> str:
    made = await client.beta.assistants.create(model="gpt-4o", instructions="Be brief.", **options)
    return made.id


async def asked(client: AsyncOpenAI, text: str) -> str:
    return (await client.beta.threads.create(messages=[{"role": "user", "content": text}])).id


def outputs(run: Run) -> Any:
    assert run.required_action is not None
    calls = run.required_action.submit_tool_outputs.tool_calls
    return [{"tool_call_id": call.id, "output": "17 degrees"} for call in calls]


async def test_a_polled_run_and_its_steps(client: AsyncOpenAI) -> None:
    helper, thread = await assistant(client), await asked(client, "Say something.")
    runs = client.beta.threads.runs
    run = await runs.create_and_poll(thread_id=thread, assistant_id=helper, poll_interval_ms=10)
    assert run.status == "completed"
    assert run.usage is not None
    said = [one async for one in client.beta.threads.messages.list(thread, run_id=run.id)]
    assert [one.role for one in said] == ["assistant"]
    steps = [step async for step in runs.steps.list(run.id, thread_id=thread)]
    assert [step.type for step in steps] == ["message_creation"]
    assert await runs.steps.retrieve(steps[0].id, thread_id=thread, run_id=run.id) == steps[0]
    assert [one.id async for one in runs.list(thread)] == [run.id]
    assert (await runs.update(run.id, thread_id=thread, metadata={"a": "b"})).metadata == {"a": "b"}
    assert (await runs.retrieve(run.id, thread_id=thread)).metadata == {"a": "b"}
    with pytest.raises(openai.BadRequestError):
        await runs.cancel(run.id, thread_id=thread)


async def test_tools_are_called_and_their_outputs_polled(client: AsyncOpenAI) -> None:
    helper, thread = await assistant(client, tools=[WEATHER]), await asked(client, "Weather in Oslo?")
    runs = client.beta.threads.runs
    run = await runs.create_and_poll(thread_id=thread, assistant_id=helper, poll_interval_ms=10)
    assert run.status == "requires_action"
    done = await runs.submit_tool_outputs_and_poll(
        run_id=run.id, thread_id=thread, tool_outputs=outputs(run), poll_interval_ms=10
    )
    assert done.status == "completed"


async def test_tool_outputs_without_waiting(client: AsyncOpenAI) -> None:
    helper = await assistant(client, tools=[WEATHER])
    run = await client.beta.threads.create_and_run_poll(
        assistant_id=helper, thread={"messages": [{"role": "user", "content": "Weather?"}]}, poll_interval_ms=10
    )
    runs = client.beta.threads.runs
    await runs.submit_tool_outputs(run.id, thread_id=run.thread_id, tool_outputs=outputs(run))
    assert (await runs.poll(run.id, thread_id=run.thread_id, poll_interval_ms=10)).status == "completed"


async def test_a_run_is_cancelled(client: AsyncOpenAI) -> None:
    helper, thread = await assistant(client, tools=[WEATHER]), await asked(client, "Weather?")
    runs = client.beta.threads.runs
    run = await runs.create_and_poll(thread_id=thread, assistant_id=helper, poll_interval_ms=10)
    assert (await runs.cancel(run.id, thread_id=thread)).status == "cancelling"

    async def cancelled() -> bool:
        return (await runs.retrieve(run.id, thread_id=thread)).status == "cancelled"

    await eventually(cancelled)


async def test_a_run_streams_to_the_clients_helper(client: AsyncOpenAI) -> None:
    helper, thread = await assistant(client), await asked(client, "Say something.")
    async with client.beta.threads.runs.stream(thread_id=thread, assistant_id=helper) as stream:
        names = [event.event async for event in stream]
        final = await stream.get_final_run()
        messages = await stream.get_final_messages()
    assert names[0] == "thread.run.created"
    assert names[-1] == "thread.run.completed"
    assert final.usage is not None
    assert messages[0].content
    again = client.beta.threads.runs.stream(thread_id=thread, assistant_id=helper)
    async with again as stream:
        text = "".join([delta async for delta in stream.text_deltas])
        await stream.until_done()
    assert text


async def test_a_thread_and_its_run_stream_together(client: AsyncOpenAI) -> None:
    helper = await assistant(client, tools=[WEATHER])
    async with client.beta.threads.create_and_run_stream(
        assistant_id=helper, thread={"messages": [{"role": "user", "content": "Weather in Oslo?"}]}
    ) as stream:
        events: list[Any] = [event async for event in stream]
    assert [events[0].event, events[-1].event] == ["thread.created", "thread.run.requires_action"]
    run = events[-1].data
    async with client.beta.threads.runs.submit_tool_outputs_stream(
        run_id=run.id, thread_id=run.thread_id, tool_outputs=outputs(run)
    ) as stream:
        names = [event.event async for event in stream]
    assert names[-1] == "thread.run.completed"


async def test_the_older_name_of_the_stream_helper(client: AsyncOpenAI) -> None:
    helper, thread = await assistant(client), await asked(client, "Say something.")
    older = client.beta.threads.runs.create_and_stream
    async with older(thread_id=thread, assistant_id=helper) as stream:
        assert (await stream.get_final_run()).status == "completed"


async def test_a_plain_stream_of_a_run(client: AsyncOpenAI) -> None:
    helper, thread = await assistant(client), await asked(client, "Say something.")
    stream = await client.beta.threads.runs.create(thread, assistant_id=helper, stream=True)
    names = [event.event async for event in stream]
    assert "thread.message.delta" in names
    assert names[-1] == "thread.run.completed"
