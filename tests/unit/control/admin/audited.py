"""What the audit log says, straight from its table."""

from typing import Any

from sqlalchemy import select

from gateway.control.sql.tables import audit_logs
from tests.fakes.admin_api import AdminApi


async def audited(api: AdminApi, event: str) -> list[Any]:
    """Details of events of one type, in the order of their seconds."""
    rows = select(audit_logs.c.details).where(audit_logs.c.type == event).order_by(audit_logs.c.effective_at)
    async with api.database.transaction() as connection:
        return list(await connection.scalars(rows))
