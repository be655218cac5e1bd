"""Keys of a short life are forgotten a day after it, in the registry and in Redis; all others stay."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from gateway.control.jobs.expired_keys import KEPT_S, SHORT_S, ExpiredKeys
from gateway.control.registry.changes import Changes
from gateway.keyspace import Keyspace
from gateway.redisdb.client import connect
from tests.fakes.admin_api import AdminApi, admin_api
from tests.fakes.redis_servers import Server


@pytest.fixture
async def api(valkey: Server, registry_url: str, tmp_path: Path) -> AsyncIterator[AdminApi]:
    async with admin_api(valkey, registry_url, tmp_path) as made:
        yield made


async def test_what_is_forgotten(api: AdminApi, valkey: Server) -> None:
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    account = await organization.projects.service_accounts.create(project.id, name="bot")
    make = organization.projects.service_accounts.api_keys.create
    short = [await make(account.id, project_id=project.id, name="s", expires_in_seconds=SHORT_S) for _ in range(3)]
    long = await make(account.id, project_id=project.id, name="l", expires_in_seconds=SHORT_S + 1)
    await api.ask(
        "POST",
        f"/organization/projects/{project.id}/api_keys/{short[0].id}/rate_limits",
        {"max_requests_per_1_minute": 1},
    )
    assert api.document(f"k:{short[0].id}") is not None
    client = connect(valkey.settings())
    changes, log = Changes(api.database, api.clock), structlog.get_logger()
    job = ExpiredKeys("org-gateway", changes, client, Keyspace(), api.clock, log)
    api.clock.advance(SHORT_S + KEPT_S)
    assert await job.forget() == 0
    api.clock.advance(1)
    assert await job.forget() == 3
    assert await job.forget() == 0
    left = {key.id async for key in organization.projects.api_keys.list(project.id)}
    assert account.api_key is not None
    assert left == {account.api_key.id, long.id}
    await api.publisher.publish_all()
    for key in short:
        key_hash = hashlib.sha256(key.value.encode()).hexdigest()
        assert api.principal(key_hash) is None
        assert not valkey.command("HGET", "gateway:{org-gateway}:versions", f"key:{key.id}")
    assert api.document(f"k:{short[0].id}") is None
    assert api.principal(hashlib.sha256(long.value.encode()).hexdigest()) is not None
    await client.aclose()
