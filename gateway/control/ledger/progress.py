"""How far the stream is folded, and who folds it: one at a time, and what an earlier one still writes is refused."""

import secrets

import msgspec
from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.sql.database import Database, insert_into
from gateway.control.sql.ledger_tables import ledger_progress

LEASE_S = 15  # how long one holds it after it was last heard of


class LeaseLostError(Exception):
    """Somebody else folds now. Nothing was written."""


class Progress(msgspec.Struct, frozen=True):
    """ledger: the name of this one. fence: of the holder. position: of the last folded entry. epoch: of the counters
    when that was written."""

    ledger: str
    fence: int
    epoch: str
    position: str


async def take(database: Database, organization_id: str, holder: str, now: int) -> Progress | None:
    """Takes the lease, if nobody holds it; None if somebody does. A SQLite file is one process's alone, and whoever
    held it before is gone. Raises SQLAlchemyError."""
    table = ledger_progress
    new = {
        "organization_id": organization_id,
        "ledger": secrets.token_hex(8),
        "holder": "",
        "fence": 0,
        "held_until": 0,
        "epoch": "",
        "position": "",
    }
    async with database.transaction() as connection:
        await connection.execute(insert_into(connection, table).values(new).on_conflict_do_nothing())
        free = or_(table.c.held_until < now, table.c.holder == holder)
        if connection.dialect.name == "sqlite":
            free = table.c.organization_id == organization_id
        taken = (
            update(table)
            .where(table.c.organization_id == organization_id, free)
            .values(holder=holder, fence=table.c.fence + 1, held_until=now + LEASE_S)
            .returning(table.c.ledger, table.c.fence, table.c.epoch, table.c.position)
        )
        found = (await connection.execute(taken)).one_or_none()
    return Progress(*found) if found is not None else None


async def advance(connection: AsyncConnection, organization_id: str, progress: Progress, now: int) -> None:
    """Writes the position down, and holds the lease for longer: the first thing of a transaction, whose other writes
    then wait for whoever may have taken over. Raises LeaseLostError, SQLAlchemyError."""
    table = ledger_progress
    mine = table.c.organization_id == organization_id, table.c.fence == progress.fence
    write = update(table).where(*mine).values(
        epoch=progress.epoch, position=progress.position, held_until=now + LEASE_S
    )  # fmt: skip
    if (await connection.execute(write)).rowcount != 1:
        raise LeaseLostError


async def release(database: Database, organization_id: str, progress: Progress) -> None:
    """Lets others take over at once. Raises SQLAlchemyError."""
    table = ledger_progress
    mine = table.c.organization_id == organization_id, table.c.fence == progress.fence
    async with database.transaction() as connection:
        await connection.execute(update(table).where(*mine).values(held_until=0))


async def position(connection: AsyncConnection, organization_id: str) -> str:
    """Of the last folded entry; empty if none is. Raises SQLAlchemyError."""
    ours = ledger_progress.c.organization_id == organization_id
    return await connection.scalar(select(ledger_progress.c.position).where(ours)) or ""
