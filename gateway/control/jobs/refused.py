"""Carries records of refusals from Redis into the database, each once, so that a refused call can be explained.

Several may run, and one that begins anew reads the stream from its beginning: a record's place in it is unique in SQL.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from gateway.accounts.refusals import Refusal, Told
from gateway.clock import Clock
from gateway.control.jobs.steadily import steadily
from gateway.control.sql.database import Database, insert_into
from gateway.control.sql.ledger_tables import usage_refusals
from gateway.redisdb.positions import place
from gateway.telemetry.logging import Logger

_EVERY_S = 1.0
_MOST = 500  # records in a transaction, which keeps others waiting on SQLite
_MINUTE_US = 60_000_000


class Records(Protocol):
    """`accounts.refusals` in Redis. Methods raise RedisFailure."""

    async def read(self, organization_id: str, after: str, most: int) -> list[Told]:
        """Those behind a position, or the first ones."""

    async def last(self, organization_id: str) -> str:
        """The position of the newest one; empty if there is none."""


class Refused:
    """Of one organization. keep_s: how old records may be that are taken in."""

    def __init__(  # noqa: PLR0917
        self, records: Records, organization_id: str, database: Database, clock: Clock, log: Logger, keep_s: int
    ) -> None:
        self._records = records
        self._organization_id = organization_id
        self._database = database
        self._clock = clock
        self._log = log
        self._keep_s = keep_s
        self._position = ""

    async def keep_taken(self) -> None:
        """For ever."""
        await steadily(self.take, _EVERY_S, self._refused)

    def _refused(self, reason: str) -> None:
        self._log.warning("refusals_not_kept", reason=reason)

    async def take(self) -> int:
        """Takes in all that is new; returns how many records that were. Raises RedisFailure, SQLAlchemyError."""
        last = await self._records.last(self._organization_id)
        if last == self._position:
            return 0
        if place(last) < place(self._position):
            self._position = ""  # the stream is another one
        taken = 0
        while some := await self._records.read(self._organization_id, self._position, _MOST):
            await self._keep(some)
            self._position = some[-1].position
            taken += len(some)
        return taken

    async def _keep(self, told: Sequence[Told]) -> None:
        oldest = int((self._clock.wall() - self._keep_s) * 1e6)
        rows = []
        for one in told:
            try:
                refusal = msgspec.json.decode(one.json, type=Refusal)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                self._log.error("refusal_unreadable", position=one.position)
                continue
            if refusal.at_us >= oldest:
                rows.append({
                    "position": one.position,
                    "organization_id": self._organization_id,
                    "at": refusal.at_us // _MINUTE_US,
                    "request_id": refusal.request_id,
                    "refusal": one.json,
                })  # fmt: skip
        if rows:
            async with self._database.transaction() as connection:
                await connection.execute(insert_into(connection, usage_refusals).on_conflict_do_nothing(), rows)
