"""Roles of the organization and of projects, and who has them."""

from typing import Any

import openai
import pytest

from gateway.control.admin.caller import Grant
from tests.fakes.admin_api import AdminApi
from tests.fakes.admin_people import add_member, add_user, audited, granted, key_of

KEYS = "api.organization.projects.api_keys.write"


async def test_the_life_of_a_role(api: AdminApi) -> None:
    roles = api.client.admin.organization.roles
    made = await roles.create(role_name="Groups", permissions=["api.groups.write", "api.x.y"], description="of groups")
    assert (made.name, made.description, made.permissions, made.predefined_role, made.resource_type) == (
        "Groups", "of groups", ["api.groups.write", "api.x.y"], False, "api.organization",
    )  # fmt: skip
    assert await roles.retrieve(made.id) == made
    changed = await roles.update(made.id, permissions=["api.x.y", "api.groups.read"])
    assert (changed.name, changed.description) == ("Groups", "of groups"), "what is not named stays"
    assert changed.permissions == ["api.x.y", "api.groups.read"]
    assert (await roles.update(made.id, description=None, role_name="All groups")).description is None
    assert (await roles.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await roles.retrieve(made.id)
    where = {"resource_type": "api.organization", "resource_id": "org-gateway"}
    assert await audited(api, "role.") == [
        (
            "role.created",
            {"id": made.id, "role_name": "Groups", "permissions": ["api.groups.write", "api.x.y"], **where},
        ),
        (
            "role.updated",
            {
                "id": made.id,
                "changes_requested": {
                    "permissions_added": ["api.groups.read"],
                    "permissions_removed": ["api.groups.write"],
                    **where,
                },
            },
        ),
        (
            "role.updated",
            {"id": made.id, "changes_requested": {"role_name": "All groups", "description": None, **where}},
        ),
        ("role.deleted", {"id": made.id}),
    ]


async def test_predefined_roles_come_first_and_stay(api: AdminApi) -> None:
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    made, theirs = [], []
    for number in range(3):
        api.clock.advance(1)
        made.append((await organization.roles.create(role_name=f"R{number}", permissions=[])).id)
        theirs.append(
            (await organization.projects.roles.create(project.id, role_name=f"R{number}", permissions=[KEYS])).id
        )
    everywhere, here = (
        ["role-api-organization-owner", "role-api-organization-reader"],
        ["role-api-project-owner", "role-api-project-member", "role-api-project-viewer"],
    )
    assert [one.id async for one in organization.roles.list(limit=2)] == everywhere + made
    assert [one.id async for one in organization.roles.list(limit=2, order="desc")] == (everywhere + made)[::-1]
    listed = [one async for one in organization.projects.roles.list(project.id, limit=1)]
    assert [one.id for one in listed] == here + theirs
    assert [one.predefined_role for one in listed] == [True, True, True, False, False, False]
    assert {one.resource_type for one in listed} == {"api.project"}
    assert (await organization.projects.roles.retrieve("role-api-project-owner", project_id=project.id)).name == "owner"
    for path in (
        "/organization/roles/role-api-organization-reader",
        f"/projects/{project.id}/roles/role-api-project-owner",
    ):
        assert (await api.ask("POST", path, {"permissions": []})).error == (400, "invalid_state", None)
        assert (await api.ask("DELETE", path)).error == (400, "invalid_state", None)
    elsewhere = await organization.projects.create(name="Other")
    for path in (f"/projects/{elsewhere.id}/roles/{theirs[0]}", f"/organization/roles/{theirs[0]}"):
        assert (await api.ask("GET", path)).error == (404, "not_found", None), "it is of another place"


async def test_roles_of_users(api: AdminApi) -> None:
    organization = api.client.admin.organization
    ada = await add_user(api, "ada")
    role = await organization.roles.create(role_name="Groups", permissions=["api.groups.write"])
    roles = organization.users.roles
    for _ in range(2):  # again changes nothing
        given = await roles.create(ada, role_id=role.id)
        assert (given.object, given.role.id, given.user.id, given.user.role) == ("user.role", role.id, ada, "reader")
    listed = [one async for one in roles.list(ada, limit=1)]
    assert [one.id for one in listed] == ["role-api-organization-reader", role.id]
    shown = await roles.retrieve(role.id, user_id=ada)
    assert shown.model_dump() == listed[1].model_dump()
    assert (shown.created_at, shown.permissions, shown.predefined_role) == (1_800_000_000, ["api.groups.write"], False)
    assert [one.model_dump() for one in shown.assignment_sources or ()] == [
        {"principal_type": "user", "principal_id": ada}
    ]
    taken = await roles.delete(role.id, user_id=ada)
    assert (taken.object, taken.deleted) == ("user.role.deleted", True)
    for asked in (roles.retrieve, roles.delete):
        with pytest.raises(openai.NotFoundError):
            await asked(role.id, user_id=ada)
    base = await api.ask("DELETE", f"/organization/users/{ada}/roles/role-api-organization-reader")
    assert base.error == (400, "invalid_state", None), "it is the user's own, changed with the user"
    assert [kind for kind, _ in await audited(api, "role.assignment")] == [
        "role.assignment.created",
        "role.assignment.deleted",
    ]


async def test_roles_of_groups_are_those_of_their_users(api: AdminApi) -> None:
    organization = api.client.admin.organization
    ada, group = await add_user(api, "ada"), await organization.groups.create(name="G")
    await organization.groups.users.create(group.id, user_id=ada)
    role = await organization.roles.create(role_name="Groups", permissions=["api.groups.write"])
    given = await organization.groups.roles.create(group.id, role_id=role.id)
    assert (given.object, given.group.id, given.group.scim_managed) == ("group.role", group.id, False)
    assert [one.id async for one in organization.groups.roles.list(group.id)] == [role.id]
    assert (await organization.groups.roles.retrieve(role.id, group_id=group.id)).id == role.id
    await organization.users.roles.create(ada, role_id=role.id)
    shown = await organization.users.roles.retrieve(role.id, user_id=ada)
    assert {(one.principal_type, one.principal_id) for one in shown.assignment_sources or ()} == {
        ("user", ada),
        ("group", group.id),
    }
    await organization.users.roles.delete(role.id, user_id=ada)
    inherited = await api.ask("DELETE", f"/organization/users/{ada}/roles/{role.id}")
    assert inherited.error == (400, "invalid_state", None)
    assert group.id in inherited.body["error"]["message"]
    assert (await organization.groups.roles.delete(role.id, group_id=group.id)).object == "group.role.deleted"
    assert [one.id async for one in organization.users.roles.list(ada)] == ["role-api-organization-reader"]
    await organization.groups.roles.create(group.id, role_id=role.id)
    await organization.roles.delete(role.id)
    assert [one.id async for one in organization.groups.roles.list(group.id)] == [], "a role's end is its assignments'"


async def test_roles_in_a_project(api: AdminApi) -> None:
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    other = await organization.projects.create(name="Other")
    ada, group = await add_user(api, "ada"), await organization.groups.create(name="G")
    role = await organization.projects.roles.create(project.id, role_name="Keys", permissions=[KEYS])
    users, groups = organization.projects.users.roles, organization.projects.groups.roles
    with pytest.raises(openai.NotFoundError):  # a user has to be in the project
        await users.create(ada, project_id=project.id, role_id=role.id)
    await organization.groups.users.create(group.id, user_id=ada)
    assert not [grant for grant in await granted(api, ada) if grant.project_id == project.id]
    await groups.create(group.id, project_id=project.id, role_id=role.id)  # a group comes with its first role there
    assert Grant((KEYS,), project.id) in await granted(api, ada)
    assert [one.id async for one in groups.list(group.id, project_id=project.id)] == [role.id]
    assert (await groups.delete(role.id, group_id=group.id, project_id=project.id)).deleted
    assert not [grant for grant in await granted(api, ada) if grant.project_id == project.id]
    await organization.groups.users.delete(ada, group_id=group.id)
    await add_member(api, project.id, ada)
    await add_member(api, other.id, ada)
    await organization.projects.groups.create(project.id, group_id=group.id, role="member")
    given = await users.create(ada, project_id=project.id, role_id=role.id)
    assert (given.user.id, given.role.resource_type) == (ada, "api.project")
    assert (await groups.create(group.id, project_id=project.id, role_id=role.id)).group.id == group.id
    with pytest.raises(openai.NotFoundError):
        await users.create(ada, project_id=other.id, role_id=role.id)
    assert [one.id async for one in users.list(ada, project_id=project.id, limit=1)] == [
        "role-api-project-member",
        role.id,
    ]
    assert [one.id async for one in groups.list(group.id, project_id=project.id, limit=1)] == [
        "role-api-project-member",
        role.id,
    ]
    assert [one.id async for one in users.list(ada, project_id=other.id)] == ["role-api-project-member"]
    assert (await users.retrieve(role.id, user_id=ada, project_id=project.id)).id == role.id
    assert (await groups.retrieve(role.id, group_id=group.id, project_id=project.id)).id == role.id
    assert (await users.delete(role.id, user_id=ada, project_id=project.id)).deleted
    await organization.projects.groups.delete(group.id, project_id=project.id)
    await organization.projects.groups.create(project.id, group_id=group.id, role="member")
    assert [one.id async for one in groups.list(group.id, project_id=project.id)] == ["role-api-project-member"], (
        "what it had there is gone with its membership"
    )


async def test_a_role_by_which_users_and_groups_are_in_a_project(api: AdminApi) -> None:
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    role = await organization.projects.roles.create(project.id, role_name="Keys", permissions=[KEYS])
    ada, bob = await add_user(api, "ada"), await add_user(api, "bob")
    await add_member(api, project.id, ada, "Keys")
    await add_member(api, project.id, bob, role.id)
    group = await organization.groups.create(name="G")
    await organization.projects.groups.create(project.id, group_id=group.id, role="Keys")

    async def all_roles() -> list[list[str]]:
        users, groups = organization.projects.users.roles, organization.projects.groups.roles
        return [
            [one.id async for one in users.list(ada, project_id=project.id)],
            [one.id async for one in users.list(bob, project_id=project.id)],
            [one.id async for one in groups.list(group.id, project_id=project.id)],
        ]

    assert await all_roles() == [[role.id]] * 3
    await organization.projects.roles.update(role.id, project_id=project.id, role_name="All keys")
    assert await all_roles() == [[role.id]] * 3, "a name may change"
    held = await api.ask("DELETE", f"/projects/{project.id}/users/{ada}/roles/{role.id}")
    assert held.error == (400, "invalid_state", None)
    await organization.projects.roles.delete(role.id, project_id=project.id)
    assert await all_roles() == [["role-api-project-member"]] * 3


async def test_who_made_a_role(api: AdminApi) -> None:
    boss = await add_user(api, "boss", "owner")
    body: dict[str, Any] = {"role_name": "R", "permissions": []}
    made = await api.ask("POST", "/organization/roles", body, key=await key_of(api, boss))
    await api.client.admin.organization.users.roles.create(boss, role_id=made.body["id"])
    shown = await api.client.admin.organization.users.roles.retrieve(made.body["id"], user_id=boss)
    assert shown.created_by == boss
    assert shown.created_by_user_obj == {"id": boss, "name": "Boss", "email": "boss@example.com"}


@pytest.mark.parametrize(
    ("method", "path", "body", "error"),
    [
        ("POST", "", {"role_name": "a"}, (400, "missing_required_parameter", "permissions")),
        ("POST", "", {"permissions": []}, (400, "missing_required_parameter", "role_name")),
        ("POST", "", {"role_name": "", "permissions": []}, (400, "invalid_value", "role_name")),
        ("POST", "", {"role_name": "a" * 101, "permissions": []}, (400, "invalid_value", "role_name")),
        ("POST", "", {"role_name": "a\0b", "permissions": []}, (400, "invalid_value", "role_name")),
        ("POST", "", {"role_name": "role_x", "permissions": []}, (400, "invalid_value", "role_name")),
        ("POST", "", {"role_name": "owner", "permissions": []}, (400, "already_exists", None)),
        ("POST", "", {"role_name": "a", "permissions": ["*"]}, (400, "invalid_value", "permissions[0]")),
        ("POST", "", {"role_name": "a", "permissions": ["api.*"]}, (400, "invalid_value", "permissions[0]")),
        ("POST", "", {"role_name": "a", "permissions": ["api.x\n"]}, (400, "invalid_value", "permissions[0]")),
        ("POST", "", {"role_name": "a", "permissions": ["api"]}, (400, "invalid_value", "permissions[0]")),
        ("POST", "", {"role_name": "a", "permissions": ["api.x"] * 201}, (400, "invalid_value", "permissions")),
        ("POST", "", {"role_name": "a", "permissions": "api.x"}, (400, "invalid_value", "permissions")),
        ("GET", "?limit=1001", None, (400, "invalid_value", "limit")),
        ("GET", "?after=role_none", None, (400, "invalid_value", "after")),
        ("GET", "?after=a%00b", None, (400, "invalid_value", "after")),
        ("GET", "/role_none", None, (404, "not_found", None)),
        ("GET", "/owner", None, (404, "not_found", None)),
        ("GET", "/a%00b", None, (404, "not_found", None)),
        ("POST", "/role_none", {}, (404, "not_found", None)),
        ("DELETE", "/role_none", None, (404, "not_found", None)),
    ],
)
async def test_mistakes(api: AdminApi, method: str, path: str, body: object, error: tuple[int, str, str]) -> None:
    """Of the organization's roles and, as they are the same functions, of projects'."""
    assert (await api.ask(method, "/organization/roles" + path, body)).error == error
    if error[0] != 404:
        project = await api.client.admin.organization.projects.create(name="P")
        assert (await api.ask(method, f"/projects/{project.id}/roles{path}", body)).error == error


async def test_mistakes_of_assignments(api: AdminApi) -> None:
    organization = api.client.admin.organization
    ada, project = await add_user(api, "ada"), await organization.projects.create(name="P")
    await organization.roles.create(role_name="R", permissions=[])
    roles = f"/organization/users/{ada}/roles"
    for method, path, body, error in (
        ("POST", roles, {}, (400, "missing_required_parameter", "role_id")),
        ("POST", roles, {"role_id": "none"}, (404, "not_found", None)),
        ("POST", roles, {"role_id": "owner"}, (404, "not_found", None)),
        ("POST", roles, {"role_id": "role-api-project-owner"}, (404, "not_found", None)),
        ("GET", f"{roles}?limit=-1", None, (400, "invalid_value", "limit")),
        ("GET", f"{roles}?after=none", None, (400, "invalid_value", "after")),
        ("GET", f"{roles}/a%00b", None, (404, "not_found", None)),
        ("DELETE", f"{roles}/a%00b", None, (404, "not_found", None)),
        ("GET", "/organization/users/none/roles", None, (404, "not_found", None)),
        ("GET", "/organization/users/a%00b/roles", None, (404, "not_found", None)),
        ("GET", f"/projects/none/users/{ada}/roles", None, (404, "not_found", None)),
        ("GET", f"/projects/{project.id}/groups/none/roles", None, (404, "not_found", None)),
        ("POST", "/organization/roles", {"role_name": "R", "permissions": []}, (400, "already_exists", None)),
    ):
        assert (await api.ask(method, path, body)).error == error, (method, path, body)
