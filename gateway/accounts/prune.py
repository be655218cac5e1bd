"""Taking away counters that nobody needs: buckets that are full, counts of nothing, windows of long ago."""

from collections.abc import Callable

from gateway.accounts.reservations import server_time
from gateway.accounts.scripts import Scripts, load
from gateway.keyspace import Keyspace

_PER_STEP = 500  # fields: a script holds Redis up
_HASHES = ("buckets", "spend")


class Prune:
    """Raises RedisFailure as `redis` does."""

    def __init__(
        self,
        redis: Scripts,
        keyspace: Keyspace,
        *,
        now_us: Callable[[], int] = server_time,
        per_step: int = _PER_STEP,
    ) -> None:
        self._redis = redis
        self._keyspace = keyspace
        self._now_us = now_us
        self._per_step = per_step
        self._script = load("prune", "windows", "records")

    async def prune(self, organization_id: str) -> int:
        """Returns how many fields are gone. It may be left in the middle, and run beside others."""
        gone = 0
        for name in _HASHES:
            cursor = b"0"
            while True:
                args = (self._now_us(), name, cursor, self._per_step)
                cursor, some = await self._redis.script(self._script, (self._keyspace.base(organization_id),), args)
                gone += some
                if cursor == b"0":
                    break
        return gone
