"""The keys that a settings file declares, as principals."""

import difflib
import hashlib

import msgspec

from gateway.settings.limits import SubjectLimits
from gateway.settings.model import Key, Settings
from gateway.values import Principal


class UnknownKeyError(Exception):
    """No key has this name, id or hash."""


class DeclaredKey(msgspec.Struct, frozen=True):
    """One declared key. hash: 64 hex digits. name: `project/key`, as people call it. limits: its own. is_own_user: it
    counts for a service account of its own.
    """

    hash: str
    name: str
    principal: Principal
    limits: SubjectLimits = SubjectLimits()
    is_own_user: bool = True


def declared_keys(settings: Settings) -> list[DeclaredKey]:
    """All keys of all projects. Their ids follow from their names, so a key that is rotated keeps its id."""
    return [
        DeclaredKey(
            key.hashed(),
            f"{project.id}/{key.name}",
            _principal(settings, project.id, key),
            key.limits,
            is_own_user=not key.user,
        )
        for project in settings.projects
        for key in project.keys
    ]


def find_key(keys: list[DeclaredKey], name: str) -> DeclaredKey:
    """A key by its `project/name`, its id or its hash. Raises UnknownKeyError."""
    wanted = name.removeprefix("sha256:")
    for key in keys:
        if wanted in {key.name, key.hash, key.principal.key_id}:
            return key
    known = [key.name for key in keys]
    near = difflib.get_close_matches(name, known, 3)
    hint = f"did you mean {', '.join(near)}?" if near else f"the settings declare {len(known)} keys"
    raise UnknownKeyError(f"no key is called {name[:100]}; {hint}")


def _principal(settings: Settings, project_id: str, key: Key) -> Principal:
    name = f"{project_id}/{key.name}"
    return Principal(
        key_id=_id("key_", name),
        project_id=project_id,
        user_id=key.user or _id("svc_acct_", name),
        organization_id=settings.organization_id,
        expires_at=key.expires_at,
    )


def _id(prefix: str, name: str) -> str:
    return prefix + hashlib.sha256(name.encode()).hexdigest()[:24]
