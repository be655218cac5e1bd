"""Service accounts, API keys and admin API keys."""

import hashlib

import openai
import pytest

from tests.fakes.admin_api import AdminApi


def sha(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


async def test_a_service_account_and_its_keys(api: AdminApi) -> None:
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    accounts = organization.projects.service_accounts
    made = await accounts.create(project.id, name="bot")
    assert made.api_key is not None
    principal = api.principal(sha(made.api_key.value))
    assert principal is not None
    assert (principal.key_id, principal.project_id, principal.user_id, principal.revoked) == (
        made.api_key.id,
        project.id,
        made.id,
        False,
    )
    assert (await accounts.retrieve(made.id, project_id=project.id)).role == "member"
    assert (await accounts.update(made.id, project_id=project.id, role="owner")).role == "owner"
    second = await accounts.api_keys.create(
        made.id, project_id=project.id, name="two", scopes=["api.responses.write"], expires_in_seconds=60
    )
    principal = api.principal(sha(second.value))
    assert principal is not None
    assert (principal.scopes, principal.expires_at) == (("api.responses.write",), second.expires_at)
    keys = organization.projects.api_keys
    listed = [key async for key in keys.list(project.id, limit=1)]
    assert {key.id for key in listed} == {made.api_key.id, second.id}
    assert all(key.owner.service_account is not None and made.api_key.value not in key.redacted_value for key in listed)
    await keys.delete(second.id, project_id=project.id)
    assert api.principal(sha(second.value)).revoked  # type: ignore[union-attr]
    assert (await accounts.delete(made.id, project_id=project.id)).deleted
    assert api.principal(sha(made.api_key.value)).revoked  # type: ignore[union-attr]
    assert [key async for key in keys.list(project.id)] == []


async def test_archiving_a_project_ends_its_keys(api: AdminApi) -> None:
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    made = await organization.projects.service_accounts.create(project.id, name="bot")
    assert made.api_key is not None
    await organization.projects.archive(project.id)
    principal = api.principal(sha(made.api_key.value))
    assert principal is not None
    assert principal.revoked
    with pytest.raises(openai.BadRequestError) as caught:
        await organization.projects.service_accounts.create(project.id, name="late")
    assert caught.value.code == "invalid_state"


async def test_a_key_is_changed(api: AdminApi) -> None:
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    made = await organization.projects.service_accounts.create(project.id, name="bot")
    assert made.api_key is not None
    path = f"/organization/projects/{project.id}/api_keys/{made.api_key.id}"
    assert (await api.ask("POST", path, {"scopes": ["api.responses.write"]})).status == 200
    changed = await api.ask("POST", path, {"expires_in_seconds": 60})
    assert changed.body["scopes"] == ["api.responses.write"]
    requested = [event["changes_requested"] for _, event in await api.events(event_types="api_key.updated")]
    assert requested == [{"expires_at": changed.body["expires_at"]}, {"scopes": ["api.responses.write"]}]
    await organization.projects.archive(project.id)
    assert (await api.ask("POST", path, {"scopes": []})).error == (400, "invalid_state", None)


async def test_admin_keys(api: AdminApi) -> None:
    keys = api.client.admin.organization.admin_api_keys
    made = await keys.create(name="ops", expires_in_seconds=100)
    assert made.value is not None
    other = api.as_caller(made.value)
    assert [key.id async for key in other.admin.organization.admin_api_keys.list()] == [made.id]
    assert (await keys.retrieve(made.id)).last_used_at == 1_800_000_000
    api.clock.advance(100)
    with pytest.raises(openai.AuthenticationError):
        await other.admin.organization.admin_api_keys.retrieve(made.id)
    assert (await keys.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await keys.retrieve(made.id)
    await other.close()


async def test_keys_of_the_two_planes_do_not_work_in_each_others_place(api: AdminApi) -> None:
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    made = await organization.projects.service_accounts.create(project.id, name="bot")
    assert made.api_key is not None
    refused = await api.ask("GET", "/organization/projects", key=made.api_key.value)
    assert refused.error == (401, "insufficient_permissions", None)
    admin = await organization.admin_api_keys.create(name="x")
    assert admin.value is not None
    assert api.principal(sha(admin.value)) is None, "unknown to the data plane"
    assert (await api.ask("GET", "/organization/projects", key="sk-wrong-0123456789abcdef01234")).error == (
        401,
        "invalid_api_key",
        None,
    )
    assert (await api.ask("GET", "/organization/projects", key=None)).error == (401, None, None)


async def test_going_through_a_list_and_removing_what_is_in_it(api: AdminApi) -> None:
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    accounts = organization.projects.service_accounts
    for number in range(7):
        await accounts.create(project.id, name=str(number), create_service_account_only=True)
    seen = 0
    async for account in accounts.list(project.id, limit=3):
        await accounts.delete(account.id, project_id=project.id)
        seen += 1
    assert seen == 7
    assert [one async for one in accounts.list(project.id)] == []
