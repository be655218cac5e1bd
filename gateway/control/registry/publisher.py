"""Writes the read model: what workers look keys up in.

Until the registry has a database (Control plane issue), the source is the settings file, and what was revoked by
command is kept in Redis and in a file of the data folder, so that neither a restart nor an empty Redis brings a revoked
key back.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import Path

import msgspec

from gateway.clock import Clock
from gateway.control.registry.declared import DeclaredKey, declared_keys, find_key
from gateway.control.registry.limits import LimitsPublisher
from gateway.control.registry.revoked import RevokedKeys
from gateway.keyspace import Keyspace
from gateway.redisdb.client import Client
from gateway.redisdb.command import Script
from gateway.redisdb.failures import RedisFailure, RedisReplyError
from gateway.settings.model import Settings
from gateway.telemetry.logging import Logger
from gateway.values import Principal

_SCRIPT_FILE = "publish.lua"
_PER_ROUND = 500
_AT_ONCE = 16
_LOOK_EVERY_S = 1.0
_RUN_ID = re.compile(rb"^run_id:(\w+)", re.MULTILINE)

Report = Callable[[dict[str, str]], Awaitable[None]]


class Published(msgspec.Struct, frozen=True):
    """What Redis holds for a key."""

    version: int
    principal: bytes


class Publisher:
    """Publishes the keys of one settings file, and its limits. Its methods raise RedisFailure if Redis does not do its
    part.

    limits: None publishes keys alone.
    """

    def __init__(
        self, settings: Settings, client: Client, clock: Clock, log: Logger, limits: LimitsPublisher | None = None
    ) -> None:
        self._limits = limits
        self._keys = declared_keys(settings)
        self._client = client
        self._clock = clock
        self._log = log
        self._keyspace = Keyspace(settings.redis.prefix)
        source = resources.files(__package__).joinpath(_SCRIPT_FILE).read_text(encoding="utf-8")
        self._script = Script.of("publish", source)
        self._revoked = RevokedKeys(Path(settings.data_dir), client, self._keyspace.revoked)
        self._writing = asyncio.Lock()
        self._servers: set[str] = set()  # those that all was published to
        self._due = True  # whatever they hold, it is not what it should be
        self.tried = asyncio.Event()  # it is known whether Redis takes what is published

    async def keep_published(self, report: Report) -> None:
        """For ever: sees to it that Redis has the keys, also after it was away, was emptied or was replaced.

        report: is told what is wrong, if anything.
        """
        said = ""
        while True:
            try:
                away = await self._look()
                said = ""
                await report(away)
            except (RedisFailure, OSError) as error:
                self._due = True
                if said != str(error):  # once a reason, not once a second
                    said = str(error)
                    self._log.warning("keys_not_published", reason=said)
                await report({"redis": f"keys are not published: {error}"})
            self.tried.set()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _look(self) -> dict[str, str]:
        """Publishes if that is due; returns what is wrong all the same."""
        servers = await self._servers_now()
        is_open = self._limits is None or await self._limits.is_open()
        if self._due or servers != self._servers or await self._emptied(is_open):
            self._due = False
            written, withdrawn = await self.publish_all()
            self._servers = servers
            self._log.info("keys_published", written=written, withdrawn=withdrawn)
        if self._limits is None:
            return {}
        try:
            closed = await self._limits.open_once(is_open)
        except OSError as error:
            closed = f"it cannot be remembered that spend limits are open: {error}"
        return {"spend": closed} if closed is not None else {}

    async def _servers_now(self) -> set[str]:
        """Which servers hold the data: a server that has been started anew is another one."""
        try:
            replies = await self._client.on_each_primary("INFO", "server")
        except RedisReplyError:  # not allowed by a managed service
            return set()
        return {_run_id(reply) for reply in replies}

    async def _emptied(self, is_open: bool) -> bool:
        """In a cluster, keys and the organization's slot are on servers of their own."""
        if not await self._client.execute("EXISTS", self._keyspace.published):
            return True
        return self._limits is not None and not is_open and not await self._limits.is_published()

    async def publish_all(self) -> tuple[int, int]:
        """Makes the read model say what the settings say; returns how many keys were written and how many withdrawn.

        A key that is there already, unchanged, is left alone: nobody's cache is emptied for nothing. Limits go first,
        so that no key works without them.
        """
        async with self._writing:
            if self._limits is not None and (documents := await self._limits.publish()):
                self._log.info("limits_published", documents=documents)
            revoked = await self._revoked.all()
            wanted = {key.hash: _shown(key.principal, revoked=key.hash in revoked) for key in self._keys}
            before = {h.decode() for h in await self._client.execute("SMEMBERS", self._keyspace.declared)}
            withdrawn = before - wanted.keys()
            present = await self._present([*wanted, *withdrawn])
            wanted.update({gone: _withdrawn(present.get(gone)) for gone in withdrawn})
            written = [
                h for h in wanted if not (h in present and _same(present[h].principal, wanted[h], h in withdrawn))
            ]
            versions = await self._write_all({h: wanted[h] for h in written}, present)
            if self._keys:
                await self._client.execute("SADD", self._keyspace.declared, *(key.hash for key in self._keys))
            await self._tell_versions(present, versions)
            await self._client.execute("SET", self._keyspace.published, int(self._clock.wall() * 1_000_000))
            return len(written), sum(h in withdrawn for h in written)

    async def _write_all(self, records: dict[str, bytes], present: dict[str, Published]) -> dict[str, int]:
        """Writes keys; returns the versions of all, also of those that were there and stay.

        A new key's version is later than that of the one whose place it takes, under the same id.
        """
        newest: dict[str, int] = {}
        for found in present.values():
            key_id = _principal(found.principal).key_id
            newest[key_id] = max(found.version, newest.get(key_id, 0))
        versions = {h: found.version for h, found in present.items()}
        hashes = list(records)
        for start in range(0, len(hashes), _AT_ONCE):
            some = hashes[start : start + _AT_ONCE]
            later = [max(newest.get(_principal(records[h]).key_id, 0), versions.get(h, 0)) for h in some]
            written = await asyncio.gather(
                *(self._write(h, records[h], than) for h, than in zip(some, later, strict=True))
            )
            versions.update(zip(some, written, strict=True))
        return versions

    async def _tell_versions(self, before: dict[str, Published], versions: dict[str, int]) -> None:
        """Says which versions keys have where admission looks, also of ids that are gone. A key that has taken the
        place of another one speaks for both: its version is the later one.
        """
        if self._limits is None:
            return
        told: dict[str, int] = {}
        for key_hash, found in before.items():
            key_id = _principal(found.principal).key_id
            told[key_id] = max(versions[key_hash], told.get(key_id, 0))
        told.pop("", None)
        told.update({key.principal.key_id: versions[key.hash] for key in self._keys})
        await self._limits.publish_key_versions(told)

    async def revoke(self, name: str) -> DeclaredKey:
        """Revokes a key by its `project/name`, its id or its hash. Raises UnknownKeyError.

        It is remembered before it is published: what fails half-way is published as soon as that can be done.
        """
        key = find_key(self._keys, name)
        async with self._writing:
            await self._revoked.add(key.hash)
            try:
                present = await self._present([key.hash])
                known = present[key.hash].version if key.hash in present else 0
                version = await self._write(key.hash, _shown(key.principal, revoked=True), known)
                if self._limits is not None:
                    await self._limits.publish_key_versions({key.principal.key_id: version})
            except RedisFailure:
                self._due = True
                raise
        return key

    async def _present(self, hashes: list[str]) -> dict[str, Published]:
        """What Redis holds now."""
        present: dict[str, Published] = {}
        for start in range(0, len(hashes), _PER_ROUND):
            some = hashes[start : start + _PER_ROUND]
            replies = await self._client.pipeline([("HMGET", self._keyspace.key(h), "v", "d") for h in some])
            for key_hash, (version, principal) in zip(some, replies, strict=True):
                if version is not None and principal is not None:
                    present[key_hash] = Published(int(version), principal)
        return present

    async def _write(self, key_hash: str, principal: bytes, later_than: int) -> int:
        """Writes a key; returns its version: later than what is there, also if a clock has been set back meanwhile."""
        version = max(int(self._clock.wall() * 1_000_000), later_than + 1)
        await self._client.script(
            self._script,
            [self._keyspace.key(key_hash)],
            [version, principal, self._keyspace.invalidate, key_hash],
        )
        return version


def _run_id(reply: object) -> str:
    if isinstance(reply, dict):
        return str(reply.get("run_id", ""))
    found = _RUN_ID.search(reply) if isinstance(reply, bytes) else None
    return found[1].decode() if found is not None else ""


def _shown(principal: Principal, *, revoked: bool) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(principal, revoked=revoked))


def _withdrawn(present: Published | None) -> bytes:
    """What is left of a key: its id, under which its version is known."""
    key_id = _principal(present.principal).key_id if present is not None else ""
    return _shown(Principal(key_id, "", "", ""), revoked=True)


def _principal(record: bytes) -> Principal:
    """Whom a record shows; nobody if it cannot be read."""
    try:
        return msgspec.json.decode(record, type=Principal)
    except msgspec.MsgspecError:
        return Principal("", "", "", "")


def _same(present: bytes, wanted: bytes, withdrawn: bool) -> bool:
    """Whether there is nothing to write. What is withdrawn needs only to be revoked, whatever else is said of it."""
    return _principal(present).revoked if withdrawn else present == wanted
