"""Tokens at a whole gateway: real workers, a real control process, a real issuer."""

import asyncio
import time
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import ADMIN_KEY, HELLO, Answer, Gateway
from tests.fakes.issuer import AUDIENCE, Issuer, issuer
from tests.fakes.redis_servers import eventually

CHAT = {"model": "gpt-4o-mini", "messages": HELLO}


class Bench:
    """A gateway that takes an issuer's tokens. It is asked from threads: the issuer answers in this one."""

    def __init__(self, gw: Gateway, idp: Issuer) -> None:
        self.gw = gw
        self.idp = idp

    def token(self, kid: str = "rsa-1", **claims: Any) -> str:
        made = self.idp.token(kid, now=int(time.time()), **claims)
        self.gw.secrets.add(made)
        return made

    async def ask(self, path: str, body: Any = None, key: str | None = ADMIN_KEY) -> Answer:
        return await asyncio.to_thread(self.gw.ask, path, body, key=key)

    async def chat(self, key: str) -> int:
        return (await self.ask("/v1/chat/completions", CHAT, key)).status

    async def list(self, path: str) -> list[Any]:
        found: list[Any] = (await self.ask(path)).json()["data"]
        return found


@pytest.fixture
async def bench(start_gateway: StartGateway) -> AsyncIterator[Bench]:
    async with issuer() as idp:
        one = idp.settings(default_project="proj_a", claims={"project": "project", "roles": "roles"})
        limits = {"users": {"requests_per_minute": 30}}
        started = await asyncio.to_thread(lambda: start_gateway(tokens={"issuers": [one]}, limits=limits))
        yield Bench(started, idp)
        await asyncio.to_thread(started.stop)


async def test_a_token_in_place_of_keys(bench: Bench) -> None:
    ada = bench.token(email="ada@example.com", email_verified=True)
    many = [bench.token("ec-1", email="ada@example.com", email_verified=True, jti=str(n)) for n in range(8)]
    assert await asyncio.gather(*(bench.chat(token) for token in [ada, *many])) == [200] * 9
    keys = [k for k in await bench.list("/v1/organization/projects/proj_a/api_keys") if k["redacted_value"] == "jwt"]
    assert [key["name"] for key in keys] == ["token of ada@example.com"], "one record for all workers and tokens"
    assert await bench.chat(bench.token(exp=int(time.time()) - 60)) == 401
    assert await bench.chat(bench.token(project="proj_nowhere")) == 401

    statuses = [await bench.chat(ada) for _ in range(25)]
    assert 429 in statuses, "the user's limit holds for the token's user"
    assert await bench.chat(bench.token(sub="bob")) == 200

    removed = f"/v1/organization/projects/proj_a/api_keys/{keys[0]['id']}"
    answer = await asyncio.to_thread(_delete, bench.gw, removed)
    assert answer == 200

    async def refused() -> bool:
        return await asyncio.gather(*(bench.chat(token) for token in [ada, *many])) == [401] * 9

    for _ in range(20):
        if await refused():
            break
        await asyncio.sleep(0.1)
    assert await refused()
    admin = await bench.ask("/v1/organization/projects", {"name": "X"}, bench.token(sub="boss", roles=["owner"]))
    assert admin.status == 200


def _delete(gw: Gateway, path: str) -> int:
    request = urllib.request.Request(gw.url + path, headers={"Authorization": f"Bearer {ADMIN_KEY}"}, method="DELETE")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return int(answer.status)


async def test_a_workload_exchanges_its_token(bench: Bench) -> None:
    projects = "/v1/organization/projects/proj_a"
    account = (
        await bench.ask(f"{projects}/service_accounts", {"name": "ci", "create_service_account_only": True})
    ).json()
    providers = "/v1/organization/workload_identity_providers"
    verification = {"type": "uploaded_jwks", "jwks": bench.idp.jwks()}
    named = {"name": "CI", "type": "oidc", "issuer": bench.idp.url, "audience": AUDIENCE, "verification": verification}
    provider = (await bench.ask(providers, named)).json()
    rule = {"project_id": "proj_a", "service_account_id": account["id"], "attribute_matchers": {"repo": "a/b"}}
    assert (await bench.ask(f"{providers}/{provider['id']}/federation_rules", rule)).status == 200

    async def exchange(token: str, path: str = "/oauth/token") -> Answer:
        body = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": token,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "identity_provider_id": provider["id"],
            "service_account_id": account["id"],
        }
        return await bench.ask(path, body, None)

    for path in ("/oauth/token", "/v1/oauth/token"):
        answer = await exchange(bench.token(repo="a/b"), path)
        assert answer.status == 200, answer.body
        key = answer.json()["access_token"]
        bench.gw.secrets.add(key)
        assert await bench.chat(key) == 200
    refused = await exchange(bench.token(repo="a/c"))
    assert (refused.status, refused.json()["error"]) == (400, "invalid_grant")


async def test_control_is_away(bench: Bench) -> None:
    """Who was let in before goes on; who comes for the first time waits for it to come back."""
    ada = bench.token()
    for _ in range(8):
        assert await bench.chat(ada) == 200
    before = await asyncio.to_thread(bench.gw.kill, "control")
    assert await bench.chat(ada) == 200
    assert await bench.chat(bench.token(sub="bob")) in {200, 503}
    await eventually(lambda: bench.gw.pids("control") not in ([], [before]))
    for _ in range(100):
        if await bench.chat(bench.token(sub="carl")) == 200:
            break
        await asyncio.sleep(0.1)
    assert await bench.chat(bench.token(sub="carl")) == 200
