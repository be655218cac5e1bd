"""Limits and permissions as rows, on their way to the read model."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from sqlalchemy import Table, delete, insert

from gateway.accounts.limits_store import LimitsStore
from gateway.accounts.spend import Spend
from gateway.clock import ManualClock
from gateway.control.registry.changes import Changes
from gateway.control.registry.limit_records import limit_records
from gateway.control.registry.limits import LimitsPublisher
from gateway.control.registry.publisher import Publisher
from gateway.control.registry.reconcile import reconcile
from gateway.control.sql.database import Database
from gateway.control.sql.tables import project_permissions, projects, rate_limits, spend_limits
from gateway.keyspace import Keyspace
from gateway.limits import (
    LimitDocument,
    LimitSet,
    ModelPermissions,
    Permissions,
    RateLimit,
    SpendLimit,
)
from gateway.redisdb.client import connect
from gateway.settings.transfer import convert
from tests.fakes.redis_servers import Server

ORG = "org-gateway"
CHAT = "p:proj_chat"


class Stand:
    """A registry that declares a project with limits, and its publisher."""

    def __init__(self, server: Server, database: Database, folder: Path) -> None:
        self.clock = ManualClock()
        self.database = database
        self.changes = Changes(database, self.clock)
        self.client = connect(server.settings())
        self.settings = convert(
            {
                "upstreams": {"a": {"base_url": "http://a/v1"}},
                "data_dir": str(folder),
                "projects": [
                    {
                        "id": "proj_chat",
                        "limits": {
                            "spend": {"day": 5},
                            "requests_per_minute": 9,
                            "models": {"o3": {"requests_per_minute": 1}},
                        },
                    }
                ],
            }
        )
        self.store = LimitsStore(self.client, Keyspace())
        log = structlog.get_logger()
        limits = LimitsPublisher(self.settings, database, self.store, Spend(self.client, Keyspace()), self.clock, log)
        self.publisher = Publisher(self.settings, self.client, database, clock=self.clock, log=log, limits=limits)
        self.limits = limits

    async def change(self, subject: str, table: Table, *rows: dict[str, Any]) -> None:
        async with self.changes.begin(ORG) as change:
            await change.connection.execute(insert(table), list(rows))
            await change.publish("limits", [subject])

    async def documents(self) -> dict[str, LimitDocument]:
        """What Redis has."""
        found = await self.store.read_documents(ORG)
        return {s: msgspec.json.decode(one, type=LimitDocument) for s, one in found.documents.items()}

    async def wanted(self) -> dict[str, LimitDocument]:
        async with self.database.transaction() as connection:
            return dict((await limit_records(connection, ORG)).documents)


@pytest.fixture
async def stand(valkey: Server, registry_url: str, tmp_path: Path) -> AsyncIterator[Stand]:
    database = await Database.open(registry_url)
    made = Stand(valkey, database, tmp_path)
    await reconcile(made.changes, made.settings, made.clock)
    await made.publisher.publish_all()
    yield made
    await made.client.aclose()
    await database.close()


def rate(subject: str, kind: str, limit: int, model: str = "") -> dict[str, Any]:
    return {"organization_id": ORG, "subject": subject, "model": model, "kind": kind, "limit": limit}


def spend(subject: str, window: str, nano_usd: int) -> dict[str, Any]:
    return {"organization_id": ORG, "subject": subject, "window": window, "nano_usd": nano_usd}


async def test_rows_add_to_what_is_declared_and_never_replace_it(stand: Stand) -> None:
    declared = (await stand.documents())[CHAT]
    await stand.change(
        CHAT,
        rate_limits,
        rate(CHAT, "requests_per_minute", 100),
        rate(CHAT, "tokens_per_minute", 200),
        rate(CHAT, "requests_per_minute", 300, "o3"),
        rate(CHAT, "images_per_minute", 400, "o3"),
        rate(CHAT, "requests_per_minute", 500, "gpt-4o"),
    )
    await stand.change(CHAT, spend_limits, spend(CHAT, "day", 1), spend(CHAT, "month", 7))
    assert await stand.publisher.publish_due() == 1, "two changes of one subject are published once"
    found = (await stand.documents())[CHAT]
    assert found.own == LimitSet(
        (*declared.own.rates, RateLimit("tokens_per_minute", 200)), (*declared.own.spend, SpendLimit("month", 7))
    )
    assert found.models == {
        "o3": LimitSet((RateLimit("requests_per_minute", 1), RateLimit("images_per_minute", 400))),
        "gpt-4o": LimitSet((RateLimit("requests_per_minute", 500),)),
    }


async def test_permissions_of_a_project(stand: Stand) -> None:
    row = {
        "project_id": "proj_chat",
        "models": {"mode": "deny_list", "model_ids": ["GPT-4o"]},
        "hosted_tools": {"mcp": False, "web_search": True},
        "service_tiers": {"default": "fast", "enabled_tiers": ["fast", "flex"]},
    }
    await stand.change(CHAT, project_permissions, row)
    await stand.publisher.publish_due()
    assert (await stand.documents())[CHAT].permissions == Permissions(
        ModelPermissions("deny_list", ("gpt-4o",)), ("mcp",), "fast", ("fast", "flex")
    )
    async with stand.changes.begin(ORG) as change:
        await change.connection.execute(delete(project_permissions))
        everything = {"project_id": "proj_chat", "hosted_tools": {"mcp": True}}
        await change.connection.execute(insert(project_permissions), [everything])
        await change.publish("limits", [CHAT])
    await stand.publisher.publish_due()
    assert (await stand.documents())[CHAT].permissions is None, "everything is allowed"


async def test_all_that_a_subject_had_is_gone(stand: Stand) -> None:
    await stand.change("k:key_1", spend_limits, spend("k:key_1", "month", 7))
    await stand.publisher.publish_due()
    assert (await stand.documents())["k:key_1"].own.spend == (SpendLimit("month", 7),)
    async with stand.changes.begin(ORG) as change:
        await change.connection.execute(delete(spend_limits))
        await change.publish("limits", ["k:key_1"])
    await stand.publisher.publish_due()
    assert (await stand.documents()).keys() == {"o", CHAT}


async def test_projects_of_others_are_not_ours(stand: Stand) -> None:
    await stand.changes.ensure("org-other")
    async with stand.changes.begin("org-other") as change:
        other = {"id": "proj_x", "organization_id": "org-other", "name": "x", "created_at": 1, "version": 1}
        await change.connection.execute(insert(projects), [other])
        await change.connection.execute(
            insert(project_permissions), [{"project_id": "proj_x", "hosted_tools": {"mcp": False}}]
        )
        await change.connection.execute(
            insert(rate_limits), [{**rate("o", "requests_per_day", 1), "organization_id": "org-other"}]
        )
    assert (await stand.wanted()).keys() == {"o", CHAT}


async def test_a_late_publication_is_seen_and_takes_nothing_back(stand: Stand) -> None:
    """Two gateways publish at once: what comes late is new to workers all the same, and what is old changes nothing."""
    late = (await stand.store.read_documents(ORG)).version
    await stand.change(CHAT, rate_limits, rate(CHAT, "tokens_per_minute", 1))
    async with stand.database.transaction() as connection:
        old = await limit_records(connection, ORG, [CHAT])
    await stand.change("k:key_1", rate_limits, rate("k:key_1", "tokens_per_minute", 2))
    async with stand.database.transaction() as connection:
        new = await limit_records(connection, ORG, ["k:key_1"])
    assert new.version > old.version
    first = {"k:key_1": msgspec.json.encode(new.documents["k:key_1"])}
    assert await stand.store.publish(ORG, new.version, first) == 1
    between = (await stand.store.read_documents(ORG)).version
    assert between > late
    second = {CHAT: msgspec.json.encode(old.documents[CHAT])}
    assert await stand.store.publish(ORG, old.version, second) == 1
    after = await stand.store.read_documents(ORG)
    assert after.version > between, "a worker that has the newer one asks for this one too"
    assert await stand.store.publish(ORG, old.version, {"k:key_1": None, CHAT: None}) == 0
    assert await stand.store.read_documents(ORG) == after


async def test_what_redis_has_wrong_is_put_right(stand: Stand, valkey: Server) -> None:
    wanted = await stand.documents()
    valkey.command("HSET", "gateway:{org-gateway}:limits", CHAT, b'{"own":{}}', "u:ghost", b"{}")
    assert await stand.limits.publish() == 2
    assert await stand.documents() == wanted
    assert await stand.limits.publish() == 0
