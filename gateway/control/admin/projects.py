"""Projects."""

from typing import Any

import msgspec
from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked, Body, ShortText
from gateway.control.admin.found import not_declared, the_project
from gateway.control.admin.pages import Listing, Page, list_page
from gateway.control.admin.routes import Route, changing, reading
from gateway.control.registry.changes import Change, new_id
from gateway.control.sql.tables import api_keys, projects
from gateway.errors import INVALID_VALUE, GatewayError

_ALL = "/organization/projects"
_ONE = f"{_ALL}/{{project_id}}"
_MAY = "api.organization.projects"


def routes() -> tuple[Route, ...]:
    return (
        reading(_ALL, "api.projects", list_projects),
        changing("POST", _ALL, "api.projects", create_project),
        reading(_ONE, _MAY, read_project, own=True),
        changing("POST", _ONE, _MAY, update_project),
        changing("POST", f"{_ONE}/archive", _MAY, archive_project),
    )


class Project(msgspec.Struct, frozen=True):
    """A project, as OpenAI's API shows it."""

    id: str
    name: str
    created_at: int
    archived_at: int | None
    status: str
    object: str = "organization.project"
    external_key_id: None = None
    residency: str = "GLOBAL"


class NewProject(Body, frozen=True):
    name: ShortText
    external_key_id: None = None  # what a gateway does not have
    geography: str | None = None
    residency: str | None = None


class ChangedProject(Body, frozen=True):
    name: ShortText | None = None
    external_key_id: None = None
    geography: str | None = None


class ProjectListing(Listing, frozen=True):
    include_archived: bool = False


def shown(row: Row[Any]) -> Project:
    status = "active" if row.archived_at is None else "archived"
    return Project(row.id, row.name, row.created_at, row.archived_at, status)


async def list_projects(asked: Asked, connection: AsyncConnection) -> Page:
    listing = asked.query(ProjectListing)
    rows = select(projects).where(projects.c.organization_id == asked.organization_id)
    if not listing.include_archived:
        rows = rows.where(projects.c.archived_at.is_(None))
    return await list_page(connection, rows, (projects.c.created_at, projects.c.id), listing, shown)


async def create_project(asked: Asked, change: Change) -> Project:
    body = asked.body(NewProject)
    for name, value in (("geography", body.geography), ("residency", body.residency)):
        if value not in {None, "GLOBAL"}:
            raise GatewayError(INVALID_VALUE, param=name, reason="data of this gateway stays where it runs")
    row = {"id": new_id("proj_"), "name": body.name, "organization_id": asked.organization_id}
    await change.connection.execute(insert(projects).values(**row, created_at=asked.now, version=change.version))
    await change.audit(
        "project.created",
        {"id": row["id"], "data": {"name": body.name, "title": body.name}},
        resource_id=row["id"],
        project_id=row["id"],
    )
    return Project(row["id"], body.name, asked.now, None, "active")


async def read_project(asked: Asked, connection: AsyncConnection) -> Project:
    return shown(await the_project(asked, connection))


async def update_project(asked: Asked, change: Change) -> Project:
    project = await the_project(asked, change.connection, active=True)
    not_declared(project, "project")
    name = asked.body(ChangedProject).name
    if name is not None and name != project.name:
        same = update(projects).where(projects.c.id == project.id)
        await change.connection.execute(same.values(name=name, version=change.version))
        await change.audit(
            "project.updated",
            {"id": project.id, "changes_requested": {"name": name, "title": name}},
            resource_id=project.id,
            project_id=project.id,
        )
    return shown(await the_project(asked, change.connection))


async def archive_project(asked: Asked, change: Change) -> Project:
    """Archiving it again changes nothing. Its keys end at once."""
    project = await the_project(asked, change.connection)
    not_declared(project, "project")
    if project.archived_at is None:
        same = update(projects).where(projects.c.id == project.id)
        await change.connection.execute(same.values(archived_at=asked.now, version=change.version))
        hashes = await change.connection.scalars(select(api_keys.c.hash).where(api_keys.c.project_id == project.id))
        await change.publish("key", sorted(key_hash.hex() for key_hash in hashes))
        await change.audit("project.archived", {"id": project.id}, resource_id=project.id, project_id=project.id)
    return shown(await the_project(asked, change.connection))
