"""Who calls: from the key or token in the headers to a Caller. Whoever tries wrong ones is slowed down, and written
down."""

import asyncio
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.clock import Clock
from gateway.control.admin.caller import EVERYTHING, READING, Caller, Grant
from gateway.control.admin.grants import grants_of
from gateway.control.admin.token_users import refused, user_of
from gateway.control.registry.changes import Actor, Changes
from gateway.control.registry.key_records import record_of
from gateway.control.sql.database import Database
from gateway.control.sql.tables import admin_api_keys, api_keys, users
from gateway.credentials import digest, incorrect, read_key
from gateway.errors import INCORRECT_API_KEY, INVALID_TOKEN, TOO_MANY_FAILURES, GatewayError
from gateway.settings.model import Settings
from gateway.tokens.bearers import Bearer, Bearers
from gateway.tokens.check import looks_like_token
from gateway.values import Principal

_ALL_WRITTEN = 20  # failures of an address; after these the 32nd, the 64th, …
_USED_EVERY_S = 60  # how exact `last_used_at` is
_OF_ROLES: Mapping[str, tuple[str, ...]] = MappingProxyType({"owner": EVERYTHING, "reader": READING})


class Failures:
    """Slows down whoever tries keys: each failure of an address within a minute doubles the wait."""

    _FIRST_S, _MOST_S, _KEPT_S = 0.05, 3.0, 60.0
    _ADDRESSES, _WAITING = 10_000, 100

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._waiting = 0

    async def hold_up(self, address: str) -> int:
        """Returns which of its failures it is. Raises GatewayError TOO_MANY_FAILURES (429) at once if too many are
        being held up already."""
        if self._waiting >= self._WAITING:
            raise GatewayError(TOO_MANY_FAILURES)
        now = self._clock.monotonic()
        count, last = self._counts.pop(address, (0, now))
        count = 1 if now - last > self._KEPT_S else count + 1
        self._counts[address] = count, now
        if len(self._counts) > self._ADDRESSES:
            self._counts.popitem(last=False)
        self._waiting += 1
        try:
            await asyncio.sleep(min(self._FIRST_S * 2.0 ** min(count - 1, 10), self._MOST_S))
        finally:
            self._waiting -= 1
        return count


