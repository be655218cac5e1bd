"""Users, by the official client and by plain HTTP."""

import hashlib
from typing import Any

import openai
import pytest
from sqlalchemy import insert, select

from gateway.control.sql.tables import role_assignments, roles
from tests.fakes.admin_api import AdminApi

USERS = "/organization/users"


async def invited(api: AdminApi, email: str, role: Any = "reader") -> str:
    """Makes a user, and says which id they have."""
    await api.client.admin.organization.invites.create(email=email, role=role)
    (user,) = [one async for one in api.client.admin.organization.users.list(emails=[email])]
    return user.id


async def admin_key(api: AdminApi, **body: Any) -> str:
    made = await api.ask("POST", "/organization/admin_api_keys", {"name": "k", **body})
    return str(made.body["value"])


async def test_the_life_of_a_user(api: AdminApi) -> None:
    users = api.client.admin.organization.users
    ada = await invited(api, "ada@example.com")
    user = await users.retrieve(ada)
    assert (user.id, user.role, user.added_at, user.created) == (ada, "reader", 1_800_000_000, 1_800_000_000)
    assert user.user is not None
    assert (user.user.id, user.user.email, user.user.enabled) == (ada, "ada@example.com", True)
    assert [one async for one in users.list()] == [user]
    changed = await users.update(ada, role="owner", developer_persona="builder", technical_level="high")
    assert (changed.role, changed.developer_persona, changed.technical_level) == ("owner", "builder", "high")
    changed = await users.update(ada, technical_level=None)
    assert (changed.role, changed.developer_persona, changed.technical_level) == ("owner", "builder", None)
    assert await users.update(ada, role="owner") == changed, "nothing to change"
    assert await users.update(ada, role=None) == changed
    assert await api.events(event_types="user.updated") == [
        ("user.updated", {"id": ada, "changes_requested": {"technical_level": None}}),
        ("user.updated", {"id": ada, "changes_requested": {
            "role": "owner", "developer_persona": "builder", "technical_level": "high"}}),
    ]  # fmt: skip
    gone = await users.delete(ada)
    assert (gone.id, gone.deleted, gone.object) == (ada, True, "organization.user.deleted"), "also the last owner"
    assert await api.events(event_types="user.deleted") == [("user.deleted", {"id": ada})]
    assert [one async for one in users.list()] == []
    for again in (users.retrieve(ada), users.update(ada, role="reader"), users.delete(ada)):
        with pytest.raises(openai.NotFoundError):
            await again


async def test_pages_and_filters(api: AdminApi) -> None:
    users = api.client.admin.organization.users
    ids = []
    for number in range(5):
        api.clock.advance(1)
        ids.append(await invited(api, f"u{number}@example.com"))
    assert [one.id async for one in users.list(limit=2)] == ids
    page = await api.ask("GET", f"{USERS}?limit=2&after={ids[0]}")
    assert (page.body["first_id"], page.body["last_id"], page.body["has_more"]) == (ids[1], ids[2], True)
    assert [one.id async for one in users.list(emails=["u3@example.com", "U1@example.com", "x"])] == [ids[1], ids[3]]
    assert [one async for one in users.list(emails=["u3@example"])] == []


@pytest.mark.parametrize(
    "query",
    ["emails[]=x@example.com&emails[]=y@example.com", "emails[0]=x@example.com&emails[1]=y@example.com",
     "emails=x@example.com&emails=y@example.com", "emails=x@example.com,y@example.com",
     "emails%5B%5D=x%40example.com&emails%5B%5D=y%40example.com"],
)  # fmt: skip
async def test_spellings_of_lists(api: AdminApi, query: str) -> None:
    for name in "xyz":
        api.clock.advance(1)
        await invited(api, f"{name}@example.com")
    found = await api.ask("GET", f"{USERS}?{query}")
    assert [one["email"] for one in found.body["data"]] == ["x@example.com", "y@example.com"]


async def test_their_projects(api: AdminApi) -> None:
    organization = api.client.admin.organization
    ada, bob = await invited(api, "ada@example.com"), await invited(api, "bob@example.com")
    first, second = await organization.projects.create(name="First"), await organization.projects.create(name="Second")
    await organization.projects.users.create(first.id, user_id=ada, role="owner")
    api.clock.advance(1)
    await organization.projects.users.create(second.id, user_id=ada, role="member")
    found = {user.id: user.projects async for user in organization.users.list()}
    shown = {user_id: [(one.id, one.name, one.role) for one in their.data] for user_id, their in found.items() if their}
    assert shown == {ada: [(first.id, "First", "owner"), (second.id, "Second", "member")], bob: []}
    await organization.projects.archive(first.id)
    user = await organization.users.retrieve(ada)
    assert user.projects is not None
    assert [one.id for one in user.projects.data] == [second.id]


