"""Writes the read model: what workers look keys up in, made from the registry's rows.

Everything is published when this process starts, and when Redis was away, was emptied or was replaced; after that what
has changed, from the outbox. Versions come from the registry, so several control processes may publish at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources

import msgspec
from msgspec.structs import replace
from sqlalchemy.exc import SQLAlchemyError

from gateway.clock import Clock
from gateway.control.registry.changes import Changes, Due
from gateway.control.registry.key_records import KeyRecord, all_hashes, records_of
from gateway.control.registry.limits import LimitsPublisher
from gateway.control.registry.revoke import NamedKey, agree, revoke
from gateway.control.sql.database import Database, words
from gateway.keyspace import Keyspace
from gateway.redisdb.client import Client
from gateway.redisdb.command import Arg
from gateway.redisdb.failures import RedisFailure
from gateway.redisdb.running import running
from gateway.settings.model import Settings
from gateway.telemetry.logging import Logger
from gateway.values import Principal

_SCRIPT_FILE = "publish.lua"
_PER_ROUND = 500
_LOOK_EVERY_S = 1.0
_CHECK_EVERY_S = 300.0
_TRIES = 5  # of a key that others publish at the same time
_SOON_S = 2.0  # how long the answer to a change may wait for its publication

Report = Callable[[dict[str, str]], Awaitable[None]]


class Published(msgspec.Struct, frozen=True):
    """What Redis holds for a key."""

    version: int
    principal: bytes


class _Write(msgspec.Struct, frozen=True):
    """What is to be written for a key. version: of the registry's change; 0 if it does not know the key."""

    principal: bytes
    version: int


class Written(msgspec.Struct, frozen=True):
    """How many keys were written, how many of these withdrawn, and how many documents of limits were written."""

    keys: int = 0
    withdrawn: int = 0
    limits: int = 0


class _Put(msgspec.Struct, frozen=True):
    """What came of writing keys. refused: hashes of which another control process has written something newer."""

    written: int = 0
    withdrawn: int = 0
    refused: tuple[str, ...] = ()

    def __add__(self, other: "_Put") -> "_Put":
        return _Put(self.written + other.written, self.withdrawn + other.withdrawn)


