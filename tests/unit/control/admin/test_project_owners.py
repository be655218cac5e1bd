"""Who may do what: project owners, readers, holders of further roles; and that nobody gives what they do not have."""

from collections.abc import Sequence

import msgspec
import pytest

from gateway.control.admin.caller import Caller, Grant
from gateway.control.admin.known_roles import PROJECT_OWNING, predefined
from gateway.errors import GatewayError
from tests.fakes.admin_api import AdminApi
from tests.fakes.admin_people import add_member, add_user, granted, key_of

FORBIDDEN = (401, "insufficient_permissions", None)
IN_PROJECT = "api.organization.projects"


class Team(msgspec.Struct, frozen=True):
    """Two projects, and a user who owns one of them. key: theirs."""

    project_id: str
    other_id: str
    owner: str
    key: str


async def a_team(api: AdminApi) -> Team:
    projects = api.client.admin.organization.projects
    mine, other = await projects.create(name="Mine"), await projects.create(name="Other")
    owner = await add_user(api, "olga")
    await add_member(api, mine.id, owner, "owner")
    return Team(mine.id, other.id, owner, await key_of(api, owner))


async def refused(api: AdminApi, key: str, asked: Sequence[tuple[str, str, object]]) -> None:
    for method, path, body in asked:
        assert (await api.ask(method, path, body, key=key)).error == FORBIDDEN, (method, path)


async def test_project_owners_manage_their_project(api: AdminApi) -> None:
    team, ada = await a_team(api), await add_user(api, "ada")
    group = (await api.client.admin.organization.groups.create(name="G")).id
    await add_member(api, team.project_id, ada)
    client = api.as_caller(team.key)
    project = client.admin.organization.projects
    account = await project.service_accounts.create(team.project_id, name="bot")
    assert account.api_key is not None
    await project.service_accounts.update(account.id, project_id=team.project_id, name="robot")
    await project.service_accounts.api_keys.create(account.id, project_id=team.project_id, name="k")
    await project.api_keys.update(account.api_key.id, project_id=team.project_id, scopes=["api.responses.write"])
    await project.api_keys.delete(account.api_key.id, project_id=team.project_id)
    made = await api.ask(
        "POST", f"/organization/projects/{team.project_id}/api_keys", {"user_id": ada, "name": "k"}, key=team.key
    )
    assert made.status == 200
    await project.service_accounts.delete(account.id, project_id=team.project_id)
    await project.groups.create(team.project_id, group_id=group, role="owner")
    role = await project.roles.create(
        team.project_id, role_name="Keys", permissions=[f"{IN_PROJECT}.api_keys.write", f"{IN_PROJECT}.users.read"]
    )
    await project.roles.update(role.id, project_id=team.project_id, permissions=[f"{IN_PROJECT}.users.write"])
    for role_id in (role.id, "role-api-project-owner"):
        await project.users.roles.create(ada, project_id=team.project_id, role_id=role_id)
        await project.users.roles.delete(role_id, user_id=ada, project_id=team.project_id)
        await project.groups.roles.create(group, project_id=team.project_id, role_id=role_id)
    await project.roles.delete(role.id, project_id=team.project_id)
    await project.groups.delete(group, project_id=team.project_id)
    await client.close()


