"""What the settings declare, as rows of the registry.

Declared rows follow the settings: what changed there is changed here, what is not there any more is withdrawn (projects
are archived, the others removed). A key that was revoked stays revoked, whatever the settings call it. Nothing that the
API made is touched, unless the settings declare it by its id.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Table, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.clock import Clock
from gateway.control.registry.changes import Change, Changes
from gateway.control.registry.declared import declared_keys
from gateway.control.registry.declared_limits import declared_limits as limits_of
from gateway.control.sql.database import insert_into
from gateway.control.sql.tables import api_keys, declared_limits, projects, service_accounts, users
from gateway.settings.model import Settings

_AT_ONCE = 500  # values in one statement
_UNKNOWN = "sk-…"  # what may be shown of a key whose hash alone is declared

Row = Mapping[str, Any]


class _Kind(msgspec.Struct, frozen=True):
    """One table. gone: the column that says since when a row is withdrawn."""

    table: Table
    gone: str


_KINDS = (
    _Kind(projects, "archived_at"),
    _Kind(users, "removed_at"),
    _Kind(service_accounts, "removed_at"),
    _Kind(api_keys, "removed_at"),
)


class Reconciled(msgspec.Struct, frozen=True):
    """How many rows were written, and how many withdrawn; and how many documents of limits have changed."""

    written: int
    withdrawn: int
    limits: int = 0


class _Moved(msgspec.Struct, frozen=True):
    """A row as it was, None if there was none, and what it is now, None if it was withdrawn."""

    before: Row | None
    after: Row | None


async def reconcile(changes: Changes, settings: Settings, clock: Clock) -> Reconciled:
    """Makes the declared rows say what the settings say; what workers have to hear of is due to be published. One
    change for all of it. Raises SQLAlchemyError."""
    await changes.ensure(settings.organization_id)
    wanted = _declared(settings)
    now = int(clock.wall())
    async with changes.begin(settings.organization_id) as change:
        moved = [await _follow(change, kind, wanted[kind.table.name], now) for kind in _KINDS]
        of_projects, *_, of_keys = moved
        await _publish(change, of_projects, of_keys)
        limits = await _follow_limits(change, settings)
    everything = [one for table in moved for one in table.values()]
    withdrawn = sum(one.after is None for one in everything)
    return Reconciled(len(everything) - withdrawn, withdrawn, limits)


def _declared(settings: Settings) -> dict[str, dict[str, Row]]:
    """Rows by table and id, without what only the database knows."""
    organization_id = settings.organization_id
    rows: dict[str, dict[str, Row]] = {kind.table.name: {} for kind in _KINDS}
    for project in settings.projects:
        rows["projects"][project.id] = {"organization_id": organization_id, "name": project.name or project.id}
    for key in declared_keys(settings):
        principal = key.principal
        name = key.name.partition("/")[2]
        own = key.is_own_user
        if own:
            account = {"project_id": principal.project_id, "name": name, "role": "member"}
            rows["service_accounts"][principal.user_id] = account
        else:
            person = {"email": principal.user_id, "name": principal.user_id, "role": "reader"}
            rows["users"][principal.user_id] = {"organization_id": organization_id, **person}
        rows["api_keys"][principal.key_id] = {
            "project_id": principal.project_id,
            "user_id": None if own else principal.user_id,
            "service_account_id": principal.user_id if own else None,
            "name": name,
            "hash": bytes.fromhex(key.hash),
            "shown": _UNKNOWN,
            "expires_at": principal.expires_at,
        }
    return rows


async def _follow(change: Change, kind: _Kind, wanted: Mapping[str, Row], now: int) -> dict[str, _Moved]:
    """Brings one table's declared rows to what is wanted; returns what has moved, by id."""
    table, connection = kind.table, change.connection
    present = await _present(connection, table, list(wanted))
    moved: dict[str, _Moved] = {}
    changed: dict[str, Row] = {}
    new = []
    for row_id, row in wanted.items():
        before = present.get(row_id)
        if before is None:
            moved[row_id] = _Moved(None, row)
            new.append({"id": row_id, **row, "created_at": now, "declared": True, "version": change.version})
        elif not before["declared"] or any(before[name] != value for name, value in row.items()):
            moved[row_id] = _Moved(before, row)
            changed[row_id] = {**row, kind.gone: None, "declared": True, "version": change.version}
    gone = {kind.gone: now, "version": change.version}
    for row_id, before in present.items():
        if row_id not in wanted and before["declared"]:
            moved[row_id] = _Moved(before, None)
            await connection.execute(update(table).where(table.c.id == row_id).values({**gone, "declared": False}))
        elif row_id in changed:  # for a moment, so that keys may change places: no two that live have one hash
            await connection.execute(update(table).where(table.c.id == row_id).values(gone))
    for row_id, values in changed.items():
        await connection.execute(update(table).where(table.c.id == row_id).values(values))
    if new:
        await connection.execute(insert(table), new)
    return moved


async def _present(connection: AsyncConnection, table: Table, ids: Sequence[str]) -> dict[str, Row]:
    """The declared rows, and those that are to be."""
    found = list(await connection.execute(select(table).where(table.c.declared)))
    for start in range(0, len(ids), _AT_ONCE):
        some = table.c.id.in_(ids[start : start + _AT_ONCE])
        found += await connection.execute(select(table).where(some, ~table.c.declared))
    return {row.id: row._asdict() for row in found}


async def _publish(change: Change, of_projects: Mapping[str, _Moved], of_keys: Mapping[str, _Moved]) -> None:
    """Makes due what changes for workers: keys of their own accord, and all keys of projects that come or go."""
    hashes = {row["hash"] for one in of_keys.values() for row in (one.before, one.after) if row is not None}
    there = [project_id for project_id, one in of_projects.items() if one.before is not None]
    for start in range(0, len(there), _AT_ONCE):
        of_these = api_keys.c.project_id.in_(there[start : start + _AT_ONCE])
        hashes |= set(await change.connection.scalars(select(api_keys.c.hash).where(of_these)))
    await change.publish("key", sorted(key_hash.hex() for key_hash in hashes))


async def _follow_limits(change: Change, settings: Settings) -> int:
    """Brings the declared limits to what the settings say; returns how many documents that changed."""
    ours = declared_limits.c.organization_id == change.organization_id
    rows = await change.connection.execute(select(declared_limits).where(ours))
    present = {row.subject: row.document for row in rows}
    wanted = {
        subject: msgspec.json.encode(document, order="deterministic").decode()
        for subject, document in limits_of(settings).items()
    }
    changed = [subject for subject, document in wanted.items() if present.get(subject) != document]
    gone = [subject for subject in present if subject not in wanted]
    if changed:
        new = insert_into(change.connection, declared_limits)
        same = new.on_conflict_do_update(
            index_elements=["organization_id", "subject"],
            set_={"document": new.excluded.document, "version": new.excluded.version},
        )
        common = {"organization_id": change.organization_id, "version": change.version}
        await change.connection.execute(same, [{**common, "subject": s, "document": wanted[s]} for s in changed])
    for start in range(0, len(gone), _AT_ONCE):
        some = declared_limits.c.subject.in_(gone[start : start + _AT_ONCE])
        await change.connection.execute(delete(declared_limits).where(ours, some))
    await change.publish("limits", [*changed, *gone])
    return len(changed) + len(gone)
