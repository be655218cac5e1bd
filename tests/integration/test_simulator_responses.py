"""The simulator's Responses API, conversations, stored chats and decisions, through the official client, strict."""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from gateway.simulator import tokens
from gateway.simulator.options import SimulatorOptions
from gateway.simulator.text import Prose
from tests.unit.simulator.kit import Simulation, simulation

WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "strict": True,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture
async def sim() -> AsyncIterator[Simulation]:
    async with simulation() as running:
        yield running


async def collect(stream: Any) -> list[Any]:
    return [event async for event in stream]


async def test_usage_is_what_the_text_counts(sim: Simulation) -> None:
    answer = await sim.client().responses.create(model="gpt-4o", input="Say hello.", instructions="Be kind.")
    assert answer.usage is not None
    assert answer.usage.output_tokens == tokens.count(answer.output_text)
    said = [("developer", "Be kind."), ("user", "Say hello.")]
    assert answer.usage.input_tokens == 3 + sum(3 + tokens.count(role) + tokens.count(text) for role, text in said)
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert (answer.status, answer.model, answer.service_tier) == ("completed", "gpt-4o-2024-08-06", "default")
    record = await sim.last()
    assert (record.object_id, record.usage.output_tokens) == (answer.id, answer.usage.output_tokens)


async def test_a_stream_has_all_its_events_in_order(sim: Simulation) -> None:
    client = sim.client()
    whole = await client.responses.create(model="gpt-4o", input="Say hello.")
    events = await collect(await client.responses.create(model="gpt-4o+chunks=4", input="Say hello.", stream=True))
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 4,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type.endswith("text.delta")) == whole.output_text
    assert events[0].response.usage is None
    assert events[-1].response.usage == whole.usage
    record = await sim.last()
    assert (record.stream, record.usage_sent) == (True, True)
    assert record.output_tokens_sent == record.usage.output_tokens == tokens.count(whole.output_text)


async def test_the_clients_own_stream_helper(sim: Simulation) -> None:
    async with sim.client().responses.stream(model="o3", input="Say hello.") as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_response()
    assert [item.type for item in final.output] == ["reasoning", "message"]


async def test_functions_are_called_and_answered(sim: Simulation) -> None:
    client = sim.client()
    first = await client.responses.create(model="gpt-4o", input="Weather in Oslo?", tools=[WEATHER])
    call = first.output[0]
    assert call.type == "function_call"
    assert json.loads(call.arguments).keys() == {"city"}
    assert first.usage is not None
    assert first.usage.output_tokens == tokens.count(call.name) + tokens.count(call.arguments)
    last = await client.responses.create(
        model="gpt-4o",
        previous_response_id=first.id,
        tools=[WEATHER],
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "17 degrees"}],
    )
    assert last.output_text
    assert last.usage is not None
    assert last.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens
    events = await collect(
        await client.responses.create(model="gpt-4o", input="Weather in Oslo?", tools=[WEATHER], stream=True)
    )
    deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert "".join(deltas) == call.arguments
    assert (await sim.last()).output_tokens_sent == first.usage.output_tokens


async def test_custom_tools_and_choices(sim: Simulation) -> None:
    client = sim.client()
    custom: Any = {"type": "custom", "name": "run_sql"}
    answer = await client.responses.create(model="gpt-5", input="Query", tools=[custom])
    assert [item.type for item in answer.output] == ["reasoning", "custom_tool_call"]
    events = await collect(await client.responses.create(model="gpt-5", input="Query", tools=[custom], stream=True))
    assert any(event.type == "response.custom_tool_call_input.done" for event in events)
    none = await client.responses.create(model="gpt-4o", input="Hi", tools=[WEATHER], tool_choice="none")
    assert none.output_text
    named: Any = {"type": "function", "name": "get_weather"}
    forced = await client.responses.create(model="gpt-4o", input="Hi", tools=[custom, WEATHER], tool_choice=named)
    assert [item.type for item in forced.output] == ["function_call"]


