"""Legacy completions, embeddings, moderations and models."""

import base64
import struct
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.compat.conftest import Make

INSTRUCT = "gpt-3.5-turbo-instruct"


async def test_legacy_completions(client: AsyncOpenAI, make: Make) -> None:
    whole = await client.completions.create(model=INSTRUCT, prompt=["Once", "Twice"], max_tokens=6)
    assert [choice.index for choice in whole.choices] == [0, 1]
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 12
    loose = make(_strict_response_validation=False)  # it takes finish_reason for required; OpenAI sends null
    stream = await loose.completions.create(
        model=INSTRUCT, prompt="Once", max_tokens=6, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == whole.choices[0].text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 6


async def test_embeddings_come_packed_unless_asked_otherwise(client: AsyncOpenAI, make: Make) -> None:
    texts = ["a first text", "ein zweiter Text: Größe"]
    loose = make(_strict_response_validation=False)  # it asks for base64, and in its strict mode refuses what it gets
    packed = await loose.embeddings.create(model="text-embedding-3-small", input=texts)
    plain = await client.embeddings.create(model="text-embedding-3-small", input=texts, encoding_format="float")
    assert [len(part.embedding) for part in plain.data] == [1536, 1536]
    for mine, theirs in zip(packed.data, plain.data, strict=True):
        assert mine.embedding == pytest.approx(theirs.embedding, rel=1e-6)
    raw = await loose.embeddings.with_raw_response.create(
        model="text-embedding-3-large", input=texts[0], dimensions=8, encoding_format="base64"
    )
    body: Any = raw.http_response.json()
    assert len(struct.unpack("<8f", base64.b64decode(body["data"][0]["embedding"]))) == 8


async def test_many_embeddings_at_once(client: AsyncOpenAI) -> None:
    answer = await client.embeddings.create(
        model="text-embedding-3-large", input=[f"text {n}" for n in range(200)], encoding_format="float"
    )
    assert [part.index for part in answer.data] == list(range(200))


async def test_moderations(client: AsyncOpenAI) -> None:
    answer = await client.moderations.create(input=["What a day", "I will kill you"])
    assert [result.flagged for result in answer.results] == [False, True]
    assert answer.results[1].categories.violence


async def test_models_are_listed_and_read(client: AsyncOpenAI) -> None:
    listed = [model.id async for model in client.models.list()]
    assert {"gpt-4o", "whisper-1"} <= set(listed)
    assert (await client.models.retrieve("gpt-4o")).owned_by
    with pytest.raises(openai.NotFoundError) as caught:
        await client.models.retrieve("no/such model?")
    assert caught.value.code == "model_not_found"
