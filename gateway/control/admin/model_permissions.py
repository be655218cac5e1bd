"""Which models a project may call."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked, Body, ShortText
from gateway.control.admin.found import the_project
from gateway.control.admin.permission_rows import permit, permitted
from gateway.control.admin.routes import Route, changing, reading
from gateway.control.registry.changes import Change
from gateway.errors import NOT_FOUND, GatewayError

_ONE = "/organization/projects/{project_id}/model_permissions"
_MAY = "api.organization.projects.model_permissions"
_OBJECT = "project.model_permissions"


def routes() -> tuple[Route, ...]:
    return (
        reading(_ONE, _MAY, read_permissions),
        changing("POST", _ONE, _MAY, set_permissions),
        changing("DELETE", _ONE, _MAY, delete_permissions),
    )


class NewModelPermissions(Body, frozen=True):
    """model_ids: need not be models that the gateway knows."""

    mode: Literal["allow_list", "deny_list"]
    model_ids: Annotated[list[ShortText], Meta(max_length=1000)]


async def read_permissions(asked: Asked, connection: AsyncConnection) -> dict[str, Any]:
    project = await the_project(asked, connection)
    return {"object": _OBJECT, **await _there(connection, project.id)}


async def set_permissions(asked: Asked, change: Change) -> dict[str, Any]:
    project = await the_project(asked, change.connection, active=True)
    new = msgspec.structs.asdict(asked.body(NewModelPermissions))
    await permit(change, project.id, "models", new, {"model_permissions": new})
    return {"object": _OBJECT, **new}


async def delete_permissions(asked: Asked, change: Change) -> dict[str, Any]:
    """All models may be called then."""
    project = await the_project(asked, change.connection, active=True)
    await _there(change.connection, project.id)
    await permit(change, project.id, "models", None, {"model_permissions": None})
    return {"object": f"{_OBJECT}.deleted", "deleted": True}


async def _there(connection: AsyncConnection, project_id: str) -> dict[str, Any]:
    present: dict[str, Any] | None = await permitted(connection, project_id, "models")
    if present is None:
        raise GatewayError(NOT_FOUND, what="model permissions of the project", id=project_id)
    return present
