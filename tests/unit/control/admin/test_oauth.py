"""The exchange of workloads' tokens for keys."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from gateway.control.admin.identify import Failures
from gateway.control.sql.tables import api_keys, audit_logs
from tests.fakes.admin_api import AdminApi, Answer, admin_api
from tests.fakes.issuer import AUDIENCE, NOW, Issuer, issuer, part, rsa_key
from tests.fakes.redis_servers import Server

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT = "urn:ietf:params:oauth:token-type:jwt"
ALL = "/organization/workload_identity_providers"


class Bench:
    """A provider, a service account of a project, and rules between them."""

    def __init__(self, api: AdminApi, idp: Issuer) -> None:
        self.api = api
        self.idp = idp
        self.provider_id = self.project_id = self.account_id = ""

    async def prepare(self, **provider: Any) -> None:
        named = {"name": "CI", "type": "oidc", "issuer": self.idp.url, "audience": AUDIENCE, **provider}
        self.provider_id = (await self.api.ask("POST", ALL, named)).body["id"]
        organization = self.api.client.admin.organization
        self.project_id = (await organization.projects.create(name="P")).id
        made = await organization.projects.service_accounts.create(
            self.project_id, name="deploy", create_service_account_only=True
        )
        self.account_id = made.id

    async def rule(self, matchers: dict[str, Any], **more: Any) -> str:
        named = {"project_id": self.project_id, "service_account_id": self.account_id}
        path = f"{ALL}/{self.provider_id}/federation_rules"
        made = await self.api.ask("POST", path, {**named, "attribute_matchers": matchers, **more})
        assert made.status == 200, made.body
        return str(made.body["id"])

    async def exchange(self, token: str, *, path: str = "/oauth/token", **more: Any) -> Answer:
        body = {
            "grant_type": GRANT, "subject_token": token, "subject_token_type": JWT,
            "identity_provider_id": self.provider_id, "service_account_id": self.account_id, **more,
        }  # fmt: skip
        return await self.api.ask("POST", path, {k: v for k, v in body.items() if v is not None}, key=None)

    async def refused(self, token: str, **more: Any) -> tuple[int, str]:
        answer = await self.exchange(token, **more)
        assert set(answer.body) == {"error", "error_description"}, answer.body
        return answer.status, answer.body["error"]


@pytest.fixture(autouse=True)
def quick_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Failures, "_MOST_S", 0.001)


@pytest.fixture
async def bench(valkey: Server, database_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    tokens = {"allow_private_jwks": True}
    async with issuer() as idp, admin_api(valkey, database_url, tmp_path, tokens=tokens) as api:
        made = Bench(api, idp)
        await made.prepare()
        yield made


async def test_a_token_becomes_a_key_for_an_hour(bench: Bench) -> None:
    await bench.rule({"sub": "ada"})
    for path in ("/oauth/token", "/../oauth/token"):
        answer = await bench.exchange(bench.idp.token(), path=path)
        assert answer.status == 200, answer.body
        body = answer.body
        assert (body["token_type"], body["expires_in"]) == ("Bearer", 3600)
        assert body["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
        principal = bench.api.principal(hashlib.sha256(body["access_token"].encode()).hexdigest())
        assert principal is not None
        assert (principal.user_id, principal.project_id) == (bench.account_id, bench.project_id)
        assert (principal.expires_at, principal.scopes, principal.revoked) == (NOW + 3600, (), False)
    assert bench.idp.asked == ["/.well-known/openid-configuration", "/jwks"], "keys are kept"
    async with bench.api.database.transaction() as connection:
        row = (
            await connection.execute(select(audit_logs).where(audit_logs.c.type == "api_key.created").limit(1))
        ).one()
    assert row.actor["type"] == "session"
    assert row.actor_id == bench.provider_id


async def test_what_rules_allow(bench: Bench) -> None:
    idp = bench.idp
    restricted = {"type": "restricted", "scopes": ["api.responses.write"]}
    await bench.rule({"repo": "a/b", "protected": True, "run": 5}, permissions=restricted)
    good = {"repo": "a/b", "protected": True, "run": 5}

    async def scopes(**claims: Any) -> tuple[str, ...]:
        answer = await bench.exchange(idp.token(**claims))
        principal = bench.api.principal(hashlib.sha256(answer.body["access_token"].encode()).hexdigest())
        assert principal is not None
        return principal.scopes

    assert await scopes(**good) == ("api.responses.write",)
    assert await scopes(**{**good, "run": 5.0}) == ("api.responses.write",)
    different: list[dict[str, Any]] = [
        {"repo": "a/c"}, {"repo": ["a/b"]}, {"repo": None}, {"protected": 1}, {"protected": "true"}, {"run": "5"}, {"run": True}
    ]  # fmt: skip
    for wrong in different:
        assert await bench.refused(idp.token(**{**good, **wrong})) == (400, "invalid_grant"), wrong
    more = {"type": "restricted", "scopes": ["api.files.read"]}
    await bench.rule({"repo": "a/b"}, permissions=more)
    assert await scopes(**good) == ("api.files.read", "api.responses.write")
    await bench.rule({"sub": "ada"})
    assert await scopes(**good) == ()


async def test_attributes_made_from_claims(bench: Bench) -> None:
    transformations = [{"attribute": "space", "expression": "assertion.kubernetes.io.namespace"}]
    path = f"{ALL}/{bench.provider_id}"
    assert (await bench.api.ask("POST", path, {"attribute_transformations": transformations})).status == 200
    await bench.rule({"space": "prod"})
    claims: dict[str, Any] = {"kubernetes.io": {"namespace": "prod"}}
    assert (await bench.exchange(bench.idp.token(**claims))).status == 200
    assert await bench.refused(bench.idp.token(space="prod")) == (400, "invalid_grant"), "the claim is another one"


@pytest.mark.parametrize("sub", ["\ud800", "a\0b", "x" * 1000, 5, None, {"a": [1]}])
async def test_odd_subjects(bench: Bench, sub: Any) -> None:
    await bench.rule({"repo": "a/b"})
    answer = await bench.exchange(bench.idp.token(sub=sub, repo="a/b", other={"\udfff": "\0"}))
    assert answer.status == 200, answer.body


async def test_uploaded_keys(bench: Bench) -> None:
    verification = {"type": "uploaded_jwks", "jwks": bench.idp.jwks()}
    await bench.api.ask("POST", f"{ALL}/{bench.provider_id}", {"verification": verification})
    await bench.rule({"sub": "ada"})
    assert (await bench.exchange(bench.idp.token("ec-1"))).status == 200
    bench.idp.keys["new"] = rsa_key()
    assert await bench.refused(bench.idp.token("new")) == (401, "invalid_subject_token")
    assert not bench.idp.asked


async def test_who_gets_nothing(bench: Bench) -> None:
    idp, organization = bench.idp, bench.api.client.admin.organization
    rule = await bench.rule({"sub": "ada"})
    good = idp.token()
    head, claims, _ = good.split(".")
    for token in ("", "x", "sk-abc", idp.token(exp=NOW - 60), idp.token(aud="x"), idp.token(iss="https://x"),
                  idp.token(key=rsa_key()), f"{part({'alg': 'none'})}.{claims}.", f"{head}.{claims}.", "a\0b", "x" * 10_000):  # fmt: skip
        assert await bench.refused(token) == (401, "invalid_subject_token")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"subject_token_type": "urn:openai:params:oauth:token-type:x509"}, "invalid_request"),
        ({"subject_token": None}, "invalid_request"), ({"subject_token": 5}, "invalid_request"),
        ({"identity_provider_id": "wip_x"}, "invalid_grant"), ({"identity_provider_id": "\0"}, "invalid_grant"),
        ({"service_account_id": "svc_acct_x"}, "invalid_grant"), ({"service_account_id": "\0"}, "invalid_request"),
        ({"service_account_id": None}, "invalid_request"),
    ]  # fmt: skip
    for more, error in wrong:
        assert await bench.refused(good, **more) == (400, error), more
    for body in (b"", b"[]", b"{", b"\xff", b"grant_type=x"):
        answer = await bench.api.ask("POST", "/oauth/token", body, key=None)
        assert (answer.status, answer.body["error"]) == (400, "invalid_request")
    assert (await bench.api.ask("GET", "/oauth/token", key=None)).status == 405
    one, provider = f"{ALL}/{bench.provider_id}/federation_rules/{rule}", f"{ALL}/{bench.provider_id}"
    for path in (one, provider):
        await bench.api.ask("POST", path, {"enabled": False})
        assert await bench.refused(good) == (400, "invalid_grant")
        await bench.api.ask("POST", path, {"enabled": True})
    assert (await bench.exchange(good)).status == 200
    await organization.projects.service_accounts.delete(bench.account_id, project_id=bench.project_id)
    assert await bench.refused(good) == (400, "invalid_grant")
    async with bench.api.database.transaction() as connection:
        assert await connection.scalar(select(func.count()).select_from(api_keys)) == 1


async def test_whoever_asks_in_vain_is_held_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.rule({"sub": "ada"})
    monkeypatch.setattr(Failures, "_WAITING", 0)
    answer = await bench.exchange(bench.idp.token(aud="x"))
    assert answer.error == (429, "rate_limit_exceeded", None)
    assert (await bench.exchange(bench.idp.token())).status == 200


async def test_an_archived_project(bench: Bench) -> None:
    await bench.rule({"sub": "ada"})
    await bench.api.client.admin.organization.projects.archive(bench.project_id)
    assert await bench.refused(bench.idp.token()) == (400, "invalid_grant")


async def test_the_issuer_fails(bench: Bench) -> None:
    await bench.rule({"sub": "ada"})
    bench.idp.does = "fail"
    assert await bench.refused(bench.idp.token()) == (503, "temporarily_unavailable")
    bench.idp.does = "ok"
    bench.api.clock.advance(11)
    assert (await bench.exchange(bench.idp.token())).status == 200
    bench.idp.described = {"issuer": "https://other.example"}
    bench.idp.keys = {"new": rsa_key()}
    bench.api.clock.advance(1000)
    assert await bench.refused(bench.idp.token("new")) == (401, "invalid_subject_token")


async def test_private_networks_are_not_asked(valkey: Server, database_url: str, tmp_path: Path) -> None:
    """Also where a provider came to be while that was allowed."""
    async with issuer() as idp:
        async with admin_api(valkey, database_url, tmp_path, tokens={"allow_private_jwks": True}) as api:
            before = Bench(api, idp)
            await before.prepare()
            await before.rule({"sub": "ada"})
        async with admin_api(valkey, database_url, tmp_path) as api:
            after = Bench(api, idp)
            after.provider_id, after.account_id = before.provider_id, before.account_id
            assert await after.refused(idp.token()) == (503, "temporarily_unavailable")
        assert not idp.asked
