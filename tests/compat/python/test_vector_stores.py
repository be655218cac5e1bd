"""Vector stores: files one by one and in batches, uploads that are waited for, search."""

import io

import openai
import pytest
from openai import AsyncOpenAI

from tests.fakes.redis_servers import eventually

OSLO, ROME = b"Oslo is the capital of Norway and lies on a fjord.", b"Rome is the capital of Italy and has seven hills."


async def test_stores_are_kept(client: AsyncOpenAI) -> None:
    store = await client.vector_stores.create(
        name="Kept", expires_after={"anchor": "last_active_at", "days": 3}, metadata={"a": "b"}
    )
    assert (await client.vector_stores.retrieve(store.id)).metadata == {"a": "b"}
    assert (await client.vector_stores.update(store.id, name="New")).name == "New"
    assert store.id in [one.id async for one in client.vector_stores.list(limit=2)]
    assert (await client.vector_stores.delete(store.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.vector_stores.retrieve(store.id)


async def test_files_are_added_one_by_one(client: AsyncOpenAI) -> None:
    store = await client.vector_stores.create(name="Cities")
    made = await client.files.create(file=("oslo.txt", OSLO), purpose="assistants")
    files = client.vector_stores.files
    added = await files.create(store.id, file_id=made.id)
    assert (added.id, added.object) == (made.id, "vector_store.file")
    assert (await files.poll(made.id, vector_store_id=store.id, poll_interval_ms=10)).status == "completed"
    rome = await files.upload_and_poll(vector_store_id=store.id, file=("rome.txt", ROME), poll_interval_ms=10)
    assert (rome.status, rome.usage_bytes) == ("completed", len(ROME))
    unpolled = await files.upload(vector_store_id=store.id, file=("again.txt", ROME))
    assert (await files.delete(unpolled.id, vector_store_id=store.id)).deleted
    other = await client.files.create(file=("other.txt", ROME), purpose="assistants")
    polled = await files.create_and_poll(
        other.id, vector_store_id=store.id, poll_interval_ms=10, attributes={"country": "it"}
    )
    assert polled.attributes == {"country": "it"}
    assert (await files.retrieve(rome.id, vector_store_id=store.id)).status == "completed"
    listed = [file.id async for file in files.list(store.id, filter="completed", limit=1)]
    assert listed == [other.id, rome.id, made.id]
    changed = await files.update(rome.id, vector_store_id=store.id, attributes={"x": 1.0})
    assert changed.attributes == {"x": 1.0}
    content = [part.text async for part in files.content(made.id, vector_store_id=store.id)]
    assert content == [OSLO.decode()]
    assert (await files.delete(made.id, vector_store_id=store.id)).deleted
    assert (await client.vector_stores.retrieve(store.id)).file_counts.total == 2


async def test_files_are_added_in_batches(client: AsyncOpenAI) -> None:
    store = await client.vector_stores.create(name="Batches")
    batches = client.vector_stores.file_batches
    ids = [(await client.files.create(file=(f"{n}", OSLO), purpose="assistants")).id for n in range(3)]
    made = await batches.create(store.id, file_ids=ids)
    done = await batches.poll(made.id, vector_store_id=store.id, poll_interval_ms=10)
    assert (done.status, done.file_counts.completed) == ("completed", 3)
    assert (await batches.retrieve(made.id, vector_store_id=store.id)).file_counts == done.file_counts
    listed = [file.id async for file in batches.list_files(made.id, vector_store_id=store.id, limit=2)]
    assert sorted(listed) == sorted(ids)
    sources = [io.BytesIO(OSLO), io.BytesIO(ROME)]
    both = await batches.upload_and_poll(store.id, files=sources, poll_interval_ms=10)
    assert (both.status, both.file_counts.total) == ("completed", 2)


async def test_a_batch_of_files_is_cancelled(client: AsyncOpenAI) -> None:
    store = await client.vector_stores.create(name="Cancelled")
    file = await client.files.create(file=("a", OSLO), purpose="assistants")
    batches = client.vector_stores.file_batches

    async def cancelled() -> bool:  # before it has ended
        batch = await batches.create(store.id, file_ids=[file.id])
        gone = await batches.cancel(batch.id, vector_store_id=store.id)
        return (gone.status, gone.file_counts.cancelled) == ("cancelled", 1)

    await eventually(cancelled)


async def test_search_finds_the_best_passage(client: AsyncOpenAI) -> None:
    store = await client.vector_stores.create(name="Searched")
    for name, text in (("oslo.txt", OSLO), ("rome.txt", ROME)):
        await client.vector_stores.files.upload_and_poll(
            vector_store_id=store.id, file=(name, text), poll_interval_ms=10
        )
    found = [row async for row in client.vector_stores.search(store.id, query="the seven hills", max_num_results=1)]
    assert [row.filename for row in found] == ["rome.txt"]
    assert "Rome" in found[0].content[0].text
