"""From a request's headers to its principal."""

from collections.abc import Callable

import msgspec

from gateway.credentials import digest, incorrect, read_key
from gateway.proxy.auth.keys import KeyCache
from gateway.proxy.auth.tokens import Tokens
from gateway.proxy.http.headers import Named
from gateway.proxy.http.request import Request
from gateway.proxy.http.visit import Observation, Visit
from gateway.tokens.check import looks_like_token
from gateway.values import Principal


class Caller(msgspec.Struct, frozen=True):
    """Whoever made a request that goes on for a while. check: raises GatewayError for a principal that may not make it
    any more. Both raise as `Identify.ask` and `check`."""

    identify: "Identify"
    request: Request
    hashed: bytes
    seen: Observation
    check: Callable[[Principal], None]

    async def now(self) -> Principal:
        """The principal, as long as its key or token is good."""
        principal, _ = await self.identify.ask(self.request, self.seen)
        self.check(principal)
        return principal

    async def anew(self, old: Principal) -> Principal:
        """The same after its record has changed, which was not heard of yet: see `Identify.anew`."""
        principal = await self.identify.anew(self.request, self.hashed, self.seen, old)
        self.check(principal)
        return principal


class Identify:
    """Says who is calling. One per worker. tokens: None takes keys only.

    With a principal comes the digest that its record is kept under: of the key, or what a token's issuer and claims
    make of it.
    """

    def __init__(self, keys: KeyCache, tokens: Tokens | None = None) -> None:
        self._keys = keys
        self._tokens = tokens

    def known(self, visit: Visit) -> tuple[Principal | None, bytes]:
        """The principal, if the cache knows it, and the digest. No principal says nothing: `ask` decides. Raises
        GatewayError NO_API_KEY, INCORRECT_API_KEY or INVALID_TOKEN (401)."""
        headers = visit.request.headers
        hashed = headers.key
        if hashed is None:
            key = _key_of(visit.request)
            if self._tokens is not None and looks_like_token(key):  # what it says has its time: nothing for the headers
                principal, hashed = self._tokens.known(key)
                if principal is not None:
                    _note(visit.seen, principal)
                return principal, hashed
            hashed = headers.key = digest(key)
        principal = self._keys.cached(hashed)
        if principal is not None:
            _note(visit.seen, principal)
        return principal, hashed

    async def anew(self, request: Request, hashed: bytes, seen: Observation, old: Principal) -> Principal:
        """The same after its record has changed, which was not heard of yet. old: the principal that is not what it
        was; who else was told so may have asked already."""
        known = self._keys.cached(hashed)
        if known is not None and known.version <= old.version:
            self._keys.invalidate(hashed)
        return (await self.ask(request, seen))[0]

    async def ask(self, request: Request, seen: Observation) -> tuple[Principal, bytes]:
        """The principal and the digest, asking Redis and, for tokens, their issuers and the control process. Raises
        GatewayError INCORRECT_API_KEY, INVALID_TOKEN (401) or KEYS_UNAVAILABLE (503)."""
        hashed = request.headers.key
        if hashed is None and self._tokens is not None and looks_like_token(key := _key_of(request)):
            principal, hashed = await self._tokens.ask(key)
        else:
            hashed = hashed if hashed is not None else digest(_key_of(request))
            found = await self._keys.look_up(hashed)
            if found is None:
                raise incorrect(_key_of(request))
            principal = found
        _note(seen, principal)
        return principal, hashed


def _note(seen: Observation, principal: Principal) -> None:
    seen.project, seen.key, seen.user = principal.project_id, principal.key_id, principal.user_id


def _key_of(request: Request) -> str:
    """The key or token that a request carries. Raises as `read_key`."""
    return read_key(Named(request.headers.named), websocket=request.websocket)
