"""kill -9 of the control process after each step of a change: after a restart the registry and Redis agree."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import structlog
from sqlalchemy import select

from gateway.accounts.limits_store import LimitsStore
from gateway.accounts.spend import Spend
from gateway.clock import SystemClock
from gateway.control.registry.changes import Changes
from gateway.control.registry.key_records import all_hashes, records_of
from gateway.control.registry.limit_records import limit_records
from gateway.control.registry.limits import LimitsPublisher
from gateway.control.registry.publisher import Publisher
from gateway.control.registry.reconcile import reconcile
from gateway.control.sql.database import Database
from gateway.control.sql.tables import api_keys, audit_logs, projects, service_accounts
from gateway.keyspace import Keyspace
from gateway.limits import LimitDocument
from gateway.redisdb.client import connect
from gateway.tasks import Tasks
from gateway.values import Principal
from tests.fakes.admin_api import settings_of
from tests.fakes.dying_control import DECLARED
from tests.fakes.measuring import Measured, Size
from tests.fakes.redis_servers import Server

pytestmark = [pytest.mark.proof, pytest.mark.timeout(900)]

ORG = "org-gateway"


class Dying:
    """A program whose control processes die when they are told."""

    def __init__(self, server: Server, database_url: str, folder: Path) -> None:
        self.server = server
        self.database_url = database_url
        self.folder = folder
        command = [sys.executable, "-m", "tests.fakes.dying_control", server.url, database_url, str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def ask(self, method: str, path: str, body: str = "", *, at: int = 0) -> str:
        """A request of a control process of its own, which dies after so many steps; 0: it does not."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{at} {method} {path} {body}\n")
        self._process.stdin.flush()
        return self._line()

    def close(self) -> None:
        assert self._process.stdin is not None
        with self._process:
            self._process.stdin.close()

    async def restarted(self) -> int:
        """What a control process does at its start, and then compares; returns how many changes were made by API."""
        settings, clock, log = settings_of(self.folder, **DECLARED), SystemClock(), structlog.get_logger()
        database, redis = await Database.open(self.database_url), connect(self.server.settings())
        try:
            changes, store = Changes(database, clock), LimitsStore(redis, Keyspace())
            await reconcile(changes, settings, clock)
            limits = LimitsPublisher(settings, database, store, Spend(redis, Keyspace()), clock, log)
            publisher = Publisher(settings, redis, database, clock=clock, log=log, limits=limits)
            await started(publisher)
            assert await changes.due() == []
            await self._keys_agree(database)
            await self._limits_agree(database, store)
            async with database.transaction() as connection:
                return len(list(await connection.execute(select(audit_logs.c.id))))
        finally:
            await redis.aclose()
            await database.close()

    async def _keys_agree(self, database: Database) -> None:
        hashes = [key_hash async for page in all_hashes(database) for key_hash in page]
        records = {record.hash: record.principal for record in await records_of(database, hashes)}
        known = {h.decode() for h in self.server.command("SMEMBERS", "gateway:keys")}
        assert records.keys() <= known
        for key_hash in known:
            found = msgspec.json.decode(self.server.command("HGET", f"gateway:key:{key_hash}", "d"), type=Principal)
            if key_hash in records:
                assert found == records[key_hash]
                version = int(self.server.command("HGET", f"gateway:key:{key_hash}", "v"))
                told = self.server.command("HGET", "gateway:{org-gateway}:versions", f"key:{found.key_id}")
                assert found.revoked or int(told or 0) == version, "admission knows of it"
            else:
                assert found.revoked

    async def _limits_agree(self, database: Database, store: LimitsStore) -> None:
        async with database.transaction() as connection:
            wanted = dict((await limit_records(connection, ORG)).documents)
        found = (await store.read_documents(ORG)).documents
        assert {s: msgspec.json.decode(one, type=LimitDocument) for s, one in found.items()} == wanted


async def started(publisher: Publisher) -> None:
    """Until it has published."""
    tasks = Tasks()

    async def report(_: dict[str, str]) -> None:
        pass

    tasks.spawn(publisher.keep_published(report), "publish")
    await asyncio.wait_for(publisher.tried.wait(), 20)
    await tasks.cancel()


@pytest.fixture
def dying(valkey: Server, database_url: str, tmp_path: Path) -> Iterator[Dying]:
    program = Dying(valkey, database_url, tmp_path)
    yield program
    program.close()


CHANGES = {
    "a key is made": ("POST", "{p}/service_accounts", '{"name":"late"}'),
    "a key is changed": ("POST", "{p}/api_keys/{k}", '{"scopes":["api.responses.write"],"expires_in_seconds":900}'),
    "a key is deleted": ("DELETE", "{p}/api_keys/{k}", ""),
    "an account is deleted": ("DELETE", "{p}/service_accounts/{a}", ""),
    "a spend limit is set": ("POST", "{p}/spend_limit", '{"threshold_amount":5,"currency":"USD","interval":"month"}'),
    "a model is denied": ("POST", "{p}/model_permissions", '{"mode":"deny_list","model_ids":["gpt-4o"]}'),
    "the project is archived": ("POST", "{p}/archive", ""),
}


async def prepared(dying: Dying) -> dict[str, str]:
    """A new project with a service account and its key; returns their ids."""
    before = await ids(dying)
    assert dying.ask("POST", "/organization/projects", '{"name":"Chat"}').isdecimal()
    project = (await ids(dying))["projects"] - before["projects"] - {"proj_d"}
    p = f"/organization/projects/{project.pop()}"
    assert dying.ask("POST", f"{p}/service_accounts", '{"name":"bot"}').isdecimal()
    after = await ids(dying)
    return {"p": p, "a": (after["accounts"] - before["accounts"]).pop(), "k": (after["keys"] - before["keys"]).pop()}


async def ids(dying: Dying) -> dict[str, set[str]]:
    database = await Database.open(dying.database_url)
    async with database.transaction() as connection:
        found = {
            name: set(await connection.scalars(select(table.c.id)))
            for name, table in (("projects", projects), ("accounts", service_accounts), ("keys", api_keys))
        }
    await database.close()
    return found


@pytest.mark.parametrize("what", CHANGES)
async def test_the_registry_and_redis_agree_after_a_kill(
    what: str, dying: Dying, size: Size, measured: Measured
) -> None:
    """Every step in turn at full size; small: every ninth. A change is done or not, and never half."""
    method, path, body = CHANGES[what]
    place = await prepared(dying)
    steps = int(dying.ask(method, path.format(**place), body))
    assert steps > 5
    done = 0
    for at in range(1, steps + 1, size(small=9, full=1)):
        place = await prepared(dying)
        before = await dying.restarted()
        assert dying.ask(method, path.format(**place), body, at=at) == "died"
        made = await dying.restarted() - before
        assert made >= 0
        done += made > 0
    assert done, "a kill after the commit does not undo it"
    measured(f"{what}: steps of a change, a kill -9 after each", steps, "steps")
