"""Workload identity providers and their federation rules."""

from typing import Any

import openai
import pytest
from sqlalchemy import select

from gateway.control.sql.tables import audit_logs
from tests.fakes.admin_api import AdminApi
from tests.fakes.issuer import ec_key, public_jwk, rsa_key

PUBLIC = public_jwk(ec_key(), kid="a")
UPLOADED: Any = {"type": "uploaded_jwks", "jwks": {"keys": [PUBLIC]}}
GOOD: dict[str, Any] = {"name": "CI", "type": "oidc", "issuer": "https://ci.example", "audience": "gateway"}
ALL = "/organization/workload_identity_providers"


async def audited(api: AdminApi) -> list[tuple[str, Any]]:
    async with api.database.transaction() as connection:
        rows = await connection.execute(select(audit_logs).order_by(audit_logs.c.effective_at, audit_logs.c.type))
        return [(row.type, row.details) for row in rows if "workload" in row.type]


async def test_providers(api: AdminApi) -> None:
    providers = api.client.admin.organization.workload_identity_providers
    made = await providers.create(**GOOD)
    assert made.verification.type == "discovery"
    assert (made.enabled, made.description, made.attribute_transformations) == (True, None, [])
    transformed: Any = [{"attribute": "repo", "expression": "assertion.repository"}]
    other = await providers.create(
        **{**GOOD, "name": "Other", "description": "x", "enabled": False, "verification": UPLOADED},
        attribute_transformations=transformed,
    )
    assert (await providers.retrieve(other.id)).attribute_transformations[0].expression == "assertion.repository"
    assert {one.id async for one in providers.list(limit=1)} == {made.id, other.id}
    api.clock.advance(5)
    changed = await providers.update(other.id, enabled=True, description=None, name="New")
    assert (changed.enabled, changed.description, changed.name, changed.audience) == (True, None, "New", "gateway")
    assert changed.updated_at == changed.created_at + 5
    assert (await providers.update(other.id)).updated_at == changed.updated_at, "nothing was to be changed"
    assert (await providers.delete(other.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await providers.retrieve(other.id)
    log = await audited(api)
    assert [kind for kind, _ in log] == [
        *["workload_identity_provider.created"] * 2,
        "workload_identity_provider.deleted",
        "workload_identity_provider.updated",
    ]
    assert log[2][1] == {"id": other.id, "name": "New"}
    assert log[3][1]["changes_requested"] == {"enabled": True, "description": None, "name": "New"}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"name": ""}, "name"), ({"type": "saml"}, "type"), ({"issuer": "http://ci.example"}, "issuer"),
        ({"issuer": "https://127.0.0.1"}, "issuer"), ({"issuer": "https://10.1.2.3/x"}, "issuer"),
        ({"issuer": "https://a\0b"}, "issuer"), ({"enabled": "yes"}, "enabled"), ({"audience": "a" * 1025}, "audience"),
        ({"verification": {"type": "discovery", "discovery_url": "http://ci.example"}}, "verification.discovery_url"),
        ({"verification": {"type": "discovery", "discovery_url": "https://localhost/"}}, "verification.discovery_url"),
        ({"verification": {"type": "x"}}, "verification.type"), ({"verification": None}, "verification"),
        ({"verification": {"type": "uploaded_jwks"}}, "verification.jwks"),
        ({"verification": {"type": "uploaded_jwks", "jwks": {}}}, "verification.jwks.keys"),
        ({"verification": {"type": "uploaded_jwks", "jwks": {"keys": []}}}, "verification.jwks"),
        ({"verification": {"type": "uploaded_jwks", "jwks": {"keys": [{**PUBLIC, "d": "x"}]}}}, "verification.jwks"),
        ({"verification": {"type": "uploaded_jwks", "jwks": {"keys": [{"kty": "oct", "k": "eA"}]}}}, "verification.jwks"),
        ({"verification": {"type": "uploaded_jwks", "jwks": {"keys": [public_jwk(rsa_key(1024))]}}}, "verification.jwks"),
        ({"verification": {"type": "uploaded_jwks", "jwks": {"keys": [{**PUBLIC, "x": 2**70}]}}}, "verification.jwks.keys[0][...]"),
        ({"attribute_transformations": [{"attribute": "a", "expression": "assertion.sub.split('/')[0]"}]},
         "attribute_transformations[0].expression"),
    ],
)  # fmt: skip
async def test_what_is_no_provider(api: AdminApi, change: Any, param: str) -> None:
    refused = await api.ask("POST", ALL, {**GOOD, **change})
    assert refused.status == 400, refused.body
    assert refused.body["error"]["param"] == param


async def test_private_networks_by_setting(api: AdminApi) -> None:
    providers = api.client.admin.organization.workload_identity_providers
    made = await providers.create(**GOOD)
    refused = await api.ask("POST", f"{ALL}/{made.id}", {"issuer": "https://192.168.1.1"})
    assert refused.error == (400, "invalid_value", "issuer")
    assert (await providers.update(made.id, verification=UPLOADED, issuer="https://192.168.1.1")).issuer


