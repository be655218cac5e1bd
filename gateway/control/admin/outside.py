"""What the admin API serves to those who have no key of ours, but a token of somebody whom we trust."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from gateway.clock import Clock
from gateway.control.admin.access_tokens import AccessTokens
from gateway.control.admin.asked import House
from gateway.control.admin.oauth import Exchange
from gateway.control.registry.changes import Changes
from gateway.control.sql.database import Database
from gateway.telemetry.logging import Logger
from gateway.tokens.bearers import Bearers

Served = Callable[[Mapping[str, str], bytes, str], Awaitable[Any]]
"""Serves whoever comes, by what they bring: headers, body, address. Raises as nouns do, and OAuthError."""


class Outside:
    """bearers: of the settings' issuers; None if there are none. posted: what serves paths that may be posted to."""

    def __init__(self, house: House, database: Database, changes: Changes, clock: Clock, log: Logger) -> None:
        def tell(issuer: str, reason: str) -> None:
            log.warning("issuer_keys_away" if reason else "issuer_keys_back", issuer=issuer, reason=reason)

        issuers = house.settings.tokens.issuers
        self.bearers = Bearers(issuers, clock, tell) if issuers else None
        self._exchange = Exchange(house, database, changes, clock, log)
        tokens = AccessTokens(self.bearers, house.organization_id, changes)
        self.posted: Mapping[str, Served] = MappingProxyType({
            "/v1/organization/access_tokens": tokens.make_known,
            "/v1/oauth/token": self._exchange.exchange,
            "/oauth/token": self._exchange.exchange,
        })  # fmt: skip

    async def close(self) -> None:
        if self.bearers is not None:
            await self.bearers.close()
        await self._exchange.close()