async def test_hosted_tools_leave_items_and_counts(sim: Simulation) -> None:
    client = sim.client()
    file = await client.files.create(file=("facts.txt", b"Oslo is in Norway."), purpose="assistants")
    store = await client.vector_stores.create(name="x", file_ids=[file.id])
    await sim.records()
    tools: Any = [
        {"type": "web_search"},
        {"type": "file_search", "vector_store_ids": [store.id]},
        {"type": "code_interpreter", "container": {"type": "auto"}},
        {"type": "image_generation"},
    ]
    include: Any = ["file_search_call.results", "code_interpreter_call.outputs"]
    answer = await client.responses.create(model="gpt-4o", input="Tell me", tools=tools, include=include)
    assert [item.type for item in answer.output] == [
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "image_generation_call",
        "message",
    ]
    found: Any = answer.output[1]
    assert found.results[0].file_id == file.id
    assert answer.tool_usage is not None
    assert answer.tool_usage.web_search.num_requests == 1
    assert answer.tool_usage.image_gen.output_tokens == 1056
    record = await sim.last()
    usage = record.usage
    assert (usage.web_searches, usage.file_searches, usage.sessions, usage.images) == (1, 1, 1, 1)
    assert usage.tool_image_tokens == 1056
    assert answer.usage is not None
    assert usage.output_tokens == answer.usage.output_tokens > tokens.count(answer.output_text)
    events = await collect(await client.responses.create(model="gpt-4o", input="Tell me", tools=tools, stream=True))
    kinds = {event.type for event in events}
    for name in ("web_search_call.searching", "file_search_call.completed", "code_interpreter_call_code.delta",
                 "image_generation_call.generating"):  # fmt: skip
        assert f"response.{name}" in kinds
    assert (await sim.last()).output_tokens_sent == usage.output_tokens


async def test_reasoning_limits_and_formats(sim: Simulation) -> None:
    client = sim.client()
    answer = await client.responses.create(
        model="gpt-5",
        input="Think.",
        reasoning={"effort": "low", "summary": "auto"},
        include=["reasoning.encrypted_content"],
    )
    thought = answer.output[0]
    assert thought.type == "reasoning"
    assert thought.summary[0].text
    assert thought.encrypted_content
    assert answer.usage is not None
    assert answer.usage.output_tokens == answer.usage.output_tokens_details.reasoning_tokens + tokens.count(
        answer.output_text
    )
    short = await client.responses.create(model="gpt-4o", input="Talk.", max_output_tokens=16)
    assert (short.status, tokens.count(short.output_text)) == ("incomplete", 16)
    assert short.incomplete_details is not None
    assert short.incomplete_details.reason == "max_output_tokens"
    none = await client.responses.create(model="o3", input="Talk.", max_output_tokens=16)
    assert ([item.type for item in none.output], none.output_text) == (["reasoning"], "")
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    form: Any = {"format": {"type": "json_schema", "name": "x", "schema": schema}}
    structured = await client.responses.create(model="gpt-4o", input="A number.", text=form)
    assert isinstance(json.loads(structured.output_text)["n"], int)
    events = await collect(
        await client.responses.create(model="gpt-5", input="x", reasoning={"summary": "auto"}, stream=True)
    )
    assert any(event.type == "response.reasoning_summary_text.delta" for event in events)


async def test_responses_are_stored_unless_told_otherwise(sim: Simulation) -> None:
    client = sim.client()
    made = await client.responses.create(
        model="gpt-4o", input=[{"role": "user", "content": "One"}], metadata={"a": "b"}
    )
    again = await client.responses.retrieve(made.id)
    assert again == made
    items = [item async for item in client.responses.input_items.list(made.id)]
    assert [item.type for item in items] == ["message"]
    record = await sim.last()
    assert (record.operation, record.usage.total_tokens) == ("listInputItems", 0)
    await client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)
    hidden = await client.responses.create(model="gpt-4o", input="One", store=False)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(hidden.id)
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model="gpt-4o", input="Two", previous_response_id=hidden.id)
    assert caught.value.code == "previous_response_not_found"


