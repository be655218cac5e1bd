"""Which keys were revoked by command: in Redis for all control processes, and in a file, for Redis may be emptied."""

import os
from pathlib import Path

from gateway.redisdb.client import Client


class RevokedKeys:
    """Hashes of keys, which are never taken off the list. Methods raise RedisFailure, and OSError of the file."""

    def __init__(self, folder: Path, client: Client, name: str) -> None:
        self._file = folder / "revoked-keys"
        self._client = client
        self._name = name

    async def all(self) -> set[str]:
        """Those of both places; what one has forgotten, or has not heard of, it has afterwards."""
        in_redis = {h.decode() for h in await self._client.execute("SMEMBERS", self._name)}
        in_file = self._read()
        if in_file - in_redis:
            await self._client.execute("SADD", self._name, *(in_file - in_redis))
        self._append(in_redis - in_file)
        return in_redis | in_file

    async def add(self, key_hash: str) -> None:
        """Remembers one: in the file first, so that it is remembered even if Redis does not answer."""
        if key_hash not in self._read():
            self._append({key_hash})
        await self._client.execute("SADD", self._name, key_hash)

    def _read(self) -> set[str]:
        return set(self._file.read_text().split()) if self._file.exists() else set()

    def _append(self, hashes: set[str]) -> None:
        if not hashes:
            return
        new = not self._file.exists()
        with self._file.open("a") as file:
            file.writelines(f"{key_hash}\n" for key_hash in sorted(hashes))
            file.flush()
            os.fsync(file.fileno())
        if new:
            _sync_folder(self._file.parent)


def _sync_folder(folder: Path) -> None:
    """A new file's name is on disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
