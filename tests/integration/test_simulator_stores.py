"""The simulator's vector stores and fine-tuning jobs, through the official client in its strict mode."""

import json
from collections.abc import AsyncIterator

import openai
import pytest

from gateway.simulator import tokens
from gateway.simulator.options import SimulatorOptions
from tests.unit.simulator.kit import Simulation, simulation

OSLO, ROME = b"Oslo is the capital of Norway and lies on a fjord.", b"Rome is the capital of Italy and has seven hills."


@pytest.fixture
async def sim() -> AsyncIterator[Simulation]:
    async with simulation() as running:
        yield running


async def test_files_are_processed_and_counted(sim: Simulation) -> None:
    client = sim.client()
    first = await client.files.create(file=("oslo.txt", OSLO), purpose="assistants")
    second = await client.files.create(file=("rome.txt", ROME), purpose="assistants")
    store = await client.vector_stores.create(name="Cities", file_ids=[first.id], metadata={"a": "b"})
    assert (store.status, store.file_counts.in_progress, store.usage_bytes) == ("in_progress", 1, 0)
    added = await client.vector_stores.files.create_and_poll(
        second.id, vector_store_id=store.id, poll_interval_ms=10, attributes={"country": "it"}
    )
    assert (added.status, added.usage_bytes, added.attributes) == ("completed", len(ROME), {"country": "it"})
    store = await client.vector_stores.retrieve(store.id)
    assert (store.status, store.file_counts.completed, store.usage_bytes) == ("completed", 2, len(OSLO) + len(ROME))
    listed = [file.id async for file in client.vector_stores.files.list(store.id, filter="completed", limit=1)]
    assert listed == [second.id, first.id]
    updated = await client.vector_stores.files.update(second.id, vector_store_id=store.id, attributes={"x": 1.0})
    assert updated.attributes == {"x": 1.0}
    content = await client.vector_stores.files.content(first.id, vector_store_id=store.id)
    assert content.data[0].text == OSLO.decode()
    assert (await client.vector_stores.files.delete(first.id, vector_store_id=store.id)).deleted
    assert (await client.vector_stores.retrieve(store.id)).usage_bytes == len(ROME)
    assert (await client.files.retrieve(first.id)).id == first.id
    record = next(one for one in await sim.records() if one.operation == "createVectorStoreFile")
    assert (record.usage.bytes, record.parent) == (len(ROME), store.id)


async def test_batches_of_files(sim: Simulation) -> None:
    client = sim.client()
    files = [await client.files.create(file=(f"{n}", OSLO), purpose="assistants") for n in range(3)]
    store = await client.vector_stores.create(name="x")
    batch = await client.vector_stores.file_batches.create_and_poll(
        vector_store_id=store.id, file_ids=[file.id for file in files], poll_interval_ms=10
    )
    assert (batch.status, batch.file_counts.completed, batch.file_counts.total) == ("completed", 3, 3)
    listed = client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id)
    assert {file.id async for file in listed} == {file.id for file in files}
    again = await client.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store.id)
    assert again.file_counts == batch.file_counts


async def test_a_batch_of_files_is_cancelled() -> None:
    async with simulation(SimulatorOptions(step_s=0.3)) as sim:
        client = sim.client()
        file = await client.files.create(file=("a", OSLO), purpose="assistants")
        store = await client.vector_stores.create(name="x")
        batch = await client.vector_stores.file_batches.create(vector_store_id=store.id, file_ids=[file.id])
        assert batch.status == "in_progress"
        gone = await client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store.id)
        assert (gone.status, gone.file_counts.cancelled) == ("cancelled", 1)
        await sim.records()
        assert (await client.vector_stores.retrieve(store.id)).file_counts.cancelled == 1


async def test_search_finds_the_best_passage(sim: Simulation) -> None:
    client = sim.client()
    files = [
        await client.files.create(file=(name, text), purpose="assistants") for name, text in (("o", OSLO), ("r", ROME))
    ]
    store = await client.vector_stores.create(name="x", file_ids=[file.id for file in files])
    await sim.records()
    page = await client.vector_stores.search(store.id, query="the seven hills of Rome", max_num_results=1)
    assert [row.file_id for row in page.data] == [files[1].id]
    assert "Rome" in page.data[0].content[0].text
    assert (await sim.last()).usage.file_searches == 1


