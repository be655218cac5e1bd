"""What a user may do in the admin API: from all the roles that they hold."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.caller import Grant
from gateway.control.admin.held_roles import held_by_user
from gateway.control.sql.tables import users


async def grants_of(connection: AsyncConnection, organization_id: str, user_id: str) -> tuple[Grant, ...] | None:
    """None: there is no such user, any more."""
    ours = (users.c.organization_id == organization_id, users.c.id == user_id, users.c.removed_at.is_(None))
    user = (await connection.execute(select(users.c.role).where(*ours))).one_or_none()
    if user is None:
        return None
    held = await held_by_user(connection, organization_id, user_id, user.role)
    return tuple(dict.fromkeys(Grant(one.role.permissions, one.project_id) for one in held))
