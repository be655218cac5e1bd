"""Publishes the limits of an organization beside its keys, and opens its spend limits.

Spend limits are counted in Redis alone for now, so they are opened once and never again by themselves: a Redis that has
lost its counters would let everything be spent a second time. A file in the data folder remembers that they were.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from gateway.clock import Clock
from gateway.control.registry.declared_limits import declared_limits
from gateway.control.registry.remembered import Remembered
from gateway.limits import ORGANIZATION_FIELD, LimitDocument
from gateway.settings.model import Settings
from gateway.telemetry.logging import Logger

_AT_ONCE = 500  # in one script call, which holds Redis up
_CLOSED = "Redis has lost what was spent: calls with spend limits are refused; `gateway limits reset-spend` reopens"


class Documents(Protocol):
    """version: of the newest, 0 if there is none. documents: JSON by field."""

    @property
    def version(self) -> int: ...

    @property
    def documents(self) -> Mapping[str, bytes]: ...


class LimitsStore(Protocol):
    """Where limits are published: `accounts.limits_store` in Redis. Methods raise RedisFailure."""

    async def publish(self, organization_id: str, version: int, documents: Mapping[str, bytes | None]) -> int:
        """Writes documents, and takes away those that are None; each only if `version` is newer than its own."""

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

    async def reset_spend(self, organization_id: str) -> int:
        """Forgets what was spent: all windows begin anew with what is reserved now."""


class Reset(msgspec.Struct, frozen=True):
    """What a reset did. opened: spend limits were closed. zeroed: what was counted is forgotten."""

    opened: bool
    zeroed: bool


class LimitsPublisher:
    """Publishes the limits of one settings file. Methods raise RedisFailure, and OSError of the data folder."""

    def __init__(self, settings: Settings, store: LimitsStore, spend: SpendCounters, clock: Clock, log: Logger) -> None:
        self._organization_id = settings.organization_id
        declared = declared_limits(settings)
        self._limited = any(_limits_spend(document) for document in declared.values())
        self._documents = {
            field: msgspec.json.encode(document, order="deterministic") for field, document in declared.items()
        }
        self._store = store
        self._spend = spend
        self._clock = clock
        self._log = log
        self._opened = Remembered(Path(settings.data_dir) / "spend-opened")
        self._closed = False  # as of the last look, and so said

    async def is_open(self) -> bool:
        """Whether the organization has counters of spend."""
        return (await self._spend.read(self._organization_id, (ORGANIZATION_FIELD,))).epoch is not None

    async def is_published(self) -> bool:
        """Whether there are any documents. The organization's always is, unless Redis was emptied."""
        return (await self._store.read_documents(self._organization_id)).version > 0

    async def publish(self) -> int:
        """Makes the read model say what the settings say; returns how many documents were written or withdrawn.

        What is there already, unchanged, is left alone, so that no worker has to read it again.
        """
        present = await self._store.read_documents(self._organization_id)
        changes: dict[str, bytes | None] = {
            field: document for field, document in self._documents.items() if present.documents.get(field) != document
        }
        changes.update(dict.fromkeys(present.documents.keys() - self._documents.keys()))
        if changes:
            await self._store.publish(self._organization_id, max(self._now_us(), present.version + 1), changes)
        return len(changes)

    async def publish_key_versions(self, versions: Mapping[str, int]) -> None:
        """Says which versions the records of keys have, by key id."""
        items = list(versions.items())
        for start in range(0, len(items), _AT_ONCE):
            await self._store.publish_key_versions(self._organization_id, dict(items[start : start + _AT_ONCE]))

    async def open_once(self, is_open: bool) -> str | None:
        """Opens spend limits if they never were; returns what is wrong if they were and are no more, and there are any:
        while nothing limits spend it is no harm that they are closed, and there may be some after a reload.
        """
        opened_before = self._organization_id in self._opened.all()
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
            self._opened.add({self._organization_id})
        self._closed = False
        return None

    async def reset_spend(self, *, zero: bool) -> Reset:
        """Opens spend limits again after Redis was emptied. What has been counted since then stays counted, unless
        `zero`: that begins all windows anew, were they open or not.
        """
        await self.publish()  # they are not opened before there are any
        if zero:
            await self._spend.reset_spend(self._organization_id)
        opened = await self._spend.open_epoch(self._organization_id, self._new_epoch())
        self._closed = False
        self._log.warning("spend_reset", organization=self._organization_id, opened=opened, zeroed=zero)
        return Reset(opened, zero)

    def _new_epoch(self) -> str:
        return str(self._now_us())

    def _now_us(self) -> int:
        return int(self._clock.wall() * 1_000_000)


def _limits_spend(document: LimitDocument) -> bool:
    """Whether a spend limit may refuse calls."""
    declared = (document.own, document.keys, document.users, document.projects)
    return any(limit.nano_usd is not None and not limit.shadow for one in declared for limit in one.spend)
