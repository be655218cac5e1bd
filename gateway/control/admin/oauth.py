"""The exchange of a workload's own token for an API key that lives an hour (OAuth 2.0 Token Exchange, RFC 8693)."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, select

from gateway.clock import Clock
from gateway.control.admin.asked import Asked, House
from gateway.control.admin.caller import Caller
from gateway.control.admin.identify import Failures
from gateway.control.admin.new_keys import NewKey, make_api_key
from gateway.control.registry.changes import Change, Changes
from gateway.control.sql.database import Database
from gateway.control.sql.tables import federation_rules, identity_providers, projects, service_accounts
from gateway.telemetry.logging import Logger
from gateway.tokens.check import TokenError, Trusted, checked, claim_of, unpack
from gateway.tokens.key_cache import FixedKeys, KeyCache, Keys, KeysAwayError, Pace, discovered_keys
from gateway.tokens.keys import ALGORITHMS, read_keys

LIFETIME_S = 3600
_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
_SUBJECTS = frozenset({"urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"})
_ISSUED = "urn:ietf:params:oauth:token-type:access_token"
_DESCRIPTION = "/.well-known/openid-configuration"
_MOST_CACHES = 200
_LEEWAY_S = 30.0


class OAuthError(Exception):
    """What went wrong, as OAuth says it. description: for people."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self._body = {"error": error, "error_description": description}

    def json(self) -> bytes:
        return msgspec.json.encode(self._body)


