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
        self._publish_key_versions = load("publish_key_versions")
        self._read = load("read_limits")

    async def publish(self, organization_id: str, version: int, documents: Mapping[str, bytes | None]) -> int:
        """Writes documents that are as of this version of the registry, each if that is newer than what is there; None:
        it is gone. Returns how many were written. In any order, and as often as you like: the version that workers see
        rises with each. One script call: a few hundred at most.
        """
        args: list[Arg] = [version]
        for field, document in documents.items():
            args += (field, document or b"")
        written: int = await self._redis.script(self._publish, (self._keyspace.base(organization_id),), args)
        return written

    async def publish_key_versions(self, organization_id: str, versions: Mapping[str, int]) -> int:
        """By key id; returns how many are newer than what is there. They come after the keys' records, or a worker may
        read the old ones. One script call: a few hundred at most."""
        args = [one for pair in versions.items() for one in pair]
        written: int = await self._redis.script(
            self._publish_key_versions, (self._keyspace.base(organization_id),), args
        )
        return written

    async def read_documents(self, organization_id: str) -> Documents:
        version, *found = await self._redis.script(self._read, (self._keyspace.base(organization_id),))
        return Documents(version, {field: document for field, document in by_field(found).items() if document})
