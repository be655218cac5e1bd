"""A job goes on whatever Redis says, and what Redis says is told once."""

import asyncio

from gateway.control.jobs.steadily import steadily
from gateway.redisdb.failures import RedisFailure, RedisLost, RedisReplyError


async def test_a_reason_is_told_once_until_the_job_was_done() -> None:
    refused = RedisReplyError("OOM", "command not allowed")
    outcomes: list[RedisFailure | None] = [refused, RedisLost("away"), refused, None, refused]
    said: list[str] = []
    done = asyncio.Event()

    async def job() -> None:
        if not outcomes:
            done.set()
            return
        if (failure := outcomes.pop(0)) is not None:
            raise failure

    running = asyncio.get_running_loop().create_task(steadily(job, 0, said.append))
    await asyncio.wait_for(done.wait(), 10)
    running.cancel()
    assert said == ["OOM command not allowed"] * 2, "once before it was done, once after"