class Identify:
    """Finds callers. Methods raise GatewayError 401 or 503, and SQLAlchemyError. bearers: None takes no tokens."""

    def __init__(
        self, settings: Settings, database: Database, changes: Changes, bearers: Bearers | None, clock: Clock
    ) -> None:
        self._bearers = bearers
        self._organization_id = settings.organization_id
        self._declared = [_admin_hash(key.reveal()) for key in settings.admin_keys]
        self._database = database
        self._changes = changes
        self._clock = clock
        self._failures = Failures(clock)

    async def caller(self, headers: Mapping[str, str], address: str) -> Caller:
        user_agent = _as_text(headers.get("User-Agent", "")[:500])
        try:
            key = read_key(headers)
            if self._bearers is not None and looks_like_token(key):
                caller = await self._token(await self._bearers.read(key))
            else:
                caller = await self._key(key)
        except GatewayError as error:
            if error.kind in {INCORRECT_API_KEY, INVALID_TOKEN}:
                count = await self._failures.hold_up(address)
                if count <= _ALL_WRITTEN or count.bit_count() == 1:  # else anybody could fill the database
                    await self._write_down(error, address, user_agent)
            raise
        return replace(caller, address=address, user_agent=user_agent)

    async def _token(self, bearer: Bearer) -> Caller:
        """From the roles that the token has, and from those of the user whom it speaks for. To be the organization's
        reader, as users are who came to be with their token, is not enough to read everything: that takes a role."""
        async with self._database.transaction() as connection:
            user = await user_of(connection, self._organization_id, bearer)
            own = await grants_of(connection, self._organization_id, user.id) if user is not None else None
        grants = tuple(Grant(_OF_ROLES[role]) for role in bearer.roles)
        if user is None and not grants:
            raise refused("its user is not known here")
        grants += tuple(grant for grant in own or () if grant != Grant(READING))
        user_id = user.id if user is not None else None
        return Caller("token", user_id or bearer.user_id, grants, user_id=user_id, email=bearer.email)

    async def _key(self, key: str) -> Caller:
        caller = await self._known(key)
        if caller is None:
            raise incorrect(key)
        return caller

    async def _known(self, key: str) -> Caller | None:
        offered = digest(key)
        for declared in self._declared:
            if hmac.compare_digest(offered, declared):
                key_id = "key_" + hashlib.sha256(declared).hexdigest()[:24]
                return Caller("admin_key", key_id, (Grant(EVERYTHING),))
        now = int(self._clock.wall())
        async with self._database.transaction() as connection:
            return await self._admin_key(connection, offered, now) or await self._api_key(connection, offered, now)

    async def _admin_key(self, connection: AsyncConnection, offered: bytes, now: int) -> Caller | None:
        columns = admin_api_keys.c
        rows = select(admin_api_keys, users.c.email).outerjoin(users).where(columns.hash == offered)
        rows = rows.where(columns.organization_id == self._organization_id, columns.removed_at.is_(None))
        row = (await connection.execute(rows)).one_or_none()
        if row is None or _expired(row, now):
            return None
        grants: tuple[Grant, ...] | None = (Grant(EVERYTHING),)
        if row.user_id is not None:
            grants = await grants_of(connection, self._organization_id, row.user_id)
        if grants is None:
            return None
        if (row.last_used_at or 0) < now - _USED_EVERY_S:
            await connection.execute(update(admin_api_keys).where(columns.id == row.id).values(last_used_at=now))
        restricted = tuple(row.scopes) if row.scopes is not None else None
        return Caller("admin_key", row.id, grants, restricted, user_id=row.user_id, email=row.email)

    async def _api_key(self, connection: AsyncConnection, offered: bytes, now: int) -> Caller | None:
        """Who may call the data plane with it may ask about it here."""
        record = await record_of(connection, offered)
        if record is None:
            return None
        key = record.principal
        if key.revoked or key.organization_id != self._organization_id or _expired(key, now):
            return None
        owner = select(users.c.email).join(api_keys, api_keys.c.user_id == users.c.id)
        email = await connection.scalar(owner.where(api_keys.c.id == key.key_id))
        return Caller(
            "api_key",
            key.key_id,
            user_id=key.user_id,
            email=email,
            is_service_account=email is None,
            project_id=key.project_id,
        )

    async def _write_down(self, error: GatewayError, address: str, user_agent: str) -> None:
        shown = {"type": "session", "session": {"user": None, "ip_address": address, "user_agent": user_agent}}
        details = {"error_code": error.kind.code, "error_message": error.message}
        async with self._changes.begin(self._organization_id, Actor("", None, shown)) as change:
            await change.audit("login.failed", details)


async def the_operator(headers: Mapping[str, str], _address: str) -> Caller:
    """Whoever may open the command socket could read and write the database as well: no key is asked for."""
    user_agent = _as_text(headers.get("User-Agent", "")[:500])
    return Caller("operator", "operator", (Grant(EVERYTHING),), user_agent=user_agent)


def _as_text(header: str) -> str:
    """What can be kept and shown: aiohttp's headers have lone surrogates in the place of bytes that are not UTF-8."""
    return header.encode(errors="replace").decode().replace("\0", "")


def _expired(row: Row[Any] | Principal, now: int) -> bool:
    return row.expires_at is not None and row.expires_at <= now


def _admin_hash(key: str) -> bytes:
    """A declared admin key's hash, whether it was declared as a hash or as itself."""
    return bytes.fromhex(key.removeprefix("sha256:")) if key.startswith("sha256:") else digest(key)
