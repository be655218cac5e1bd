"""Whom a token of the settings' issuers speaks for, remembered for minutes."""

import hashlib
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from gateway.clock import Clock
from gateway.errors import INVALID_TOKEN, KEYS_UNAVAILABLE, GatewayError
from gateway.settings.tokens import Issuer
from gateway.tokens.check import TokenError, Trusted, Unchecked, checked, claim_of, ends_at, unpack
from gateway.tokens.key_cache import KeyCache, KeyFile, KeysAwayError, Load, Pace, keys_at

REMEMBERED_S = 300.0  # a key that its issuer withdraws must not live on in here
_MOST = 20_000
_LONGEST_NAME = 256
_PROJECT = re.compile(r"[A-Za-z0-9_-]{1,128}")
_ROLES = frozenset({"owner", "reader"})

Tell = Callable[[str, str], None]  # an issuer, and what is wrong with its keys: nothing any more if it is empty


class Bearer(msgspec.Struct, frozen=True):
    """Whom a checked token speaks for. subject: for its issuer. email: only if it can be relied on. project_id: None if
    it names none. roles: in the organization, of the admin API. expires_at: seconds since 1970, the leeway included.
    """

    issuer: str
    subject: str
    email: str | None
    name: str
    project_id: str | None
    roles: tuple[str, ...]
    expires_at: int
    create_users: bool

    @property
    def user_id(self) -> str:
        """The id of the user who comes to be with the first token of this subject."""
        return "user-" + _digest("user", self.issuer, self.subject).hex()[:24]

    def key_digest(self) -> bytes:
        """What the token's record is kept under, beside those of API keys. Raises GatewayError INVALID_TOKEN (401) if
        it names no project.

        API keys are kept under the SHA-256 of their text, which is ASCII. What is hashed here begins with a byte that
        no text has: else whoever knows an issuer and a subject could write down a key that has the same digest.
        """
        if self.project_id is None:
            raise GatewayError(INVALID_TOKEN, reason="it names no project")
        return _digest("token", self.issuer, self.subject, self.project_id)


def _digest(*parts: str) -> bytes:
    return hashlib.sha256(b"\xff" + msgspec.json.encode(parts)).digest()


class _Known(msgspec.Struct, frozen=True):
    bearer: Bearer
    until: float  # by the monotonic clock


class Bearers:
    """Reads tokens. One per process. tell: hears which issuers' keys cannot be fetched."""

    def __init__(self, issuers: Sequence[Issuer], clock: Clock, tell: Tell, *, pace: Pace | None = None) -> None:
        self._clock = clock
        self._caches: list[KeyCache] = []
        self._issuers: dict[str, list[tuple[Issuer, Trusted]]] = {}
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        for issuer in issuers:
            trusted = self._trusted(issuer, tell, pace or Pace())
            self._issuers.setdefault(issuer.issuer, []).append((issuer, trusted))

    def _trusted(self, issuer: Issuer, tell: Tell, pace: Pace) -> Trusted:
        algorithms: list[str] = list(issuer.algorithms)
        load: Load
        if issuer.jwks_file is not None:
            load, pace = KeyFile(issuer.jwks_file, algorithms).load, KeyFile.PACE
        else:
            assert issuer.jwks_url is not None, "token_problems() refuses an issuer with neither"
            load = keys_at(issuer.jwks_url, algorithms, private=True)
        cache = KeyCache(load, self._clock, pace, lambda reason: tell(issuer.issuer, reason))
        self._caches.append(cache)
        return Trusted(issuer.issuer, issuer.audience, tuple(algorithms), cache, issuer.leeway_s)

    def known(self, token: str) -> Bearer | None:
        """Whom a token speaks for, if it was read a short while ago; no waiting. None says nothing: `read` decides."""
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        if known is None:
            return None
        if known.until <= self._clock.monotonic() or known.bearer.expires_at <= self._clock.wall():
            del self._known[digest]
            return None
        self._known.move_to_end(digest)
        return known.bearer

    async def read(self, token: str) -> Bearer:
        """Whom a token speaks for. Raises GatewayError INVALID_TOKEN (401) or KEYS_UNAVAILABLE (503)."""
        if (known := self.known(token)) is not None:
            return known
        try:
            bearer = await self._read(unpack(token))
        except TokenError as error:
            raise GatewayError(INVALID_TOKEN, reason=str(error)) from None
        except KeysAwayError:
            raise GatewayError(KEYS_UNAVAILABLE) from None
        while len(self._known) >= _MOST:
            self._known.popitem(last=False)
        until = self._clock.monotonic() + REMEMBERED_S
        self._known[hashlib.sha256(token.encode()).digest()] = _Known(bearer, until)
        return bearer

    async def _read(self, token: Unchecked) -> Bearer:
        candidates = self._issuers.get(token.issuer, []) if isinstance(token.issuer, str) else []
        if not candidates:
            raise TokenError("its issuer is not trusted")
        issuer, trusted = next((one for one in candidates if token.is_for(one[1].audience)), candidates[0])
        return bearer_of(await checked(token, trusted, self._clock.wall()), issuer)

    async def close(self) -> None:
        for cache in self._caches:
            await cache.close()


def bearer_of(claims: Mapping[str, Any], issuer: Issuer) -> Bearer:
    """Whom checked claims speak for. Raises TokenError."""
    named = issuer.claims
    subject = _name(claims, named.user)
    if subject is None:
        raise TokenError(f"its claim `{named.user}` says nobody")
    email = _name(claims, named.email)
    if email is None or "@" not in email or not (issuer.trust_email or claims.get("email_verified") is True):
        email = None
    return Bearer(
        issuer.issuer,
        subject,
        email.strip().lower() if email is not None else None,
        _name(claims, "name") or email or subject,
        _project(claims, issuer),
        tuple(sorted(_roles(claims, issuer))),
        math.floor(ends_at(claims) + issuer.leeway_s),
        issuer.create_users,
    )


def _project(claims: Mapping[str, Any], issuer: Issuer) -> str | None:
    for said in _texts(claims, issuer.claims.project):
        project_id = issuer.projects.get(said) if issuer.projects else said
        if project_id is not None and _PROJECT.fullmatch(project_id):
            return project_id
    return issuer.default_project


def _roles(claims: Mapping[str, Any], issuer: Issuer) -> set[str]:
    said = _texts(claims, issuer.claims.roles)
    if issuer.roles:
        return {issuer.roles[one] for one in said if one in issuer.roles}
    return set(_ROLES.intersection(said))


def _texts(claims: Mapping[str, Any], name: str | None) -> list[str]:
    """A claim that is a text or a list of them."""
    value = claim_of(claims, name) if name is not None else None
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str)]


def _name(claims: Mapping[str, Any], name: str) -> str | None:
    """A claim that says who somebody is, if it is fit to be shown."""
    value = claim_of(claims, name)
    fit = isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and value.isprintable()
    return value if fit else None