async def test_project_owners_manage_nothing_else(api: AdminApi) -> None:
    team, ada = await a_team(api), await add_user(api, "ada")
    organization = api.client.admin.organization
    group = (await organization.groups.create(name="G")).id
    await add_member(api, team.project_id, ada)
    await add_member(api, team.other_id, ada)
    role = {"role_name": "R", "permissions": []}
    mine, other = f"/organization/projects/{team.project_id}", f"/organization/projects/{team.other_id}"
    await refused(
        api,
        team.key,
        [
            ("POST", mine, {"name": "Renamed"}),
            ("POST", f"{mine}/archive", None),
            ("POST", other, {"name": "Renamed"}),
            ("POST", f"{other}/archive", None),
            ("POST", f"{other}/service_accounts", {"name": "bot"}),
            ("POST", f"{other}/api_keys", {"user_id": ada, "name": "k"}),
            ("POST", f"{other}/groups", {"group_id": group, "role": "member"}),
            ("POST", f"/projects/{team.other_id}/roles", role),
            ("POST", f"/projects/{team.other_id}/users/{ada}/roles", {"role_id": "role-api-project-member"}),
            ("DELETE", f"/projects/{team.other_id}/users/{ada}/roles/role-api-project-member", None),
            ("POST", f"/projects/{team.other_id}/groups/{group}/roles", {"role_id": "role-api-project-member"}),
            ("POST", "/organization/projects", {"name": "New"}),
            ("POST", "/organization/groups", {"name": "New"}),
            ("POST", f"/organization/groups/{group}", {"name": "New"}),
            ("DELETE", f"/organization/groups/{group}", None),
            ("POST", f"/organization/groups/{group}/users", {"user_id": team.owner}),
            ("POST", "/organization/roles", role),
            ("POST", f"/organization/users/{team.owner}/roles", {"role_id": "role-api-organization-owner"}),
            ("POST", f"/organization/groups/{group}/roles", {"role_id": "role-api-organization-reader"}),
            ("POST", "/organization/admin_api_keys", {"name": "k"}),
            ("DELETE", "/organization/admin_api_keys/key_x", None),
        ],
    )
    assert (await organization.projects.retrieve(team.project_id)).name == "Mine"


@pytest.mark.parametrize(
    "noun",
    ["rate_limits", "spend_limit", "service_tier_settings", "model_permissions", "hosted_tool_permissions"],
)
def test_what_holds_a_project_to_its_quota_is_not_its_owners(noun: str) -> None:
    owner = Caller("admin_key", "key_x", (Grant(PROJECT_OWNING, "proj_a"),))
    assert owner.may(f"{IN_PROJECT}.{noun}.read", "proj_a")
    assert not owner.may(f"{IN_PROJECT}.{noun}.write", "proj_a")
    assert not owner.may(f"{IN_PROJECT}.write", "proj_a")
    for noun_of_theirs in ("users", "groups", "roles", "api_keys", "service_accounts", "spend_alerts"):
        assert owner.may(f"{IN_PROJECT}.{noun_of_theirs}.write", "proj_a")
        assert not owner.may(f"{IN_PROJECT}.{noun_of_theirs}.write", "proj_b")


async def test_project_owners_give_only_what_they_have(api: AdminApi) -> None:
    team = await a_team(api)
    projects = api.client.admin.organization.projects
    group = (await api.client.admin.organization.groups.create(name="G")).id
    limits = [f"{IN_PROJECT}.rate_limits.write"]
    strong = await projects.roles.create(team.project_id, role_name="Limits", permissions=limits)
    weak = await projects.roles.create(team.project_id, role_name="Weak", permissions=[])
    roles = f"/projects/{team.project_id}/roles"
    await projects.groups.create(team.project_id, group_id=group, role="member")
    await refused(
        api,
        team.key,
        [
            ("POST", roles, {"role_name": "R", "permissions": limits}),
            ("POST", roles, {"role_name": "R", "permissions": ["api.groups.write"]}),
            ("POST", f"{roles}/{weak.id}", {"permissions": limits}),
            ("POST", f"{roles}/{strong.id}", {"permissions": []}),
            ("POST", f"/projects/{team.project_id}/users/{team.owner}/roles", {"role_id": strong.id}),
            ("POST", f"/projects/{team.project_id}/groups/{group}/roles", {"role_id": strong.id}),
            ("POST", f"/organization/projects/{team.project_id}/groups", {"group_id": group, "role": "Limits"}),
        ],
    )
    said = await api.ask("POST", roles, {"role_name": "R", "permissions": ["api.groups.write"]}, key=team.key)
    assert "Missing scopes: api.groups.write." in said.body["error"]["message"]
    await projects.users.roles.create(team.owner, project_id=team.project_id, role_id=strong.id)
    given = await api.ask(
        "POST", f"/projects/{team.project_id}/groups/{group}/roles", {"role_id": strong.id}, key=team.key
    )
    assert given.status == 200, "now they have it too"


