"""Remembers which models a project has called, so that they have an object among its rate limits, and when keys were
used.

Whoever folds usage tells of it, once it is folded. What is missed because a process ends in between is remembered when
it happens again.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

from sqlalchemy import and_, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.clock import Clock
from gateway.control.sql.database import Database, insert_into
from gateway.control.sql.tables import LONGEST_MODEL, api_keys, projects, seen_models
from gateway.errors import without_keys
from gateway.values import UsageEvent

MOST = 500  # models of one project: clients choose the names, and must not fill the table
_KNOWN = 50_000  # models that are kept in mind, of all projects together; and keys
_USED_EVERY_S = 60  # how exact `last_used_at` is

Models = dict[str, set[str]]
"""By project."""


class Seen:
    """Of one organization. Several may run; together they may remember a few more than `MOST`."""

    def __init__(self, organization_id: str, database: Database, clock: Clock) -> None:
        self._organization_id = organization_id
        self._database = database
        self._clock = clock
        self._used: dict[str, int] = {}  # by key, as the table has it or has newer
        self._known: Models = {}  # what the table has, of projects that were met

    async def note(self, events: Sequence[UsageEvent]) -> int:
        """Takes in some events. Returns how many models were new. Raises SQLAlchemyError."""
        count = await self._keep(_called(events))
        await self._note_used(events)
        return count

    async def _keep(self, called: Models) -> int:
        if sum(map(len, self._known.values())) > _KNOWN:
            self._known.clear()
        if unmet := called.keys() - self._known.keys():
            async with self._database.transaction() as connection:
                self._known |= await self._table_of(connection, unmet)
        new = list(self._new(called))
        if new:
            common = {"organization_id": self._organization_id, "seen_at": int(self._clock.wall())}
            rows = [{**common, "project_id": project_id, "model": model} for project_id, model in new]
            async with self._database.transaction() as connection:
                await connection.execute(insert_into(connection, seen_models).on_conflict_do_nothing(), rows)
        for project_id, model in new:
            self._known[project_id].add(model)
        return len(new)

    async def _table_of(self, connection: AsyncConnection, project_ids: Collection[str]) -> Models:
        """Of those projects that there are."""
        theirs = and_(
            seen_models.c.organization_id == projects.c.organization_id, seen_models.c.project_id == projects.c.id
        )
        ours = (projects.c.organization_id == self._organization_id, projects.c.id.in_(project_ids))
        found: Models = {}
        query = select(projects.c.id, seen_models.c.model).outerjoin_from(projects, seen_models, theirs).where(*ours)
        for project_id, model in await connection.execute(query):
            found.setdefault(project_id, set()).update([model] if model else [])
        return found

    async def _note_used(self, events: Iterable[UsageEvent]) -> None:
        """When keys were used last, to the minute. What asks no model, as lists do, is not in the stream."""
        used: dict[str, int] = {}
        for event in events:
            at = event.at_us // 1_000_000
            if at >= max(self._used.get(event.key_id, 0) + _USED_EVERY_S, used.get(event.key_id, 0)):
                used[event.key_id] = at
        used.pop("", None)
        if not used:
            return
        columns = api_keys.c
        older = columns.last_used_at.is_(None) | (columns.last_used_at < bindparam("at"))
        note = update(api_keys).where(columns.id == bindparam("key_id"), older).values(last_used_at=bindparam("at"))
        rows = [{"key_id": key_id, "at": at} for key_id, at in sorted(used.items())]
        async with self._database.transaction() as connection:
            await connection.execute(note, rows)
        if len(self._used) + len(used) > _KNOWN:
            self._used.clear()
        self._used |= used

    def _new(self, called: Models) -> Iterator[tuple[str, str]]:
        """In one order, so that two of us do not wait for each other's rows."""
        for project_id in sorted(called.keys() & self._known.keys()):
            known = self._known[project_id]
            for model in sorted(called[project_id] - known)[: max(0, MOST - len(known))]:
                yield project_id, model


def _called(events: Iterable[UsageEvent]) -> Models:
    """The models that an upstream has answered for."""
    found: Models = {}
    for event in events:
        if event.project_id.isprintable() and (event.status == 101 or 200 <= event.status < 300):
            models = {line.request_model.lower() for line in event.lines if _is_name(line.request_model)}
            found.setdefault(event.project_id, set()).update(models)
    return found


def _is_name(model: str) -> bool:
    """Whether it may be a model's: it fits, in lower case too, and nothing in it is a key that somebody misplaced."""
    return 0 < len(model.lower()) <= LONGEST_MODEL and model.isprintable() and without_keys(model) == model
