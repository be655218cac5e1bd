"""What a worker holds in Redis, kept alive while its calls run, and given back for certain where a call never was."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from gateway.accounts.reservations import Reservations
from gateway.accounts.usage_stream import Settlement
from gateway.clock import Clock
from gateway.redisdb.failures import RedisFailure
from gateway.redisdb.hot_connection import backoff_s
from gateway.tasks import Tasks

_PER_LEASE = 3  # rounds of renewal in a lease
_AGAIN_S = 1.0  # after a round in which Redis did not take something
_PER_SCRIPT = 200
_RECENT_S = 60.0  # how long ends that Redis took are kept, should it lose them
_MOST_RECENT = 20_000


class Leases:
    """The reservations of one worker. All of them are renewed together; whoever begins one says so with `hold`."""

    def __init__(
        self,
        reservations: Reservations,
        worker_id: str,
        organizations: Callable[[], tuple[str, ...]],
        *,
        lease_s: float,
        clock: Clock,
        least_workers: int = 1,
    ) -> None:
        """organizations: in which this worker counts as alive, also without reservations. least_workers: of this
        gateway, which are taken to live also before they have said so.
        """
        self._reservations = reservations
        self._worker_id = worker_id
        self._organizations = organizations
        self._clock = clock
        self.lease_s = lease_s
        self._least_workers = least_workers
        self.workers = least_workers  # last known number of live ones, of all gateways on this Redis
        self._held: dict[str, tuple[str, float]] = {}  # id → organization, when it was begun or renewed
        self._listeners: list[Callable[[str, str | None], None]] = []
        self._ends: dict[str, tuple[str, bool]] = {}  # id → organization, whether cancelled rather than released
        self._ended: deque[tuple[float, str, tuple[str, bool]]] = deque(maxlen=_MOST_RECENT)  # when that was sent
        self._wake = asyncio.Event()
        self._tasks = Tasks()

    def start(self) -> None:
        self._tasks.spawn(self._renew(), "renew reservations")
        self._tasks.spawn(self._end_all(), "give back reservations")

    async def close(self) -> None:
        """Gives back what is still to be, as far as one try goes."""
        await self._tasks.cancel()
        await self.end_now()

    def hold(self, reservation_id: str, organization_id: str) -> None:
        """A reservation was made, or may have been."""
        self._held[reservation_id] = (organization_id, self._clock.monotonic())

    def let_go(self, reservation_id: str) -> None:
        """It is renewed no more: it is settled by its event, which is on its way, or else when its lease is over."""
        self._held.pop(reservation_id, None)

    def cancel(self, reservation_id: str, organization_id: str) -> None:
        """It is to be as if it had never been; repeated until Redis says so."""
        self._end(reservation_id, organization_id, cancelled=True)

    def release(self, reservation_id: str, organization_id: str) -> None:
        """It ends with nothing used and no event; the request counts."""
        self._end(reservation_id, organization_id, cancelled=False)

    def listen(self, listener: Callable[[str, str | None], None]) -> None:
        """`listener` is told, with each round of renewal, the epoch of an organization's counters; None: they are
        closed."""
        self._listeners.append(listener)

    def linked(self, made: bool) -> None:
        """A connection to Redis was lost, or made anew: then it may not know any more what has ended lately, and would
        charge it when its lease is over. To end that again harms nothing."""
        if made and self._ended:
            self._ends = {reservation_id: end for _, reservation_id, end in self._ended} | self._ends
            self._ended.clear()
            self._wake.set()
        elif not made:
            recent = self._clock.monotonic() - _RECENT_S
            while self._ended and self._ended[0][0] < recent:
                self._ended.popleft()

    def __len__(self) -> int:
        return len(self._held)

    def _end(self, reservation_id: str, organization_id: str, *, cancelled: bool) -> None:
        self._held.pop(reservation_id, None)
        self._ends[reservation_id] = (organization_id, cancelled)
        self._wake.set()

    async def _renew(self) -> None:
        pause_s = self.lease_s / _PER_LEASE
        while True:
            await asyncio.sleep(pause_s)
            pause_s = self.lease_s / _PER_LEASE
            if not await self.renew_now():
                pause_s = min(pause_s, _AGAIN_S)

    async def renew_now(self) -> bool:
        """Renews what is due, and the worker's own lease. Whether Redis took all of it."""
        due = self._clock.monotonic() - self.lease_s / _PER_LEASE / 2  # the young ones can wait for the next round
        owned: dict[str, list[str]] = {organization_id: [] for organization_id in self._organizations()}
        for reservation_id, (organization_id, since) in self._held.items():
            ids = owned.setdefault(organization_id, [])
            if since <= due:
                ids.append(reservation_id)
        taken = [await self._renew_of(organization_id, ids) for organization_id, ids in owned.items()]
        return all(taken)

    async def _renew_of(self, organization_id: str, ids: Sequence[str]) -> bool:
        now = self._clock.monotonic()
        for start in range(0, max(1, len(ids)), _PER_SCRIPT):
            some = ids[start : start + _PER_SCRIPT]
            try:
                extended = await self._reservations.extend(organization_id, self._worker_id, some, self.lease_s)
            except RedisFailure:
                return False
            self.workers = max(self._least_workers, extended.workers)
            for listener in self._listeners:
                listener(organization_id, extended.epoch)
            for reservation_id in extended.lost:
                self._held.pop(reservation_id, None)
            for reservation_id in some:
                if reservation_id in self._held:
                    self._held[reservation_id] = (organization_id, now)
        return True

    async def _end_all(self) -> None:
        failures = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            if await self.end_now():
                failures = 0
            else:
                failures += 1
                await asyncio.sleep(backoff_s(failures))
                self._wake.set()

    async def end_now(self) -> bool:
        """Cancels and releases what is to be. Whether Redis took all of it; the rest is kept for the next time."""
        ends: dict[tuple[str, bool], list[str]] = {}
        for reservation_id, end in self._ends.items():
            ends.setdefault(end, []).append(reservation_id)
        taken = [await self._end_of(*end, ids) for end, ids in ends.items()]
        return all(taken)

    async def _end_of(self, organization_id: str, cancelled: bool, ids: Sequence[str]) -> bool:
        for start in range(0, len(ids), _PER_SCRIPT):
            some = ids[start : start + _PER_SCRIPT]
            now = self._clock.monotonic()
            try:
                if cancelled:
                    await self._reservations.cancel(organization_id, some)
                else:
                    await self._reservations.settle([_nothing(one) for one in some], organization_id)
            except RedisFailure:
                return False
            for reservation_id in some:
                self._ends.pop(reservation_id, None)
                self._ended.append((now, reservation_id, (organization_id, cancelled)))
        return True


def _nothing(reservation_id: str) -> Settlement:
    return Settlement(event=None, id=reservation_id, tokens=0, images=0, audio_bytes=0, batch_tokens=0, nano_usd=0)
