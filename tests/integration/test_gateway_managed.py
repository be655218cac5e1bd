"""A whole gateway that is managed by OpenAI's client alone; and two of them that share a Redis and a PostgreSQL."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

import openai
import pytest

from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import ADMIN_KEY, Gateway
from tests.fakes.measuring import Measured
from tests.fakes.ports import free_port
from tests.fakes.redis_servers import VALKEY, StartServer

DEAR = "o1-pro"  # a call of it costs cents
CHEAP = "gpt-4o-mini"
CHANGES = 200


def client_of(gateway: Gateway, key: str = "none") -> openai.AsyncOpenAI:
    """The official client, with an API key and the admin key; it does not try again, and takes nothing amiss."""
    return openai.AsyncOpenAI(
        base_url=gateway.base_url, api_key=key, admin_api_key=ADMIN_KEY, max_retries=0, _strict_response_validation=True
    )


async def chat(client: openai.AsyncOpenAI, model: str = CHEAP) -> None:
    await client.responses.create(model=model, input="Say hello.", max_output_tokens=200)


async def refused(work: Awaitable[object]) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        await work
    return caught.value


async def test_a_project_from_its_making_to_its_end(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    async with client_of(gateway) as admin:
        projects = admin.admin.organization.projects
        project = await projects.create(name="Chat")
        account = await projects.service_accounts.create(project.id, name="bot")
        assert account.api_key is not None
        async with client_of(gateway, account.api_key.value) as caller:
            await chat(caller)

            limit = f"rl-{CHEAP}"
            changed = await projects.rate_limits.update_rate_limit(
                limit, project_id=project.id, max_requests_per_1_minute=2
            )
            assert changed.max_requests_per_1_minute == 2
            await chat(caller)
            await chat(caller)
            error = await refused(chat(caller))
            assert (error.status_code, error.code) == (429, "rate_limit_exceeded")

            await spend(caller, cents=2)
            await projects.spend_limit.update(project.id, threshold_amount=1, currency="USD", interval="month")
            error = await refused(chat(caller, DEAR))
            assert (error.status_code, error.code) == (429, "project_spend_limit_exceeded")
            assert (await projects.spend_limit.retrieve(project.id)).enforcement.status == "enforcing"
            await projects.spend_limit.delete(project.id)
            await chat(caller, DEAR)

            await projects.model_permissions.update(project.id, mode="deny_list", model_ids=[DEAR])
            error = await refused(chat(caller, DEAR))
            assert (error.status_code, error.code) == (403, "model_not_found")
            await projects.model_permissions.delete(project.id)
            await chat(caller, DEAR)

            await projects.archive(project.id)
            began = time.monotonic()
            error = await refused(chat(caller, DEAR))
            assert (error.status_code, error.code) == (401, "invalid_api_key")
            assert time.monotonic() - began < 1
        logs = admin.admin.organization.audit_logs.list(project_ids=[project.id])
        types = [log.type async for log in logs]
        assert types[::-1] == [
            "project.created", "service_account.created", "api_key.created", "rate_limit.updated", "project.updated",
            "project.updated", "project.updated", "project.updated", "project.archived",
        ]  # fmt: skip


async def spend(caller: openai.AsyncOpenAI, *, cents: int) -> None:
    """Calls until so much is spent, as the key may ask itself."""
    for _ in range(50):
        await chat(caller, DEAR)
        found = await caller.get("/organization/api_key", cast_to=dict[str, object])
        if found["spent_amounts"]["month"] >= cents:  # type: ignore[index]
            return
    pytest.fail("it is not dear enough")


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_a_change_at_one_gateway_is_enforced_at_the_other(
    start_gateway: StartGateway, start_server: StartServer, database_url: str, measured: Measured
) -> None:
    """From the change's request at one to the first answer of the other that follows it: 200 changes of keys, limits and
    permissions in turn, p99 under a second."""
    if database_url.startswith("sqlite"):
        pytest.skip("two gateways share a PostgreSQL; a SQLite is one's own")
    redis = start_server(VALKEY, "--appendonly", "yes", port=free_port())
    shared: dict[str, Any] = {"redis": {"url": redis.url}, "database": {"url": database_url}}
    here, there = start_gateway(**shared), start_gateway(**shared)
    took: list[float] = []
    async with client_of(here) as admin:
        projects = admin.admin.organization.projects
        project = await projects.create(name="Chat")
        rate = f"rl-{CHEAP}"

        async def enforced(change: Awaitable[object], caller: openai.AsyncOpenAI, status: int) -> None:
            began = time.monotonic()
            await change
            while await status_of(caller) != status:
                assert time.monotonic() - began < 10
            took.append(time.monotonic() - began)

        while len(took) < CHANGES:
            account = await projects.service_accounts.create(project.id, name="bot", create_service_account_only=True)
            keys = projects.service_accounts.api_keys
            key = await keys.create(account.id, project_id=project.id, name="k")
            async with client_of(there, key.value) as caller:
                assert await status_of(caller) == 200
                limit = projects.rate_limits.update_rate_limit
                await enforced(limit(rate, project_id=project.id, max_requests_per_1_minute=0), caller, 429)
                unlimited = limit(rate, project_id=project.id, max_requests_per_1_minute=10**12)
                await enforced(unlimited, caller, 200)
                deny = projects.model_permissions.update(project.id, mode="deny_list", model_ids=[CHEAP])
                await enforced(deny, caller, 403)
                await enforced(projects.model_permissions.delete(project.id), caller, 200)
                await enforced(projects.api_keys.delete(key.id, project_id=project.id), caller, 401)
    ordered = sorted(took)
    p99 = ordered[int(len(ordered) * 0.99) - 1]
    measured(f"a change at one gateway until the other enforces it, p99 of {len(took)}", p99 * 1000, "ms", "1000 ms")
    measured(f"the same, median of {len(took)}", ordered[len(ordered) // 2] * 1000, "ms")
    assert p99 < 1


async def status_of(caller: openai.AsyncOpenAI) -> int:
    try:
        await chat(caller)
    except openai.APIStatusError as error:
        return error.status_code
    return 200


async def test_a_key_that_is_deleted_while_changes_are_not_heard_of(
    start_gateway: StartGateway, start_server: StartServer
) -> None:
    """Workers cannot subscribe: what they have cached is refused by the reservation all the same, at the next call."""
    redis = start_server(VALKEY, "--appendonly", "yes", port=free_port())
    gateway = start_gateway(redis={"url": redis.url}, workers={"count": 2})
    redis.command("ACL", "SETUSER", "default", "-subscribe", "-psubscribe", "-ssubscribe")
    redis.command("CLIENT", "KILL", "TYPE", "pubsub")
    async with client_of(gateway) as admin:
        projects = admin.admin.organization.projects
        project = await projects.create(name="Chat")
        for _ in range(10):
            account = await projects.service_accounts.create(project.id, name="bot")
            assert account.api_key is not None
            async with client_of(gateway, account.api_key.value) as caller:
                await asyncio.gather(*(chat(caller) for _ in range(8)))  # every worker has it now
                await projects.service_accounts.delete(account.id, project_id=project.id)
                answers = await asyncio.gather(*(status_of(caller) for _ in range(8)))
                assert set(answers) == {401}


async def test_a_limit_of_a_user_in_one_project(start_gateway: StartGateway) -> None:
    gateway = start_gateway(workers={"count": 1})
    async with client_of(gateway, ADMIN_KEY) as admin:  # which `post` sends as it would an API key
        organization = admin.admin.organization
        here, there = [(await organization.projects.create(name=name)).id for name in ("here", "there")]
        places: Any = [{"id": project, "role": "member"} for project in (here, there)]
        await organization.invites.create(email="ada@example.com", role="reader", projects=places)
        (ada,) = [user.id async for user in organization.users.list() if user.email == "ada@example.com"]
        keys = []
        for project in (here, there):
            path, body = f"/organization/projects/{project}/api_keys", {"name": "k", "user_id": ada}
            keys.append((await admin.post(path, body=body, cast_to=dict[str, Any]))["value"])
        limit = {"threshold_amount": 0, "currency": "USD", "interval": "month"}
        await admin.post(f"/organization/projects/{here}/users/{ada}/spend_limit", body=limit, cast_to=object)
        async with client_of(gateway, keys[0]) as refused_one, client_of(gateway, keys[1]) as other:
            error = await refused(chat(refused_one))
            assert (error.status_code, error.code) == (429, "user_spend_limit_exceeded")
            await chat(other)
            await organization.projects.users.delete(ada, project_id=there)
            error = await refused(chat(other))
            assert (error.status_code, error.code) == (401, "invalid_api_key")