class Publisher:
    """Publishes the registry's keys and limits. Its methods raise RedisFailure if Redis does
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
        self._script = resources.files(__package__).joinpath(_SCRIPT_FILE).read_text(encoding="utf-8")
        self._all = asyncio.Lock()  # one at a time, and beside it what has changed: that does not wait for it
        self._some = asyncio.Lock()
        self._servers: set[str] = set()  # those that all was published to
        self._checked = 0.0  # when all was compared last
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
            written = await self.publish_all()
            self._servers = servers
            self._checked = self._clock.monotonic()
            self._log.info("read_model_published", **msgspec.structs.asdict(written))
        while await self.publish_due() == _PER_ROUND:
            pass
        await self._check_drift()
        if self._limits is None:
            return {}
        closed = await self._limits.open_once(is_open)
        return {"spend": closed} if closed is not None else {}

    async def _check_drift(self) -> None:
        """Now and then, whether Redis still has what the registry says; what is not so is put right, and said."""
        if self._clock.monotonic() - self._checked < _CHECK_EVERY_S:
            return
        written = await self.publish_all()
        self._checked = self._clock.monotonic()
        if written != Written():
            self._log.warning("read_model_drifted", **msgspec.structs.asdict(written))

    async def _servers_now(self) -> set[str]:
        """Which servers hold the data: a server that has been started anew is another one."""
        return {server.run_id for server in await running(self._client)}

    async def _emptied(self, is_open: bool) -> bool:
        """In a cluster, keys and the organization's slot are on servers of their own."""
        if not await self._client.execute("EXISTS", self._keyspace.published):
            return True
        return self._limits is not None and not is_open and not await self._limits.is_published()

    async def publish_all(self) -> Written:
        """Makes the read model say what the registry says.

        A key that is there already, unchanged, is left alone: nobody's cache is emptied for nothing. Limits go first,
        so that no key works without them. What Redis has and the registry does not know is withdrawn.
        """
        async with self._all:
            due = await self._changes.due()
            limits = await self._limits.publish() if self._limits is not None else 0
            await self._agree_on_revoked()
            hashes = [h.decode() for h in await self._client.execute("SMEMBERS", self._keyspace.keys)]
            known = set(hashes)
            async for page in all_hashes(self._database):
                hashes += [key_hash for key_hash in page if key_hash not in known]
            done = await self._publish_keys(hashes)  # new ones last: they may take the place of others
            await self._client.execute("SET", self._keyspace.published, int(self._clock.wall() * 1_000_000))
            await self._changes.published(_taken(due, done))
            return Written(done.written, done.withdrawn, limits)

    async def _agree_on_revoked(self) -> None:
        """What one of several gateways on this Redis has revoked is revoked at all of them, also where each has a
        database of its own."""
        others = {bytes.fromhex(h.decode()) for h in await self._client.execute("SMEMBERS", self._keyspace.revoked)}
        for key_hash in await agree(self._changes, self._organization_id, others, int(self._clock.wall())):
            await self._client.execute("SADD", self._keyspace.revoked, key_hash.hex())

    async def publish_due(self) -> int:
        """Works off what has changed, limits first; returns how many things that were."""
        async with self._some:
            due = await self._changes.due(_PER_ROUND)
            limits = [one.subject for one in due if one.kind == "limits"]
            if limits and self._limits is not None:
                await self._limits.publish_some(limits)
            keys = await self._publish_keys([one.subject for one in due if one.kind == "key"])
            await self._changes.published(_taken(due, keys))
            return len(due)

    async def _publish_keys(self, hashes: Sequence[str]) -> _Put:
        """Publishes these keys. What Redis has is read before what the registry has: so a version that is made from it
        never passes off as new what another control process has published meanwhile."""
        done = _Put()
        newest: dict[str, int] = {}  # versions by key id, of all that is seen
        for _ in range(_TRIES):
            refused: list[str] = []
            for start in range(0, len(hashes), _PER_ROUND):
                some = hashes[start : start + _PER_ROUND]
                present = await self._present(some)
                records = {record.hash: record for record in await records_of(self._database, some)}
                put = await self._put(records, set(some) - records.keys(), present, newest)
                refused += put.refused
                done += put
            hashes = refused
            if not hashes:
                break
        return replace(done, refused=tuple(hashes))

    async def soon(self) -> None:
        """After a change: works off what is due, or leaves it for later if that takes long or fails."""
        try:
            async with asyncio.timeout(_SOON_S):
                while await self.publish_due() == _PER_ROUND:
                    pass
        except (RedisFailure, SQLAlchemyError, OSError, TimeoutError) as error:
            self._log.warning("change_not_published_yet", reason=words(error))

    async def _put(
        self,
        records: dict[str, KeyRecord],
        gone: set[str],
        present: dict[str, Published],
        newest: dict[str, int],
    ) -> _Put:
        """Sees to it that Redis has these records, and that keys without one do not work. present: what it has of all
        of them, read before the records were."""
        wanted = {h: msgspec.json.encode(record.principal) for h, record in records.items()}
        wanted.update({h: _withdrawn(present.get(h)) for h in gone})
        written = [h for h in wanted if not (h in present and _same(present[h].principal, wanted[h], h in gone))]
        versions, refused = await self._write_all(
            {h: _Write(wanted[h], records[h].version if h in records else 0) for h in written}, present, newest
        )
        for start in range(0, len(hashes := list(records)), _PER_ROUND):
            await self._client.execute("SADD", self._keyspace.keys, *hashes[start : start + _PER_ROUND])
        await self._tell_versions(records, present, versions)
        taken = [h for h in written if h not in refused]
        withdrawn = sum(h in gone or records[h].principal.revoked for h in taken)
        return _Put(len(taken), withdrawn, tuple(refused))

    async def _write_all(
        self, writes: dict[str, _Write], present: dict[str, Published], newest: dict[str, int]
    ) -> tuple[dict[str, int], set[str]]:
        """Writes keys; returns the versions of all, also of those that were there and stay, and those that were not
        taken: another control process was faster.

        A new key's version is later than that of the one whose place it takes, under the same id.
        """
        for found in present.values():
            key_id = _principal(found.principal).key_id
            newest[key_id] = max(found.version, newest.get(key_id, 0))
        versions = {h: found.version for h, found in present.items()}
        refused: set[str] = set()
        hashes = list(writes)
        for start in range(0, len(hashes), _PER_ROUND):
            some = hashes[start : start + _PER_ROUND]
            for h in some:
                later_than = max(newest.get(_principal(writes[h].principal).key_id, 0), versions.get(h, 0))
                versions[h] = max(writes[h].version, later_than + 1)
            taken = await self._client.pipeline([self._write(h, versions[h], writes[h].principal) for h in some])
            refused |= {h for h, was in zip(some, taken, strict=True) if not was}
        return versions, refused

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

    async def _present(self, hashes: Sequence[str]) -> dict[str, Published]:
        """What Redis holds now."""
        present: dict[str, Published] = {}
        for start in range(0, len(hashes), _PER_ROUND):
            some = hashes[start : start + _PER_ROUND]
            replies = await self._client.pipeline([("HMGET", self._keyspace.key(h), "v", "d") for h in some])
            for key_hash, (version, principal) in zip(some, replies, strict=True):
                if version is not None and principal is not None:
                    present[key_hash] = Published(int(version), principal)
        return present

    def _write(self, key_hash: str, version: int, principal: bytes) -> tuple[Arg, ...]:
        """The command that writes a key under the registry's version, or a later one where Redis has one that is later.
        Whoever publishes what was true before a change thus comes too late, and is told so: 0."""
        key, channel = self._keyspace.key(key_hash), self._keyspace.invalidate
        return ("EVAL", self._script, 1, key, version, principal, channel, key_hash)


def _taken(due: Sequence[Due], put: _Put) -> list[Due]:
    """Without what stays due, for Redis has not taken it."""
    return [one for one in due if one.subject not in put.refused]


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
