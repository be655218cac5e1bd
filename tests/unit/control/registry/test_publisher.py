"""What is published and when, against a real Valkey."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.clock import ManualClock
from gateway.control.registry.changes import Changes
from gateway.control.registry.declared import UnknownKeyError
from gateway.control.registry.publisher import Publisher, Written
from gateway.control.registry.reconcile import reconcile
from gateway.control.sql.database import Database
from gateway.redisdb.client import Client, connect
from gateway.redisdb.failures import RedisFailure
from gateway.settings.model import Settings
from gateway.settings.transfer import convert
from gateway.tasks import Tasks
from tests.fakes.ports import free_port
from tests.fakes.redis_servers import VALKEY, Server, StartServer, eventually

ONE, TWO, THREE = ("1" * 64, "2" * 64, "3" * 64)


class Stand:
    """A server, and publishers of different settings for it."""

    def __init__(self, server: Server, folder: Path, database: Database) -> None:
        self.server = server
        self.database = database
        self.folder = folder
        self.clock = ManualClock()
        self.client: Client = connect(server.settings())

    def settings(self, keys: dict[str, str], **more: Any) -> Settings:
        declared = [{"name": name, "hash": f"sha256:{key_hash}", **more} for name, key_hash in keys.items()]
        return convert(
            {
                "upstreams": {"a": {"base_url": "http://a/v1"}},
                "data_dir": str(self.folder),
                "projects": [{"id": "proj_a", "keys": declared}],
            }
        )

    async def publisher(self, keys: dict[str, str], **more: Any) -> Publisher:
        """A publisher of a registry that has followed these settings."""
        settings = self.settings(keys, **more)
        await reconcile(Changes(self.database, self.clock), settings, self.clock)
        return Publisher(settings, self.client, self.database, clock=self.clock, log=structlog.get_logger())

    async def publish(self, keys: dict[str, str], **more: Any) -> Written:
        return await (await self.publisher(keys, **more)).publish_all()

    def key(self, key_hash: str) -> dict[str, Any]:
        found = self.server.command("HGET", f"gateway:key:{key_hash}", "d")
        return dict(json.loads(found)) if found is not None else {}

    def version(self, key_hash: str) -> int:
        return int(self.server.command("HGET", f"gateway:key:{key_hash}", "v"))

    def published(self) -> int:
        """How many messages were sent, and so how many caches were emptied of a key."""
        return self.server.calls("publish")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(f"sqlite+aiosqlite:///{tmp_path / 'registry.sqlite'}")
    yield database
    await database.close()


@pytest.fixture
async def stand(valkey: Server, tmp_path: Path, database: Database) -> AsyncIterator[Stand]:
    valkey.command("CONFIG", "RESETSTAT")
    stand = Stand(valkey, tmp_path, database)
    yield stand
    await stand.client.aclose()


async def test_what_is_declared_is_published(stand: Stand) -> None:
    assert await stand.publish({"one": ONE, "two": TWO}, user="user-1", expires_at=7) == Written(2, 0)
    found = stand.key(ONE)
    assert (found["project_id"], found["user_id"], found["organization_id"]) == ("proj_a", "user-1", "org-gateway")
    assert found["expires_at"] == 7
    assert found["key_id"].startswith("key_")
    assert found["key_id"] != stand.key(TWO)["key_id"]
    assert found["revoked"] is False


async def test_what_has_not_changed_is_left_alone(stand: Stand) -> None:
    await stand.publish({"one": ONE, "two": TWO})
    before = stand.published()
    stand.clock.advance(10)
    assert await stand.publish({"one": ONE, "two": TWO}) == Written(0, 0)
    assert stand.published() == before


async def test_what_has_changed_is_published_alone(stand: Stand) -> None:
    await stand.publish({"one": ONE, "two": TWO})
    stand.clock.advance(10)
    assert await stand.publish({"one": ONE, "two": THREE}) == Written(2, 1)
    assert stand.key(TWO)["revoked"] is True, "the old key of that name works no more"
    assert stand.key(THREE)["revoked"] is False
    stand.clock.advance(10)
    assert await stand.publish({"one": ONE, "two": THREE}) == Written(0, 0), "withdrawn once"
    stand.clock.advance(10)
    assert await stand.publish({"one": ONE}, user="user-2") == Written(2, 1)
    assert stand.key(ONE)["user_id"] == "user-2"
    stand.clock.advance(10)
    assert await stand.publish({"one": ONE, "two": TWO}, user="user-2") == Written(1, 0), "it is back"
    assert stand.key(TWO)["revoked"] is False


async def test_a_clock_that_was_set_back_does_not_keep_a_key_alive(stand: Stand) -> None:
    await stand.publish({"one": ONE})
    version = stand.version(ONE)
    stand.clock.advance(-3600)
    await (await stand.publisher({"one": ONE})).revoke("proj_a/one")
    assert stand.key(ONE)["revoked"] is True
    assert stand.version(ONE) > version
    await stand.publish({"one": ONE}, user="user-2")
    assert stand.key(ONE)["user_id"] == "user-2"


@pytest.mark.parametrize("by", ["name", "id", "hash", "declared hash"])
async def test_revoking(stand: Stand, by: str) -> None:
    publisher = await stand.publisher({"one": ONE, "two": TWO})
    await publisher.publish_all()
    names = {"name": "proj_a/one", "id": stand.key(ONE)["key_id"], "hash": ONE, "declared hash": f"sha256:{ONE}"}
    key = await publisher.revoke(names[by])
    assert key.name == "proj_a/one"
    assert (stand.key(ONE)["revoked"], stand.key(TWO)["revoked"]) == (True, False)
    # Neither a start of this process nor an empty Redis brings it back.
    await stand.publish({"one": ONE, "two": TWO})
    assert stand.key(ONE)["revoked"] is True
    stand.server.command("FLUSHALL")
    await stand.publish({"one": ONE, "two": TWO})
    assert (stand.key(ONE)["revoked"], stand.key(TWO)["revoked"]) == (True, False)
    await stand.publish({"another": ONE, "two": TWO})
    assert stand.key(ONE)["revoked"] is True, "nor does another name"
    await stand.publish({"one": ONE, "two": TWO})
    assert stand.key(ONE)["revoked"] is True
    assert await publisher.revoke(ONE) == key, "twice does no harm"


class Rival:
    """Another control process that publishes each key whenever this one has read what is there."""

    def __init__(self, client: Client, server: Server) -> None:
        self._client, self._server = client, server
        self._version = 2**52

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def pipeline(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        replies = await self._client.pipeline(commands)
        for command in commands:
            if command[0] == "HMGET":
                self._version += 1
                self._server.command("HSET", str(command[1]), "v", str(self._version))
        return replies


async def test_what_a_rival_does_not_let_through_stays_due(stand: Stand) -> None:
    await stand.publish({"one": ONE})
    changes, rival = Changes(stand.database, stand.clock), Rival(stand.client, stand.server)
    stand.clock.advance(10)
    publisher = await stand.publisher({"one": ONE}, user="user-2")
    publisher._client = rival  # type: ignore[assignment]
    for publish in (publisher.publish_all, publisher.publish_due):
        await publish()
        assert [one.subject for one in await changes.due()] == [ONE]
    publisher._client = stand.client
    await publisher.publish_due()
    assert (stand.key(ONE)["user_id"], await changes.due()) == ("user-2", [])


async def test_gateways_with_databases_of_their_own(stand: Stand, tmp_path: Path) -> None:
    """What one has revoked is revoked at the other, though only Redis is common to both."""
    other = await Database.open(f"sqlite+aiosqlite:///{tmp_path / 'other.sqlite'}")
    keys = {"one": ONE, "two": TWO, "three": THREE}
    here = await stand.publisher(keys)
    stand.database, mine = other, stand.database
    there = await stand.publisher(keys)
    await here.publish_all()
    await here.revoke("proj_a/one")
    await there.publish_all()
    assert [stand.key(h)["revoked"] for h in (ONE, TWO)] == [True, False]
    await there.revoke("proj_a/two")
    stand.server.command("FLUSHALL")
    await here.publish_all()
    assert [stand.key(h)["revoked"] for h in (ONE, TWO, THREE)] == [True, False, False], "it has not heard of the other"
    await there.publish_all()
    await here.publish_all()
    assert [stand.key(h)["revoked"] for h in (ONE, TWO, THREE)] == [True, True, False]
    stand.database = mine
    await other.close()


async def test_an_unknown_key(stand: Stand) -> None:
    publisher = await stand.publisher({"frontend": ONE, "backend": TWO})
    with pytest.raises(UnknownKeyError, match=r"no key is called proj_a/fronted; did you mean proj_a/frontend, "):
        await publisher.revoke("proj_a/fronted")
    with pytest.raises(UnknownKeyError, match="no key is called xyz; there are 2 keys"):
        await publisher.revoke("xyz")


async def test_many_keys(stand: Stand) -> None:
    keys = {f"k{n}": f"{n:064x}" for n in range(1500)}
    assert await stand.publish(keys) == Written(1500, 0)
    assert await stand.publish(keys) == Written(0, 0)
    assert await stand.publish({}) == Written(1500, 1500)


@contextlib.asynccontextmanager
async def kept(publisher: Publisher) -> AsyncIterator[list[dict[str, str]]]:
    """A publisher at work; the value is what it has reported, each report once."""
    reports: list[dict[str, str]] = []

    async def report(away: dict[str, str]) -> None:
        if not reports or reports[-1] != away:
            reports.append(away)

    tasks = Tasks()
    tasks.spawn(publisher.keep_published(report), "publish")
    try:
        yield reports
    finally:
        await tasks.cancel()


async def test_a_redis_that_is_emptied_gets_the_keys_again(stand: Stand) -> None:
    publisher = await stand.publisher({"one": ONE, "two": TWO})
    async with kept(publisher) as reports:
        await asyncio.wait_for(publisher.tried.wait(), 10)
        assert stand.key(ONE)
        await publisher.revoke(TWO)
        stand.server.command("FLUSHALL")
        await eventually(lambda: stand.key(ONE) and stand.key(TWO).get("revoked"))
        assert reports == [{}]
        before = stand.published()
        await eventually(lambda: stand.server.calls("info") > 3)
        assert stand.published() == before, "looking is not publishing"


async def test_a_database_that_is_away(stand: Stand) -> None:
    """It is named, and not Redis; what is published stays."""
    publisher = await stand.publisher({"one": ONE})
    await publisher.publish_all()
    nobody = create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:1/registry")
    settings = stand.settings({"one": ONE})
    publisher = Publisher(settings, stand.client, Database(nobody), clock=stand.clock, log=structlog.get_logger())
    async with kept(publisher) as reports:
        await asyncio.wait_for(publisher.tried.wait(), 10)
        assert reports[0].keys() == {"database"}
        with pytest.raises(OSError):
            await publisher.revoke(ONE)
    assert stand.key(ONE)["revoked"] is False
    await nobody.dispose()


async def test_a_redis_that_comes_late_and_one_that_has_forgotten(
    start_server: StartServer, tmp_path: Path, database: Database
) -> None:
    server = start_server(VALKEY, port=free_port(), start=False)
    stand = Stand(server, tmp_path, database)
    publisher = await stand.publisher({"one": ONE})
    async with kept(publisher) as reports:
        await asyncio.wait_for(publisher.tried.wait(), 10)
        assert "keys are not published" in reports[0]["redis"]
        with pytest.raises(RedisFailure):
            await publisher.revoke(ONE)
        server.start()
        await eventually(lambda: stand.key(ONE).get("revoked"))
        await eventually(lambda: reports[-1] == {})
        assert server.process is not None
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        server.start()
        await eventually(lambda: stand.key(ONE).get("revoked"))
    await stand.client.aclose()
