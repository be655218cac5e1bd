"""Newer families: videos, containers, evals, decisions."""

from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.fakes.redis_servers import eventually


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_videos(client: AsyncOpenAI) -> None:
    made = await client.videos.create_and_poll(
        model="sora-2",
        prompt="A kite",
        seconds="4",
        input_reference=("first.png", b"\x89PNG", "image/png"),
        poll_interval_ms=10,
    )
    assert (made.status, made.seconds) == ("completed", "4")
    content = await client.videos.download_content(made.id)
    assert content.response.headers["content-type"] == "video/mp4"
    assert content.content
    clip = ("first.mp4", b"\x00ftyp", "video/mp4")
    assert (await client.videos.edit(prompt="In snow", video=clip)).seconds == "4"
    assert (await client.videos.extend(prompt="It lands", seconds="8", video=clip)).seconds == "12"
    somebody = await client.videos.create_character(name="Kite flyer", video=clip)
    assert (await client.videos.get_character(somebody.id or "")).name == "Kite flyer"
    changed = await client.videos.remix(made.id, prompt="At night")
    assert changed.remixed_from_video_id == made.id
    assert (await client.videos.poll(changed.id, poll_interval_ms=10)).status == "completed"
    assert made.id in [video.id async for video in client.videos.list(limit=2)]
    assert (await client.videos.retrieve(made.id)).id == made.id
    assert (await client.videos.delete(made.id)).deleted


async def test_containers(client: AsyncOpenAI) -> None:
    made = await client.containers.create(name="box")
    file = await client.containers.files.create(made.id, file=("data.txt", b"inside"))
    content = await client.containers.files.content.retrieve(file.id, container_id=made.id)
    assert content.content == b"inside"
    assert (await client.containers.files.retrieve(file.id, container_id=made.id)).bytes == 6
    assert [one.id async for one in client.containers.files.list(made.id)] == [file.id]
    await client.containers.files.delete(file.id, container_id=made.id)
    assert (await client.containers.retrieve(made.id)).name == "box"
    assert made.id in [one.id async for one in client.containers.list()]
    await client.containers.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await client.containers.retrieve(made.id)


async def test_evals(client: AsyncOpenAI) -> None:
    config: Any = {"type": "custom", "item_schema": {"type": "object", "properties": {"q": {"type": "string"}}}}
    check: Any = {"type": "string_check", "name": "same", "input": "a", "reference": "a", "operation": "eq"}
    made = await client.evals.create(name="Mine", data_source_config=config, testing_criteria=[check])
    assert (await client.evals.update(made.id, name="Ours")).name == "Ours"
    assert (await client.evals.retrieve(made.id)).name == "Ours"
    source: Any = {
        "type": "completions",
        "model": "gpt-4o-mini",
        "source": {"type": "file_content", "content": [{"item": {"q": "one"}}, {"item": {"q": "two"}}]},
    }
    run = await client.evals.runs.create(made.id, name="First", data_source=source)

    async def completed() -> bool:
        return (await client.evals.runs.retrieve(run.id, eval_id=made.id)).status == "completed"

    await eventually(completed)
    items = [item async for item in client.evals.runs.output_items.list(run.id, eval_id=made.id)]
    assert len(items) == 2
    item = await client.evals.runs.output_items.retrieve(items[0].id, eval_id=made.id, run_id=run.id)
    assert item.id == items[0].id
    assert [one.id async for one in client.evals.runs.list(made.id)] == [run.id]
    assert made.id in [one.id async for one in client.evals.list()]
    assert (await client.evals.runs.delete(run.id, eval_id=made.id)).deleted

    async def cancelled() -> bool:  # before it has ended
        other = await client.evals.runs.create(made.id, name="Second", data_source=source)
        return (await client.evals.runs.cancel(other.id, eval_id=made.id)).status == "canceled"

    await eventually(cancelled)
    assert (await client.evals.delete(made.id)).deleted


async def test_decisions(client: AsyncOpenAI) -> None:
    questions: Any = [
        {"type": "predicate", "instructions": "Is it raining?", "name": "rain"},
        {"type": "choice", "instructions": "Which?", "choices": [{"value": "a"}, {"value": "b"}]},
    ]
    made = await client.decisions.create(model="gpt-6-luna", input="It is wet outside.", questions=questions)
    assert [answer.type for answer in made.answers] == ["predicate", "choice"]
