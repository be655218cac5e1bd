"""No body, however wrong, makes the simulator fail: it answers or refuses in OpenAI's words."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.simulator.kit import Simulation, simulation

WRONG: tuple[Any, ...] = (
    None,
    1,
    -1,
    "x",
    [],
    {},
    [1],
    ["x"],
    [None],
    [{}],
    {"x": 1},
    True,
    1.5,
    {"type": "x"},
    [{"type": []}],
    [[]],
)
MESSAGES = [{"role": "user", "content": "x"}]
TOOL = {"type": "function", "name": "f", "function": {"name": "f", "parameters": {"type": "object"}}}
CHAT = {
    "model": "o3", "messages": MESSAGES, "max_tokens": 5, "n": 1, "stop": ["a"], "tools": [TOOL], "stream": True,
    "tool_choice": "auto", "functions": [{"name": "f"}], "response_format": {"type": "json_schema", "json_schema": {}},
    "stream_options": {"include_usage": True}, "modalities": ["text"], "prediction": {"content": "x"}, "seed": 1,
    "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "logprobs": True, "top_logprobs": 2,
    "reasoning_effort": "low",
}  # fmt: skip
RESPONSE = {
    "model": "o3", "input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}], "tools": [TOOL],
    "tool_choice": "auto", "text": {"format": {"type": "text"}}, "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["reasoning.encrypted_content"], "max_output_tokens": 20, "metadata": {}, "store": True, "stream": True,
    "stream_options": {}, "instructions": "x", "conversation": None, "prompt": {"id": "x"}, "background": False,
}  # fmt: skip
BODIES: dict[str, dict[str, Any]] = {
    "/chat/completions": CHAT,
    "/responses": RESPONSE,
    "/completions": {"model": "babbage-002", "prompt": "x", "max_tokens": 4, "n": 1, "stop": "x", "logprobs": 1},
    "/embeddings": {"model": "text-embedding-3-small", "input": "x", "dimensions": 5, "encoding_format": "float"},
    "/images/generations": {"model": "gpt-image-1", "prompt": "x", "n": 1, "size": "auto", "partial_images": 1},
    "/decisions": {"model": "gpt-6-sol", "input": "x", "questions": [{"type": "choice", "choices": [{"value": "a"}]}]},
    "/threads": {"messages": MESSAGES, "metadata": {}, "tool_resources": {"file_search": {"vector_stores": [{}]}}},
    "/vector_stores": {"name": "x", "file_ids": [], "expires_after": {"days": 1}, "chunking_strategy": {}},
    "/evals": {"name": "x", "data_source_config": {"type": "custom"}, "testing_criteria": [{"name": "x"}]},
    "/realtime/client_secrets": {"session": {"type": "realtime", "audio": {"input": {"turn_detection": {}}}}},
}


def spoiled(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The body with each member left out or wrong, and each member of its objects wrong."""
    for name, value in body.items():
        yield {other: kept for other, kept in body.items() if other != name}
        for wrong in WRONG:
            yield body | {name: wrong}
            if isinstance(value, dict):
                yield from (body | {name: value | {inner: wrong}} for inner in value)
            elif isinstance(value, list) and value and isinstance(value[0], dict):
                yield from (body | {name: [value[0] | {inner: wrong}, *value[1:]]} for inner in value[0])


@pytest.fixture
async def sim() -> Any:
    async with simulation() as running:
        yield running


@pytest.mark.parametrize("path", BODIES)
async def test_spoiled_bodies(sim: Simulation, path: str) -> None:
    async with sim.session.post(f"{sim.url}/v1{path}", json=BODIES[path], headers=sim.headers) as response:
        assert response.status in {200, 201}, await response.text()
    for body in spoiled(BODIES[path]):
        async with sim.session.post(f"{sim.url}/v1{path}", json=body, headers=sim.headers) as response:
            text = await response.text()
            assert response.status in {200, 201, 400, 404}, (body, text)
            if response.status >= 400:
                assert text.startswith('{"error":{"message":"')


@pytest.mark.parametrize(
    "event",
    [
        {"type": []},
        {"type": "session.update"},
        {"type": "session.update", "session": {"tools": [1]}},
        {"type": "session.update", "session": {"audio": {"input": {"turn_detection": "x"}}}},
        {"type": "conversation.item.create", "item": {"type": "message", "content": ["x"]}},
        {"type": "conversation.item.create", "item": {"type": [], "content": []}},
        {"type": "conversation.item.delete", "item_id": {}},
        {"type": "input_audio_buffer.append", "audio": 3},
        {"type": "response.create", "response": {"input": [1]}},
        {"type": "response.create", "response": {"output_modalities": ["smell"]}},
    ],
)
async def test_spoiled_events(sim: Simulation, event: Any) -> None:
    url = f"{sim.url}/v1/realtime?model=gpt-realtime"
    async with sim.session.ws_connect(url, headers=sim.headers) as socket:
        assert (await socket.receive_json())["type"] == "session.created"
        await socket.send_json(event)
        error = await socket.receive_json()
        assert (error["type"], error["error"]["type"]) == ("error", "invalid_request_error")
        await socket.send_json({"type": "input_audio_buffer.clear"})
        assert (await socket.receive_json())["type"] == "input_audio_buffer.cleared"
