"""The part of Redis in which limits are published, in memory."""

from collections.abc import Mapping

from gateway.control.registry.limits import LimitsState
from gateway.redisdb.failures import RedisLost


class MemoryLimitsStore:
    """One organization's slot. calls: what was written, in order. away: it does not answer."""

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
        self.keys: dict[str, int] = {}

    def _called(self, what: str, organization_id: str) -> None:
        assert organization_id == self.organization_id
        if self.away:
            raise RedisLost("away")
        if what:
            self.calls.append(what)

    async def state(self, organization_id: str) -> LimitsState:
        self._called("", organization_id)
        return LimitsState(self.epoch, self.version)

    async def read(self, organization_id: str) -> tuple[int, dict[str, bytes]]:
        self._called("", organization_id)
        return self.version, dict(self.documents)

    async def publish(self, organization_id: str, changes: Mapping[str, bytes | None], version: int) -> None:
        self._called("publish", organization_id)
        assert version > self.version, "never the same again"
        self.version = version
        for field, document in changes.items():
            if document is None:
                del self.documents[field]
            else:
                self.documents[field] = document

    async def publish_key_versions(self, organization_id: str, versions: Mapping[str, int]) -> None:
        self._called("key versions", organization_id)
        for key_id, version in versions.items():
            self.keys[key_id] = max(version, self.keys.get(key_id, 0))

    async def open_epoch(self, organization_id: str, epoch: str) -> bool:
        self._called("open", organization_id)
        if self.epoch is not None:
            return False
        self.epoch = epoch
        return True

    async def reset_spend(self, organization_id: str) -> None:
        self._called("reset", organization_id)
