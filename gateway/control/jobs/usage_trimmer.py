"""The usage stream's consumer as long as there is none: it throws usage away before it fills Redis.

The Ledger issue replaces it with the consumer that folds events into SQL and trims what it has folded.
"""

from gateway.clock import Clock
from gateway.control.jobs.steadily import steadily
from gateway.keyspace import Keyspace
from gateway.redisdb.client import Client
from gateway.telemetry.logging import Logger

_EVERY_S = 5.0
_YOUNGER_S = 600.0  # what is kept: this young, and no more than so many
_MOST = 100_000


class UsageTrimmer:
    """Trims one organization's stream. Approximately: Redis drops whole nodes of about 100 entries."""

    def __init__(self, client: Client, keyspace: Keyspace, organization_id: str, clock: Clock, log: Logger) -> None:
        self._client = client
        self._key = keyspace.usage(organization_id)
        self._clock = clock
        self._log = log

    async def keep_trimmed(self) -> None:
        """For ever, also after Redis was away; others say that it is."""
        await steadily(self.trim, _EVERY_S, self._refused)

    def _refused(self, reason: str) -> None:
        self._log.warning("usage_not_trimmed", reason=reason)

    async def trim(self, *, younger_s: float = _YOUNGER_S, most: int = _MOST) -> int:
        """How many entries went. Raises RedisFailure. A server whose clock differs keeps so much more or less."""
        oldest_ms = int((self._clock.wall() - younger_s) * 1000)
        by_age = await self._client.execute("XTRIM", self._key, "MINID", "~", oldest_ms)
        by_number = await self._client.execute("XTRIM", self._key, "MAXLEN", "~", most)
        return int(by_age) + int(by_number)
