"""Charges for what vector stores keep: for each that lives an event in the usage stream, hour by hour.

An hour is charged once it is over, by the size that is known then; sizes that are not, or are old, are asked for first.
Events go the way of all others, so spend limits, the ledger and its days have them.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Protocol

from msgspec.structs import replace

from gateway.accounts.usage_stream import Packed, pack
from gateway.clock import Clock
from gateway.control.jobs.steadily import steadily
from gateway.control.ledger.vector_stores import HOUR_S, Store, Stores
from gateway.pricing.book import Book
from gateway.telemetry.logging import Logger
from gateway.values import Quantities, SeenStore, UsageEvent, UsageLine

_LOOK_S = 60.0
_MOST_ASKED = 1_000  # in an hour
_AT_ONCE = 100  # stores
_MOST_EVENTS = 500  # that are appended together
_CATCH_UP_H = 24  # hours that are charged after nobody did for a while; what is longer ago is not
_HOURS = 24  # storage is priced by the day


class Folds(Protocol):
    """`folding.Folding`. holds: whether it is us who folds, and thus who charges."""

    @property
    def holds(self) -> bool: ...


class Sizes(Protocol):
    """`store_sizes.StoreSizes`."""

    async def ask(self, wanted: Sequence[tuple[str, str]]) -> dict[str, SeenStore | None]: ...


class Storage:
    """Of one organization. Several may: events have the store and the hour for an id. append: into the usage stream.
    keep_s: how late events may come."""

    def __init__(  # noqa: PLR0917
        self,
        organization_id: str,
        stores: Stores,
        sizes: Sizes,
        append: Callable[[Sequence[Packed]], Awaitable[int]],
        book: Book,
        folding: Folds,
        clock: Clock,
        log: Logger,
        *,
        keep_s: int,
    ) -> None:
        self._organization_id = organization_id
        self._stores = stores
        self._sizes = sizes
        self._append = append
        self._book = book
        self._folding = folding
        self._clock = clock
        self._log = log
        self._keep_s = keep_s
        self._charged_hour = 0

    async def keep_charged(self) -> None:
        """For ever."""
        await steadily(self.look, _LOOK_S, self._refused)

    def _refused(self, reason: str) -> None:
        self._log.warning("storage_not_charged", reason=reason)

    async def look(self) -> None:
        """Charges the hours that are over, if that is not done. Raises RedisFailure, SQLAlchemyError."""
        now = int(self._clock.wall())
        hour = now // HOUR_S - 1
        if hour == self._charged_hour or not self._folding.holds:
            return
        if wanted := await self._stores.to_ask(now, _MOST_ASKED):
            await self._stores.answered(await self._sizes.ask(wanted), now)
        while some := await self._stores.to_charge(hour, _AT_ONCE):
            events = [pack(event) for store in some for event in self._events(store, hour)]
            for start in range(0, len(events), _MOST_EVENTS):
                await self._append(events[start : start + _MOST_EVENTS])
            await self._stores.charged([store.id for store in some], hour)
        await self._stores.forget(now - self._keep_s)
        self._charged_hour = hour

    def _events(self, store: Store, last: int) -> Iterator[UsageEvent]:
        """Of the hours up to the last one that are not charged; in all of them it is as large as it is now."""
        if store.gone_at is not None:
            last = min(last, store.gone_at // HOUR_S - 1)
        if not store.bytes:
            return
        for hour in range(max(store.charged_hour + 1, last + 1 - _CATCH_UP_H), last + 1):
            at = hour * HOUR_S
            yield UsageEvent(
                id=f"{store.id}/{hour}",
                at_us=at * 1_000_000,
                organization_id=self._organization_id,
                project_id=store.project_id,
                user_id=store.user_id,
                key_id=store.key_id,
                lines=(self._line(store, at),),
            )

    def _line(self, store: Store, at: int) -> UsageLine:
        """Its bytes, at the price of an hour. The cost's quantity is in bytes for a day."""
        kept = UsageLine(
            upstream=store.upstream,
            category="vector_stores",
            quantities=Quantities(bytes=(store.bytes + _HOURS // 2) // _HOURS),
            object_id=store.id,
        )
        priced, _ = self._book.priced(kept, at)
        return replace(priced, quantities=Quantities(bytes=store.bytes))