async def test_a_group_is_not_a_way_to_more(api: AdminApi) -> None:
    """Somebody who manages groups, and nothing else, cannot get into one that may more."""
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    mallory = await add_user(api, "mallory")
    role = await organization.roles.create(role_name="Groups", permissions=["api.groups.write", "api.roles.write"])
    await organization.users.roles.create(mallory, role_id=role.id)
    key = await key_of(api, mallory)
    harmless, mighty, in_project = [(await organization.groups.create(name=name)).id for name in ("A", "B", "C")]
    await organization.groups.roles.create(mighty, role_id="role-api-organization-owner")
    await organization.projects.groups.create(project.id, group_id=in_project, role="owner")
    added = await api.ask("POST", f"/organization/groups/{harmless}/users", {"user_id": mallory}, key=key)
    assert added.status == 200
    await refused(
        api,
        key,
        [
            ("POST", f"/organization/groups/{mighty}/users", {"user_id": mallory}),
            ("POST", f"/organization/groups/{in_project}/users", {"user_id": mallory}),
            ("POST", f"/organization/groups/{harmless}/roles", {"role_id": "role-api-organization-owner"}),
            ("POST", f"/organization/users/{mallory}/roles", {"role_id": "role-api-organization-owner"}),
            ("POST", "/organization/roles", {"role_name": "R", "permissions": ["api.users.write"]}),
            ("POST", f"/organization/roles/{role.id}", {"permissions": ["api.groups.write", "api.users.write"]}),
        ],
    )
    again = await api.ask("POST", f"/organization/groups/{harmless}/roles", {"role_id": role.id}, key=key)
    assert again.status == 200, "what they have themselves, they may give"


async def test_a_restricted_key_gives_no_more_than_it_may(api: AdminApi) -> None:
    boss = await add_user(api, "boss", "owner")
    key = await key_of(api, boss, ["api.roles.write"])
    more = {"role_name": "R", "permissions": ["api.groups.write"]}
    await refused(
        api,
        key,
        [
            ("POST", "/organization/roles", more),
            ("POST", f"/organization/users/{boss}/roles", {"role_id": "role-api-organization-owner"}),
        ],
    )
    same = {"role_name": "R", "permissions": ["api.roles.write"]}
    assert (await api.ask("POST", "/organization/roles", same, key=key)).status == 200


async def test_readers_only_read(api: AdminApi) -> None:
    team = await a_team(api)
    organization = api.client.admin.organization
    group = (await organization.groups.create(name="G")).id
    reader = await add_user(api, "rita")
    await add_member(api, team.project_id, reader)
    key = await key_of(api, reader)
    for path in (
        "/organization/groups",
        f"/organization/groups/{group}/users",
        "/organization/roles",
        f"/organization/users/{team.owner}/roles",
        f"/organization/projects/{team.other_id}/groups",
        f"/projects/{team.project_id}/roles",
        f"/projects/{team.project_id}/users/{reader}/roles",
    ):
        assert (await api.ask("GET", path, key=key)).status == 200, path
    await refused(
        api,
        key,
        [
            ("POST", "/organization/groups", {"name": "New"}),
            ("POST", f"/organization/groups/{group}/users", {"user_id": reader}),
            ("POST", "/organization/roles", {"role_name": "R", "permissions": []}),
            ("POST", f"/projects/{team.project_id}/roles", {"role_name": "R", "permissions": []}),
            ("POST", f"/projects/{team.project_id}/users/{reader}/roles", {"role_id": "role-api-project-member"}),
            ("POST", f"/organization/projects/{team.project_id}/service_accounts", {"name": "bot"}),
        ],
    )


