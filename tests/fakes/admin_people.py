"""Users of an organization, and of its projects, as rows; and what the audit log's table says."""

from typing import Any

from sqlalchemy import insert, select

from gateway.control.admin.caller import Grant
from gateway.control.admin.grants import grants_of
from gateway.control.sql.tables import audit_logs, project_users, users
from tests.fakes.admin_api import AdminApi


async def add_user(api: AdminApi, user_id: str, role: str = "reader") -> str:
    """A user whom nobody invited. Returns the id."""
    named = {"id": user_id, "email": f"{user_id}@example.com", "name": user_id.title(), "role": role}
    async with api.database.transaction() as connection:
        row = {**named, "organization_id": "org-gateway", "created_at": 1_700_000_000, "version": 0}
        await connection.execute(insert(users), [row])
    return user_id


async def add_member(api: AdminApi, project_id: str, user_id: str, role: str = "member") -> None:
    """Adds a user to a project."""
    row = {"project_id": project_id, "user_id": user_id, "role": role, "created_at": 1_700_000_000}
    async with api.database.transaction() as connection:
        await connection.execute(insert(project_users), [row])


async def key_of(api: AdminApi, user_id: str, scopes: list[str] | None = None) -> str:
    """A new admin key of a user's."""
    body: dict[str, Any] = {"name": "theirs", "user_id": user_id, "scopes": scopes}
    made = await api.ask("POST", "/organization/admin_api_keys", body)
    return str(made.body["value"])


async def audited(api: AdminApi, like: str) -> list[tuple[str, Any]]:
    """Type and details of the audit log's rows whose type begins like this, as they were written."""
    async with api.database.transaction() as connection:
        rows = list(await connection.execute(select(audit_logs).where(audit_logs.c.type.startswith(like))))
    return [(row.type, row.details) for row in rows]


async def granted(api: AdminApi, user_id: str) -> set[Grant]:
    """All that a user may do."""
    async with api.database.transaction() as connection:
        return set(await grants_of(connection, "org-gateway", user_id) or ())
