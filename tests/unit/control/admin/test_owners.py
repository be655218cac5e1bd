"""Owners of the organization, however they came to be that."""

import openai
import pytest

from tests.fakes.admin_api import AdminApi


async def test_the_role_of_a_user_takes_the_place_of_assigned_ones(api: AdminApi) -> None:
    organization = api.client.admin.organization
    await organization.invites.create(email="ada@example.com", role="reader")
    (ada,) = [user async for user in organization.users.list()]
    await organization.users.roles.create(ada.id, role_id="role-api-organization-owner")
    key = await api.ask("POST", "/organization/admin_api_keys", {"name": "ada", "user_id": ada.id})
    hers = api.as_caller(key.body["value"])
    assert (await hers.admin.organization.projects.create(name="hers")).name == "hers"
    await organization.users.update(ada.id, role="reader")
    with pytest.raises(openai.AuthenticationError):
        await hers.admin.organization.projects.create(name="more")
    await hers.close()


async def test_only_owners_do_anything_to_owners(api: AdminApi) -> None:
    organization = api.client.admin.organization
    for email in ("ada@example.com", "bob@example.com"):
        await organization.invites.create(email=email, role="reader")
    ada, bob = [user async for user in organization.users.list()]
    role = await organization.roles.create(role_name="people", permissions=["api.users.read", "api.users.write"])
    await organization.users.roles.create(bob.id, role_id=role.id)
    key = await api.ask("POST", "/organization/admin_api_keys", {"name": "bob", "user_id": bob.id})
    await organization.users.roles.create(ada.id, role_id="role-api-organization-owner")
    for method, body in (
        ("POST", {"role": "reader"}),
        ("POST", {"role_id": "role-api-organization-reader"}),
        ("DELETE", None),
    ):
        refused = await api.ask(method, f"/organization/users/{ada.id}", body, key=key.body["value"])
        assert refused.error == (401, "insufficient_permissions", None)
    refused = await api.ask("POST", f"/organization/users/{bob.id}", {"role": "owner"}, key=key.body["value"])
    assert refused.error == (401, "insufficient_permissions", None)
    await organization.users.roles.delete("role-api-organization-owner", user_id=ada.id)
    assert (await api.ask("DELETE", f"/organization/users/{ada.id}", key=key.body["value"])).status == 200


async def test_what_makes_owners_is_theirs(api: AdminApi) -> None:
    """Whoever manages roles and groups, and is no owner, neither takes it from anybody nor makes it last."""
    organization = api.client.admin.organization
    for email in ("ada@example.com", "bob@example.com"):
        await organization.invites.create(email=email, role="reader")
    ada, bob = [user async for user in organization.users.list()]
    may = [f"api.{noun}.write" for noun in ("users", "roles", "groups")]
    may += [f"api.organization.projects.{noun}.write" for noun in ("roles", "groups", "users")]
    role = await organization.roles.create(role_name="people", permissions=may)
    await organization.users.roles.create(bob.id, role_id=role.id)
    bobs = (await api.ask("POST", "/organization/admin_api_keys", {"name": "bob", "user_id": bob.id})).body["value"]
    group = f"/organization/groups/{(await organization.groups.create(name='Owners')).id}"
    project = f"/organization/projects/{(await organization.projects.create(name='Chat')).id}"
    here = project.removeprefix("/organization")
    for path, body in (
        (f"{group}/users", {"user_id": ada.id}),
        (f"{group}/roles", {"role_id": "role-api-organization-owner"}),
        (f"{project}/users", {"user_id": ada.id, "role": "member"}),
        (f"{here}/users/{ada.id}/roles", {"role_id": "role-api-project-owner"}),
        (f"{project}/groups", {"group_id": group.rpartition("/")[2], "role": "owner"}),
    ):
        assert (await api.ask("POST", path, body)).status == 200
    in_project = f"{project}/groups/{group.rpartition('/')[2]}"
    takes = [f"{here}/users/{ada.id}/roles/role-api-project-owner", in_project, f"{group}/users/{ada.id}"]
    takes += [f"{group}/roles/role-api-organization-owner", group]
    for path in takes:
        assert (await api.ask("DELETE", path, key=bobs)).error == (401, "insufficient_permissions", None), path
    lesser = {"group_id": group.rpartition("/")[2], "role": "member"}
    assert (await api.ask("POST", f"{project}/groups", lesser, key=bobs)).status == 401
    assert (await api.ask("POST", f"/organization/users/{ada.id}", {"role": "owner"}, key=bobs)).status == 401
    await organization.users.roles.create(ada.id, role_id="role-api-organization-owner")
    assert (
        await api.ask("DELETE", f"/organization/users/{ada.id}/roles/role-api-organization-owner", key=bobs)
    ).status == 401
    for path in takes:
        assert (await api.ask("DELETE", path)).status == 200, path


async def test_keys_of_owners_are_for_owners_to_delete(api: AdminApi) -> None:
    organization = api.client.admin.organization
    await organization.invites.create(email="bob@example.com", role="reader")
    (bob,) = [user async for user in organization.users.list()]
    permissions = ["api.admin_api_keys.read", "api.admin_api_keys.write"]
    role = await organization.roles.create(role_name="keys", permissions=permissions)
    await organization.users.roles.create(bob.id, role_id=role.id)
    his = (await api.ask("POST", "/organization/admin_api_keys", {"name": "bob", "user_id": bob.id})).body
    nobodys = await organization.admin_api_keys.create(name="ops")
    refused = await api.ask("DELETE", f"/organization/admin_api_keys/{nobodys.id}", key=his["value"])
    assert refused.error == (401, "insufficient_permissions", None)
    assert (await api.ask("DELETE", f"/organization/admin_api_keys/{his['id']}", key=his["value"])).status == 200
    none = await api.ask("POST", "/organization/admin_api_keys", {"name": "r", "scopes": []})
    assert none.error == (400, "invalid_value", "scopes")


async def test_a_group_that_owns_a_project_by_assignment_stays_there(api: AdminApi) -> None:
    """Whatever role it is in the project by."""
    organization = api.client.admin.organization
    project, group = await organization.projects.create(name="Chat"), await organization.groups.create(name="Owners")
    await organization.projects.groups.create(project.id, group_id=group.id, role="member")
    await organization.projects.groups.roles.create(group.id, project_id=project.id, role_id="role-api-project-owner")
    restricted = {"name": "groups", "scopes": ["api.organization.projects.groups.write"]}
    key = (await api.ask("POST", "/organization/admin_api_keys", restricted)).body["value"]
    path = f"/organization/projects/{project.id}/groups/{group.id}"
    assert (await api.ask("DELETE", path, key=key)).error == (401, "insufficient_permissions", None)
    assert (await api.ask("DELETE", path)).status == 200
