"""Which of the tools that run upstream a project's calls may use: all of them, where nothing is said."""

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked, Body
from gateway.control.admin.found import the_project
from gateway.control.admin.permission_rows import permit, permitted
from gateway.control.admin.routes import Route, changing, reading
from gateway.control.registry.changes import Change
from gateway.limits import HOSTED_TOOLS

_ONE = "/organization/projects/{project_id}/hosted_tool_permissions"
_MAY = "api.organization.projects.hosted_tool_permissions"


def routes() -> tuple[Route, ...]:
    return (reading(_ONE, _MAY, read_permissions), changing("POST", _ONE, _MAY, update_permissions))


class HostedTool(Body, frozen=True):
    enabled: bool


class ChangedHostedTools(Body, frozen=True):
    """Tools that are not named stay as they are. The names are those of HOSTED_TOOLS."""

    file_search: HostedTool | None = None
    web_search: HostedTool | None = None
    image_generation: HostedTool | None = None
    mcp: HostedTool | None = None
    code_interpreter: HostedTool | None = None


async def read_permissions(asked: Asked, connection: AsyncConnection) -> dict[str, HostedTool]:
    project = await the_project(asked, connection)
    return _shown(await _present(connection, project.id))


async def update_permissions(asked: Asked, change: Change) -> dict[str, HostedTool]:
    project = await the_project(asked, change.connection, active=True)
    named = msgspec.structs.asdict(asked.body(ChangedHostedTools))
    changes = {tool: one.enabled for tool, one in named.items() if one is not None}
    enabled = await _present(change.connection, project.id) | changes
    if changes:
        requested = {tool: {"enabled": value} for tool, value in changes.items()}
        await permit(change, project.id, "hosted_tools", enabled, {"hosted_tool_permissions": requested})
    return _shown(enabled)


async def _present(connection: AsyncConnection, project_id: str) -> dict[str, bool]:
    return await permitted(connection, project_id, "hosted_tools") or {}


def _shown(enabled: dict[str, bool]) -> dict[str, HostedTool]:
    return {tool: HostedTool(enabled=enabled.get(tool, True)) for tool in HOSTED_TOOLS}
