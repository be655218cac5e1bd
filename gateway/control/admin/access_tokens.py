"""Access tokens (JWTs) that workers do not know yet: the token itself says who asks, and what is to be made known."""

from collections.abc import Mapping

import msgspec

from gateway.control.admin.caller import Caller
from gateway.control.admin.token_users import let_in, user_of
from gateway.control.registry.changes import Changes
from gateway.credentials import incorrect, read_key
from gateway.tokens.bearers import Bearers
from gateway.tokens.check import looks_like_token


class AccessToken(msgspec.Struct, frozen=True):
    """What is known of a token. id: of its record, under which its use is counted and limited as a key's."""

    id: str
    project_id: str | None
    object: str = "organization.access_token"


class AccessTokens:
    """Makes tokens known. bearers: None trusts nobody's."""

    def __init__(self, bearers: Bearers | None, organization_id: str, changes: Changes) -> None:
        self._bearers = bearers
        self._organization_id = organization_id
        self._changes = changes

    async def make_known(self, headers: Mapping[str, str], _content: bytes, address: str) -> AccessToken:
        """Sees to it that workers know the token in the headers. Raises GatewayError (401, 503), SQLAlchemyError."""
        token = read_key(headers)
        if self._bearers is None or not looks_like_token(token):
            raise incorrect(token)
        bearer = await self._bearers.read(token)
        async with self._changes.begin(self._organization_id) as change:
            user = await user_of(change.connection, self._organization_id, bearer)
            user_id = user.id if user is not None else bearer.user_id
            caller = Caller("token", user_id, user_id=user_id, email=bearer.email, address=address)
            change.actor = caller.actor()
            record_id = await let_in(change, bearer, user)
        return AccessToken(record_id, bearer.project_id)