async def test_rules(api: AdminApi) -> None:
    organization = api.client.admin.organization
    provider = await organization.workload_identity_providers.create(**GOOD)
    project = await organization.projects.create(name="P")
    accounts = organization.projects.service_accounts
    account = await accounts.create(project.id, name="deploy", create_service_account_only=True)
    rules = organization.workload_identity_providers.federation_rules
    named: Any = {"project_id": project.id, "service_account_id": account.id}
    made = await rules.create(provider.id, **named, attribute_matchers={"sub": "x", "ok": True, "n": 5, "f": 1.5})
    assert made.attribute_matchers == {"sub": "x", "ok": True, "n": 5, "f": 1.5}
    assert (made.permissions.type, made.enabled, made.name) == ("service_account_default", True, None)
    restricted = await rules.create(
        provider.id,
        **named,
        attribute_matchers={"sub": "y"},
        name="n",
        permissions={"type": "restricted", "scopes": ["api.responses.write"]},
    )
    assert {one.id async for one in rules.list(provider.id, limit=1)} == {made.id, restricted.id}
    assert [one.id async for one in rules.list(provider.id, service_account_id="svc_acct_x")] == []
    listed = [one.id async for one in rules.list(provider.id, service_account_id=account.id, order="desc")]
    assert set(listed) == {made.id, restricted.id}
    asked: Any = {"workload_identity_provider_id": provider.id}
    api.clock.advance(5)
    changed = await rules.update(restricted.id, **asked, enabled=False, name=None, attribute_matchers={"sub": "z"})
    assert (changed.enabled, changed.name, changed.attribute_matchers) == (False, None, {"sub": "z"})
    assert changed.permissions.type == "restricted"
    assert (await rules.retrieve(restricted.id, **asked)) == changed
    assert (await rules.delete(made.id, **asked)).deleted
    with pytest.raises(openai.NotFoundError):
        await rules.retrieve(made.id, **asked)
    other = await organization.workload_identity_providers.create(**GOOD)
    with pytest.raises(openai.NotFoundError):
        await rules.retrieve(restricted.id, workload_identity_provider_id=other.id)
    log = [one for one in await audited(api) if "mapping" in one[0]]
    assert log[-2] == (
        "workload_identity_provider_mapping.deleted",
        {"id": made.id, "identity_provider_id": provider.id, **named},
    )
    await organization.workload_identity_providers.delete(provider.id)
    assert (await api.ask("GET", f"{ALL}/{provider.id}/federation_rules")).error[:2] == (404, "not_found")


async def test_what_is_no_rule(api: AdminApi) -> None:
    organization = api.client.admin.organization
    provider = await organization.workload_identity_providers.create(**GOOD)
    project, other = await organization.projects.create(name="P"), await organization.projects.create(name="Q")
    account = await organization.projects.service_accounts.create(
        project.id, name="a", create_service_account_only=True
    )
    good = {"project_id": project.id, "service_account_id": account.id, "attribute_matchers": {"sub": "x"}}
    wrong: list[tuple[dict[str, Any], int, str | None]] = [
        ({"attribute_matchers": {}}, 400, "attribute_matchers"),
        ({"attribute_matchers": {"a": None}}, 400, "attribute_matchers[...]"),
        ({"attribute_matchers": {"a": [1]}}, 400, "attribute_matchers[...]"),
        ({"attribute_matchers": {"a": 2**70}}, 400, "attribute_matchers[...]"),
        ({"attribute_matchers": {"a\0": "x"}}, 400, "attribute_matchers"),
        ({"permissions": {"type": "restricted", "scopes": []}}, 400, "permissions.scopes"),
        ({"permissions": {"type": "restricted", "scopes": ["*"]}}, 400, "permissions.scopes[0]"),
        ({"permissions": {"type": "all"}}, 400, "permissions.type"),
        ({"project_id": other.id}, 404, None),
        ({"project_id": "proj_nowhere"}, 404, None),
        ({"service_account_id": "svc_acct_x"}, 404, None),
        ({"service_account_id": "a\0"}, 400, "service_account_id"),
    ]
    path = f"{ALL}/{provider.id}/federation_rules"
    for change, status, param in wrong:
        refused = await api.ask("POST", path, {**good, **change})
        assert (refused.status, refused.body["error"]["param"]) == (status, param), (change, refused.body)
    assert (await api.ask("POST", path, b'{"attribute_matchers":{"a":1e999}}')).status == 400
    await organization.projects.archive(project.id)
    assert (await api.ask("POST", path, good)).error[:2] == (400, "invalid_state")
    assert (await api.ask("GET", f"{ALL}/wip_%00/federation_rules")).status == 404
