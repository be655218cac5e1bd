"""The loop of the background jobs: again and again, whatever Redis says."""

import asyncio
from collections.abc import Awaitable, Callable

from gateway.redisdb.failures import RedisFailure, RedisLost


async def steadily(job: Callable[[], Awaitable[object]], every_s: float, refused: Callable[[str], None]) -> None:
    """For ever, with so long a pause between two. refused: told once why Redis does not do its part; that it is away,
    others say."""
    said = ""
    while True:
        try:
            await job()
            said = ""
        except RedisLost:
            pass
        except RedisFailure as error:
            if said != str(error):  # once a reason
                said = str(error)
                refused(said)
        await asyncio.sleep(every_s)
