"""What a project's calls may use, as a row of the registry: one column for each noun of it."""

from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.registry.changes import Change
from gateway.control.sql.database import insert_into
from gateway.control.sql.tables import project_permissions
from gateway.limits import project_field

Column = Literal["models", "hosted_tools", "service_tiers"]


async def permitted(connection: AsyncConnection, project_id: str, column: Column) -> Any:
    """What is set; None: nothing is."""
    same = project_permissions.c.project_id == project_id
    return await connection.scalar(select(project_permissions.c[column]).where(same))


async def permit(change: Change, project_id: str, column: Column, value: Any, asked_for: dict[str, Any]) -> None:
    """Sets it, or takes it away with None. asked_for: as the audit log shows it, under OpenAI's event for changes of
    projects: it has none for their permissions."""
    new = insert_into(change.connection, project_permissions)
    set_it = new.on_conflict_do_update(index_elements=["project_id"], set_={column: new.excluded[column]})
    await change.connection.execute(set_it, [{"project_id": project_id, column: value}])
    await change.publish("limits", [project_field(project_id)])
    details = {"id": project_id, "changes_requested": asked_for}
    await change.audit("project.updated", details, resource_id=project_id, project_id=project_id)
