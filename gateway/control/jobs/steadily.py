"""The loop of the background jobs: again and again, whatever Redis and the database say."""

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy.exc import SQLAlchemyError

from gateway.control.sql.database import words
from gateway.redisdb.failures import RedisFailure, RedisLost


async def steadily(job: Callable[[], Awaitable[object]], every_s: float, refused: Callable[[str], None]) -> None:
    """For ever, with so long a pause between two. refused: told once why Redis or the database does not do its part;
    that Redis is away, others say."""
    said = ""
    while True:
        try:
            await job()
            said = ""
        except RedisLost:
            pass
        except (RedisFailure, SQLAlchemyError, OSError) as error:
            if said != words(error):  # once a reason
                said = words(error)
                refused(said)
        await asyncio.sleep(every_s)
