"""The simulator's videos, containers and evals, through the official client in its strict mode."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.unit.simulator.kit import Simulation, simulation


@pytest.fixture
async def sim() -> AsyncIterator[Simulation]:
    async with simulation() as running:
        yield running


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_videos_are_billed_when_they_complete(sim: Simulation) -> None:
    client = sim.client()
    made = await client.videos.create(model="sora-2-pro", prompt="A kite", seconds="8", size="1280x720")
    assert (made.status, made.progress) == ("queued", 0)
    await sim.records()
    done = await client.videos.retrieve(made.id)
    assert (done.status, done.progress, done.seconds, done.model) == ("completed", 100, "8", "sora-2-pro")
    (record,) = [one for one in await sim.records() if one.transport == "background"]
    assert (record.usage.seconds, record.object_id, record.response_model) == (8.0, made.id, "sora-2-pro")
    content = await client.videos.download_content(made.id)
    assert content.response.headers["content-type"] == "video/mp4"
    assert len(content.content) == 8 * 4096
    remixed = await client.videos.create_and_poll(model="sora-2", prompt="A plane", poll_interval_ms=10)
    assert remixed.status == "completed"
    # The client takes no reference here, though its types do.
    _, _, longer = await sim.post("/videos/extensions", {"prompt": "More", "seconds": "4", "video": {"id": made.id}})
    changed = await client.videos.remix(made.id, prompt="At night")
    assert (longer["seconds"], changed.seconds, changed.remixed_from_video_id) == ("12", "8", made.id)
    billed = [one.usage.seconds for one in await sim.records() if one.transport == "background"]
    assert billed == [8.0, 4.0, 4.0, 8.0]
    assert len([video async for video in client.videos.list()]) == 4
    assert (await client.videos.delete(made.id)).deleted


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_videos_that_fail_are_not(sim: Simulation) -> None:
    client = sim.client()
    made = await client.videos.create(model="sora-2+fail", prompt="A kite")
    (record,) = [one for one in await sim.records() if one.transport == "background"]
    assert (record.ended, record.usage.seconds) == ("error", 0.0)
    failed = await client.videos.retrieve(made.id)
    assert failed.error is not None
    with pytest.raises(openai.NotFoundError):
        await client.videos.download_content(made.id)


async def test_containers_are_sessions(sim: Simulation) -> None:
    client = sim.client()
    made = await client.containers.create(name="box", memory_limit="4g")
    assert (await sim.last()).usage.sessions == 1
    file = await client.containers.files.create(made.id, file=("data.txt", b"inside"))
    assert (file.path, file.bytes) == ("/mnt/data/data.txt", 6)
    content = await client.containers.files.content.retrieve(file.id, container_id=made.id)
    assert content.content == b"inside"
    assert [one.id async for one in client.containers.files.list(made.id)] == [file.id]
    await client.containers.files.delete(file.id, container_id=made.id)
    assert [one.id async for one in client.containers.list()] == [made.id]
    await client.containers.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await client.containers.retrieve(made.id)


async def test_evals_run(sim: Simulation) -> None:
    client = sim.client()
    config: Any = {"type": "custom", "item_schema": {"type": "object", "properties": {"q": {"type": "string"}}}}
    check: Any = {"type": "string_check", "name": "same", "input": "a", "reference": "a", "operation": "eq"}
    made = await client.evals.create(name="Mine", data_source_config=config, testing_criteria=[check])
    source: Any = {
        "type": "completions",
        "model": "gpt-4o-mini",
        "source": {"type": "file_content", "content": [{"item": {"q": "one"}}, {"item": {"q": "two"}}]},
    }
    run = await client.evals.runs.create(made.id, name="First", data_source=source)
    await sim.records()
    done = await client.evals.runs.retrieve(run.id, eval_id=made.id)
    assert (done.status, done.result_counts.total, done.result_counts.passed) == ("completed", 2, 1)
    (usage,) = done.per_model_usage
    assert (usage.invocation_count, usage.completion_tokens) == (2, 40)
    (record,) = [one for one in await sim.records() if one.transport == "background"]
    assert record.usage.total_tokens == usage.total_tokens
    items = [item async for item in client.evals.runs.output_items.list(run.id, eval_id=made.id)]
    assert sum(item.sample.usage.total_tokens for item in items) == usage.total_tokens
    assert [one.id async for one in client.evals.list()] == [made.id]
    assert (await client.evals.runs.delete(run.id, eval_id=made.id)).deleted
    assert (await client.evals.delete(made.id)).deleted