async def test_what_a_user_may_comes_from_everywhere(api: AdminApi) -> None:
    organization, team = api.client.admin.organization, await a_team(api)
    user, group = await add_user(api, "uma"), (await organization.groups.create(name="G")).id
    reading, (owning, member, _) = Grant(("*.read",)), predefined(team.project_id)
    assert await granted(api, user) == {reading}
    await organization.groups.users.create(group, user_id=user)
    role = await organization.roles.create(role_name="A", permissions=["api.groups.write", "api.unknown.thing"])
    await organization.groups.roles.create(group, role_id=role.id)
    everywhere = {reading, Grant(("api.groups.write", "api.unknown.thing"))}
    assert await granted(api, user) == everywhere
    await organization.projects.groups.create(team.project_id, group_id=group, role="owner")
    await add_member(api, team.project_id, user)
    here = {Grant(role.permissions, team.project_id) for role in (owning, member)}
    assert await granted(api, user) == everywhere | here
    custom = await organization.projects.roles.create(team.project_id, role_name="K", permissions=["api.k"])
    await organization.projects.users.roles.create(user, project_id=team.project_id, role_id=custom.id)
    other = await organization.projects.roles.create(team.other_id, role_name="K", permissions=["api.other"])
    await add_member(api, team.other_id, user, "K")
    custom_grants = {Grant(("api.k",), team.project_id), Grant(("api.other",), team.other_id)}
    assert await granted(api, user) == everywhere | here | custom_grants, "each name is its project's role"
    assert other.id != custom.id
    key = await key_of(api, user)
    assert (await api.ask("POST", "/organization/groups", {"name": "N"}, key=key)).status == 200
    await organization.groups.delete(group)
    await refused(api, key, [("POST", "/organization/groups", {"name": "N"})])
    owner = await organization.users.roles.create(user, role_id="role-api-organization-owner")
    assert owner.role.permissions == ["*"]
    assert (await api.ask("POST", "/organization/groups", {"name": "N"}, key=key)).status == 200


async def test_what_is_assigned_in_a_project_ends_with_the_membership(api: AdminApi) -> None:
    """Whoever takes a user out of a project has not to think of it."""
    team, projects = await a_team(api), api.client.admin.organization.projects
    user, group = await add_user(api, "uma"), (await api.client.admin.organization.groups.create(name="G")).id
    await add_member(api, team.project_id, user)
    await projects.users.roles.create(user, project_id=team.project_id, role_id="role-api-project-owner")
    assert Grant(PROJECT_OWNING, team.project_id) in await granted(api, user)
    async with api.database.transaction() as connection:
        await connection.exec_driver_sql(f"DELETE FROM project_users WHERE user_id = '{user}'")
    assert await granted(api, user) == {Grant(("*.read",))}
    await api.client.admin.organization.groups.users.create(group, user_id=user)
    await projects.groups.create(team.project_id, group_id=group, role="member")
    await projects.groups.roles.create(group, project_id=team.project_id, role_id="role-api-project-owner")
    assert Grant(PROJECT_OWNING, team.project_id) in await granted(api, user)
    await projects.groups.delete(group, project_id=team.project_id)
    assert await granted(api, user) == {Grant(("*.read",))}


async def test_a_user_of_many_groups(api: AdminApi) -> None:
    organization, team = api.client.admin.organization, await a_team(api)
    user, expected = await add_user(api, "uma"), {Grant(("*.read",))}
    for number in range(100):
        group = await organization.groups.create(name=f"G{number}")
        await organization.groups.users.create(group.id, user_id=user)
        role = await organization.roles.create(role_name=f"R{number}", permissions=[f"api.n{number}.write"])
        await organization.groups.roles.create(group.id, role_id=role.id)
        expected.add(Grant((f"api.n{number}.write",)))
    assert await granted(api, user) == expected
    assert len([one async for one in organization.users.roles.list(user, limit=30)]) == 101
    assert await granted(api, team.owner) != expected


def test_a_long_list_of_what_is_missing_is_cut() -> None:
    with pytest.raises(GatewayError) as caught:
        Caller("admin_key", "key_x").must_hold([f"api.n{number}" for number in range(200)])
    assert "api.n9 and 190 more." in caught.value.message
