"""Fine-tuning: a job that trains a model which then answers and is deleted; a job that is stopped."""

import contextlib
import json
from collections.abc import Awaitable, Callable

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.fine_tuning import FineTuningJob

from tests.compat.conftest import Make
from tests.fakes.redis_servers import eventually

ENDED = {"succeeded", "failed", "cancelled"}


def examples(count: int) -> bytes:
    said = [{"role": "user", "content": "A question?"}, {"role": "assistant", "content": "A short answer."}]
    return b"\n".join([json.dumps({"messages": said}).encode()] * count)


async def started(client: AsyncOpenAI, data: bytes) -> FineTuningJob:
    file = await client.files.create(file=("train.jsonl", data), purpose="fine-tune")
    return await client.fine_tuning.jobs.create(
        model="gpt-4o-mini", training_file=file.id, suffix="mine", hyperparameters={"n_epochs": 2}
    )


async def in_time(attempt: Callable[[], Awaitable[FineTuningJob]]) -> FineTuningJob:
    """Starts a job and does something to it that its end would forbid: again, until that comes before the end."""
    for _ in range(20):
        with contextlib.suppress(openai.BadRequestError, openai.ConflictError):
            return await attempt()
    return await attempt()


async def ended(client: AsyncOpenAI, job: FineTuningJob) -> FineTuningJob:
    async def look() -> FineTuningJob | None:
        now = await client.fine_tuning.jobs.retrieve(job.id)
        return now if now.status in ENDED else None

    done = await eventually(look)
    assert done is not None
    return done


async def test_a_job_trains_a_model(client: AsyncOpenAI) -> None:
    job = await ended(client, await started(client, examples(10)))
    assert job.status == "succeeded"
    assert job.trained_tokens
    events = [event.message async for event in client.fine_tuning.jobs.list_events(job.id, limit=2)]
    assert events[-1] == f"Created fine-tuning job: {job.id}"
    points = [point async for point in client.fine_tuning.jobs.checkpoints.list(job.id)]
    assert points[0].fine_tuned_model_checkpoint
    assert job.id in [one.id async for one in client.fine_tuning.jobs.list(limit=3)]
    assert "train_loss" in (await client.files.content(job.result_files[0])).text
    model = job.fine_tuned_model or ""
    answer = await client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}])
    assert answer.model == model
    assert (await client.models.retrieve(model)).id == model
    assert (await client.models.delete(model)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve(model)


async def test_a_job_fails(client: AsyncOpenAI) -> None:
    job = await ended(client, await started(client, b"nonsense"))
    assert job.status == "failed"
    assert job.error is not None
    assert job.error.code == "invalid_training_file"


async def test_a_job_is_cancelled(client: AsyncOpenAI) -> None:
    async def attempt() -> FineTuningJob:
        return await client.fine_tuning.jobs.cancel((await started(client, examples(10))).id)

    job = await in_time(attempt)
    assert job.status == "cancelled"
    assert (await ended(client, job)).status == "cancelled"


async def test_a_job_is_paused_and_goes_on(client: AsyncOpenAI, make: Make) -> None:
    loose = make(_strict_response_validation=False)  # its types do not know this status

    async def attempt() -> FineTuningJob:
        return await loose.fine_tuning.jobs.pause((await started(client, examples(10))).id)

    job = await in_time(attempt)
    paused: str = job.status
    assert paused == "paused"
    await client.fine_tuning.jobs.resume(job.id)
    assert (await ended(client, job)).status == "succeeded"