async def test_caching_of_long_inputs(sim: Simulation) -> None:
    client, text = sim.client(), Prose().text(3, 1500)
    first = await client.responses.create(model="gpt-6-sol", input=text)
    second = await client.responses.create(model="gpt-6-sol", input=text)
    assert first.usage is not None
    assert second.usage is not None
    details = [usage.input_tokens_details for usage in (first.usage, second.usage)]
    assert [(one.cached_tokens, one.cache_write_tokens) for one in details] == [(0, 1408), (1408, 0)]


async def test_counting_and_compacting(sim: Simulation) -> None:
    client = sim.client()
    counted = await client.responses.input_tokens.count(model="gpt-4o", input="Say hello.")
    made = await client.responses.create(model="gpt-4o", input="Say hello.")
    assert made.usage is not None
    assert counted.input_tokens == made.usage.input_tokens
    compacted = await client.responses.compact(model="gpt-4o", previous_response_id=made.id)
    assert compacted.usage.input_tokens > made.usage.input_tokens
    record = await sim.last()
    assert (record.usage.output_tokens, record.object_id) == (compacted.usage.output_tokens, compacted.id)
    again: Any = [item.model_dump(exclude_none=True) for item in compacted.output]
    assert (await client.responses.create(model="gpt-4o", input=[*again, {"role": "user", "content": "Go on."}])).usage


async def background(sim: Simulation, **options: Any) -> Response:
    return await sim.client().responses.create(input="Work.", background=True, **({"model": "gpt-4o"} | options))


async def test_background_responses_finish_later(sim: Simulation) -> None:
    made = await background(sim)
    assert (made.status, made.usage) == ("queued", None)
    records = await sim.records()
    done = await sim.client().responses.retrieve(made.id)
    assert (done.status, done.background) == ("completed", True)
    assert done.usage is not None
    assert [(one.transport, one.usage.total_tokens) for one in records] == [
        ("http", 0),
        ("background", done.usage.total_tokens),
    ]
    assert records[1].object_id == made.id
    replay = await collect(await sim.client().responses.retrieve(made.id, stream=True, starting_after=3))
    assert replay[0].sequence_number == 4
    assert replay[-1].type == "response.completed"


async def test_a_background_response_is_cancelled(sim: Simulation) -> None:
    client = sim.client()
    made = await background(sim, model="gpt-4o+tokens=2000+pace=5ms")
    while made.status != "in_progress":
        made = await client.responses.retrieve(made.id)
    assert (await client.responses.cancel(made.id)).status == "cancelled"
    records = await sim.records()
    done = await client.responses.retrieve(made.id)
    assert done.status == "cancelled"
    job = next(one for one in records if one.transport == "background")
    assert job.usage.output_tokens < 2000
    plain = await client.responses.create(model="gpt-4o", input="x")
    with pytest.raises(openai.BadRequestError):
        await client.responses.cancel(plain.id)


async def test_a_streamed_background_response_goes_on_without_its_client(sim: Simulation) -> None:
    client = sim.client()
    stream: Any = await client.responses.create(
        model="gpt-4o+tokens=200+pace=3ms", input="Work.", background=True, stream=True
    )
    seen: list[Any] = []
    async for event in stream:
        seen.append(event)
        if len(seen) == 8:
            break
    await stream.close()
    await sim.records()
    rest = await collect(await client.responses.retrieve(seen[0].response.id, stream=True, starting_after=7))
    assert [event.sequence_number for event in [*seen, *rest]] == list(range(len(seen) + len(rest)))
    assert rest[-1].response.usage.output_tokens == 200


