"""What came of comparing days with upstreams, kept so that it can be looked at later."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import delete, insert, select

from gateway.control.ledger.comparison import Difference
from gateway.control.sql.database import Database, insert_into
from gateway.control.sql.ledger_tables import reconciled_days, reconciliations


async def keep(  # noqa: PLR0917
    database: Database, organization_id: str, upstream: str, at: int, differences: Sequence[Difference], now: int
) -> None:
    """In the place of what was there of this day. at: when it begins, in minutes since 1970. Two who do this at a time
    wait for each other. Raises SQLAlchemyError."""
    place = {"organization_id": organization_id, "upstream": upstream, "at": at}
    rows = [place | msgspec.structs.asdict(one) for one in differences]
    columns = reconciliations.c
    here = columns.organization_id == organization_id, columns.upstream == upstream, columns.at == at
    async with database.transaction() as connection:
        checked = insert_into(connection, reconciled_days).values(**place, checked_at=now)
        key = list(reconciled_days.primary_key)
        await connection.execute(checked.on_conflict_do_update(index_elements=key, set_={"checked_at": now}))
        await connection.execute(delete(reconciliations).where(*here))
        if rows:
            await connection.execute(insert(reconciliations), rows)


async def newest_day(database: Database, organization_id: str, upstream: str) -> tuple[int, int] | None:
    """Of those that were compared: when it begins, in minutes since 1970, and when it was, in seconds. Raises
    SQLAlchemyError."""
    columns = reconciled_days.c
    theirs = columns.organization_id == organization_id, columns.upstream == upstream
    query = select(columns.at, columns.checked_at).where(*theirs).order_by(columns.at.desc()).limit(1)
    async with database.transaction() as connection:
        found = (await connection.execute(query)).one_or_none()
    return (found[0], found[1]) if found is not None else None


async def kept(database: Database, organization_id: str, upstream: str, at: int) -> list[Difference]:
    """Of a day, in order. Raises SQLAlchemyError."""
    columns = reconciliations.c
    here = columns.organization_id == organization_id, columns.upstream == upstream, columns.at == at
    wanted = [columns[name] for name in Difference.__struct_fields__]
    async with database.transaction() as connection:
        found = (await connection.execute(select(*wanted).where(*here))).all()
    return sorted((Difference(*row) for row in found), key=msgspec.structs.astuple)
