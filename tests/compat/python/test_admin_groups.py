"""Groups, roles, who has them, and workload identities, through both halves of the official client."""

from typing import Any

import pytest
from openai import AsyncOpenAI

from tests.compat.nouns import a_project, a_user, fresh, in_pages, is_gone

JWK = {
    "kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "alg": "ES256",  # the public key of RFC 7515, A.3
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}  # fmt: skip
READING = ["api.groups.read"]
READING_KEYS = ["api.organization.projects.api_keys.read"]


async def a_group(client: AsyncOpenAI) -> str:
    return (await client.admin.organization.groups.create(name=fresh("group"))).id


async def test_groups(client: AsyncOpenAI) -> None:
    groups = client.admin.organization.groups
    name = fresh("group")
    made = await groups.create(name=name)
    assert (made.name, made.is_scim_managed) == (name, False)
    await in_pages(groups.list, {made.id, await a_group(client), await a_group(client)})
    assert (await groups.retrieve(made.id)).name == name
    assert (await groups.update(made.id, name=f"{name}!")).name == f"{name}!"
    assert (await groups.delete(made.id)).deleted
    await is_gone(groups.retrieve(made.id))


async def test_group_users(client: AsyncOpenAI) -> None:
    users = client.admin.organization.groups.users
    group_id = await a_group(client)
    made = [await a_user(client) for _ in range(3)]
    for user_id in made:
        added = await users.create(group_id, user_id=user_id)
        assert (added.user_id, added.group_id) == (user_id, group_id)
    await in_pages(users.list, set(made), group_id)
    assert (await users.retrieve(made[0], group_id=group_id)).id == made[0]
    assert (await users.delete(made[0], group_id=group_id)).deleted
    await is_gone(users.retrieve(made[0], group_id=group_id))


async def test_project_groups(client: AsyncOpenAI) -> None:
    organization = client.admin.organization
    groups = organization.projects.groups
    project_id = await a_project(client)
    role = await organization.projects.roles.create(project_id, role_name="watcher", permissions=READING_KEYS)
    made = [await a_group(client) for _ in range(3)]
    for group_id in made:
        added = await groups.create(project_id, group_id=group_id, role=role.id)
        assert (added.group_id, added.project_id, added.group_type) == (group_id, project_id, "group")
    await in_pages(groups.list, set(made), project_id, by="group_id")
    assert (await groups.retrieve(made[0], project_id=project_id)).group_id == made[0]
    assert (await groups.delete(made[0], project_id=project_id)).deleted
    await is_gone(groups.retrieve(made[0], project_id=project_id))


@pytest.mark.parametrize("of", ["organization", "project"])
async def test_roles(client: AsyncOpenAI, of: str) -> None:
    organization = client.admin.organization
    roles: Any = organization.roles
    where: dict[str, Any] = {}
    permissions = READING
    if of == "project":
        roles, permissions = organization.projects.roles, READING_KEYS
        where = {"project_id": await a_project(client)}
    name = fresh("role")
    made = await roles.create(**where, role_name=name, permissions=permissions, description="looks")
    assert (made.name, made.permissions, made.description, made.predefined_role) == (name, permissions, "looks", False)
    assert made.resource_type == f"api.{of}"
    found = await in_pages(roles.list, {made.id}, **where)
    assert any(one.predefined_role for one in found)
    assert await roles.retrieve(made.id, **where) == made
    changed = await roles.update(made.id, **where, role_name=f"{name}!", description=None)
    assert (changed.name, changed.permissions) == (f"{name}!", permissions)
    assert (await roles.delete(made.id, **where)).deleted
    await is_gone(roles.retrieve(made.id, **where))


@pytest.mark.parametrize("of", ["organization", "project"])
@pytest.mark.parametrize("whose", ["user", "group"])
async def test_role_assignments(client: AsyncOpenAI, of: str, whose: str) -> None:
    organization = client.admin.organization
    who: dict[str, Any] = {f"{whose}_id": await (a_user if whose == "user" else a_group)(client)}
    above: Any = organization
    permissions = READING
    where: dict[str, Any] = {}
    if of == "project":
        where = {"project_id": await a_project(client)}
        above, permissions = organization.projects, READING_KEYS
        members: Any = organization.projects.users if whose == "user" else organization.projects.groups
        await members.create(**where, **who, role="member")
    assigned: Any = (above.users if whose == "user" else above.groups).roles
    made = [(await above.roles.create(**where, role_name=fresh("r"), permissions=permissions)).id for _ in range(3)]
    for role_id in made:
        answer = await assigned.create(**who, **where, role_id=role_id)
        assert (answer.object, answer.role.id) == (f"{whose}.role", role_id)
        assert getattr(answer, whose).id == who[f"{whose}_id"]
    await in_pages(assigned.list, set(made), **who, **where)
    one = await assigned.retrieve(made[0], **who, **where)
    assert (one.id, one.permissions, one.predefined_role) == (made[0], permissions, False)
    assert (await assigned.delete(made[0], **who, **where)).deleted
    await is_gone(assigned.retrieve(made[0], **who, **where))


async def a_provider(client: AsyncOpenAI) -> str:
    providers = client.admin.organization.workload_identity_providers
    made = await providers.create(
        name=fresh("provider"),
        type="oidc",
        issuer=f"https://{fresh('issuer').replace(' ', '-')}.example.com",
        audience="gateway",
        verification={"type": "uploaded_jwks", "jwks": {"keys": [dict(JWK)]}},
    )
    return made.id


async def test_workload_identity_providers(client: AsyncOpenAI) -> None:
    providers = client.admin.organization.workload_identity_providers
    made = [await a_provider(client) for _ in range(3)]
    await in_pages(providers.list, set(made))
    one = await providers.retrieve(made[0])
    assert (one.type, one.audience, one.enabled) == ("oidc", "gateway", True)
    changed = await providers.update(made[0], audience="other", enabled=False, description="off")
    assert (changed.audience, changed.enabled, changed.description) == ("other", False, "off")
    assert await providers.retrieve(made[0]) == changed
    for provider_id in made:
        assert (await providers.delete(provider_id)).deleted
    await is_gone(providers.retrieve(made[0]))


async def test_federation_rules(client: AsyncOpenAI) -> None:
    organization = client.admin.organization
    rules = organization.workload_identity_providers.federation_rules
    provider_id, project_id = await a_provider(client), await a_project(client)
    accounts = organization.projects.service_accounts
    account = await accounts.create(project_id, name="bot", create_service_account_only=True)
    made = [
        await rules.create(
            provider_id,
            project_id=project_id,
            service_account_id=account.id,
            attribute_matchers={"sub": f"repo:{number}"},
            name=f"rule {number}",
        )
        for number in range(3)
    ]
    assert (made[0].attribute_matchers, made[0].permissions.type) == ({"sub": "repo:0"}, "service_account_default")
    await in_pages(rules.list, {one.id for one in made}, provider_id)
    there: dict[str, Any] = {"workload_identity_provider_id": provider_id}
    assert await rules.retrieve(made[0].id, **there) == made[0]
    restricted: Any = {"type": "restricted", "scopes": ["api.responses.write"]}
    changed = await rules.update(made[0].id, **there, enabled=False, permissions=restricted)
    assert (changed.enabled, changed.permissions.type) == (False, "restricted")
    assert (await rules.delete(made[0].id, **there)).deleted
    await is_gone(rules.retrieve(made[0].id, **there))