async def test_failures() -> None:
    async with simulation(SimulatorOptions(step_s=0.0)) as sim:
        client = sim.client()
        failed = await client.responses.create(model="gpt-4o+fail", input="x")
        assert (failed.status, failed.usage) == ("failed", None)
        assert failed.error is not None
        stream: Any = await client.responses.create(model="gpt-4o+tokens=9+error_event=3", input="x", stream=True)
        with pytest.raises(openai.APIError) as caught:
            await collect(stream)
        assert caught.value.code == "server_error"
        _, lines = await sim.lines("/responses", {"model": "gpt-4o+error_event", "input": "x", "stream": True})
        assert json.loads(lines[-1])["type"] == "response.failed"
        assert json.loads(lines[-2])["type"] == "error"
        later = await background(sim, model="gpt-4o+fail")
        await sim.records()
        assert (await client.responses.retrieve(later.id)).status == "failed"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "gpt-4o"}, "input"),
        ({"input": "x"}, None),
        ({"model": "gpt-4o", "input": 3}, "input"),
        ({"model": "gpt-4o", "input": [{"text": "x"}]}, "input[0].type"),
        ({"model": "gpt-4o", "input": "x", "background": True, "store": False}, "background"),
        (
            {"model": "gpt-4o", "input": "x", "conversation": "conv_1", "previous_response_id": "r"},
            "previous_response_id",
        ),
    ],
)
async def test_refusals(sim: Simulation, body: Any, param: str | None) -> None:
    status, _, answer = await sim.post("/responses", body)
    assert (status, answer["error"]["param"]) == (400, param)


async def test_conversations(sim: Simulation) -> None:
    client = sim.client()
    made = await client.conversations.create(
        items=[{"type": "message", "role": "user", "content": "First."}], metadata={"a": "b"}
    )
    answer = await client.responses.create(model="gpt-4o", input="Second.", conversation=made.id)
    assert answer.conversation is not None
    assert answer.conversation.id == made.id
    items = [item async for item in client.conversations.items.list(made.id, order="asc")]
    assert [getattr(item, "role", None) for item in items] == ["user", "user", "assistant"]
    one = await client.conversations.items.retrieve(items[0].id or "", conversation_id=made.id)
    assert one == items[0]
    added = await client.conversations.items.create(
        made.id, items=[{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Third."}]}]
    )
    assert len(added.data) == 1
    await client.conversations.items.delete(added.data[0].id or "", conversation_id=made.id)
    assert (await client.conversations.update(made.id, metadata={"c": "d"})).metadata == {"c": "d"}
    assert (await client.conversations.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.conversations.retrieve(made.id)


async def test_stored_chats(sim: Simulation) -> None:
    client = sim.client()
    said: Any = [{"role": "user", "content": "Hello"}]
    first = await client.chat.completions.create(model="gpt-4o", messages=said, store=True, metadata={"k": "v"})
    stream = await client.chat.completions.create(model="gpt-4o-mini", messages=said, store=True, stream=True)
    streamed = (await collect(stream))[0].id
    assert [chat.id async for chat in client.chat.completions.list(limit=1)] == [first.id, streamed]
    kept = await client.chat.completions.retrieve(first.id)
    assert (kept.choices, kept.metadata) == (first.choices, {"k": "v"})
    assert (await sim.last()).usage.total_tokens == 0
    assert (await client.chat.completions.update(first.id, metadata={"k": "w"})).metadata == {"k": "w"}
    loose = sim.client(_strict_response_validation=False)  # it takes every message for an assistant's
    messages = [message async for message in loose.chat.completions.messages.list(first.id)]
    assert [message.content for message in messages] == ["Hello"]
    assert (await client.chat.completions.delete(first.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.retrieve(first.id)


async def test_decisions(sim: Simulation) -> None:
    questions: Any = [
        {"type": "predicate", "instructions": "Is it raining?", "name": "rain"},
        {"type": "choice", "instructions": "Which?", "choices": [{"value": "a"}, {"value": "b"}]},
        {"type": "score", "instructions": "How much?", "levels": [{"label": "low"}, {"label": "high"}]},
    ]
    made = await sim.client().decisions.create(model="gpt-6-luna", input="It is wet outside.", questions=questions)
    assert [answer.type for answer in made.answers] == ["predicate", "choice", "score"]
    assert made.usage.output_tokens == 12
    assert (await sim.last()).usage.total_tokens == made.usage.total_tokens
