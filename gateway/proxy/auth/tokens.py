"""From a token (JWT) to its principal.

What a token says of itself is checked here; whether its bearer may come in is in the read model, as with keys: each
pair of a subject and a project has a record there, with a version, that can change and be revoked. The control process
makes it when it is asked to for the first time.
"""

import asyncio

from msgspec.structs import replace

from gateway.clock import Clock
from gateway.errors import INVALID_TOKEN, KEYS_UNAVAILABLE, GatewayError
from gateway.proxy.auth.first_sight import MakeKnown
from gateway.proxy.auth.keys import KeyCache
from gateway.tasks import Tasks
from gateway.telemetry.metrics import Metrics
from gateway.tokens.bearers import Bearer, Bearers
from gateway.values import Principal

REFUSED_S = 5.0  # how long it is believed that somebody may not come in
_MOST_REFUSED = 10_000


class Tokens:
    """Principals of tokens. One per worker."""

    def __init__(self, bearers: Bearers, keys: KeyCache, make_known: MakeKnown, metrics: Metrics, clock: Clock) -> None:
        self._bearers = bearers
        self._keys = keys
        self._make_known = make_known
        self._checks = metrics.counter("gateway_token_checks_total")
        self._clock = clock
        self._refused: dict[bytes, tuple[float, GatewayError]] = {}
        self._asking: dict[bytes, asyncio.Task[GatewayError | None]] = {}
        self._tasks = Tasks()

    def known(self, token: str) -> tuple[Principal | None, bytes]:
        """The principal and the digest of its record, if both were asked for a short while ago; no waiting. No
        principal says nothing: `ask` decides. Raises GatewayError INVALID_TOKEN (401)."""
        bearer = self._bearers.known(token)
        if bearer is None:
            return None, b""
        hashed = bearer.key_digest()
        principal = self._keys.cached(hashed)
        return (_until(principal, bearer) if principal is not None else None), hashed

    async def ask(self, token: str) -> tuple[Principal, bytes]:
        """The same, asking whom it takes. Raises GatewayError INVALID_TOKEN (401) or KEYS_UNAVAILABLE (503)."""
        bearer = self._bearers.known(token) or await self._checked(token)
        hashed = bearer.key_digest()
        principal = await self._keys.look_up(hashed)
        if principal is None:
            await self._known_from_now_on(token, hashed)
            principal = await self._keys.look_up(hashed)
        if principal is None:  # it has been made, and Redis does not have it yet
            raise GatewayError(KEYS_UNAVAILABLE)
        return _until(principal, bearer), hashed

    async def _checked(self, token: str) -> Bearer:
        try:
            bearer = await self._bearers.read(token)
        except GatewayError as error:
            self._checks.add(("refused" if error.kind is INVALID_TOKEN else "failed",))
            raise
        self._checks.add(("good",))
        return bearer

    async def _known_from_now_on(self, token: str, hashed: bytes) -> None:
        """Those who come with the same at once wait for one answer."""
        at, refusal = self._refused.get(hashed, (0.0, None))
        if refusal is None or self._clock.monotonic() - at > REFUSED_S:
            asking = self._asking.get(hashed)
            if asking is None:
                asking = self._asking[hashed] = self._tasks.spawn(
                    self._ask_control(token, hashed), "make a token known"
                )
            refusal = await asyncio.shield(asking)
        if refusal is not None:
            raise refusal.with_traceback(None)  # it is raised again and again

    async def _ask_control(self, token: str, hashed: bytes) -> GatewayError | None:
        try:
            await self._make_known(token)
        except GatewayError as error:
            if error.kind is not KEYS_UNAVAILABLE:
                while len(self._refused) >= _MOST_REFUSED:
                    del self._refused[next(iter(self._refused))]
                self._refused[hashed] = self._clock.monotonic(), error
            return error
        else:
            self._refused.pop(hashed, None)
            self._keys.invalidate(hashed)  # that it was not there
            return None
        finally:
            del self._asking[hashed]

    async def close(self) -> None:
        await self._tasks.cancel()
        await self._bearers.close()


def _until(principal: Principal, bearer: Bearer) -> Principal:
    """Nobody is let in for longer than their token, nor than their record."""
    if principal.expires_at is not None and principal.expires_at <= bearer.expires_at:
        return principal
    return replace(principal, expires_at=bearer.expires_at)
