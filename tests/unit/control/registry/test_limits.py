"""Limits on their way into the read model, and spend limits that are opened once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from structlog.testing import capture_logs

from gateway.clock import ManualClock
from gateway.control.registry.changes import Changes
from gateway.control.registry.declared import declared_keys
from gateway.control.registry.limits import LimitsPublisher
from gateway.control.registry.publisher import Publisher, Written
from gateway.control.registry.reconcile import reconcile
from gateway.control.sql.database import Database
from gateway.limits import LimitDocument
from gateway.redisdb.client import connect
from gateway.redisdb.failures import RedisFailure
from gateway.settings.model import Settings
from gateway.settings.transfer import convert
from gateway.tasks import Tasks
from tests.fakes.limits_store import MemoryLimitsStore
from tests.fakes.redis_servers import Server, eventually

ONE, TWO = "1" * 64, "2" * 64


class Stand:
    """A registry, a clock and a store, and publishers of different settings for them."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self.database = database
        self.clock = ManualClock()
        self.store = MemoryLimitsStore()

    def settings(self, keys: dict[str, str] | None = None, **more: Any) -> Settings:
        declared = [{"name": name, "hash": f"sha256:{key_hash}"} for name, key_hash in (keys or {}).items()]
        return convert(
            {
                "upstreams": {"a": {"base_url": "http://a/v1"}},
                "data_dir": str(self.folder),
                "projects": [{"id": "proj_a", "keys": declared, "limits": more}],
            }
        )

    async def limits(self, **more: Any) -> LimitsPublisher:
        """A publisher of a registry that has followed these settings."""
        settings = self.settings(**more)
        await reconcile(Changes(self.database, self.clock), settings, self.clock)
        log = structlog.get_logger()
        return LimitsPublisher(settings, self.database, self.store, self.store, self.clock, log)

    async def publish(self, **more: Any) -> int:
        return await (await self.limits(**more)).publish()

    async def look(self, limits: LimitsPublisher) -> str | None:
        """Publishes, as it is done before spend is opened, and looks."""
        await limits.publish()
        return await limits.open_once(await limits.is_open())


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    database = await Database.open(f"sqlite+aiosqlite:///{tmp_path / 'registry.sqlite'}")
    yield Stand(tmp_path, database)
    await database.close()


async def test_only_what_has_changed_is_published(stand: Stand) -> None:
    assert await stand.publish(requests_per_minute=1) == 2
    assert stand.store.documents.keys() == {"o", "p:proj_a"}
    first = stand.store.version
    stand.clock.advance(1)
    assert await stand.publish(requests_per_minute=1) == 0
    assert stand.store.version == first
    assert await stand.publish(requests_per_minute=2) == 1
    project = msgspec.json.decode(stand.store.documents["p:proj_a"], type=LimitDocument)
    assert [rate.limit for rate in project.own.rates] == [2]
    assert await stand.publish() == 1
    assert stand.store.documents.keys() == {"o"}, "what is declared no more is withdrawn"
    stand.store.empty()
    assert await stand.publish() == 1


async def test_versions_rise_also_if_the_clock_does_not(stand: Stand) -> None:
    await stand.publish(requests_per_minute=1)
    before = stand.store.version
    stand.clock.advance(-3600)
    await stand.publish(requests_per_minute=2)
    assert stand.store.version > before


async def test_spend_limits_are_opened_once(stand: Stand) -> None:
    assert await stand.look(await stand.limits()) is None
    epoch = stand.store.epoch
    assert epoch is not None
    assert await stand.look(await stand.limits()) is None
    assert stand.store.epoch == epoch
    assert stand.store.calls == ["publish", "open"]


async def test_a_redis_that_was_emptied_is_not_opened_again(stand: Stand) -> None:
    limits = await stand.limits(spend={"day": 1})
    await stand.look(limits)
    stand.store.empty()
    with capture_logs() as logs:
        said = [await stand.look(limits) for _ in range(3)]
    assert len(set(said)) == 1
    assert "until it is made from the ledger" in (said[0] or "")
    assert [(log["event"], log["log_level"]) for log in logs] == [("spend_closed", "error")], "once, not once a second"
    assert await stand.look(await stand.limits(spend={"total": 1})) is not None, (
        "a start of this process does not open them either"
    )
    assert stand.store.epoch is None

    await stand.store.open_epoch("org-gateway", "8")  # as whoever makes them from the ledger does
    assert await stand.look(limits) is None
    stand.store.empty()
    with capture_logs() as logs:
        await stand.look(limits)
    assert len(logs) == 1, "it is said again when it happens again"


async def test_counters_that_another_one_opened(stand: Stand) -> None:
    stand.store.epoch = "7"
    assert await stand.look(await stand.limits()) is None
    stand.store.empty()
    assert await stand.look(await stand.limits(spend={"day": 1})) is not None, "it is remembered here too"


