"""The simulator's assistants, threads and runs, through the official client in its strict mode."""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai.types.beta import Assistant
from openai.types.beta.threads import Run

from gateway.simulator import tokens
from gateway.simulator.book import Record
from tests.unit.simulator.kit import Simulation, simulation

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
async def sim() -> AsyncIterator[Simulation]:
    async with simulation() as running:
        yield running


async def assistant(sim: Simulation, **options: Any) -> Assistant:
    return await sim.client().beta.assistants.create(model="gpt-4o", name="Helper", instructions="Be brief.", **options)


async def runs_in_book(sim: Simulation) -> list[Record]:
    return [record for record in await sim.records() if record.transport == "background"]


async def test_assistants_are_kept(sim: Simulation) -> None:
    client = sim.client().beta.assistants
    made = await assistant(sim, tools=[WEATHER], metadata={"a": "1"})
    assert (made.name, made.tools[0].type, made.metadata) == ("Helper", "function", {"a": "1"})
    assert (await client.update(made.id, name="Other", metadata={})).name == "Other"
    assert (await client.retrieve(made.id)).name == "Other"
    second = await assistant(sim)
    assert [one.id async for one in client.list(limit=1)] == [second.id, made.id]
    assert (await client.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.retrieve(made.id)


async def test_threads_and_messages_are_kept(sim: Simulation) -> None:
    client = sim.client().beta.threads
    thread = await client.create(messages=[{"role": "user", "content": "first"}], metadata={"x": "y"})
    message = await client.messages.create(
        thread.id, role="user", content=[{"type": "text", "text": "second"}], metadata={"n": "2"}
    )
    listed = [one.id async for one in client.messages.list(thread.id, order="asc")]
    assert listed[-1] == message.id
    assert (await client.messages.retrieve(message.id, thread_id=thread.id)).metadata == {"n": "2"}
    assert (await client.messages.update(message.id, thread_id=thread.id, metadata={})).metadata == {}
    assert (await client.messages.delete(message.id, thread_id=thread.id)).deleted
    assert (await client.update(thread.id, metadata={"z": "1"})).metadata == {"z": "1"}
    assert (await client.retrieve(thread.id)).metadata == {"z": "1"}
    assert (await client.delete(thread.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.messages.list(thread.id)


async def test_a_polled_run_writes_a_message_and_bills_it(sim: Simulation) -> None:
    client, helper = sim.client(), await assistant(sim)
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "Say something."}])
    run = await client.beta.threads.runs.create_and_poll(
        thread_id=thread.id, assistant_id=helper.id, poll_interval_ms=10
    )
    assert run.status == "completed"
    messages = [one async for one in client.beta.threads.messages.list(thread.id, run_id=run.id)]
    text: Any = messages[0].content[0]
    assert run.usage is not None
    assert run.usage.completion_tokens == tokens.count(text.text.value)
    steps = [step async for step in client.beta.threads.runs.steps.list(run.id, thread_id=thread.id)]
    assert [step.type for step in steps] == ["message_creation"]
    assert steps[0].usage is not None
    assert steps[0].usage.model_dump() == run.usage.model_dump()
    again = await client.beta.threads.runs.steps.retrieve(steps[0].id, thread_id=thread.id, run_id=run.id)
    assert again == steps[0]
    (record,) = await runs_in_book(sim)
    assert (record.object_id, record.parent, record.operation) == (run.id, thread.id, "createRun")
    assert (record.usage.input_tokens, record.usage.output_tokens) == (
        run.usage.prompt_tokens,
        run.usage.completion_tokens,
    )


async def with_tools(sim: Simulation) -> tuple[Any, Run]:
    client, helper = sim.client(), await assistant(sim, tools=[WEATHER])
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "Weather in Oslo?"}])
    run = await client.beta.threads.runs.create_and_poll(
        thread_id=thread.id, assistant_id=helper.id, poll_interval_ms=10
    )
    return client, run


def outputs(run: Run) -> Any:
    assert run.required_action is not None
    calls = run.required_action.submit_tool_outputs.tool_calls
    return [{"tool_call_id": call.id, "output": "17 degrees"} for call in calls]


