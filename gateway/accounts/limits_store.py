"""The limit documents in Redis: published by control, read by workers."""

from collections.abc import Mapping

import msgspec

from gateway.accounts.answers import by_field
from gateway.accounts.scripts import Scripts, load
from gateway.keyspace import Keyspace
from gateway.redisdb.command import Arg


class Documents(msgspec.Struct, frozen=True):
    """version: of the newest; 0: nothing was ever published. documents: JSON by field (`o`, `p:…`, `u:…`, `k:…`)."""

    version: int
    documents: dict[str, bytes]


class LimitsStore:
    """All methods raise RedisFailure as `redis` does, and may be repeated."""

    def __init__(self, redis: Scripts, keyspace: Keyspace) -> None:
        self._redis = redis
        self._keyspace = keyspace
        self._publish = load("publish_limits")
        self._publish_key_version = load("publish_key_version")
        self._read = load("read_limits")

    async def publish(self, organization_id: str, version: int, documents: Mapping[str, bytes | None]) -> int:
        """Writes documents that have this version, each if it is newer than what is there; None: it is gone. Returns
        how many were written.

        Workers ask for what is newer than what they have: one version must be written before the next is published.
        """
        args: list[Arg] = [version]
        for field, document in documents.items():
            args += (field, document or b"")
        written: int = await self._redis.script(self._publish, (self._keyspace.base(organization_id),), args)
        return written

    async def publish_key_version(self, organization_id: str, key_id: str, version: int) -> bool:
        """Whether it is newer than what is there. It comes after the key's record, or a worker may read the old one."""
        keys = (self._keyspace.base(organization_id),)
        return bool(await self._redis.script(self._publish_key_version, keys, (key_id, version)))

    async def read_documents(self, organization_id: str) -> Documents:
        version, *found = await self._redis.script(self._read, (self._keyspace.base(organization_id),))
        return Documents(version, {field: document for field, document in by_field(found).items() if document})
