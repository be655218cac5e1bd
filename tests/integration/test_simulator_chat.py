"""The simulator's chat completions, models and head, through the official client in its strict mode."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionToolParam

from gateway.simulator import tokens
from gateway.simulator.options import SimulatorOptions
from gateway.simulator.text import Prose
from tests.unit.simulator.kit import KEY, Simulation, simulation

HELLO: Any = [{"role": "user", "content": "Hello there, how are you?"}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["c", "f"]}},
            "required": ["city"],
        },
    },
}
CLOCK: ChatCompletionToolParam = {"type": "function", "function": {"name": "get_time"}}


@pytest.fixture
async def sim() -> AsyncIterator[Simulation]:
    async with simulation() as running:
        yield running


async def collect(stream: Any) -> list[ChatCompletionChunk]:
    return [chunk async for chunk in stream]


async def test_usage_is_what_the_text_counts(sim: Simulation) -> None:
    answer = await sim.client().chat.completions.create(model="gpt-4o", messages=HELLO)
    message, usage = answer.choices[0].message, answer.usage
    assert usage is not None
    assert message.content is not None
    assert usage.completion_tokens == tokens.count(message.content)
    assert usage.prompt_tokens == 3 + 3 + tokens.count("user") + tokens.count("Hello there, how are you?")
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.model, answer.service_tier) == ("gpt-4o-2024-08-06", "default")
    assert re.fullmatch(r"chatcmpl-\w{29}", answer.id)


async def test_the_same_request_has_the_same_answer_streamed_or_not(sim: Simulation) -> None:
    client = sim.client()
    first = await client.chat.completions.create(model="gpt-4o", messages=HELLO)
    again = await client.chat.completions.create(model="gpt-4o", messages=HELLO)
    other = await client.chat.completions.create(model="gpt-4o", messages=HELLO, seed=2)
    assert first.choices[0].message.content == again.choices[0].message.content != other.choices[0].message.content
    assert first.usage == again.usage
    stream = await client.chat.completions.create(
        model="gpt-4o", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = await collect(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == first.choices[0].message.content
    assert chunks[-1].choices == []
    assert chunks[-1].usage == first.usage


async def test_usage_is_streamed_only_if_asked_for_and_null_before(sim: Simulation) -> None:
    body: Any = {"model": "gpt-4o", "messages": HELLO, "max_tokens": 3, "stream": True}
    head, plain = await sim.lines("/chat/completions", body)
    assert plain[-1] == "[DONE]"
    assert all("usage" not in json.loads(line) and json.loads(line)["choices"] for line in plain[:-1])
    _, lines = await sim.lines("/chat/completions", body | {"stream_options": {"include_usage": True}})
    asked = [json.loads(line) for line in lines[:-1]]
    assert [chunk["usage"] for chunk in asked[:-1]] == [None] * (len(asked) - 1)
    assert asked[-1]["choices"] == []
    assert asked[-1]["usage"]["completion_tokens"] == 3
    assert head["content-type"] == "text/event-stream; charset=utf-8"


async def test_limits_of_tokens_are_exact(sim: Simulation) -> None:
    client = sim.client()
    for name in ("max_tokens", "max_completion_tokens"):
        limit: Any = {name: 7}
        answer = await client.chat.completions.create(model="gpt-4o", messages=HELLO, **limit)
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 7 == tokens.count(answer.choices[0].message.content or "")
        assert answer.choices[0].finish_reason == "length"


async def test_several_choices_differ_and_add_up(sim: Simulation) -> None:
    client = sim.client()
    whole = await client.chat.completions.create(model="gpt-4o", messages=HELLO, n=3)
    texts = [choice.message.content or "" for choice in whole.choices]
    assert len(set(texts)) == 3
    assert whole.usage is not None
    assert whole.usage.completion_tokens == sum(map(tokens.count, texts))
    chunks = await collect(await client.chat.completions.create(model="gpt-4o", messages=HELLO, n=3, stream=True))
    streamed = ["", "", ""]
    for chunk in chunks:
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == texts


async def test_tools_are_called_in_turn(sim: Simulation) -> None:
    client = sim.client()
    first = await client.chat.completions.create(model="gpt-4o", messages=HELLO, tools=[WEATHER, CLOCK])
    calls = first.choices[0].message.tool_calls or []
    assert first.choices[0].finish_reason == "tool_calls"
    assert [call.function.name for call in calls if call.type == "function"] == ["get_weather", "get_time"]
    assert first.usage is not None
    made = [(call.function.name, call.function.arguments) for call in calls if call.type == "function"]
    assert json.loads(made[0][1]).keys() == {"city", "unit"}
    assert first.usage.completion_tokens == sum(tokens.count(name) + tokens.count(args) for name, args in made)
    results = [{"role": "tool", "tool_call_id": call.id, "content": "17 degrees"} for call in calls]
    said: Any = [*HELLO, first.choices[0].message.model_dump(exclude_none=True), *results]
    last = await client.chat.completions.create(model="gpt-4o", messages=said, tools=[WEATHER, CLOCK])
    assert last.choices[0].finish_reason == "stop"
    assert last.choices[0].message.content


async def test_tool_choices(sim: Simulation) -> None:
    client = sim.client()

    async def names(**options: Any) -> list[str]:
        answer = await client.chat.completions.create(model="gpt-4o", messages=HELLO, tools=[WEATHER, CLOCK], **options)
        calls = answer.choices[0].message.tool_calls or []
        return [call.function.name for call in calls if call.type == "function"]

    assert await names(tool_choice="none") == []
    assert await names(parallel_tool_calls=False) == ["get_weather"]
    assert await names(tool_choice={"type": "function", "function": {"name": "get_time"}}) == ["get_time"]


async def test_tool_calls_stream_as_they_are(sim: Simulation) -> None:
    client = sim.client()
    whole = await client.chat.completions.create(model="gpt-4o", messages=HELLO, tools=[WEATHER, CLOCK])
    stream = await client.chat.completions.create(
        model="gpt-4o", messages=HELLO, tools=[WEATHER, CLOCK], stream=True, stream_options={"include_usage": True}
    )
    made: dict[int, list[str]] = {}
    for chunk in (chunks := await collect(stream)):
        for call in chunk.choices[0].delta.tool_calls or [] if chunk.choices else []:
            assert call.function is not None
            parts = made.setdefault(call.index, ["", ""])
            parts[0] += call.function.name or ""
            parts[1] += call.function.arguments or ""
    calls = [call.function for call in whole.choices[0].message.tool_calls or [] if call.type == "function"]
    assert [made[i] for i in sorted(made)] == [[call.name, call.arguments] for call in calls]
    assert chunks[-2].choices[0].finish_reason == "tool_calls"
    assert chunks[-1].usage == whole.usage


async def test_custom_tools_and_legacy_functions(sim: Simulation) -> None:
    client = sim.client()
    tool: Any = {"type": "custom", "custom": {"name": "run_code"}}
    answer = await client.chat.completions.create(model="gpt-5", messages=HELLO, tools=[tool])
    call = (answer.choices[0].message.tool_calls or [])[0]
    assert call.type == "custom"
    assert call.custom.name == "run_code"
    legacy = await client.chat.completions.create(model="gpt-4o", messages=HELLO, functions=[{"name": "f"}])
    assert legacy.choices[0].finish_reason == "function_call"
    assert legacy.choices[0].message.function_call is not None
    chunks = await collect(
        await client.chat.completions.create(model="gpt-4o", messages=HELLO, functions=[{"name": "f"}], stream=True)
    )
    assert any(chunk.choices[0].delta.function_call for chunk in chunks)


async def test_structured_output_fits_its_schema(sim: Simulation) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
    form: Any = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}
    client = sim.client()
    answer = await client.chat.completions.create(model="gpt-4o", messages=HELLO, response_format=form)
    value = json.loads(answer.choices[0].message.content or "")
    assert isinstance(value["name"], str)
    assert isinstance(value["age"], int)
    loose = await client.chat.completions.create(
        model="gpt-4o", messages=HELLO, response_format={"type": "json_object"}
    )
    assert isinstance(json.loads(loose.choices[0].message.content or ""), dict)


async def test_reasoning_is_billed_and_comes_out_of_the_limit(sim: Simulation) -> None:
    client = sim.client()
    answer = await client.chat.completions.create(model="o3", messages=HELLO, reasoning_effort="high")
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    thought = answer.usage.completion_tokens_details.reasoning_tokens or 0
    assert thought >= 640
    assert answer.usage.completion_tokens == thought + tokens.count(answer.choices[0].message.content or "")
    short = await client.chat.completions.create(model="o3", messages=HELLO, max_completion_tokens=50)
    assert (short.choices[0].finish_reason, short.choices[0].message.content) == ("length", "")
    assert short.usage is not None
    assert short.usage.completion_tokens == 50
    chunks = await collect(await client.chat.completions.create(model="o3", messages=HELLO, stream=True))
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert (await sim.last()).output_tokens_sent == (await sim.last()).usage.output_tokens


async def test_long_prompts_are_cached(sim: Simulation) -> None:
    client = sim.client()
    said: Any = [{"role": "system", "content": Prose().text(1, 2000)}, *HELLO]
    cached = []
    for _ in range(2):
        answer = await client.chat.completions.create(model="gpt-4o", messages=said, max_tokens=4)
        assert answer.usage is not None
        assert answer.usage.prompt_tokens_details is not None
        cached.append(answer.usage.prompt_tokens_details.cached_tokens)
    assert cached == [0, 1920]
    answer = await client.chat.completions.create(model="gpt-6-sol", messages=said, max_tokens=4)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cache_write_tokens == 1920


async def test_pictures_sounds_and_predictions_are_counted(sim: Simulation) -> None:
    client = sim.client()
    said: Any = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                {"type": "input_audio", "input_audio": {"data": "A" * 64_000, "format": "mp3"}},
            ],
        }
    ]
    answer = await client.chat.completions.create(model="gpt-4o", messages=said)
    assert answer.usage is not None
    details = answer.usage.prompt_tokens_details
    assert details is not None
    assert (details.image_tokens, details.audio_tokens) == (85 + 4 * 170, 30)
    guess: Any = {"type": "content", "content": Prose().text(2, 90)}
    answer = await client.chat.completions.create(model="gpt-4o", messages=HELLO, prediction=guess)
    assert answer.usage is not None
    split = answer.usage.completion_tokens_details
    assert split is not None
    text = tokens.count(answer.choices[0].message.content or "")
    assert split.accepted_prediction_tokens == min(90, text // 2)
    assert answer.usage.completion_tokens == text + (split.rejected_prediction_tokens or 0)


async def test_spoken_answers(sim: Simulation) -> None:
    client = sim.client()
    options: Any = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
    answer = await client.chat.completions.create(model="gpt-4o-audio-preview", messages=HELLO, **options)
    audio = answer.choices[0].message.audio
    assert audio is not None
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    spoken = answer.usage.completion_tokens_details.audio_tokens or 0
    assert spoken > 0
    assert answer.usage.completion_tokens == tokens.count(audio.transcript) + spoken
    options["audio"]["format"] = "pcm16"
    await collect(
        await client.chat.completions.create(model="gpt-4o-audio-preview", messages=HELLO, stream=True, **options)
    )
    record = await sim.last()
    assert record.output_tokens_sent == record.usage.output_tokens == answer.usage.completion_tokens


async def test_logprobs_name_every_token(sim: Simulation) -> None:
    client = sim.client()
    answer = await client.chat.completions.create(
        model="gpt-4o", messages=HELLO, logprobs=True, top_logprobs=3, max_tokens=6
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert "".join(part.token for part in logprobs.content or []) == answer.choices[0].message.content
    assert all(len(part.top_logprobs) == 3 and part.logprob < 0 for part in logprobs.content or [])


@pytest.mark.parametrize(
    ("asked", "served"), [(None, "default"), ("auto", "default"), ("flex", "flex"), ("fast", "priority")]
)
async def test_service_tiers(sim: Simulation, asked: Any, served: str) -> None:
    options: Any = {} if asked is None else {"service_tier": asked}
    answer = await sim.client().chat.completions.create(model="gpt-5", messages=HELLO, **options)
    assert answer.service_tier == served
    assert (await sim.last()).service_tier == served


async def test_a_stop_word_ends_the_text(sim: Simulation) -> None:
    client = sim.client()
    text = (await client.chat.completions.create(model="gpt-4o", messages=HELLO)).choices[0].message.content or ""
    word = text.split()[5]
    answer = await client.chat.completions.create(model="gpt-4o", messages=HELLO, stop=[word])
    assert answer.choices[0].message.content == text[: text.index(word)]
    assert answer.choices[0].finish_reason == "stop"


async def test_the_head_is_openais(sim: Simulation) -> None:
    raw = await sim.client().chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO)
    head = raw.headers
    assert re.fullmatch(r"req_[0-9a-f]{32}", head["x-request-id"])
    assert head["openai-version"] == "2020-10-01"
    assert head["openai-organization"] == "org-simulator"
    assert head["openai-processing-ms"].isdigit()
    assert head["content-type"] == "application/json"
    for kind in ("requests", "tokens"):
        assert int(head[f"x-ratelimit-limit-{kind}"]) > int(head[f"x-ratelimit-remaining-{kind}"])
        assert re.fullmatch(r"(\d+h)?(\d+m)?(\d+(\.\d{1,3})?s|\d+ms)", head[f"x-ratelimit-reset-{kind}"])


@pytest.mark.parametrize(
    ("body", "status", "param", "code", "message"),
    [
        ({"model": "nope", "messages": HELLO}, 404, None, "model_not_found", "The model `nope` does not exist or you do "),
        ({"messages": HELLO}, 400, None, None, "you must provide a model parameter"),
        ({"model": "gpt-4o"}, 400, "messages", "missing_required_parameter", "Missing required parameter: 'messages'."),
        ({"model": "gpt-4o", "messages": []}, 400, "messages", "empty_array", "Invalid 'messages': empty array."),
        ({"model": "gpt-4o", "messages": "x"}, 400, "messages", "invalid_type", "Invalid type for 'messages': "),
        ({"model": "gpt-4o", "messages": [{"role": "x"}]}, 400, "messages[0].role", "invalid_value", "Invalid value: 'x'"),
        ({"model": "gpt-4o", "messages": HELLO, "max_tokens": 0}, 400, "max_tokens", "integer_below_min_value", "Invalid 'max_"),
        ({"model": "gpt-4o", "messages": HELLO, "n": "two"}, 400, "n", "invalid_type", "Invalid type for 'n'"),
        ({"model": "gpt-4o", "messages": HELLO, "stream_options": {}}, 400, "stream_options", None, "The 'stream_options'"),
        ({"model": "gpt-4o", "messages": HELLO, "service_tier": "x"}, 400, "service_tier", "invalid_value", "Invalid value"),
        ([1], 400, None, None, "We could not parse the JSON body"),
    ],
)  # fmt: skip
async def test_refusals(
    *, sim: Simulation, body: Any, status: int, param: str | None, code: str | None, message: str
) -> None:
    got, _, answer = await sim.post("/chat/completions", body)
    error = answer["error"]
    assert (got, error["param"], error["code"], error["type"]) == (status, param, code, "invalid_request_error")
    assert error["message"].startswith(message)
    assert error.keys() == {"message", "type", "param", "code"}
    record = await sim.last()
    assert (record.ended, record.status, record.usage.total_tokens) == ("refused", status, 0)


async def test_who_may_call() -> None:
    async with simulation(SimulatorOptions(keys=frozenset({KEY}))) as sim:
        await sim.client().models.list()
        with pytest.raises(openai.AuthenticationError) as caught:
            await sim.client().with_options(api_key="sk-proj-something-else-9876").models.list()
        assert caught.value.code == "invalid_api_key"
        assert "sk-proj-***************9876" in caught.value.message
        with pytest.raises(openai.AuthenticationError) as caught:
            await sim.client().with_options(organization="org-other").models.list()
        assert caught.value.code == "mismatched_organization"
        async with sim.session.get(f"{sim.url}/v1/models") as response:
            assert response.status == 401
            assert "You didn't provide an API key" in (await response.json())["error"]["message"]


async def test_unknown_paths(sim: Simulation) -> None:
    status, _, answer = await sim.post("/foo")
    assert status == 404
    assert answer["error"]["message"] == "Invalid URL (POST /v1/foo)"
    status, _, answer = await sim.post("/organization/projects")
    assert status == 404


async def test_models(sim: Simulation) -> None:
    client = sim.client()
    listed = {model.id async for model in client.models.list()}
    assert {"gpt-4o", "o3", "text-embedding-3-small", "gpt-image-1", "whisper-1"} <= listed
    assert (await client.models.retrieve("gpt-4o")).object == "model"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("nope")
    with pytest.raises(openai.PermissionDeniedError):
        await client.models.delete("gpt-4o")


async def test_the_synchronous_client(sim: Simulation) -> None:
    def work(client: openai.OpenAI) -> tuple[str, str]:
        whole = client.chat.completions.create(model="gpt-4o", messages=HELLO)
        parts = client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
        return whole.choices[0].message.content or "", "".join(c.choices[0].delta.content or "" for c in parts)

    whole, streamed = await sim.threaded(work)
    assert whole == streamed