async def test_a_run_requires_action_and_goes_on(sim: Simulation) -> None:
    client, run = await with_tools(sim)
    assert (run.status, run.usage) == ("requires_action", None)
    assert run.required_action is not None
    assert json.loads(run.required_action.submit_tool_outputs.tool_calls[0].function.arguments).keys() == {"city"}
    with pytest.raises(openai.BadRequestError):
        await client.beta.threads.runs.create(thread_id=run.thread_id, assistant_id=run.assistant_id)
    with pytest.raises(openai.BadRequestError):
        await client.beta.threads.runs.submit_tool_outputs(run.id, thread_id=run.thread_id, tool_outputs=[])
    assert await runs_in_book(sim) == []
    done = await client.beta.threads.runs.submit_tool_outputs_and_poll(
        run_id=run.id, thread_id=run.thread_id, tool_outputs=outputs(run), poll_interval_ms=10
    )
    assert done.status == "completed"
    steps = [step async for step in client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id)]
    assert [step.type for step in steps] == ["message_creation", "tool_calls"]
    assert sum(step.usage.total_tokens for step in steps) == done.usage.total_tokens
    assert steps[1].step_details.tool_calls[0].function.output == "17 degrees"
    (record,) = await runs_in_book(sim)
    assert record.usage.total_tokens == done.usage.total_tokens


async def test_a_run_that_waits_is_cancelled(sim: Simulation) -> None:
    client, run = await with_tools(sim)
    assert (await client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)).status == "cancelling"
    done = await client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id)
    assert (done.status, done.required_action) == ("cancelled", None)
    (record,) = await runs_in_book(sim)
    assert record.usage.total_tokens == done.usage.total_tokens > 0


async def test_a_run_that_works_is_cancelled(sim: Simulation) -> None:
    client, helper = sim.client(), await assistant(sim)
    run = await client.beta.threads.create_and_run(
        assistant_id=helper.id,
        model="gpt-4o+tokens=1000+pace=5ms",
        thread={"messages": [{"role": "user", "content": "Talk."}]},
    )
    while run.status != "in_progress":
        run = await client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id)
    await client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)
    await sim.records()
    done = await client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id)
    assert done.status == "cancelled"
    (record,) = await runs_in_book(sim)
    assert record.usage.output_tokens < 1000


@pytest.mark.parametrize(
    ("fault", "status"), [("expire", "expired"), ("fail", "failed"), ("tokens=50", "completed"), ("429", None)]
)
async def test_ends_of_runs(sim: Simulation, fault: str, status: str | None) -> None:
    client, helper = sim.client(), await assistant(sim)
    asked: Any = {"assistant_id": helper.id, "extra_headers": {"x-simulator-fault": fault}}
    if status is None:
        with pytest.raises(openai.RateLimitError):
            await client.beta.threads.create_and_run(**asked)
        return
    run = await client.beta.threads.create_and_run(**asked)
    await sim.records()
    run = await client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id)
    assert run.status == status
    assert (run.last_error is not None) == (status == "failed")


async def test_a_limited_run_is_incomplete(sim: Simulation) -> None:
    client, helper = sim.client(), await assistant(sim)
    run = await client.beta.threads.create_and_run_poll(
        assistant_id=helper.id, max_completion_tokens=5, poll_interval_ms=10
    )
    assert run.status == "incomplete"
    assert run.incomplete_details is not None
    assert run.incomplete_details.reason == "max_completion_tokens"
    assert run.usage is not None
    assert run.usage.completion_tokens == 5


async def test_built_in_tools_have_their_steps(sim: Simulation) -> None:
    client = sim.client()
    file = await client.files.create(file=("facts.txt", b"Oslo is the capital of Norway."), purpose="assistants")
    helper = await assistant(
        sim,
        tools=[{"type": "code_interpreter"}, {"type": "file_search"}],
        tool_resources={"file_search": {"vector_stores": [{"file_ids": [file.id]}]}},
    )
    await sim.records()
    run = await client.beta.threads.create_and_run_poll(assistant_id=helper.id, poll_interval_ms=10)
    steps = [step async for step in client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, order="asc")]
    details: list[Any] = [step.step_details for step in steps]
    assert [one.tool_calls[0].type for one in details[:2]] == ["code_interpreter", "file_search"]
    assert details[1].tool_calls[0].file_search.results[0].file_id == file.id
    assert run.usage is not None
    assert sum(step.usage.total_tokens for step in steps if step.usage) == run.usage.total_tokens
    (record,) = await runs_in_book(sim)
    assert (record.usage.sessions, record.usage.file_searches) == (1, 1)


