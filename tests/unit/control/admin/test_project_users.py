"""Users of projects, by the official client and by plain HTTP."""

import hashlib
from typing import Any

import openai
import pytest
from sqlalchemy import insert

from gateway.control.sql.tables import roles
from tests.fakes.admin_api import DECLARED_HASH, AdminApi


class Cast:
    """A project, and two users who are not in it."""

    def __init__(self, api: AdminApi) -> None:
        self.api = api
        self.organization = api.client.admin.organization
        self.users = self.organization.projects.users
        self.project_id = self.ada = self.bob = ""

    async def enter(self) -> "Cast":
        self.project_id = (await self.organization.projects.create(name="Chat")).id
        for email in ("ada@example.com", "bob@example.com"):
            await self.organization.invites.create(email=email, role="reader")
        ids = {user.email: user.id async for user in self.organization.users.list()}
        self.ada, self.bob = ids["ada@example.com"], ids["bob@example.com"]
        return self

    @property
    def path(self) -> str:
        return f"/organization/projects/{self.project_id}/users"

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        return await self.api.ask(method, self.path + path, body, **more)


@pytest.fixture
async def cast(api: AdminApi) -> Cast:
    return await Cast(api).enter()


async def test_the_life_of_a_project_user(cast: Cast) -> None:
    users, project_id = cast.users, cast.project_id
    made = await users.create(project_id, user_id=cast.ada, role="member")
    assert (made.id, made.email, made.name, made.role, made.added_at) == (
        cast.ada,
        "ada@example.com",
        "ada@example.com",
        "member",
        1_800_000_000,
    )
    cast.api.clock.advance(1)
    other = await users.create(project_id, email="BOB@example.com", role="owner")
    assert (other.id, other.email, other.role) == (cast.bob, "bob@example.com", "owner")
    assert await users.retrieve(cast.ada, project_id=project_id) == made
    assert [one.id async for one in users.list(project_id, limit=1)] == [cast.ada, cast.bob]
    assert (await cast.ask("GET", f"/{cast.bob}")).body["created_at"] == 1_800_000_001
    assert (await users.update(cast.ada, project_id=project_id, role="owner")).role == "owner"
    assert (await users.update(cast.ada, project_id=project_id)).role == "owner"
    gone = await users.delete(cast.ada, project_id=project_id)
    assert (gone.id, gone.deleted, gone.object) == (cast.ada, True, "organization.project.user.deleted")
    with pytest.raises(openai.NotFoundError):
        await users.retrieve(cast.ada, project_id=project_id)
    assert (await cast.organization.users.retrieve(cast.ada)).role == "reader", "still in the organization"
    assert await cast.api.events(project_ids=project_id, resource_ids=f"{cast.ada},{cast.bob}") == [
        ("user.deleted", {"id": cast.ada}),
        ("user.updated", {"id": cast.ada, "changes_requested": {"role": "owner"}}),
        ("user.added", {"id": cast.bob, "data": {"role": "owner"}}),
        ("user.added", {"id": cast.ada, "data": {"role": "member"}}),
    ]


async def test_keys_work_while_their_user_is_in_the_project(cast: Cast) -> None:
    other = await Cast(cast.api).organization.projects.create(name="Other")
    hashes = []
    for project_id in (cast.project_id, other.id):
        await cast.users.create(project_id, user_id=cast.ada, role="member")
        path = f"/organization/projects/{project_id}/api_keys"
        made = await cast.api.ask("POST", path, {"user_id": cast.ada, "name": "k"})
        hashes.append(hashlib.sha256(made.body["value"].encode()).hexdigest())

    def revoked() -> list[bool]:
        return [cast.api.principal(key_hash).revoked for key_hash in hashes]  # type: ignore[union-attr]

    assert revoked() == [False, False]
    await cast.users.delete(cast.ada, project_id=cast.project_id)
    assert revoked() == [True, False], "in this project only"
    keys = cast.organization.projects.api_keys
    (key,) = [one async for one in keys.list(cast.project_id, owner_project_access="any")]
    assert key.owner_project_access == "inactive"
    await cast.users.create(cast.project_id, user_id=cast.ada, role="member")
    assert revoked() == [False, False]


async def test_roles_that_somebody_has_made(cast: Cast) -> None:
    made = {"organization_id": "org-gateway", "permissions": ["api.organization.projects.api_keys.write"]}
    other = await cast.organization.projects.create(name="Other")
    rows = [
        {"id": "role_here", "name": "Keeper", "project_id": cast.project_id, **made},
        {"id": "role_there", "name": "Other", "project_id": other.id, **made},
    ]
    async with cast.api.database.transaction() as connection:
        await connection.execute(insert(roles), [{**row, "created_at": 1, "updated_at": 1} for row in rows])
    assert (await cast.users.create(cast.project_id, user_id=cast.ada, role="Keeper")).role == "Keeper"
    assert (await cast.users.update(cast.ada, project_id=cast.project_id, role="role_here")).role == "role_here"
    for role in ("role_there", "Other", "onwer"):
        refused = await cast.ask("POST", "", {"user_id": cast.bob, "role": role})
        assert refused.error == (404, "not_found", None)
    adding = await cast.api.ask(
        "POST", "/organization/admin_api_keys", {"name": "k", "scopes": ["api.organization.projects.users.write"]}
    )
    refused = await cast.ask("POST", "", {"user_id": cast.bob, "role": "Keeper"}, key=adding.body["value"])
    assert refused.error == (401, "insufficient_permissions", None), "more than the caller has"


