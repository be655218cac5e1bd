"""Keeps the key cache true to the read model, and ends what runs under a key that is no longer valid."""

import asyncio
from collections.abc import Callable

from gateway.credentials import incorrect
from gateway.proxy.auth.keys import KeyCache, KeysAwayError
from gateway.proxy.auth.read_model import ReadModel
from gateway.proxy.http.exchanges import Exchanges
from gateway.tasks import Tasks
from gateway.telemetry.logging import Logger

_RETRY_S = 0.5


class Revocation:
    """Listens for changes, for the life of a worker."""

    def __init__(self, model: ReadModel, keys: KeyCache, exchanges: Exchanges, tasks: Tasks, log: Logger) -> None:
        self._model = model
        self._keys = keys
        self._exchanges = exchanges
        self._tasks = tasks
        self._log = log

    async def listen(self, heard: Callable[[], None] = lambda: None) -> None:
        """Runs until cancelled. heard: called when the first subscription stands."""
        try:
            async for change in self._model.changes():
                self._heard(change)
                if change is True:
                    heard()
        finally:
            self._keys.disconnected()  # whatever ended it: nothing is heard any more

    def _heard(self, change: bytes | bool) -> None:
        if change is True:
            self._keys.connected()
            for digest in self._exchanges.open_keys():
                self._check_soon(digest)
        elif change is False:
            self._keys.disconnected()
            self._log.warning("invalidations_not_heard")
        else:
            self._keys.invalidate(change)
            if change in self._exchanges.open_keys():
                self._check_soon(change)

    def _check_soon(self, digest: bytes) -> None:
        self._tasks.spawn(self._check(digest), "check a key")

    async def _check(self, digest: bytes) -> None:
        """Looks the key up anew; if it is not valid any more, ends its exchanges. Insists until it knows."""
        while True:
            try:
                principal = await self._keys.confirm(digest)
            except KeysAwayError:
                await asyncio.sleep(_RETRY_S)
                continue
            if principal is None:
                ended = self._exchanges.end_of_key(digest, incorrect("*" * 8))
                self._log.info("exchanges_of_revoked_key_ended", exchanges=ended)
            return
