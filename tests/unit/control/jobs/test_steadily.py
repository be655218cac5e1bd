"""A job goes on whatever Redis and the database say, and what they say is told once."""

import asyncio

from sqlalchemy.exc import OperationalError

from gateway.control.jobs.steadily import steadily
from gateway.redisdb.failures import RedisLost, RedisReplyError


async def test_a_reason_is_told_once_until_the_job_was_done() -> None:
    refused = RedisReplyError("OOM", "command not allowed")
    away = OperationalError("SELECT secret", {}, Exception("database is locked"))
    outcomes: list[Exception | None] = [refused, RedisLost("away"), refused, None, refused, away, OSError("no file")]
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
    oom = "OOM command not allowed"
    assert said == [oom, oom, "database is locked", "no file"], "once before it was done, once after"
