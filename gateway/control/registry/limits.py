"""Publishes the limits of an organization beside its keys, and opens its spend limits.

Spend limits are opened here once, and the registry remembers that they were: a Redis that has lost its counters would
let everything be spent a second time. Then they are made from the ledger first (`control/jobs/spend_audit.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
from sqlalchemy import select, update

from gateway.clock import Clock
from gateway.control.registry.changes import Changes
from gateway.control.registry.limit_records import LimitRecords, limit_records
from gateway.control.sql.database import Database
from gateway.control.sql.tables import organizations
from gateway.limits import ORGANIZATION_FIELD, LimitDocument
from gateway.settings.model import Settings
from gateway.telemetry.logging import Logger

_AT_ONCE = 500  # in one script call, which holds Redis up
_CLOSED = "Redis has lost what was spent: calls with spend limits are refused until it is made from the ledger"


class Documents(Protocol):
    """version: of the newest, 0 if there is none. documents: JSON by field."""

    @property
    def version(self) -> int: ...

    @property
    def documents(self) -> Mapping[str, bytes]: ...


class LimitsStore(Protocol):
    """Where limits are published: `accounts.limits_store` in Redis. Methods raise RedisFailure."""

    async def publish(self, organization_id: str, version: int, documents: Mapping[str, bytes | None]) -> int:
        """Writes documents as of a version of the registry, and takes away those that are None; each only if that is
        newer than its own."""

    async def publish_key_versions(self, organization_id: str, versions: Mapping[str, int]) -> int:
        """Says which versions the records of keys have, by key id. One that is older than known changes nothing."""

    async def read_documents(self, organization_id: str) -> Documents:
        """All of them."""


class Opened(Protocol):
    """epoch: of the counters, None if they are closed."""

    @property
    def epoch(self) -> str | None: ...


class SpendCounters(Protocol):
    """What was spent: `accounts.spend` in Redis. Methods raise RedisFailure."""

    async def read(self, organization_id: str, subjects: Sequence[str]) -> Opened:
        """What subjects have spent, of which only the epoch is needed here."""

    async def open_epoch(self, organization_id: str, epoch: str) -> bool:
        """Opens the counters. False if they are open, and nothing changes."""


class LimitsPublisher:
    """Publishes the limits of an organization. Methods raise RedisFailure, and SQLAlchemyError of the registry."""

    def __init__(  # noqa: PLR0917
        self,
        settings: Settings,
        database: Database,
        store: LimitsStore,
        spend: SpendCounters,
        clock: Clock,
        log: Logger,
    ) -> None:
        self._organization_id = settings.organization_id
        self._database = database
        self._changes = Changes(database, clock)
        self._store = store
        self._spend = spend
        self._clock = clock
        self._log = log
        self._limited = False  # there are spend limits
        self._closed = False  # as of the last look, and so said
        self._opened_before = False  # spend was opened at some time

    async def is_open(self) -> bool:
        """Whether the organization has counters of spend."""
        return (await self._spend.read(self._organization_id, (ORGANIZATION_FIELD,))).epoch is not None

    async def is_published(self) -> bool:
        """Whether there are any documents. The organization's always is, unless Redis was emptied."""
        return (await self._store.read_documents(self._organization_id)).version > 0

    async def publish(self) -> int:
        """Makes the read model say what the registry says; returns how many documents were written or withdrawn.

        What is there already, unchanged, is left alone, so that no worker has to read it again. What is not gets a
        version of its own: Redis may have the present one with something else.
        """
        present = (await self._store.read_documents(self._organization_id)).documents
        async with self._database.transaction() as connection:
            records = await limit_records(connection, self._organization_id)
        self._limited = any(_limits_spend(document) for document in records.documents.values())
        if not _differing(present, records):
            return 0
        async with self._changes.begin(self._organization_id) as change:
            records = await limit_records(change.connection, self._organization_id)
        changes = _differing(present, records)
        await self._write(records.version, changes)
        return len(changes)

    async def publish_some(self, subjects: Sequence[str]) -> None:
        """Publishes what has changed of these."""
        async with self._database.transaction() as connection:
            records = await limit_records(connection, self._organization_id, subjects)
        self._limited |= any(_limits_spend(document) for document in records.documents.values())
        documents = {subject: records.documents.get(subject) for subject in subjects}
        await self._write(
            records.version, {s: _encoded(one) if one is not None else None for s, one in documents.items()}
        )

    async def _write(self, version: int, documents: Mapping[str, bytes | None]) -> None:
        subjects = list(documents)
        for start in range(0, len(subjects), _AT_ONCE):
            some = {subject: documents[subject] for subject in subjects[start : start + _AT_ONCE]}
            await self._store.publish(self._organization_id, version, some)

    async def publish_key_versions(self, versions: Mapping[str, int]) -> None:
        """Says which versions the records of keys have, by key id."""
        items = list(versions.items())
        for start in range(0, len(items), _AT_ONCE):
            await self._store.publish_key_versions(self._organization_id, dict(items[start : start + _AT_ONCE]))

    async def open_once(self, is_open: bool) -> str | None:
        """Opens spend limits if they never were; returns what is wrong if they were and are no more, and there are any:
        while nothing limits spend it is no harm that they are closed, and there may be some after a change.
        """
        opened_before = await self._was_opened()
        if not is_open and opened_before:
            if not self._closed:  # once, not once a second
                self._closed = True
                say = self._log.error if self._limited else self._log.warning
                say("spend_closed", organization=self._organization_id, limited=self._limited, reason=_CLOSED)
            return _CLOSED if self._limited else None
        if not is_open:
            await self._spend.open_epoch(self._organization_id, self._new_epoch())
            self._log.info("spend_opened", organization=self._organization_id, first=True)
        if not opened_before:
            await self._remember_opened()
        self._closed = False
        return None

    async def _was_opened(self) -> bool:
        if self._opened_before:
            return True
        ours = select(organizations.c.spend_opened_at).where(organizations.c.id == self._organization_id)
        async with self._database.transaction() as connection:
            self._opened_before = await connection.scalar(ours) is not None
        return self._opened_before

    async def _remember_opened(self) -> None:
        ours = update(organizations).where(organizations.c.id == self._organization_id)
        async with self._database.transaction() as connection:
            await connection.execute(ours.values(spend_opened_at=int(self._clock.wall())))
        self._opened_before = True

    def _new_epoch(self) -> str:
        return str(self._now_us())

    def _now_us(self) -> int:
        return int(self._clock.wall() * 1_000_000)


def _encoded(document: LimitDocument) -> bytes:
    return msgspec.json.encode(document, order="deterministic")


def _differing(present: Mapping[str, bytes], records: LimitRecords) -> dict[str, bytes | None]:
    """What is to be written so that Redis has these documents and no others; None: it is to go."""
    wanted = {subject: _encoded(document) for subject, document in records.documents.items()}
    changes: dict[str, bytes | None] = {s: one for s, one in wanted.items() if present.get(s) != one}
    changes.update(dict.fromkeys(present.keys() - wanted.keys()))
    return changes


def _limits_spend(document: LimitDocument) -> bool:
    """Whether a spend limit may refuse calls."""
    declared = (document.own, document.keys, document.users, document.projects)
    return any(limit.nano_usd is not None and not limit.shadow for one in declared for limit in one.spend)