async def test_owners_of_a_project_manage_its_users(cast: Cast) -> None:
    await cast.users.create(cast.project_id, user_id=cast.ada, role="owner")
    made = await cast.api.ask("POST", "/organization/admin_api_keys", {"name": "k", "user_id": cast.ada})
    key = made.body["value"]
    assert (await cast.ask("POST", "", {"user_id": cast.bob, "role": "owner"}, key=key)).status == 200
    assert (await cast.ask("POST", f"/{cast.bob}", {"role": "member"}, key=key)).status == 200
    assert (await cast.ask("DELETE", f"/{cast.bob}", key=key)).status == 200
    other = await cast.organization.projects.create(name="Other")
    path = f"/organization/projects/{other.id}/users"
    refused = await cast.api.ask("POST", path, {"user_id": cast.bob, "role": "member"}, key=key)
    assert refused.error == (401, "insufficient_permissions", None)


async def test_who_may_only_add_users_does_not_touch_owners(cast: Cast) -> None:
    await cast.users.create(cast.project_id, user_id=cast.ada, role="owner")
    made = await cast.api.ask(
        "POST", "/organization/admin_api_keys", {"name": "k", "scopes": ["api.organization.projects.users.*"]}
    )
    key = made.body["value"]
    assert (await cast.ask("POST", "", {"user_id": cast.bob, "role": "member"}, key=key)).status == 200
    for method, path, body in (
        ("POST", f"/{cast.bob}", {"role": "owner"}),
        ("POST", f"/{cast.ada}", {"role": "member"}),
        ("DELETE", f"/{cast.ada}", None),
    ):
        refused = await cast.ask(method, path, body, key=key)
        assert refused.error == (401, "insufficient_permissions", None)
    assert (await cast.ask("DELETE", f"/{cast.bob}", key=key)).status == 200


async def test_declared_users_are_members_like_others(declared: AdminApi) -> None:
    users = declared.client.admin.organization.projects.users
    made = await users.create("proj_declared", user_id="ada@example.com", role="owner")
    assert await users.retrieve("ada@example.com", project_id="proj_declared") == made
    assert (await users.update("ada@example.com", project_id="proj_declared", role="member")).role == "member"
    assert (await users.delete("ada@example.com", project_id="proj_declared")).deleted
    principal = declared.principal(DECLARED_HASH)
    assert principal is not None
    assert principal.revoked is False, "what the settings declare works without"


async def test_an_archived_project_keeps_its_users_and_takes_no_others(cast: Cast) -> None:
    await cast.users.create(cast.project_id, user_id=cast.ada, role="owner")
    await cast.organization.projects.archive(cast.project_id)
    for method, path, body in (
        ("POST", "", {"user_id": cast.bob, "role": "member"}),
        ("POST", f"/{cast.ada}", {"role": "member"}),
        ("DELETE", f"/{cast.ada}", None),
    ):
        assert (await cast.ask(method, path, body)).error == (400, "invalid_state", None)
    assert [one.id async for one in cast.users.list(cast.project_id)] == [cast.ada]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"user_id": "user-none"}, (400, "missing_required_parameter", "role")),
        ({"role": "member"}, (400, "missing_required_parameter", "user_id")),
        ({"role": "member", "user_id": "user-none"}, (404, "not_found", None)),
        ({"role": "member", "email": "none@example.com"}, (404, "not_found", None)),
        ({"role": "member", "user_id": "a\0b"}, (400, "invalid_value", "user_id")),
        ({"role": "", "user_id": "x"}, (400, "invalid_value", "role")),
        ({"role": "a" * 101, "user_id": "x"}, (400, "invalid_value", "role")),
        ({"role": None, "user_id": "x"}, (400, "invalid_value", "role")),
    ],
)
async def test_mistakes(cast: Cast, body: object, error: tuple[int, str, str]) -> None:
    assert (await cast.ask("POST", "", body)).error == error


async def test_mistakes_with_users(cast: Cast) -> None:
    await cast.users.create(cast.project_id, user_id=cast.ada, role="member")
    ada = {"role": "owner", "user_id": cast.ada}
    assert (await cast.ask("POST", "", ada)).error == (400, "already_exists", None)
    assert (await cast.ask("POST", "", {**ada, "email": "bob@example.com"})).error == (400, "invalid_value", "email")
    assert (await cast.ask("POST", "", {**ada, "email": "ada@example.com"})).error == (400, "already_exists", None)
    assert (await cast.ask("POST", f"/{cast.ada}", {"role": "onwer"})).error == (404, "not_found", None)
    for path in (f"/{cast.bob}", "/a%00b"):
        assert (await cast.ask("GET", path)).error == (404, "not_found", None)
        assert (await cast.ask("POST", path, {"role": "owner"})).error == (404, "not_found", None)
        assert (await cast.ask("DELETE", path)).error == (404, "not_found", None)
    await cast.organization.users.delete(cast.bob)
    for who in ({"user_id": cast.bob}, {"email": "bob@example.com"}):
        assert (await cast.ask("POST", "", {"role": "member", **who})).error == (404, "not_found", None)
    missing = await cast.api.ask("GET", "/organization/projects/proj_none/users")
    assert missing.error == (404, "not_found", None)
