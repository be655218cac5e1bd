"""Which service tiers a project's calls may ask for, and which one they have if they do not."""

from typing import Any, Literal

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked, Body, invalid
from gateway.control.admin.found import the_project
from gateway.control.admin.permission_rows import permit, permitted
from gateway.control.admin.routes import Route, changing, reading
from gateway.control.registry.changes import Change

_ONE = "/organization/projects/{project_id}/service_tier_settings"
_MAY = "api.organization.projects.service_tier_settings"
_FAST = "fast"  # the one tier that may be both: a default, and switched off


def routes() -> tuple[Route, ...]:
    return (reading(_ONE, _MAY, read_settings), changing("POST", _ONE, _MAY, update_settings))


class ChangedTiers(Body, frozen=True):
    """What is not named stays as it is. enabled_tiers: beside the standard one; `all` with those to come."""

    default: Literal["standard", "fast", "scale"] | None = None
    enabled_tiers: Literal["all"] | list[Literal["flex", "fast", "ultrafast"]] | None = None


async def read_settings(asked: Asked, connection: AsyncConnection) -> dict[str, Any]:
    project = await the_project(asked, connection)
    return _shown(await _present(connection, project.id))


async def update_settings(asked: Asked, change: Change) -> dict[str, Any]:
    project = await the_project(asked, change.connection, active=True)
    named = msgspec.structs.asdict(asked.body(ChangedTiers))
    changes = {name: value for name, value in named.items() if value is not None}
    tiers = await _present(change.connection, project.id) | changes
    if tiers["default"] == _FAST and tiers["enabled_tiers"] != "all" and _FAST not in tiers["enabled_tiers"]:
        raise invalid("default", f"the tier '{_FAST}' is not among enabled_tiers")
    if changes:
        await permit(change, project.id, "service_tiers", tiers, {"service_tier_settings": changes})
    return _shown(tiers)


async def _present(connection: AsyncConnection, project_id: str) -> dict[str, Any]:
    return await permitted(connection, project_id, "service_tiers") or {"default": "standard", "enabled_tiers": "all"}


def _shown(tiers: dict[str, Any]) -> dict[str, Any]:
    return {"object": "project.service_tier_settings", **tiers}
