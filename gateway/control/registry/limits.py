"""Publishes the limits of an organization beside its keys, and opens its spend limits.

Spend limits are counted in Redis alone for now, so they are opened once and never again by themselves: a Redis that has
lost its counters would let everything be spent a second time. A file in the data folder remembers that they were.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from gateway.clock import Clock
from gateway.control.registry.declared_limits import declared_limits
from gateway.control.registry.remembered import Remembered
from gateway.settings.model import Settings
from gateway.telemetry.logging import Logger

_CLOSED = "Redis has lost what was spent: calls with spend limits are refused; `gateway limits reset-spend` reopens"


class LimitsState(msgspec.Struct, frozen=True):
    """What an organization's slot says of itself. epoch: of its counters, None if they are not open. version: of the
    newest limit document, 0 if there is none.
    """

    epoch: str | None
    version: int


class LimitsStore(Protocol):
    """Where limits are published. Methods raise RedisFailure."""

    async def state(self, organization_id: str) -> LimitsState: ...

    async def read(self, organization_id: str) -> tuple[int, dict[str, bytes]]:
        """The version, and all documents as JSON by field."""

    async def publish(self, organization_id: str, changes: Mapping[str, bytes | None], version: int) -> None:
        """Writes documents, and takes away those that are None; each only if `version` is newer than its own."""

    async def publish_key_versions(self, organization_id: str, versions: Mapping[str, int]) -> None:
        """Says, by key id, which versions the keys' records have. One that is older than known changes nothing."""

    async def open_epoch(self, organization_id: str, epoch: str) -> bool:
        """Opens the counters. False if they are open, and nothing changes."""

    async def reset_spend(self, organization_id: str) -> None:
        """Forgets what was spent: all windows begin anew with what is reserved now."""


class Reset(msgspec.Struct, frozen=True):
    """What a reset did. opened: spend limits were closed. zeroed: what was counted is forgotten."""

    opened: bool
    zeroed: bool


class LimitsPublisher:
    """Publishes the limits of one settings file. Methods raise RedisFailure, and OSError of the data folder."""

    def __init__(self, settings: Settings, store: LimitsStore, clock: Clock, log: Logger) -> None:
        self._organization_id = settings.organization_id
        self._documents = {
            field: msgspec.json.encode(document, order="deterministic")
            for field, document in declared_limits(settings).items()
        }
        self._store = store
        self._clock = clock
        self._log = log
        self._opened = Remembered(Path(settings.data_dir) / "spend-opened")
        self._closed = False  # as of the last look, and so said

    async def state(self) -> LimitsState:
        return await self._store.state(self._organization_id)

    async def publish(self) -> int:
        """Makes the read model say what the settings say; returns how many documents were written or withdrawn.

        What is there already, unchanged, is left alone, so that no worker has to read it again.
        """
        known, present = await self._store.read(self._organization_id)
        changes: dict[str, bytes | None] = {
            field: document for field, document in self._documents.items() if present.get(field) != document
        }
        changes.update(dict.fromkeys(present.keys() - self._documents.keys()))
        if changes:
            await self._store.publish(self._organization_id, changes, max(self._now_us(), known + 1))
        return len(changes)

    async def publish_key_versions(self, versions: Mapping[str, int]) -> None:
        """Says which versions the records of keys have, by key id."""
        if versions:
            await self._store.publish_key_versions(self._organization_id, versions)

    async def open_once(self, state: LimitsState) -> str | None:
        """Opens spend limits if they never were; returns what is wrong if they were and are no more."""
        opened_before = self._organization_id in self._opened.all()
        if state.epoch is None and opened_before:
            if not self._closed:  # once, not once a second
                self._closed = True
                self._log.error("spend_closed", organization=self._organization_id, reason=_CLOSED)
            return _CLOSED
        if state.epoch is None:
            await self._store.open_epoch(self._organization_id, self._new_epoch())
            self._log.info("spend_opened", organization=self._organization_id, first=True)
        if not opened_before:
            self._opened.add({self._organization_id})
        self._closed = False
        return None

    async def reset_spend(self, *, zero: bool) -> Reset:
        """Opens spend limits again after Redis was emptied. What has been counted since then stays counted, unless
        `zero`: that begins all windows anew, were they open or not.
        """
        if zero:
            await self._store.reset_spend(self._organization_id)
        opened = await self._store.open_epoch(self._organization_id, self._new_epoch())
        self._closed = False
        self._log.warning("spend_reset", organization=self._organization_id, opened=opened, zeroed=zero)
        return Reset(opened, zero)

    def _new_epoch(self) -> str:
        return str(self._now_us())

    def _now_us(self) -> int:
        return int(self._clock.wall() * 1_000_000)
