"""Which keys were revoked by command: in Redis for all control processes, and in a file, for Redis may be emptied."""

from pathlib import Path

from gateway.control.registry.remembered import Remembered
from gateway.redisdb.client import Client


class RevokedKeys:
    """Hashes of keys, which are never taken off the list. Methods raise RedisFailure, and OSError of the file."""

    def __init__(self, folder: Path, client: Client, name: str) -> None:
        self._file = Remembered(folder / "revoked-keys")
        self._client = client
        self._name = name

    async def all(self) -> set[str]:
        """Those of both places; what one has forgotten, or has not heard of, it has afterwards."""
        in_redis = {h.decode() for h in await self._client.execute("SMEMBERS", self._name)}
        in_file = self._file.all()
        if in_file - in_redis:
            await self._client.execute("SADD", self._name, *(in_file - in_redis))
        self._file.add(in_redis - in_file)
        return in_redis | in_file

    async def add(self, key_hash: str) -> None:
        """Remembers one: in the file first, so that it is remembered even if Redis does not answer."""
        if key_hash not in self._file.all():
            self._file.add({key_hash})
        await self._client.execute("SADD", self._name, key_hash)
