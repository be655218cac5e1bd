"""The admin API on a real socket, over a database of either kind and a real Valkey, with the official client in front."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
import openai
import structlog
from aiohttp import web

from gateway.accounts.limits_store import LimitsStore
from gateway.accounts.spend import Spend
from gateway.clock import ManualClock
from gateway.control.app import make_door
from gateway.control.registry.changes import Changes
from gateway.control.registry.limits import LimitsPublisher
from gateway.control.registry.publisher import Publisher
from gateway.control.registry.reconcile import reconcile
from gateway.control.sql.database import Database
from gateway.keyspace import Keyspace
from gateway.limits import LimitDocument
from gateway.redisdb.client import connect
from gateway.settings.model import Settings
from gateway.settings.transfer import convert
from gateway.values import Principal
from tests.fakes.redis_servers import Server

ADMIN_KEY = "sk-admin-test-0123456789abcdef0123456789abcdef"
DECLARED_HASH = "1" * 64  # of a key, where a test declares one


class Answer(msgspec.Struct, frozen=True):
    status: int
    headers: dict[str, str]
    body: Any

    @property
    def error(self) -> tuple[int, str | None, str | None]:
        """Status, code and param of an error."""
        return self.status, self.body["error"]["code"], self.body["error"]["param"]


class AdminApi:
    """One admin API. client: the official one, with the declared admin key; strict: what it gets must be as described."""

    def __init__(self, url: str, server: Server, database: Database, publisher: Publisher, clock: ManualClock) -> None:
        self.url = url
        self.server = server
        self.database = database
        self.publisher = publisher
        self.clock = clock
        self.session = aiohttp.ClientSession()
        self.client = self.as_caller(ADMIN_KEY)

    def as_caller(self, key: str) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=self.url, admin_api_key=key, api_key="none", max_retries=0, _strict_response_validation=True
        )

    async def ask(
        self, method: str, path: str, body: Any = None, *, key: str | None = ADMIN_KEY, **headers: str
    ) -> Answer:
        """A request by plain HTTP. path: behind /v1. body: as JSON, or bytes as they are."""
        content = body if isinstance(body, bytes | None) else msgspec.json.encode(body)
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        async with self.session.request(method, self.url + path, data=content, headers=headers) as response:
            return Answer(response.status, dict(response.headers), await response.json())

    async def events(self, **filters: Any) -> list[tuple[str, Any]]:
        """The audit log, newest first: type and details. filters: as its list takes them; several values with commas."""
        found = await self.ask("GET", "/organization/audit_logs?" + urlencode({"limit": 100, **filters}))
        return [(one["type"], one.get(one["type"])) for one in found.body["data"]]

    def principal(self, key_hash: str) -> Principal | None:
        """What the read model says of a key."""
        found = self.server.command("HGET", f"gateway:key:{key_hash}", "d")
        return msgspec.json.decode(found, type=Principal) if found else None

    def document(self, subject: str) -> LimitDocument | None:
        """What the read model says of limits and permissions: `p:<project>`, …"""
        found = self.server.command("HGET", "gateway:{org-gateway}:limits", subject)
        return msgspec.json.decode(found, type=LimitDocument) if found else None


def settings_of(folder: Path, **more: Any) -> Settings:
    return convert(
        {"upstreams": {"a": {"base_url": "http://a/v1"}}, "data_dir": str(folder), "admin_keys": [ADMIN_KEY], **more}
    )


@asynccontextmanager
async def admin_api(server: Server, database_url: str, folder: Path, **more: Any) -> AsyncIterator[AdminApi]:
    """more: further settings."""
    settings, clock, log = settings_of(folder, **more), ManualClock(), structlog.get_logger()
    database = await Database.open(database_url)
    redis, keyspace = connect(server.settings()), Keyspace(settings.redis.prefix)
    await reconcile(Changes(database, clock), settings, clock)
    spend = Spend(redis, keyspace)
    limits = LimitsPublisher(settings, database, LimitsStore(redis, keyspace), spend, clock, log)
    publisher = Publisher(settings, redis, database, clock=clock, log=log, limits=limits)
    await publisher.publish_all()
    app = web.Application(client_max_size=1024 * 1024)
    door = make_door(settings, publisher, database, spend, clock, log)
    app.router.add_route("*", "/{path:.*}", door.serve)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    api = AdminApi(f"http://127.0.0.1:{port}/v1", server, database, publisher, clock)
    try:
        yield api
    finally:
        await api.client.close()
        await api.session.close()
        await runner.cleanup()
        await door.close()
        await redis.aclose()
        await database.close()
