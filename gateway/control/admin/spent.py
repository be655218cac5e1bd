"""What has been spent so far, for nouns that say it, or whether a limit is reached."""

import asyncio
from collections.abc import Mapping, Sequence

from gateway.accounts.spend import Spend, Spent
from gateway.redisdb.failures import RedisFailure

_WAIT_S = 0.5  # whoever asks holds a connection of the database meanwhile


class SpentNow:
    """Asks the counters of an organization."""

    def __init__(self, spend: Spend, organization_id: str) -> None:
        self._spend = spend
        self._organization_id = organization_id

    async def read(self, subjects: Sequence[str]) -> Mapping[str, Spent] | None:
        """By subject, in the present windows; None: Redis does not say so in time."""
        try:
            async with asyncio.timeout(_WAIT_S):
                return (await self._spend.read(self._organization_id, subjects)).by_subject
        except (RedisFailure, TimeoutError):
            return None
