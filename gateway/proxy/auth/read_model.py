"""The worker's view of the read model in Redis: asking for a key, and hearing that one has changed."""

import re
from collections.abc import AsyncIterator

import msgspec
from msgspec.structs import replace

from gateway.keyspace import Keyspace
from gateway.proxy.auth.keys import KeysAwayError
from gateway.redisdb.client import Client
from gateway.redisdb.failures import HotError, HotUnavailable
from gateway.redisdb.hot import HotRedis
from gateway.redisdb.subscription import Connected, Disconnected
from gateway.telemetry.metrics import Metrics
from gateway.values import Principal

_DIGEST = re.compile(rb"[0-9a-f]{64}")  # what anybody else may say on the channel must not end the listening


class ReadModel:
    """Asks Redis for principals."""

    def __init__(self, hot: HotRedis, client: Client, keyspace: Keyspace, metrics: Metrics) -> None:
        self._hot = hot
        self._client = client
        self._keyspace = keyspace
        self._lookups = metrics.counter("gateway_key_lookups_total")
        self._decoder = msgspec.json.Decoder(Principal)

    async def fetch(self, digest: bytes) -> Principal | None:
        """The principal of a key as it is now, None if there is none. Raises KeysAwayError, also while Redis has not
        been told which keys there are.
        """
        name = self._keyspace.key(digest.hex())
        try:
            version, found = await self._hot.call(name, "HMGET", name, "v", "d")
            if found is None:
                # All keys are there before it is said that they are: so first that, then the key once more.
                published = await self._hot.call(self._keyspace.published, "EXISTS", self._keyspace.published)
                version, found = await self._hot.call(name, "HMGET", name, "v", "d")
                if found is None and not published:
                    raise HotUnavailable("no keys have been published")
        except HotError as error:
            self._lookups.add(("failed",))
            raise KeysAwayError(str(error)) from None
        self._lookups.add(("found" if found is not None else "unknown",))
        return replace(self._decoder.decode(found), version=int(version or 0)) if found is not None else None

    async def changes(self) -> AsyncIterator[bytes | bool]:
        """For ever: the digest of each key that changes; True when changes are heard from now on, False when not."""
        async for event in self._client.subscribe(self._keyspace.invalidate):
            if isinstance(event, Connected):
                yield True
            elif isinstance(event, Disconnected):
                yield False
            elif _DIGEST.fullmatch(event.payload):
                yield bytes.fromhex(event.payload.decode())
