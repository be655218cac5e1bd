"""From a request's headers to its principal."""

import msgspec

from gateway.credentials import digest, incorrect, read_key
from gateway.proxy.auth.keys import KeyCache
from gateway.proxy.http.headers import Named
from gateway.proxy.http.request import Request
from gateway.proxy.http.visit import Observation, Visit
from gateway.values import Principal


class Caller(msgspec.Struct, frozen=True):
    """Whoever made a request that goes on for a while. Both raise as `Identify.ask`."""

    identify: "Identify"
    request: Request
    hashed: bytes
    seen: Observation

    async def now(self) -> Principal:
        """The principal, as long as its key is good."""
        return await self.identify.ask(self.request, self.hashed, self.seen)

    async def anew(self, old: Principal) -> Principal:
        """The same after its record has changed, which was not heard of yet: see `Identify.anew`."""
        return await self.identify.anew(self.request, self.hashed, self.seen, old)


class Identify:
    """Says who is calling. One per worker."""

    def __init__(self, keys: KeyCache) -> None:
        self._keys = keys

    def known(self, visit: Visit) -> tuple[Principal | None, bytes]:
        """The principal, if the cache knows it, and the digest of its key. Raises GatewayError NO_API_KEY or
        INCORRECT_API_KEY (401)."""
        headers = visit.request.headers
        hashed = headers.key
        if hashed is None:
            hashed = headers.key = digest(_key_of(visit.request))
        principal = self._keys.cached(hashed)
        if principal is not None:
            seen = visit.seen
            seen.project, seen.key, seen.user = principal.project_id, principal.key_id, principal.user_id
        return principal, hashed

    async def anew(self, request: Request, hashed: bytes, seen: Observation, old: Principal) -> Principal:
        """The same after its record has changed, which was not heard of yet. old: the principal that is not what it
        was; who else was told so may have asked already."""
        known = self._keys.cached(hashed)
        if known is not None and known.version <= old.version:
            self._keys.invalidate(hashed)
        return await self.ask(request, hashed, seen)

    async def ask(self, request: Request, hashed: bytes, seen: Observation) -> Principal:
        """The same, asking Redis. Raises GatewayError INCORRECT_API_KEY (401) or KEYS_UNAVAILABLE (503)."""
        principal = await self._keys.look_up(hashed)
        if principal is None:
            raise incorrect(_key_of(request))
        seen.project, seen.key, seen.user = principal.project_id, principal.key_id, principal.user_id
        return principal


def _key_of(request: Request) -> str:
    """The key that a request carries. Raises as `read_key`."""
    return read_key(Named(request.headers.named), websocket=request.websocket)
