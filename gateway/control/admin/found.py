"""Rows that a path names, or the error that says that they are not there."""

from typing import Any

from sqlalchemy import Row, Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked
from gateway.control.sql.tables import projects
from gateway.errors import DECLARED, NOT_FOUND, NOT_NOW, GatewayError


async def found(connection: AsyncConnection, rows: Select[Any], what: str, row_id: str) -> Row[Any]:
    """The one row. Raises GatewayError NOT_FOUND (404)."""
    row: Row[Any] | None = None if "\0" in row_id else (await connection.execute(rows)).one_or_none()
    if row is None:
        raise GatewayError(NOT_FOUND, what=what, id=row_id[:100])
    return row


async def the_project(asked: Asked, connection: AsyncConnection, *, active: bool = False) -> Row[Any]:
    """The project of the path, `{project_id}`. active: it must not be archived. Raises GatewayError (404, 400)."""
    project_id = asked.ids["project_id"]
    ours = projects.c.organization_id == asked.organization_id
    project = await found(connection, select(projects).where(projects.c.id == project_id, ours), "project", project_id)
    if active and project.archived_at is not None:
        raise GatewayError(NOT_NOW, reason=f"The project '{project_id}' is archived")
    return project


def not_declared(row: Row[Any], what: str) -> None:
    """Raises GatewayError DECLARED (400) for what the settings declare."""
    if row.declared:
        raise GatewayError(DECLARED, what=f"The {what} '{row.id}'")
