"""Projects, the people in them and their keys, through both halves of the official client, whose types must fit."""

import openai
import pytest
from openai import AsyncOpenAI

from tests.compat.nouns import a_project, a_user, fresh, in_pages, is_gone


async def test_projects(client: AsyncOpenAI) -> None:
    projects = client.admin.organization.projects
    name = fresh("project")
    made = await projects.create(name=name)
    assert (made.name, made.status, made.object) == (name, "active", "organization.project")
    assert await projects.retrieve(made.id) == made
    assert (await projects.update(made.id, name=f"{name}!")).name == f"{name}!"
    more = [await a_project(client) for _ in range(2)]
    await in_pages(projects.list, {made.id, *more})
    archived = await projects.archive(made.id)
    assert (archived.status, archived.archived_at is not None) == ("archived", True)
    assert made.id not in [one.id async for one in projects.list(limit=100)]
    assert made.id in [one.id async for one in projects.list(limit=100, include_archived=True)]
    with pytest.raises(openai.BadRequestError):
        await projects.update(made.id, name="late")
    await is_gone(projects.retrieve("proj_none"))


async def test_service_accounts(client: AsyncOpenAI) -> None:
    accounts = client.admin.organization.projects.service_accounts
    project_id = await a_project(client)
    made = await accounts.create(project_id, name="bot")
    assert made.api_key is not None
    assert made.api_key.value.startswith("sk-")
    bare = await accounts.create(project_id, name="bare", create_service_account_only=True)
    assert bare.api_key is None
    third = await accounts.create(project_id, name="third", expires_in_seconds=3600)
    assert third.api_key is not None
    await in_pages(accounts.list, {made.id, bare.id, third.id}, project_id)
    assert (await accounts.retrieve(made.id, project_id=project_id)).name == "bot"
    changed = await accounts.update(made.id, project_id=project_id, name="robot", role="owner")
    assert (changed.name, changed.role) == ("robot", "owner")
    key = await accounts.api_keys.create(bare.id, project_id=project_id, name="its own", scopes=["api.responses.write"])
    assert (key.name, key.expires_at) == ("its own", None)
    deleted = await accounts.delete(made.id, project_id=project_id)
    assert (deleted.id, deleted.deleted) == (made.id, True)
    await is_gone(accounts.retrieve(made.id, project_id=project_id))


async def test_project_api_keys(client: AsyncOpenAI) -> None:
    organization = client.admin.organization
    keys, accounts = organization.projects.api_keys, organization.projects.service_accounts
    project_id = await a_project(client)
    account = await accounts.create(project_id, name="bot", create_service_account_only=True)
    made = [await accounts.api_keys.create(account.id, project_id=project_id, name=f"k{n}") for n in range(3)]
    found = await in_pages(keys.list, {key.id for key in made}, project_id)
    assert all(key.owner.type == "service_account" and key.owner_project_access == "active" for key in found)
    assert [key async for key in keys.list(project_id, owner_project_access="inactive")] == []
    first = await keys.retrieve(made[0].id, project_id=project_id)
    assert first.redacted_value != made[0].value
    changed = await keys.update(made[0].id, project_id=project_id, scopes=["api.models.read"], expires_in_seconds=60)
    assert changed.expires_at is not None
    assert (await keys.delete(made[0].id, project_id=project_id)).deleted
    await is_gone(keys.retrieve(made[0].id, project_id=project_id))


async def test_admin_api_keys(client: AsyncOpenAI) -> None:
    keys = client.admin.organization.admin_api_keys
    made = [await keys.create(name=fresh("key"), expires_in_seconds=3600) for _ in range(3)]
    assert all(key.value and key.expires_at == key.created_at + 3600 for key in made)
    found = await in_pages(keys.list, {key.id for key in made})
    assert all(key.object == "organization.admin_api_key" for key in found)
    one = await keys.retrieve(made[0].id)
    assert (one.name, one.owner.type) == (made[0].name, "user")
    for key in made:
        assert (await keys.delete(key.id)).deleted
    await is_gone(keys.retrieve(made[0].id))


async def test_invites(client: AsyncOpenAI) -> None:
    invites = client.admin.organization.invites
    project_id = await a_project(client)
    made = [
        await invites.create(
            email=f"{fresh('a').replace(' ', '')}@example.com",
            role="reader",
            projects=[{"id": project_id, "role": "member"}],
        )
        for _ in range(3)
    ]
    assert (made[0].role, made[0].projects[0].id) == ("reader", project_id)
    await in_pages(invites.list, {invite.id for invite in made})
    assert await invites.retrieve(made[0].id) == made[0]
    assert (await invites.delete(made[0].id)).deleted
    await is_gone(invites.retrieve(made[0].id))


async def test_users(client: AsyncOpenAI) -> None:
    users = client.admin.organization.users
    made = [await a_user(client) for _ in range(3)]
    await in_pages(users.list, set(made))
    user = await users.retrieve(made[0])
    assert (user.role, user.object) == ("reader", "organization.user")
    emails = [str((await users.retrieve(one)).email) for one in made[:2]]
    assert {one.id async for one in users.list(emails=emails)} == set(made[:2])
    changed = await users.update(made[0], role="owner", developer_persona="chief", technical_level="high")
    assert (changed.role, changed.developer_persona, changed.technical_level) == ("owner", "chief", "high")
    assert (await users.delete(made[0])).deleted
    await is_gone(users.retrieve(made[0]))


async def test_project_users(client: AsyncOpenAI) -> None:
    users = client.admin.organization.projects.users
    project_id = await a_project(client)
    made = [await a_user(client) for _ in range(3)]
    for user_id in made[:2]:
        assert (await users.create(project_id, user_id=user_id, role="member")).id == user_id
    email = str((await client.admin.organization.users.retrieve(made[2])).email)
    assert (await users.create(project_id, email=email, role="owner")).id == made[2]
    await in_pages(users.list, set(made), project_id)
    assert (await users.retrieve(made[0], project_id=project_id)).role == "member"
    assert (await users.update(made[0], project_id=project_id, role="owner")).role == "owner"
    assert (await users.delete(made[0], project_id=project_id)).deleted
    await is_gone(users.retrieve(made[0], project_id=project_id))


async def test_audit_logs(client: AsyncOpenAI) -> None:
    organization = client.admin.organization
    began = await a_project(client)
    project_id = await a_project(client)
    for name in ("b", "c"):
        await organization.projects.update(project_id, name=name)
    found = await in_pages(organization.audit_logs.list, set(), project_ids=[project_id])
    assert [one.type for one in found] == ["project.updated", "project.updated", "project.created"], "newest first"
    created = found[-1]
    assert created.project_created is not None
    assert (created.project_created.id, created.actor is not None) == (project_id, True)
    only = organization.audit_logs.list(project_ids=[project_id, began], event_types=["project.created"])
    assert {one.project_created.id async for one in only if one.project_created} == {project_id, began}
    later = organization.audit_logs.list(project_ids=[project_id], effective_at={"gt": created.effective_at + 3600})
    assert [one async for one in later] == []
    before = [one async for one in organization.audit_logs.list(project_ids=[project_id], before=created.id)]
    assert [one.id for one in before] == [one.id for one in found[:2]]
