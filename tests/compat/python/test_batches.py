"""Batches: they run, they fail, they are cancelled; their results are files."""

import json
from collections.abc import Iterable
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types import Batch

from tests.fakes.redis_servers import eventually

ENDED = {"completed", "failed", "cancelled", "expired"}


def chat_line(custom_id: str, model: str = "gpt-4o-mini+tokens=7") -> Any:
    body = {"model": model, "messages": [{"role": "user", "content": f"Hello from {custom_id}"}]}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


async def started(client: AsyncOpenAI, lines: Iterable[Any], endpoint: Any = "/v1/chat/completions") -> Batch:
    text = "\n".join(map(json.dumps, lines))
    file = await client.files.create(file=("in.jsonl", text.encode()), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", metadata={"a": "b"}
    )


async def ended(client: AsyncOpenAI, batch: Batch) -> Batch:
    async def look() -> Batch | None:
        now = await client.batches.retrieve(batch.id)
        return now if now.status in ENDED else None

    done = await eventually(look)
    assert done is not None
    return done


async def rows(client: AsyncOpenAI, file_id: str | None) -> list[Any]:
    assert file_id is not None
    return [json.loads(line) for line in (await client.files.content(file_id)).text.splitlines()]


async def test_a_batch_runs(client: AsyncOpenAI) -> None:
    lines = [*(chat_line(f"task-{n}") for n in range(20)), chat_line("bad", model="nope")]
    batch = await started(client, lines)
    assert batch.status == "validating"
    done = await ended(client, batch)
    assert (done.status, done.metadata) == ("completed", {"a": "b"})
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (20, 1)
    assert [row["custom_id"] for row in await rows(client, done.output_file_id)] == [f"task-{n}" for n in range(20)]
    assert [row["response"]["status_code"] for row in await rows(client, done.error_file_id)] == [404]
    assert done.usage is not None
    assert done.usage.output_tokens == 140
    assert batch.id in [one.id async for one in client.batches.list(limit=1)][:1]


async def test_a_batch_of_embeddings(client: AsyncOpenAI) -> None:
    body = {"model": "text-embedding-3-small", "input": "some text"}
    line = {"custom_id": "e", "method": "POST", "url": "/v1/embeddings", "body": body}
    done = await ended(client, await started(client, [line], "/v1/embeddings"))
    (row,) = await rows(client, done.output_file_id)
    assert len(row["response"]["body"]["data"][0]["embedding"]) == 1536


async def test_a_batch_of_nonsense_fails(client: AsyncOpenAI) -> None:
    batch = await ended(client, await started(client, [chat_line("a"), chat_line("a")]))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [error.code for error in batch.errors.data or []] == ["duplicate_custom_id"]


async def test_a_batch_is_cancelled(client: AsyncOpenAI) -> None:
    batch = await started(client, [chat_line(f"{n}", "gpt-4o+tokens=3+delay=20ms") for n in range(200)])

    async def working() -> bool:
        now = await client.batches.retrieve(batch.id)
        return now.request_counts is not None and now.request_counts.completed > 0

    await eventually(working)
    assert (await client.batches.cancel(batch.id)).status == "cancelling"
    done = await ended(client, batch)
    assert done.status == "cancelled"
    assert done.request_counts is not None
    assert 0 < len(await rows(client, done.output_file_id)) == done.request_counts.completed < 200
    with pytest.raises(openai.ConflictError):
        await client.batches.cancel(batch.id)
