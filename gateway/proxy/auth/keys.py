"""From a key's hash to its principal: a cache in the worker, in front of the read model in Redis.

How fresh it is (design.md, Freshness): while the subscription to invalidations stands, an entry is believed until an
invalidation names it, and for `REFRESH_S` at most. While the subscription is down, entries are believed for `UNSURE_S`
only, so a revocation still works within a second; when it comes back, an entry is asked for anew before it is believed.
If Redis cannot be asked at all, what was known is believed for `GRACE_S`, and unknown keys get KEYS_UNAVAILABLE (503).
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from gateway.clock import Clock
from gateway.errors import KEYS_UNAVAILABLE, GatewayError
from gateway.tasks import Tasks
from gateway.values import Principal

REFRESH_S = 60.0
UNSURE_S = 0.8
GRACE_S = 300.0
NEGATIVE_S = 3.0
_TRIES = 3  # to get an answer that no change has overtaken

Fetch = Callable[[bytes], Awaitable[Principal | None]]  # by digest; raises KeysAwayError


class KeysAwayError(Exception):
    """The read model cannot be asked right now."""


class _Entry(msgspec.Struct):
    principal: Principal | None
    fetched_at: float
    generation: int  # of the cache, when the question was asked


class KeyCache:
    """Principals by the digest of their key. One per worker."""

    def __init__(self, fetch: Fetch, clock: Clock, *, size: int = 100_000) -> None:
        self._fetch = fetch
        self._clock = clock
        self._size = size
        self._known: dict[bytes, _Entry] = {}
        self._unknown: dict[bytes, _Entry] = {}
        self._pending: dict[bytes, asyncio.Future[Principal | None]] = {}
        self._generation = 0
        self._sure_from = 0  # the generation since which every change was heard of
        self._invalidated: dict[bytes, int] = {}  # keys that changed while they were being asked for
        self._tasks = Tasks()
        self.subscribed = False

    def __len__(self) -> int:
        return len(self._known)

    def cached(self, digest: bytes) -> Principal | None:
        """The principal if it is known and fresh; no waiting. None says nothing: `look_up` decides."""
        entry = self._known.get(digest)
        if entry is None or entry.generation < self._sure_from:
            return None
        age = self._clock.monotonic() - entry.fetched_at
        if age > (REFRESH_S if self.subscribed else UNSURE_S):
            return None
        return self._alive(entry.principal)

    async def look_up(self, digest: bytes) -> Principal | None:
        """The principal of a key, asking Redis if need be; None if there is no such key, or not any more.

        Raises GatewayError KEYS_UNAVAILABLE (503) if nobody can tell.
        """
        if (principal := self.cached(digest)) is not None:
            return principal
        now = self._clock.monotonic()
        denied = self._unknown.get(digest)
        if denied is not None and now - denied.fetched_at <= NEGATIVE_S:
            return None
        try:
            return await self._asked(digest)
        except KeysAwayError:
            entry = self._known.get(digest)
            if entry is not None and now - entry.fetched_at <= GRACE_S:
                return self._alive(entry.principal)
            raise GatewayError(KEYS_UNAVAILABLE) from None

    async def confirm(self, digest: bytes) -> Principal | None:
        """Like `look_up`, but only Redis is believed. Raises KeysAwayError."""
        if (principal := self.cached(digest)) is not None:
            return principal
        return await self._asked(digest)

    async def _asked(self, digest: bytes) -> Principal | None:
        """Redis's answer. It is asked again if a change was heard of before whoever asked could wake up and read it."""
        for _ in range(_TRIES):
            principal = self._alive(await self._ask(digest))
            entry = self._known.get(digest)
            if principal is None or (entry is not None and entry.principal is principal):
                return principal
        raise KeysAwayError

    async def _ask(self, digest: bytes) -> Principal | None:
        """Asks Redis; those who ask for the same key at once wait for one answer."""
        pending = self._pending.get(digest)
        if pending is None:
            pending = self._pending[digest] = asyncio.get_running_loop().create_future()
            self._tasks.spawn(self._answer(digest, pending), "look up a key")  # whoever asked first may leave first
        return await asyncio.shield(pending)

    async def _answer(self, digest: bytes, pending: "asyncio.Future[Principal | None]") -> None:
        error: BaseException = KeysAwayError()
        try:
            pending.set_result(await self._fill(digest))
        except KeysAwayError:
            pass
        except Exception as unexpected:
            error = unexpected
            raise
        finally:
            del self._pending[digest]
            self._invalidated.pop(digest, None)
            if not pending.done():
                pending.set_exception(error)
                pending.exception()  # perhaps nobody waits any more

    async def _fill(self, digest: bytes) -> Principal | None:
        """Asks until the answer is not older than the last invalidation, then keeps it."""
        for _ in range(_TRIES):
            began = self._generation
            at = self._clock.monotonic()
            principal = await self._fetch(digest)
            if self._invalidated.get(digest, 0) <= began:
                self._keep(digest, _Entry(principal, at, began))
                return principal
        raise KeysAwayError

    def _keep(self, digest: bytes, entry: _Entry) -> None:
        if self._alive(entry.principal) is None:
            self._known.pop(digest, None)
            store, size = self._unknown, self._size // 10
        else:
            self._unknown.pop(digest, None)
            store, size = self._known, self._size
        store.pop(digest, None)
        while len(store) >= size:
            del store[next(iter(store))]  # the oldest fill: entries are refreshed within a minute, so use keeps them
        store[digest] = entry

    def _alive(self, principal: Principal | None) -> Principal | None:
        if principal is None or principal.revoked:
            return None
        if principal.expires_at is not None and principal.expires_at <= self._clock.wall():
            return None
        return principal

    # Invalidation

    def invalidate(self, digest: bytes) -> None:
        """A change of this key was published: forget it, also if it is just being asked for."""
        self._generation += 1
        self._known.pop(digest, None)
        self._unknown.pop(digest, None)
        if digest in self._pending:
            self._invalidated[digest] = self._generation

    def connected(self) -> None:
        """The subscription stands (again): what was missed in between is unknown, so nothing is believed unasked."""
        self._generation += 1
        for digest in self._pending:
            self._invalidated[digest] = self._generation
        self._sure_from = self._generation
        self._unknown.clear()
        self.subscribed = True

    def disconnected(self) -> None:
        self.subscribed = False

    async def close(self) -> None:
        await self._tasks.cancel()
