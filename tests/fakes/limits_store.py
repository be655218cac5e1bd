"""The part of Redis in which limits are published, in memory."""

from collections.abc import Mapping, Sequence

import msgspec

from gateway.redisdb.failures import RedisLost


class Documents(msgspec.Struct, frozen=True):
    version: int
    documents: dict[str, bytes]


class Opened(msgspec.Struct, frozen=True):
    epoch: str | None


class MemoryLimitsStore:
    """One organization's slot, limits and spend. calls: what was written, in order. away: it does not answer."""

    def __init__(self, organization_id: str = "org-gateway") -> None:
        self.organization_id = organization_id
        self.calls: list[str] = []
        self.away = False
        self.empty()

    def empty(self) -> None:
        """As after FLUSHALL."""
        self.epoch: str | None = None
        self.version = 0
        self.documents: dict[str, bytes] = {}
        self.sources: dict[str, int] = {}  # the registry's version of each
        self.keys: dict[str, int] = {}

    def _called(self, what: str, organization_id: str) -> None:
        assert organization_id == self.organization_id
        if self.away:
            raise RedisLost("away")
        if what:
            self.calls.append(what)

    async def read(self, organization_id: str, subjects: Sequence[str]) -> Opened:
        self._called("", organization_id)
        return Opened(self.epoch)

    async def read_documents(self, organization_id: str) -> Documents:
        self._called("", organization_id)
        return Documents(self.version, dict(self.documents))

    async def publish(self, organization_id: str, version: int, documents: Mapping[str, bytes | None]) -> int:
        self._called("publish", organization_id)
        newer = {field: one for field, one in documents.items() if version > self.sources.get(field, 0)}
        if newer:
            self.version = max(version, self.version + 1)
        for field, document in newer.items():
            self.sources[field] = version
            if document is None:
                self.documents.pop(field, None)
            else:
                self.documents[field] = document
        return len(newer)

    async def publish_key_versions(self, organization_id: str, versions: Mapping[str, int]) -> int:
        self._called("key versions", organization_id)
        newer = {key_id: version for key_id, version in versions.items() if version > self.keys.get(key_id, 0)}
        self.keys.update(newer)
        return len(newer)

    async def open_epoch(self, organization_id: str, epoch: str) -> bool:
        self._called("open", organization_id)
        if self.epoch is not None:
            return False
        self.epoch = epoch
        return True