@pytest.mark.parametrize("spend", [{}, {"day": "unlimited", "week": {"usd": 1, "shadow": True}}])
async def test_closed_spend_limits_of_nobody(stand: Stand, spend: dict[str, Any]) -> None:
    """Nothing is wrong, but they are not opened either: the next settings may have some."""
    limits = await stand.limits(spend=spend)
    await stand.look(limits)
    stand.store.empty()
    with capture_logs() as logs:
        assert [await stand.look(limits) for _ in range(3)] == [None] * 3
    assert [(log["event"], log["log_level"]) for log in logs] == [("spend_closed", "warning")]
    assert stand.store.epoch is None
    assert await stand.look(await stand.limits(spend={"week": 0})) is not None


class WithKeys(Stand):
    """The same with a real server for the keys."""

    def __init__(self, folder: Path, server: Server, database: Database) -> None:
        super().__init__(folder, database)
        self.client = connect(server.settings())
        self.server = server

    async def publisher(self, keys: dict[str, str], **more: Any) -> Publisher:
        settings = self.settings(keys, **more)
        await reconcile(Changes(self.database, self.clock), settings, self.clock)
        log = structlog.get_logger()
        limits = LimitsPublisher(settings, self.database, self.store, self.store, self.clock, log)
        return Publisher(settings, self.client, self.database, clock=self.clock, log=log, limits=limits)

    async def publish_all(self, keys: dict[str, str], **more: Any) -> Written:
        return await (await self.publisher(keys, **more)).publish_all()

    def version(self, key_hash: str) -> int:
        return int(self.server.command("HGET", f"gateway:key:{key_hash}", "v"))

    def key_id(self, name: str) -> str:
        return declared_keys(self.settings({name: ONE}))[0].principal.key_id


@pytest.fixture
async def keyed(valkey: Server, tmp_path: Path) -> Any:
    database = await Database.open(f"sqlite+aiosqlite:///{tmp_path / 'registry.sqlite'}")
    stand = WithKeys(tmp_path, valkey, database)
    yield stand
    await stand.client.aclose()
    await database.close()


async def test_versions_of_keys(keyed: WithKeys) -> None:
    await keyed.publish_all({"one": ONE, "two": TWO})
    one, two = keyed.key_id("one"), keyed.key_id("two")
    assert keyed.store.keys == {one: keyed.version(ONE), two: keyed.version(TWO)}
    assert keyed.store.calls == ["publish", "key versions"], "a key is not published before its limits"
    keyed.store.empty()
    keyed.clock.advance(1)
    await keyed.publish_all({"one": ONE, "two": TWO})
    assert keyed.store.keys == {one: keyed.version(ONE), two: keyed.version(TWO)}, "also of those that did not change"
    await (await keyed.publisher({"one": ONE, "two": TWO})).revoke("proj_a/two")
    assert keyed.store.keys[two] == keyed.version(TWO)
    before = keyed.version(ONE)
    keyed.clock.advance(1)
    await keyed.publish_all({"two": TWO})
    assert keyed.store.keys[one] == keyed.version(ONE) > before, "of a key that is gone too"


async def test_a_key_in_the_place_of_another_one(keyed: WithKeys) -> None:
    """Whoever still has the old one is told so, whatever the clock says, and who has the new one is not."""
    await keyed.publish_all({"one": ONE})
    old = keyed.version(ONE)
    keyed.clock.advance(-3600)
    await keyed.publish_all({"one": TWO})
    assert keyed.store.keys[keyed.key_id("one")] == keyed.version(TWO) > old
    await keyed.publish_all({"one": TWO})
    assert keyed.store.keys[keyed.key_id("one")] == keyed.version(TWO)
    await keyed.publish_all({"one": ONE})
    assert keyed.store.keys[keyed.key_id("one")] == keyed.version(ONE)


async def test_a_key_of_another_name(keyed: WithKeys) -> None:
    await keyed.publish_all({"one": ONE})
    keyed.clock.advance(-3600)
    await keyed.publish_all({"two": ONE})
    assert keyed.store.keys == {keyed.key_id("one"): keyed.version(ONE), keyed.key_id("two"): keyed.version(ONE)}


async def test_looking(keyed: WithKeys) -> None:
    """All is there again after Redis was emptied, but spend limits stay closed, and health says so."""
    reports: list[dict[str, str]] = []

    async def report(away: dict[str, str]) -> None:
        if not reports or reports[-1] != away:
            reports.append(away)

    publisher = await keyed.publisher({"one": ONE}, spend={"day": 1})
    tasks = Tasks()
    tasks.spawn(publisher.keep_published(report), "publish")
    await asyncio.wait_for(publisher.tried.wait(), 10)
    assert keyed.store.epoch is not None
    keyed.store.empty()
    await eventually(
        lambda: keyed.store.documents.keys() == {"o", "p:proj_a"} and keyed.store.keys and len(reports) > 1
    )
    assert reports[0] == {}
    assert reports[1].keys() == {"spend"}
    keyed.store.away = True
    await eventually(lambda: "redis" in reports[-1])
    with pytest.raises(RedisFailure):
        await publisher.revoke("proj_a/one")
    keyed.store.away = False
    await eventually(lambda: "spend" in reports[-1])
    await eventually(lambda: keyed.store.keys[keyed.key_id("one")] == keyed.version(ONE))
    await tasks.cancel()
