"""Writes the read model: what workers look keys up in, made from the registry's rows.

Everything is published when this process starts, and when Redis was away, was emptied or was replaced; after that what
has changed, from the outbox. Versions come from the registry, so several control processes may publish at once.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from importlib import resources

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from gateway.clock import Clock
from gateway.control.registry.changes import Changes
from gateway.control.registry.database import Database, words
from gateway.control.registry.key_records import KeyRecord, all_records, records_of
from gateway.control.registry.limits import LimitsPublisher
from gateway.control.registry.revoke import NamedKey, agree, revoke
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


class _Write(msgspec.Struct, frozen=True):
    """What is to be written for a key. version: of the registry's change; 0 if it does not know the key."""

    principal: bytes
    version: int


class Publisher:
    """Publishes the registry's keys, and the limits of a settings file. Its methods raise RedisFailure if Redis does
    not do its part, and SQLAlchemyError or OSError if the database does not.

    limits: None publishes keys alone.
    """

    def __init__(
        self,
        settings: Settings,
        client: Client,
        database: Database,
        *,
        clock: Clock,
        log: Logger,
        limits: LimitsPublisher | None = None,
    ) -> None:
        self._limits = limits
        self._organization_id = settings.organization_id
        self._database = database
        self._changes = Changes(database, clock)
        self._client = client
        self._clock = clock
        self._log = log
        self._keyspace = Keyspace(settings.redis.prefix)
        source = resources.files(__package__).joinpath(_SCRIPT_FILE).read_text(encoding="utf-8")
        self._script = Script.of("publish", source)
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
            except (RedisFailure, SQLAlchemyError, OSError) as error:
                self._due = True
                reason = words(error)
                if said != reason:  # once a reason, not once a second
                    said = reason
                    self._log.warning("keys_not_published", reason=said)
                where = "redis" if isinstance(error, RedisFailure) else "database"
                await report({where: f"keys are not published: {reason}"})
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
        while await self.publish_due() == _PER_ROUND:
            pass
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
        """Makes the read model say what the registry says; returns how many keys were written and how many withdrawn.

        A key that is there already, unchanged, is left alone: nobody's cache is emptied for nothing. Limits go first,
        so that no key works without them. What Redis has and the registry does not know is withdrawn.
        """
        async with self._writing:
            if self._limits is not None and (documents := await self._limits.publish()):
                self._log.info("limits_published", documents=documents)
            await self._agree_on_revoked()
            due = await self._changes.due()
            records = {record.hash: record async for page in all_records(self._database) for record in page}
            before = {h.decode() for h in await self._client.execute("SMEMBERS", self._keyspace.keys)}
            done = await self._put(records, before - records.keys())
            await self._client.execute("SET", self._keyspace.published, int(self._clock.wall() * 1_000_000))
            await self._changes.published(due)
            return done

    async def _agree_on_revoked(self) -> None:
        """What one of several gateways on this Redis has revoked is revoked at all of them, also where each has a
        database of its own."""
        others = {bytes.fromhex(h.decode()) for h in await self._client.execute("SMEMBERS", self._keyspace.revoked)}
        for key_hash in await agree(self._changes, self._organization_id, others, int(self._clock.wall())):
            await self._client.execute("SADD", self._keyspace.revoked, key_hash.hex())

    async def publish_due(self) -> int:
        """Works off what has changed; returns how many keys that were."""
        async with self._writing:
            due = await self._changes.due(_PER_ROUND)
            hashes = [one.subject for one in due]
            records = {record.hash: record for record in await records_of(self._database, hashes)}
            if hashes:
                await self._put(records, set(hashes) - records.keys())
            await self._changes.published(due)
            return len(hashes)

    async def _put(self, records: dict[str, KeyRecord], gone: set[str]) -> tuple[int, int]:
        """Sees to it that Redis has these records, and that keys without one do not work; returns how many were written
        and how many of these withdrawn."""
        present = await self._present([*records, *gone])
        wanted = {h: msgspec.json.encode(record.principal) for h, record in records.items()}
        wanted.update({h: _withdrawn(present.get(h)) for h in gone})
        written = [h for h in wanted if not (h in present and _same(present[h].principal, wanted[h], h in gone))]
        versions = await self._write_all(
            {h: _Write(wanted[h], records[h].version if h in records else 0) for h in written}, present
        )
        for start in range(0, len(hashes := list(records)), _PER_ROUND):
            await self._client.execute("SADD", self._keyspace.keys, *hashes[start : start + _PER_ROUND])
        await self._tell_versions(records, present, versions)
        return len(written), sum(h in gone or records[h].principal.revoked for h in written)

    async def _write_all(self, writes: dict[str, "_Write"], present: dict[str, Published]) -> dict[str, int]:
        """Writes keys; returns the versions of all, also of those that were there and stay.

        A new key's version is later than that of the one whose place it takes, under the same id.
        """
        newest: dict[str, int] = {}
        for found in present.values():
            key_id = _principal(found.principal).key_id
            newest[key_id] = max(found.version, newest.get(key_id, 0))
        versions = {h: found.version for h, found in present.items()}
        hashes = list(writes)
        for start in range(0, len(hashes), _AT_ONCE):
            some = hashes[start : start + _AT_ONCE]
            later = [max(newest.get(_principal(writes[h].principal).key_id, 0), versions.get(h, 0)) for h in some]
            written = await asyncio.gather(
                *(self._write(h, writes[h], than) for h, than in zip(some, later, strict=True))
            )
            versions.update(zip(some, written, strict=True))
        return versions

    async def _tell_versions(
        self, records: dict[str, KeyRecord], before: dict[str, Published], versions: dict[str, int]
    ) -> None:
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
        told.update({r.principal.key_id: versions[h] for h, r in records.items() if not r.principal.revoked})
        await self._limits.publish_key_versions(told)

    async def revoke(self, name: str) -> NamedKey:
        """Revokes a key by its `project/name`, its id or its hash. Raises UnknownKeyError, SQLAlchemyError.

        It is revoked in the registry before it is published: what fails half-way is published as soon as that can be
        done.
        """
        key = await revoke(self._changes, self._organization_id, name, int(self._clock.wall()))
        await self._client.execute("SADD", self._keyspace.revoked, key.hash.hex())
        await self.publish_due()
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

    async def _write(self, key_hash: str, write: "_Write", later_than: int) -> int:
        """Writes a key; returns its version: the registry's, or a later one where Redis has one that is later. Whoever
        publishes what was true before a change thus comes too late.
        """
        version = max(write.version, later_than + 1)
        await self._client.script(
            self._script,
            [self._keyspace.key(key_hash)],
            [version, write.principal, self._keyspace.invalidate, key_hash],
        )
        return version


def _run_id(reply: object) -> str:
    if isinstance(reply, dict):
        return str(reply.get("run_id", ""))
    found = _RUN_ID.search(reply) if isinstance(reply, bytes) else None
    return found[1].decode() if found is not None else ""


def _withdrawn(present: Published | None) -> bytes:
    """What is left of a key: its id, under which its version is known."""
    key_id = _principal(present.principal).key_id if present is not None else ""
    return msgspec.json.encode(Principal(key_id, "", "", "", revoked=True))


def _principal(record: bytes) -> Principal:
    """Whom a record shows; nobody if it cannot be read."""
    try:
        return msgspec.json.decode(record, type=Principal)
    except msgspec.MsgspecError:
        return Principal("", "", "", "")


def _same(present: bytes, wanted: bytes, withdrawn: bool) -> bool:
    """Whether there is nothing to write. What is withdrawn needs only to be revoked, whatever else is said of it."""
    return _principal(present).revoked if withdrawn else present == wanted