async def test_a_streamed_run_has_all_its_events(sim: Simulation) -> None:
    client, helper = sim.client(), await assistant(sim)
    stream: Any = await client.beta.threads.create_and_run(
        assistant_id=helper.id,
        model="gpt-4o+chunks=3",
        stream=True,
        thread={"messages": [{"role": "user", "content": "Hi"}]},
    )
    events = [event async for event in stream]
    assert [event.event for event in events] == [
        "thread.created",
        "thread.run.created",
        "thread.run.queued",
        "thread.run.in_progress",
        "thread.run.step.created",
        "thread.run.step.in_progress",
        "thread.message.created",
        "thread.message.in_progress",
        *["thread.message.delta"] * 3,
        "thread.message.completed",
        "thread.run.step.completed",
        "thread.run.completed",
    ]
    text = "".join(event.data.delta.content[0].text.value for event in events if event.event == "thread.message.delta")
    run = events[-1].data
    assert run.usage.completion_tokens == tokens.count(text)
    (record,) = await runs_in_book(sim)
    assert record.usage.total_tokens == run.usage.total_tokens
    streamed = (await sim.records())[-2:]
    assert {one.transport for one in streamed} == {"http", "background"}


async def test_a_streamed_run_with_tools(sim: Simulation) -> None:
    client, helper = sim.client(), await assistant(sim, tools=[WEATHER])
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "Weather in Oslo?"}])
    stream: Any = await client.beta.threads.runs.create(thread_id=thread.id, assistant_id=helper.id, stream=True)
    events = [event async for event in stream]
    assert events[-1].event == "thread.run.requires_action"
    pieces = [event for event in events if event.event == "thread.run.step.delta"]
    arguments = "".join(piece.data.delta.step_details.tool_calls[0].function.arguments for piece in pieces)
    run = events[-1].data
    assert arguments == run.required_action.submit_tool_outputs.tool_calls[0].function.arguments
    async with client.beta.threads.runs.submit_tool_outputs_stream(
        run_id=run.id, thread_id=thread.id, tool_outputs=outputs(run)
    ) as helper_stream:
        names = [event.event async for event in helper_stream]
    assert names[:3] == ["thread.run.step.completed", "thread.run.queued", "thread.run.in_progress"]
    assert names[-1] == "thread.run.completed"


async def test_a_run_goes_on_when_its_client_leaves(sim: Simulation) -> None:
    client, helper = sim.client(), await assistant(sim)
    stream: Any = await client.beta.threads.create_and_run(
        assistant_id=helper.id, model="gpt-4o+pace=5ms+tokens=300", stream=True
    )
    run_id = ""
    async for event in stream:
        if event.event == "thread.message.delta":
            break
        run_id = event.data.id if event.event == "thread.run.created" else run_id
    await stream.close()
    (record,) = await runs_in_book(sim)
    assert (record.object_id, record.usage.output_tokens) == (run_id, 300)
    left = [one for one in await sim.records() if one.ended == "client_left"]
    assert [(one.object_id, one.usage.output_tokens) for one in left] == [(run_id, 0)]


async def test_runs_are_listed_and_named(sim: Simulation) -> None:
    client, helper = sim.client(), await assistant(sim)
    run = await client.beta.threads.create_and_run_poll(assistant_id=helper.id, poll_interval_ms=10)
    assert [one.id async for one in client.beta.threads.runs.list(run.thread_id)] == [run.id]
    named = await client.beta.threads.runs.update(run.id, thread_id=run.thread_id, metadata={"a": "b"})
    assert named.metadata == {"a": "b"}
    with pytest.raises(openai.BadRequestError):
        await client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)
    with pytest.raises(openai.NotFoundError):
        await client.beta.threads.runs.retrieve("run_unknown", thread_id=run.thread_id)