async def test_vector_stores_are_kept(sim: Simulation) -> None:
    client = sim.client()
    store = await client.vector_stores.create(expires_after={"anchor": "last_active_at", "days": 3})
    assert store.expires_at is not None
    assert store.expires_at - store.created_at == 3 * 86_400
    assert (await client.vector_stores.update(store.id, name="New")).name == "New"
    assert [one.id async for one in client.vector_stores.list()] == [store.id]
    assert (await client.vector_stores.delete(store.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.vector_stores.retrieve(store.id)
    with pytest.raises(openai.NotFoundError):
        await client.vector_stores.create(file_ids=["file-unknown"])


def examples(count: int) -> tuple[bytes, int]:
    """A training file and the tokens in it."""
    lines, total = [], 0
    for number in range(count):
        messages = [
            {"role": "user", "content": f"Question number {number}?"},
            {"role": "assistant", "content": "A short answer."},
        ]
        total += sum(tokens.count(message["content"]) for message in messages)
        lines.append(json.dumps({"messages": messages}))
    return "\n".join(lines).encode(), total


async def test_a_job_trains_a_model(sim: Simulation) -> None:
    client = sim.client()
    data, total = examples(10)
    file = await client.files.create(file=("train.jsonl", data), purpose="fine-tune")
    job = await client.fine_tuning.jobs.create(
        model="gpt-4o-mini", training_file=file.id, suffix="mine", hyperparameters={"n_epochs": 4}
    )
    assert (job.status, job.trained_tokens) == ("validating_files", None)
    await sim.records()
    job = await client.fine_tuning.jobs.retrieve(job.id)
    assert (job.status, job.trained_tokens) == ("succeeded", total * 4)
    model = job.fine_tuned_model or ""
    assert model.startswith("ft:gpt-4o-mini:org-simulator:mine:")
    events = [event.message async for event in client.fine_tuning.jobs.list_events(job.id)]
    assert events[0] == "The job has successfully completed"
    assert events[-1] == f"Created fine-tuning job: {job.id}"
    points = [point async for point in client.fine_tuning.jobs.checkpoints.list(job.id)]
    assert [point.step_number for point in points] == [300, 200, 100]
    assert "train_loss" in (await client.files.content(job.result_files[0])).text
    record = next(one for one in await sim.records() if one.transport == "background")
    assert (record.object_id, record.usage.trained_tokens) == (job.id, total * 4)
    answer = await client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}])
    assert answer.model == model
    assert (await client.models.retrieve(model)).owned_by == "org-simulator"
    assert (await client.models.delete(model)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve(model)


async def test_a_job_is_cancelled_or_fails() -> None:
    async with simulation(SimulatorOptions(step_s=0.1)) as sim:
        client = sim.client()
        good = await client.files.create(file=("train.jsonl", examples(3)[0]), purpose="fine-tune")
        bad = await client.files.create(file=("train.jsonl", b"nonsense"), purpose="fine-tune")
        first = await client.fine_tuning.jobs.create(model="gpt-4o-mini", training_file=good.id)
        assert (await client.fine_tuning.jobs.cancel(first.id)).status == "cancelled"
        second = await client.fine_tuning.jobs.create(model="gpt-4o-mini", training_file=bad.id)
        await sim.records()
        assert (await client.fine_tuning.jobs.retrieve(first.id)).status == "cancelled"
        failed = await client.fine_tuning.jobs.retrieve(second.id)
        assert failed.status == "failed"
        assert failed.error is not None
        assert failed.error.code == "invalid_training_file"
        assert [job.id async for job in client.fine_tuning.jobs.list(limit=1)] == [second.id, first.id]
        with pytest.raises(openai.BadRequestError):
            await client.fine_tuning.jobs.create(model="gpt-4o-mini", training_file="file-unknown")
