"""Who calls the admin API, and what they may do.

Permissions are words as in OpenAI's roles: `api.<noun>.read` and `.write` of what is the organization's,
`api.organization.projects.<noun>.read` and `.write` of what is a project's. In a grant `*` stands for any letters.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from gateway.control.registry.changes import Actor
from gateway.errors import MISSING_SCOPES, GatewayError
from gateway.limits import matches

EVERYTHING = ("*",)
READING = ("*.read",)
_NAMED = 10  # permissions, in one error


class Grant(msgspec.Struct, frozen=True):
    """What somebody may do. project_id: where; empty: in the whole organization, its projects included."""

    permissions: tuple[str, ...]
    project_id: str = ""

    def holds(self, permission: str, project_id: str | None) -> bool:
        """project_id: of the project that is asked of; None for the organization itself."""
        if self.project_id and self.project_id != project_id:
            return False
        return any(matches(pattern, permission) for pattern in self.permissions)


def owns(grants: Iterable[Grant]) -> bool:
    """Whether nothing is denied to whoever has these."""
    return any(grant.permissions == EVERYTHING and not grant.project_id for grant in grants)


class Caller(msgspec.Struct, frozen=True):
    """Who calls. id: of the admin key or API key, or of the user, if it is a token. restricted: permissions that the
    key is restricted to; None if it is not. key_id, project_id: of an API key, which may only ask about itself.
    """

    kind: Literal["admin_key", "api_key", "token", "operator"]
    id: str
    grants: tuple[Grant, ...] = ()
    restricted: tuple[str, ...] | None = None
    user_id: str | None = None
    email: str | None = None
    is_service_account: bool = False
    project_id: str = ""
    address: str = ""
    user_agent: str = ""

    def may(self, permission: str, project_id: str | None = None) -> bool:
        if self.restricted is not None and not any(matches(p, permission) for p in self.restricted):
            return False
        return any(grant.holds(permission, project_id) for grant in self.grants)

    def may_all(self, permissions: Iterable[str], project_id: str | None = None) -> bool:
        return all(self.may(permission, project_id) for permission in permissions)

    def must_hold(self, permissions: Iterable[str], project_id: str | None = None) -> None:
        """Nobody gives what they do not have. Raises GatewayError MISSING_SCOPES (401)."""
        missing = [permission for permission in permissions if not self.may(permission, project_id or None)]
        if missing:
            more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
            raise GatewayError(MISSING_SCOPES, scope=", ".join(missing[:_NAMED]) + more)

    @property
    def is_owner(self) -> bool:
        """Whether there is nothing that they may not."""
        return self.restricted is None and owns(self.grants)

    def actor(self) -> Actor:
        """As the audit log shows them."""
        where = {"ip_address": self.address, "user_agent": self.user_agent}
        user = {"id": self.user_id, "email": self.email} if self.user_id is not None else None
        if self.kind == "operator":
            user = {"id": self.id, "email": None}
        if self.kind in {"token", "operator"}:
            return Actor(self.id, self.email, {"type": "session", "session": {"user": user, **where}})
        whose: dict[str, object] = {"type": "service_account", "service_account": {"id": self.user_id}}
        if not self.is_service_account:
            whose = {"type": "user", **({"user": user} if user is not None else {})}
        shown = {"type": "api_key", "api_key": {"id": self.id, **whose, **where}}
        return Actor(self.user_id or self.id, self.email, shown, self.id)
