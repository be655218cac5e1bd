"""Changes of the registry: one transaction each, with a version, what is to be published, and the audit log's row."""

import secrets
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import msgspec
from sqlalchemy import bindparam, case, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.clock import Clock
from gateway.control.sql.database import Database, insert_into
from gateway.control.sql.tables import audit_logs, organizations, outbox

Kind = Literal["key", "limits"]


def new_id(prefix: str) -> str:
    """An id in OpenAI's style: `proj_` and 24 hex digits."""
    return prefix + secrets.token_hex(12)


class Actor(msgspec.Struct, frozen=True):
    """Who changes something. id: of the user or, if there is none, the key; email: of the user; key_id: of the key.
    shown: as OpenAI's audit log shows actors, with the address and the user agent.
    """

    id: str
    email: str | None
    shown: Mapping[str, Any]
    key_id: str | None = None


class Due(msgspec.Struct, frozen=True):
    """What is to be published. subject: a key's hash in hex, or whose limits: a field as `gateway.limits` has it."""

    organization_id: str
    kind: Kind
    subject: str
    version: int


class Change:
    """A change that is under way. version: newer than all of its organization's before it, in Redis too. now: seconds
    since 1970. actor: None where nobody asked for it: the settings do, which have a history of their own.
    """

    def __init__(
        self, connection: AsyncConnection, organization_id: str, version: int, now: int, actor: Actor | None = None
    ) -> None:
        self.connection = connection
        self.organization_id = organization_id
        self.version = version
        self.now = now
        self.actor = actor
        self._audited = 0

    async def audit(
        self, event: str, details: Mapping[str, Any], *, resource_id: str | None = None, project_id: str | None = None
    ) -> None:
        """Writes down what was changed, and by whom. event: a type of OpenAI's audit log, `project.created`; details:
        what its object says under that name. No secret may be in them."""
        if self.actor is None:
            return
        self._audited += 1
        row = {  # ids rise, so that what happens within a second stays in its order
            "id": f"audit_log-{self.version:016x}{self._audited:06x}{secrets.token_hex(4)}",
            "organization_id": self.organization_id,
            "type": event,
            "effective_at": self.now,
            "project_id": project_id,
            "resource_id": resource_id,
            "actor_id": self.actor.id,
            "actor_key_id": self.actor.key_id,
            "actor_email": self.actor.email,
            "actor": dict(self.actor.shown),
            "details": dict(details),
        }
        await self.connection.execute(insert(audit_logs), [row])

    async def publish(self, kind: Kind, subjects: Collection[str]) -> None:
        """When this change is done, what the read model says of these is to be made anew from the tables."""
        if not subjects:
            return
        new = insert_into(self.connection, outbox)
        later = new.on_conflict_do_update(
            index_elements=["organization_id", "kind", "subject"], set_={"version": new.excluded.version}
        )
        common = {"organization_id": self.organization_id, "kind": kind, "version": self.version}
        await self.connection.execute(later, [{**common, "subject": subject} for subject in subjects])


class Changes:
    """The only way to change the registry."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def ensure(self, organization_id: str) -> None:
        """Sees to it that there is such an organization."""
        async with self._database.transaction() as connection:
            new = insert_into(connection, organizations).values(id=organization_id, version=0)
            await connection.execute(new.on_conflict_do_nothing())

    @asynccontextmanager
    async def begin(self, organization_id: str, actor: Actor | None = None) -> AsyncIterator[Change]:
        """A change of an organization that is there. It is done when it ends without an error, and others of the same
        organization wait until then: so versions become visible in their order.

        Versions are microseconds since 1970, or one more than the last where the clock stands still or goes back: Redis
        may hold some of a registry that is no more.
        """
        now = self._clock.wall()
        now_us = int(now * 1_000_000)
        async with self._database.transaction() as connection:
            next_one = organizations.c.version + 1
            version = await connection.scalar(
                update(organizations)
                .where(organizations.c.id == organization_id)
                .values(version=case((next_one > now_us, next_one), else_=now_us))
                .returning(organizations.c.version)
            )
            assert version is not None, "ensure was not called"
            yield Change(connection, organization_id, version, int(now), actor)

    async def due(self, most: int | None = None) -> list[Due]:
        """What waits to be published, oldest changes first."""
        query = select(outbox).order_by(outbox.c.version, outbox.c.subject).limit(most)
        async with self._database.transaction() as connection:
            rows = await connection.execute(query)
            return [Due(row.organization_id, row.kind, row.subject, row.version) for row in rows]

    async def published(self, done: Sequence[Due]) -> None:
        """Redis has these: what was changed again meanwhile stays due."""
        if not done:
            return
        these = [outbox.c[name] == bindparam(f"the_{name}") for name in Due.__struct_fields__]
        rows = [{f"the_{name}": value for name, value in msgspec.structs.asdict(one).items()} for one in done]
        async with self._database.transaction() as connection:
            await connection.execute(delete(outbox).where(*these), rows)