async def test_all_that_a_removed_user_could_do_ends_at_once(api: AdminApi) -> None:
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    ada = await invited(api, "ada@example.com", "owner")
    await organization.projects.users.create(project.id, user_id=ada, role="member")
    made = await api.ask("POST", f"/organization/projects/{project.id}/api_keys", {"user_id": ada, "name": "laptop"})
    key_hash = hashlib.sha256(made.body["value"].encode()).hexdigest()
    admin = await admin_key(api, user_id=ada)
    assert api.principal(key_hash).revoked is False  # type: ignore[union-attr]
    assert (await api.ask("GET", USERS, key=admin)).status == 200
    await organization.users.delete(ada)
    assert api.principal(key_hash).revoked  # type: ignore[union-attr]
    assert (await api.ask("GET", USERS, key=admin)).error == (401, "invalid_api_key", None)
    assert [one async for one in organization.projects.users.list(project.id)] == []
    assert [one async for one in organization.admin_api_keys.list()] == []
    types = [kind for kind, _ in await api.events()]
    assert types[1:4] == ["user.deleted", "api_key.deleted", "api_key.deleted"], "after the wrong key"
    assert await invited(api, "ada@example.com", "owner") == ada
    assert api.principal(key_hash).revoked  # type: ignore[union-attr]
    assert (await api.ask("GET", USERS, key=admin)).status == 401, "keys do not come back with their user"


async def test_only_owners_touch_owners(api: AdminApi) -> None:
    owner, reader = await invited(api, "o@example.com", "owner"), await invited(api, "r@example.com")
    key = await admin_key(api, scopes=["api.users.write"])
    for method, path, body in (
        ("POST", reader, {"role": "owner"}),
        ("POST", owner, {"role": "reader"}),
        ("DELETE", owner, None),
    ):
        refused = await api.ask(method, f"{USERS}/{path}", body, key=key)
        assert refused.error == (401, "insufficient_permissions", None)
    assert (await api.ask("POST", f"{USERS}/{owner}", {"technical_level": "x"}, key=key)).status == 200
    assert (await api.ask("DELETE", f"{USERS}/{reader}", key=key)).status == 200
    own = await admin_key(api, user_id=owner)
    other = await invited(api, "x@example.com")
    assert (await api.ask("POST", f"{USERS}/{other}", {"role": "owner"}, key=own)).body["role"] == "owner"
    as_reader = await admin_key(api, user_id=await invited(api, "y@example.com"))
    assert (await api.ask("GET", f"{USERS}/{other}", key=as_reader)).status == 200
    refused = await api.ask("POST", f"{USERS}/{other}", {"technical_level": "x"}, key=as_reader)
    assert refused.error == (401, "insufficient_permissions", None)


async def test_a_role_is_assigned_besides(api: AdminApi) -> None:
    ada = await invited(api, "ada@example.com")
    made = {"id": "role_x", "organization_id": "org-gateway", "name": "Inviting", "permissions": ["api.invites.write"]}
    async with api.database.transaction() as connection:
        await connection.execute(insert(roles).values(**made, created_at=1, updated_at=1))
    assert (await api.client.admin.organization.users.update(ada, role_id="role_x")).role == "reader"
    assert (await api.client.admin.organization.users.update(ada, role_id="role_x")).role == "reader", "again"
    async with api.database.transaction() as connection:
        (row,) = await connection.execute(select(role_assignments))
    assert (row.role_id, row.principal_type, row.principal_id, row.project_id) == ("role_x", "user", ada, "")
    assert len(await api.events(event_types="role.assignment.created")) == 1
    key = await admin_key(api, scopes=["api.users.write"])
    refused = await api.ask("POST", f"{USERS}/{ada}", {"role_id": "role_x"}, key=key)
    assert refused.error == (401, "insufficient_permissions", None), "more than the caller has"
    await api.client.admin.organization.users.delete(ada)
    async with api.database.transaction() as connection:
        assert list(await connection.execute(select(role_assignments))) == []


async def test_declared_users_are_shown_and_not_changed(declared: AdminApi) -> None:
    users = declared.client.admin.organization.users
    (user,) = [one async for one in users.list()]
    assert (user.id, user.email, user.role) == ("ada@example.com", "ada@example.com", "reader")
    assert await users.retrieve("ada@example.com") == user
    for method, body in (("POST", {"role": "owner"}), ("DELETE", None)):
        refused = await declared.ask(method, f"{USERS}/ada@example.com", body)
        assert refused.error == (400, "declared_in_settings", None)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"role": "member"}, (400, "invalid_value", "role")),
        ({"role": 5}, (400, "invalid_value", "role")),
        ({"role_id": "role_none"}, (404, "not_found", None)),
        ({"role_id": ""}, (400, "invalid_value", "role_id")),
        ({"technical_level": "a\0b"}, (400, "invalid_value", "technical_level")),
        ({"developer_persona": "a" * 257}, (400, "invalid_value", "developer_persona")),
        ({"name": "x"}, (400, "unknown_parameter", "name")),
    ],
)
async def test_mistakes(api: AdminApi, body: object, error: tuple[int, str, str]) -> None:
    ada = await invited(api, "ada@example.com")
    assert (await api.ask("POST", f"{USERS}/{ada}", body)).error == error
    assert (await api.ask("POST", f"{USERS}/a%00b", {})).error == (404, "not_found", None)
    assert (await api.ask("GET", f"{USERS}?emails[]=a%00b")).error == (400, "invalid_value", "emails.0")
    assert (await api.ask("GET", f"{USERS}?after=user-none")).error == (400, "invalid_value", "after")
    assert (await api.ask("GET", USERS + "?emails=" + "," * 100)).error == (400, "invalid_value", "emails")