class Exchanged(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: int
    token_type: str = "Bearer"  # noqa: S105 - a kind of token
    issued_token_type: str = _ISSUED


class _Asked(msgspec.Struct, frozen=True):
    """Members that are not known are let be: clients send what some servers want."""

    grant_type: str
    subject_token: str
    subject_token_type: str
    identity_provider_id: str
    service_account_id: str


def discovery_url(issuer: str, said: str | None) -> str:
    """Where an issuer describes itself: as was said, or where OpenID Connect puts it."""
    return said or issuer.rstrip("/") + _DESCRIPTION


class Exchange:
    """Exchanges tokens of the organization's workload identity providers."""

    def __init__(self, house: House, database: Database, changes: Changes, clock: Clock, log: Logger) -> None:
        self._house = house
        self._database = database
        self._changes = changes
        self._clock = clock
        self._log = log
        self._failures = Failures(clock)
        self._caches: OrderedDict[bytes, Keys] = OrderedDict()

    async def exchange(self, _headers: Mapping[str, str], content: bytes, address: str) -> Exchanged:
        """Whoever asks in vain is held up. Raises OAuthError, GatewayError (429), SQLAlchemyError."""
        try:
            return await self._exchanged(_read(content), address)
        except OAuthError as error:
            if error.status in {400, 401}:
                await self._failures.hold_up(address)
            raise

    async def _exchanged(self, asked: _Asked, address: str) -> Exchanged:
        provider = await self._provider(asked.identity_provider_id)
        if provider is None:
            raise OAuthError(400, "invalid_grant", "there is no such identity provider, or it is disabled")
        claims = await self._claims(asked.subject_token, provider)
        caller = Caller("token", provider.id, address=address)
        async with self._changes.begin(self._house.organization_id, caller.actor()) as change:
            rules = [rule for rule in await self._rules(change, asked) if matches_all(rule, provider, claims)]
            if not rules:
                raise OAuthError(400, "invalid_grant", "no rule lets this token speak for that service account")
            key = await self._key(change, rules, f"Exchanged: {provider.name}, {_subject(claims)}", caller)
        return Exchanged(key.value, LIFETIME_S)

    async def _provider(self, provider_id: str) -> Row[Any] | None:
        if "\0" in provider_id:
            return None
        columns = identity_providers.c
        ours = (columns.id == provider_id, columns.organization_id == self._house.organization_id, columns.enabled)
        async with self._database.transaction() as connection:
            return (await connection.execute(select(identity_providers).where(*ours))).one_or_none()

    async def _claims(self, token: str, provider: Row[Any]) -> Mapping[str, Any]:
        algorithms = tuple(name for name, *_ in ALGORITHMS)
        trusted = Trusted(provider.issuer, provider.audience, algorithms, self._keys(provider), _LEEWAY_S)
        try:
            return await checked(unpack(token), trusted, self._clock.wall())
        except TokenError as error:
            raise OAuthError(401, "invalid_subject_token", str(error)) from None
        except KeysAwayError:
            raise OAuthError(503, "temporarily_unavailable", "the issuer's keys cannot be fetched") from None

    def _keys(self, provider: Row[Any]) -> Keys:
        """The provider's keys. What says where they are belongs to their name: what is changed is another's."""
        name = msgspec.json.encode([provider.id, provider.issuer, provider.verification])
        keys = self._caches.pop(name, None) or self._made(provider)
        self._caches[name] = keys
        while len(self._caches) > _MOST_CACHES:
            self._caches.popitem(last=False)
        return keys

    def _made(self, provider: Row[Any]) -> Keys:
        algorithms = [name for name, *_ in ALGORITHMS]
        said = provider.verification
        if said["type"] == "uploaded_jwks":
            return FixedKeys(read_keys(said["jwks"], algorithms))
        url = discovery_url(provider.issuer, said.get("discovery_url"))
        private = self._house.settings.tokens.allow_private_jwks
        load = discovered_keys(url, provider.issuer, algorithms, private=private)

        def tell(reason: str) -> None:
            self._log.warning("issuer_keys_away" if reason else "issuer_keys_back", provider=provider.id, reason=reason)

        return KeyCache(load, self._clock, Pace(), tell)

    async def _rules(self, change: Change, asked: _Asked) -> Sequence[Row[Any]]:
        """Enabled ones for this service account, which is still there."""
        columns, account = federation_rules.c, service_accounts.c
        rows = select(federation_rules).join(service_accounts, account.id == columns.service_account_id)
        rows = rows.join(projects, projects.c.id == columns.project_id)
        rows = rows.join(identity_providers, identity_providers.c.id == columns.provider_id)
        alive = (columns.enabled, identity_providers.c.enabled, account.removed_at.is_(None))
        asked_for = (columns.provider_id == asked.identity_provider_id, account.id == asked.service_account_id)
        rows = rows.where(*asked_for, *alive, projects.c.archived_at.is_(None)).order_by(columns.created_at, columns.id)
        return list(await change.connection.execute(rows))

    async def _key(self, change: Change, rules: Sequence[Row[Any]], name: str, caller: Caller) -> NewKey:
        """What all rules that fit allow together."""
        scopes: set[str] | None = set()
        for rule in rules:
            restricted = rule.permissions["type"] == "restricted"
            scopes = scopes | set(rule.permissions["scopes"]) if restricted and scopes is not None else None
        return await make_api_key(
            Asked(self._house, caller, {}, (), b"", change.now),
            change,
            rules[0].project_id,
            name[:256],
            service_account_id=rules[0].service_account_id,
            scopes=sorted(scopes) if scopes is not None else None,
            expires_in_s=LIFETIME_S,
        )

    async def close(self) -> None:
        for keys in self._caches.values():
            if isinstance(keys, KeyCache):
                await keys.close()


def _read(content: bytes) -> _Asked:
    try:
        asked = msgspec.json.decode(content, type=_Asked)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise OAuthError(400, "invalid_request", f"expected a JSON object: {error}") from None
    if asked.grant_type != _GRANT:
        raise OAuthError(400, "unsupported_grant_type", f"the grant type must be {_GRANT}")
    if asked.subject_token_type not in _SUBJECTS:
        raise OAuthError(400, "invalid_request", f"the subject token's type must be one of {', '.join(_SUBJECTS)}")
    if "\0" in asked.service_account_id:
        raise OAuthError(400, "invalid_request", "a service account's id has no such letters")
    return asked


def _subject(claims: Mapping[str, Any]) -> str:
    """For people: what cannot be shown, or kept, is left out."""
    said = claims.get("sub")
    return said if isinstance(said, str) and said.isprintable() else "somebody"


def matches_all(rule: Row[Any], provider: Row[Any], claims: Mapping[str, Any]) -> bool:
    """Whether a token is one that a rule is for."""
    attributes = dict(claims)
    for one in provider.attribute_transformations:
        attributes[one["attribute"]] = claim_of(claims, one["expression"].removeprefix("assertion."))
    return all(_same(claim_of(attributes, name), wanted) for name, wanted in rule.attribute_matchers.items())


def _same(said: object, wanted: object) -> bool:
    """Numbers are not truth values, whatever Python says."""
    return said == wanted and isinstance(said, bool) == isinstance(wanted, bool)
