"""Where limits are published: Redis, one slot for an organization."""

import asyncio
from collections.abc import Mapping

from gateway.accounts.limits_store import LimitsStore
from gateway.accounts.spend import Spend
from gateway.control.registry.limits import LimitsState
from gateway.keyspace import Keyspace
from gateway.redisdb.client import Client

_AT_ONCE = 16


class RedisLimits:
    """What `LimitsPublisher` needs of it."""

    def __init__(self, client: Client, keyspace: Keyspace) -> None:
        self._client = client
        self._keyspace = keyspace
        self._store = LimitsStore(client, keyspace)
        self._spend = Spend(client, keyspace)

    async def state(self, organization_id: str) -> LimitsState:
        found = await self._client.execute("HMGET", self._keyspace.versions(organization_id), "epoch", "limits")
        epoch, version = found
        return LimitsState(epoch.decode() if epoch is not None else None, int(version or 0))

    async def read(self, organization_id: str) -> tuple[int, dict[str, bytes]]:
        found = await self._store.read_documents(organization_id)
        return found.version, found.documents

    async def publish(self, organization_id: str, changes: Mapping[str, bytes | None], version: int) -> None:
        await self._store.publish(organization_id, version, changes)

    async def publish_key_versions(self, organization_id: str, versions: Mapping[str, int]) -> None:
        waiting = list(versions.items())
        for start in range(0, len(waiting), _AT_ONCE):
            some = waiting[start : start + _AT_ONCE]
            await asyncio.gather(*(self._store.publish_key_version(organization_id, *one) for one in some))

    async def open_epoch(self, organization_id: str, epoch: str) -> bool:
        return await self._spend.open_epoch(organization_id, epoch)

    async def reset_spend(self, organization_id: str) -> None:
        await self._spend.reset_spend(organization_id)
