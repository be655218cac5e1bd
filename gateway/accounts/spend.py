"""What has been spent, as the counters have it, and whether they can be relied on."""

from collections.abc import Callable, Sequence

import msgspec

from gateway.accounts.reservations import server_time
from gateway.accounts.scripts import COUNTING, WRITING, Scripts, load
from gateway.keyspace import Keyspace


class Spent(msgspec.Struct, frozen=True):
    """Nano-dollars in the windows of an instant, what is reserved included."""

    day: int
    week: int
    month: int
    total: int


class SpendRead(msgspec.Struct, frozen=True):
    """epoch: of the counters; None: they are closed. by_subject: in the order that was asked for."""

    at_us: int
    epoch: str | None
    by_subject: dict[str, Spent]


class Spend:
    """All methods raise RedisFailure as `redis` does."""

    def __init__(self, redis: Scripts, keyspace: Keyspace, *, now_us: Callable[[], int] = server_time) -> None:
        self._redis = redis
        self._keyspace = keyspace
        self._now_us = now_us
        self._open = load("open_epoch")
        self._read = load("read_spend", "windows", "fields")
        self._reset = load("reset_spend", *COUNTING, after=WRITING)

    async def open_epoch(self, organization_id: str, epoch: str) -> bool:
        """Sets the epoch if there is none; whether it did."""
        return bool(await self._redis.script(self._open, (self._keyspace.base(organization_id),), (epoch,)))

    async def read(self, organization_id: str, subjects: Sequence[str]) -> SpendRead:
        """subjects: as `plan.subjects` names them."""
        keys = (self._keyspace.base(organization_id),)
        at_us, epoch, *found = await self._redis.script(self._read, keys, (self._now_us(), *subjects))
        spent = {subject: Spent(*found[4 * n : 4 * n + 4]) for n, subject in enumerate(subjects)}
        return SpendRead(at_us, epoch.decode() if epoch is not None else None, spent)

    async def reset_spend(self, organization_id: str) -> int:
        """All windows begin again, with what living reservations hold; returns how many these are."""
        living: int = await self._redis.script(self._reset, (self._keyspace.base(organization_id),), (self._now_us(),))
        return living
