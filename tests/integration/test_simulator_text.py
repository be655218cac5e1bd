"""The simulator's legacy completions, embeddings and moderations, through the official client in its strict mode."""

import base64
import json
import math
import struct
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from gateway.simulator import tokens
from gateway.simulator.text import Prose
from tests.unit.simulator.kit import Simulation, simulation

INSTRUCT = "gpt-3.5-turbo-instruct"


@pytest.fixture
async def sim() -> AsyncIterator[Simulation]:
    async with simulation() as running:
        yield running


async def test_completions_count_what_they_say(sim: Simulation) -> None:
    client = sim.client()
    answer = await client.completions.create(model=INSTRUCT, prompt=["Once upon", "Twice"], n=2, max_tokens=9)
    assert answer.usage is not None
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert {tokens.count(choice.text) for choice in answer.choices} == {9}
    assert answer.usage.completion_tokens == 36
    assert answer.usage.prompt_tokens == tokens.count("Once upon") + tokens.count("Twice")
    assert answer.choices[0].finish_reason == "length"
    default = await client.completions.create(model=INSTRUCT, prompt="Once")
    assert default.usage is not None
    assert default.usage.completion_tokens == 16


async def test_completions_echo_and_name_their_tokens(sim: Simulation) -> None:
    answer = await sim.client().completions.create(
        model="babbage-002", prompt="Once upon", echo=True, logprobs=2, max_tokens=5
    )
    choice = answer.choices[0]
    assert choice.text.startswith("Once upon")
    assert choice.logprobs is not None
    assert "Once upon" + "".join(choice.logprobs.tokens or []) == choice.text


async def test_completions_stream(sim: Simulation) -> None:
    whole = await sim.client().completions.create(model=INSTRUCT, prompt="Once", max_tokens=6)
    body: Any = {"model": INSTRUCT, "prompt": "Once", "max_tokens": 6, "stream": True}
    _, lines = await sim.lines("/completions", body)
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole.choices[0].text
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 6 + ["length"]
    assert "usage" not in chunks[0]
    _, lines = await sim.lines("/completions", body | {"stream_options": {"include_usage": True}})
    chunks = [json.loads(line) for line in lines[:-1]]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["completion_tokens"]) == ([], 6)
    loose = sim.client(_strict_response_validation=False)  # it takes finish_reason for required; OpenAI sends null
    stream: Any = await loose.completions.create(**body)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == whole.choices[0].text


async def test_embeddings_are_unit_vectors_of_the_text(sim: Simulation) -> None:
    client = sim.client()
    texts = ["a first text", "a second text", "a first text"]
    # Without an encoding the client asks for base64, and in its strict mode then refuses what it gets.
    answer = await client.embeddings.create(model="text-embedding-3-small", input=texts, encoding_format="float")
    vectors = [part.embedding for part in answer.data]
    assert [len(vector) for vector in vectors] == [1536] * 3
    assert vectors[0] == vectors[2] != vectors[1]
    assert math.isclose(sum(value * value for value in vectors[0]), 1, rel_tol=1e-3)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(map(tokens.count, texts))
    record = await sim.last()
    assert (record.usage.input_tokens, record.usage_sent) == (answer.usage.prompt_tokens, True)


async def test_embeddings_in_both_encodings_and_any_size(sim: Simulation) -> None:
    client = sim.client(_strict_response_validation=False)
    body = {"model": "text-embedding-3-large", "input": "x", "dimensions": 256}
    _, _, plain = await sim.post("/embeddings", body)
    _, _, packed = await sim.post("/embeddings", body | {"encoding_format": "base64"})
    floats = plain["data"][0]["embedding"]
    assert struct.unpack("<256f", base64.b64decode(packed["data"][0]["embedding"])) == pytest.approx(floats, rel=1e-6)
    numbers = await client.embeddings.create(model="text-embedding-ada-002", input=[[1, 2, 3], [4]])
    assert numbers.usage.prompt_tokens == 4
    assert numbers.model == "text-embedding-ada-002-v2"
    wrong: Any
    for wrong in ({"input": []}, {"input": ["x"] * 2049}, {"input": "x", "dimensions": 5000}):
        with pytest.raises(openai.BadRequestError):
            await client.embeddings.create(model="text-embedding-3-small", **wrong)


async def test_moderations(sim: Simulation) -> None:
    client = sim.client()
    text = Prose().text(4, 50)
    answer = await client.moderations.create(input=[text, "I will kill you"])
    assert [result.flagged for result in answer.results] == [False, True]
    assert answer.results[1].categories.violence
    assert answer.results[1].category_scores.violence > 0.9
    assert answer.model == "omni-moderation-2024-09-26"
    record = await sim.last()
    assert record.usage.input_tokens == 50 + tokens.count("I will kill you")
    assert not record.usage_sent
    picture: Any = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}},
    ]
    answer = await client.moderations.create(input=picture)
    assert len(answer.results) == 1
    assert answer.results[0].category_applied_input_types.violence == ["text", "image"]
