"""Forgets API keys that were made for a short while and are long over, as workloads have them by the thousands.

Keys of a longer life stay to be seen: people wonder why they ceased to work.
"""

from sqlalchemy import delete, select

from gateway.clock import Clock
from gateway.control.jobs.steadily import steadily
from gateway.control.registry.changes import Changes
from gateway.control.sql.tables import api_keys, projects, rate_limits, spend_limits
from gateway.keyspace import Keyspace
from gateway.limits import key_field
from gateway.redisdb.client import Client
from gateway.telemetry.logging import Logger

SHORT_S = 86_400  # a life that is not worth remembering
KEPT_S = 86_400  # how long it is remembered all the same
_EVERY_S = 600.0
_AT_ONCE = 500


class ExpiredKeys:
    """Of one organization. Several may run."""

    def __init__(  # noqa: PLR0917
        self, organization_id: str, changes: Changes, client: Client, keyspace: Keyspace, clock: Clock, log: Logger
    ) -> None:
        self._organization_id = organization_id
        self._changes = changes
        self._client = client
        self._keyspace = keyspace
        self._clock = clock
        self._log = log

    async def keep_forgotten(self) -> None:
        """For ever."""
        await steadily(self.forget, _EVERY_S, self._refused)

    async def forget(self) -> int:
        """Returns how many. Raises RedisFailure, SQLAlchemyError."""
        count = 0
        while some := await self._forget_some():
            count += some
        if count:
            self._log.info("expired_keys_forgotten", count=count)
        return count

    async def _forget_some(self) -> int:
        """In Redis first: what is published meanwhile has expired, and is forgotten the next time."""
        columns = api_keys.c
        over = columns.expires_at < int(self._clock.wall()) - KEPT_S
        short = columns.expires_at - columns.created_at <= SHORT_S
        ours = (projects.c.organization_id == self._organization_id, ~columns.declared, over, short)
        rows = select(columns.id, columns.hash).join(projects).where(*ours).limit(_AT_ONCE)
        async with self._changes.begin(self._organization_id) as change:
            found = list(await change.connection.execute(rows))
            if not found:
                return 0
            hashes = [bytes(row.hash).hex() for row in found]
            await self._client.pipeline([("UNLINK", self._keyspace.key(key_hash)) for key_hash in hashes])
            await self._client.execute("SREM", self._keyspace.keys, *hashes)
            versions = self._keyspace.versions(self._organization_id)
            await self._client.execute("HDEL", versions, *(f"key:{row.id}" for row in found))
            subjects = [key_field(row.id) for row in found]
            for table in (rate_limits, spend_limits):
                await change.connection.execute(delete(table).where(table.c.subject.in_(subjects)))
            await change.publish("limits", subjects)
            await change.connection.execute(delete(api_keys).where(columns.id.in_([row.id for row in found])))
            return len(found)

    def _refused(self, reason: str) -> None:
        self._log.warning("expired_keys_not_forgotten", organization=self._organization_id, reason=reason)
