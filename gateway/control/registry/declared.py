"""The keys that a settings file declares, as principals."""

import hashlib

import msgspec

from gateway.settings.limits import SubjectLimits
from gateway.settings.model import Key, Settings
from gateway.values import Principal


class DeclaredKey(msgspec.Struct, frozen=True):
    """One declared key. hash: 64 hex digits. name: `project/key`, as people call it. limits: its own."""

    hash: str
    name: str
    principal: Principal
    limits: SubjectLimits = SubjectLimits()


def declared_keys(settings: Settings) -> list[DeclaredKey]:
    """All keys of all projects. Their ids follow from their names, so a key that is rotated keeps its id."""
    return [
        DeclaredKey(key.hashed(), f"{project.id}/{key.name}", _principal(settings, project.id, key), key.limits)
        for project in settings.projects
        for key in project.keys
    ]


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
