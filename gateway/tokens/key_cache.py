"""An issuer's keys at hand, fetched ahead of need, and kept while they cannot be fetched.

How fresh they are: younger than `refresh_s` they are used as they are; older, they are used and fetched anew in the
background; older than `wait_s`, a token waits for the fetch. If that fails they are used on, until they are `keep_s`
old; then nobody's token is good. A key that an issuer withdraws thus ends within `wait_s` where the issuer can be
asked. A name that no key has is a reason to fetch, but not more often than each `unknown_s`: anybody can write one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import msgspec
from jwt import PyJWK

from gateway.clock import Clock
from gateway.tasks import Tasks
from gateway.tokens.download import DownloadError, download
from gateway.tokens.keys import KeySet, KeySetError, read_keys

Load = Callable[[], Awaitable[KeySet]]  # raises DownloadError, KeySetError
Tell = Callable[[str], None]


class KeysAwayError(Exception):
    """An issuer's keys are not known, and cannot be fetched. The message is for people."""


class Keys(Protocol):
    """Where an issuer's keys are found."""

    async def find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        """The key of this name; None if the issuer has none. Raises KeysAwayError."""


class Pace(msgspec.Struct, frozen=True):
    """Seconds; see above. retry_s: between two attempts that fail."""

    refresh_s: float = 300.0
    wait_s: float = 900.0
    keep_s: float = 86_400.0
    retry_s: float = 10.0
    unknown_s: float = 30.0


class FixedKeys:
    """Keys that were given once and for all."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    async def find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        return self._keys.find(kid, algorithm)


class KeyCache:
    """The keys of one issuer. tell: is told once what goes wrong, in words, and when it goes well again (empty)."""

    def __init__(self, load: Load, clock: Clock, pace: Pace, tell: Tell) -> None:
        self._load = load
        self._clock = clock
        self._pace = pace
        self._tell = tell
        self._keys: KeySet | None = None
        self._at = 0.0  # when they were fetched
        self._tried_at: float | None = None
        self._failure = ""
        self._running: asyncio.Task[None] | None = None
        self._tasks = Tasks()

    async def find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        found = (await self._present()).find(kid, algorithm)
        if found is None and (self._running is not None or self._since_tried() >= self._pace.unknown_s):
            await self._fetched()
            found = (await self._present()).find(kid, algorithm)
        return found

    async def _present(self) -> KeySet:
        """Keys that may be used. Raises KeysAwayError."""
        pace = self._pace
        age = self._clock.monotonic() - self._at
        kept = self._keys if age < pace.keep_s else None
        if kept is not None and age < pace.refresh_s:
            return kept
        due = self._since_tried() >= pace.retry_s
        if kept is not None and (age < pace.wait_s or self._failure):
            if due:
                self._begin()
            return kept
        if due or self._running is not None:
            await self._fetched()
        if self._keys is None or self._clock.monotonic() - self._at >= pace.keep_s:
            raise KeysAwayError(self._failure)
        return self._keys

    def _since_tried(self) -> float:
        return self._clock.monotonic() - self._tried_at if self._tried_at is not None else float("inf")

    async def _fetched(self) -> None:
        """Waits for a fetch, whoever began it. Those who wait may leave; it goes on."""
        await asyncio.shield(self._begin())

    def _begin(self) -> "asyncio.Task[None]":
        if self._running is None:
            self._tried_at = self._clock.monotonic()
            self._running = self._tasks.spawn(self._fetch(), "fetch an issuer's keys")
        return self._running

    async def _fetch(self) -> None:
        failure = "it ended early"
        try:
            began = self._clock.monotonic()
            self._keys = await self._load()
            self._at = began
            failure = ""
        except (DownloadError, KeySetError) as error:
            failure = str(error)
        finally:
            self._running = None
            if failure != self._failure:
                self._failure = failure
                self._tell(failure)

    async def close(self) -> None:
        await self._tasks.cancel()


class KeyFile:
    """A file with a key set, read when it has changed."""

    PACE = Pace(refresh_s=1.0, wait_s=1.0, retry_s=1.0, unknown_s=1.0)

    def __init__(self, path: str, algorithms: list[str]) -> None:
        self._path = Path(path)
        self._algorithms = algorithms
        self._seen: tuple[int, int, int] | None = None
        self._keys: KeySet | None = None

    async def load(self) -> KeySet:
        try:
            status = self._path.stat()
            seen = status.st_mtime_ns, status.st_size, status.st_ino
            if self._keys is None or seen != self._seen:
                self._keys = read_keys(self._path.read_bytes(), self._algorithms)
                self._seen = seen
        except OSError as error:
            raise DownloadError(error.strerror or str(error)) from None
        return self._keys


def keys_at(url: str, algorithms: list[str], *, private: bool) -> Load:
    """What fetches a key set from a URL."""

    async def load() -> KeySet:
        return read_keys(await download(url, private=private), algorithms)

    return load


def discovered_keys(url: str, issuer: str, algorithms: list[str], *, private: bool) -> Load:
    """What fetches the key set that an issuer's description (OpenID Connect Discovery) names, which is at this URL."""

    async def load() -> KeySet:
        try:
            described = msgspec.json.decode(await download(url, private=private), type=_Described)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise KeySetError("the issuer's description is not one") from None
        if described.issuer != issuer:
            raise KeySetError("the description is of another issuer")
        return read_keys(await download(described.jwks_uri, private=private), algorithms)

    return load


class _Described(msgspec.Struct, frozen=True):
    issuer: str
    jwks_uri: str
