"""Groups, their users, and groups in projects."""

import openai
import pytest

from tests.fakes.admin_api import AdminApi
from tests.fakes.admin_people import add_user, audited


async def test_the_life_of_a_group(api: AdminApi) -> None:
    groups = api.client.admin.organization.groups
    made = await groups.create(name="Support")
    assert (made.name, made.group_type, made.is_scim_managed, made.created_at) == (
        "Support", "group", False, 1_800_000_000,
    )  # fmt: skip
    assert await groups.retrieve(made.id) == made
    assert (await groups.update(made.id, name="Help")).name == "Help"
    assert (await groups.update(made.id, name="Help")).name == "Help"
    assert [one.name async for one in groups.list()] == ["Help"]
    assert (await groups.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await groups.retrieve(made.id)
    assert await audited(api, "group.") == [
        ("group.created", {"id": made.id, "data": {"group_name": "Support"}}),
        ("group.updated", {"id": made.id, "changes_requested": {"group_name": "Help"}}),
        ("group.deleted", {"id": made.id}),
    ]


async def test_the_official_client_pages_through_groups_and_their_users(api: AdminApi) -> None:
    groups = api.client.admin.organization.groups
    made, people = [], []
    for number in range(5):
        api.clock.advance(1)
        made.append((await groups.create(name=f"G{number}")).id)
    for number in range(5):
        api.clock.advance(1)
        people.append(await add_user(api, f"user-{number}"))
        await groups.users.create(made[0], user_id=people[-1])
    assert [one.id async for one in groups.list(limit=2)] == made
    assert [one.id async for one in groups.list(limit=2, order="desc", after=made[3])] == made[2::-1]
    assert [one.id async for one in groups.users.list(made[0], limit=2, order="asc")] == people
    assert [one.id async for one in groups.users.list(made[0], limit=2)] == people[::-1], (
        "newest first, as OpenAI has it"
    )
    assert [one.id async for one in groups.users.list(made[1])] == []
    none = await api.ask("GET", "/organization/groups?limit=0")
    assert (none.status, none.body["data"], none.body["next"]) == (200, [], None)


async def test_users_of_a_group(api: AdminApi) -> None:
    groups = api.client.admin.organization.groups
    group, ada = await groups.create(name="Support"), await add_user(api, "ada")
    for _ in range(2):  # again changes nothing
        added = await groups.users.create(group.id, user_id=ada)
        assert (added.group_id, added.user_id) == (group.id, ada)
    shown = await groups.users.retrieve(ada, group_id=group.id)
    assert (shown.id, shown.email, shown.name, shown.user_type) == (ada, "ada@example.com", "Ada", "user")
    assert (await groups.users.delete(ada, group_id=group.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await groups.users.delete(ada, group_id=group.id)
    assert await audited(api, "group.updated") == [
        ("group.updated", {"id": group.id, "changes_requested": {"users_added": [ada]}}),
        ("group.updated", {"id": group.id, "changes_requested": {"users_removed": [ada]}}),
    ]


async def test_groups_of_a_project(api: AdminApi) -> None:
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    groups = organization.projects.groups
    made = []
    for number in range(3):
        api.clock.advance(1)
        made.append((await organization.groups.create(name=f"G{number}")).id)
        added = await groups.create(project.id, group_id=made[-1], role="role-api-project-member")
        assert (added.project_id, added.group_name, added.group_type) == (project.id, f"G{number}", "group")
    assert [one.group_id async for one in groups.list(project.id, limit=2)] == made
    assert (await groups.retrieve(made[0], project_id=project.id)).group_id == made[0]
    with pytest.raises(openai.NotFoundError):
        await groups.retrieve(made[0], project_id=project.id, group_type="tenant_group")
    await groups.create(project.id, group_id=made[0], role="owner")
    roles = [one.id async for one in groups.roles.list(made[0], project_id=project.id)]
    assert roles == ["role-api-project-owner"], "its new role takes the place of its old one"
    assert (await groups.delete(made[0], project_id=project.id)).deleted
    assert [one.group_id async for one in groups.list(project.id)] == made[1:]
    assert (await organization.groups.delete(made[1])).deleted
    assert [one.group_id async for one in groups.list(project.id)] == made[2:]
    events = [(kind, one["principal_id"], one["resource_type"]) for kind, one in await audited(api, "role.")]
    assert events[3:] == [
        ("role.assignment.deleted", made[0], "api.project"),
        ("role.assignment.created", made[0], "api.project"),
        ("role.assignment.deleted", made[0], "api.project"),
    ]
    await organization.projects.archive(project.id)
    archived = await api.ask("DELETE", f"/organization/projects/{project.id}/groups/{made[2]}")
    assert archived.error == (400, "invalid_state", None)


@pytest.mark.parametrize(
    ("method", "path", "body", "error"),
    [
        ("POST", "", {}, (400, "missing_required_parameter", "name")),
        ("POST", "", {"name": ""}, (400, "invalid_value", "name")),
        ("POST", "", {"name": "a" * 256}, (400, "invalid_value", "name")),
        ("POST", "", {"name": "a\0b"}, (400, "invalid_value", "name")),
        ("GET", "?limit=-1", None, (400, "invalid_value", "limit")),
        ("GET", "?limit=1001", None, (400, "invalid_value", "limit")),
        ("GET", "?after=group_none", None, (400, "invalid_value", "after")),
        ("GET", "/group_none", None, (404, "not_found", None)),
        ("GET", "/a%00b", None, (404, "not_found", None)),
        ("POST", "/group_none", {"name": "a"}, (404, "not_found", None)),
        ("DELETE", "/group_none", None, (404, "not_found", None)),
        ("GET", "/group_none/users", None, (404, "not_found", None)),
        ("POST", "/group_none/users", {"user_id": "u"}, (404, "not_found", None)),
        ("GET", "/group_none/users/a%00b", None, (404, "not_found", None)),
        ("GET", "/group_none/roles", None, (404, "not_found", None)),
    ],
)
async def test_mistakes(api: AdminApi, method: str, path: str, body: object, error: tuple[int, str, str]) -> None:
    assert (await api.ask(method, "/organization/groups" + path, body)).error == error


async def test_mistakes_within_a_group_and_a_project(api: AdminApi) -> None:
    organization = api.client.admin.organization
    group, project = await organization.groups.create(name="G"), await organization.projects.create(name="P")
    users, theirs = f"/organization/groups/{group.id}/users", f"/organization/projects/{project.id}/groups"
    for method, path, body, error in (
        ("POST", users, {}, (400, "missing_required_parameter", "user_id")),
        ("POST", users, {"user_id": "none"}, (404, "not_found", None)),
        ("POST", users, {"user_id": 1 << 70}, (400, "invalid_value", "user_id")),
        ("GET", f"{users}/none", None, (404, "not_found", None)),
        ("GET", f"{users}/a%00b", None, (404, "not_found", None)),
        ("DELETE", f"{users}/none", None, (404, "not_found", None)),
        ("POST", theirs, {"group_id": group.id}, (400, "missing_required_parameter", "role")),
        ("POST", theirs, {"group_id": "none", "role": "owner"}, (404, "not_found", None)),
        ("POST", theirs, {"group_id": group.id, "role": "none"}, (404, "not_found", None)),
        ("POST", theirs, {"group_id": group.id, "role": "role-api-organization-owner"}, (404, "not_found", None)),
        ("GET", f"{theirs}?limit=101", None, (400, "invalid_value", "limit")),
        ("GET", f"{theirs}/{group.id}", None, (404, "not_found", None)),
        ("GET", f"{theirs}/a%00b?group_type=tenant_group", None, (404, "not_found", None)),
        ("GET", f"{theirs}/{group.id}?group_type=x", None, (400, "invalid_value", "group_type")),
        ("DELETE", f"{theirs}/{group.id}", None, (404, "not_found", None)),
        ("GET", "/organization/projects/none/groups", None, (404, "not_found", None)),
    ):
        assert (await api.ask(method, path, body)).error == error, (method, path, body)
