"""Invites, by the official client and by plain HTTP."""

from pathlib import Path

import openai
import pytest

from gateway.control.registry.changes import Changes
from gateway.control.registry.reconcile import reconcile
from tests.fakes.admin_api import AdminApi, settings_of

INVITES = "/organization/invites"


async def test_whoever_is_invited_is_a_user(api: AdminApi) -> None:
    organization = api.client.admin.organization
    first = await organization.projects.create(name="First")
    second = await organization.projects.create(name="Second")
    made = await organization.invites.create(
        email="Ada@example.com",
        role="reader",
        projects=[{"id": second.id, "role": "owner"}, {"id": first.id, "role": "member"}],
    )
    assert (made.email, made.role, made.status) == ("Ada@example.com", "reader", "accepted")
    assert (made.created_at, made.accepted_at) == (1_800_000_000, 1_800_000_000)
    assert made.expires_at == 1_800_000_000 + 7 * 86_400
    assert [(one.id, one.role) for one in made.projects] == [(second.id, "owner"), (first.id, "member")]
    assert await organization.invites.retrieve(made.id) == made
    assert [one async for one in organization.invites.list()] == [made]
    raw = (await api.ask("GET", f"{INVITES}/{made.id}")).body
    assert (raw["invited_at"], raw["created_at"]) == (1_800_000_000, 1_800_000_000), "of the older API and of the newer"
    (user,) = [one async for one in organization.users.list()]
    assert (user.email, user.name, user.role) == ("Ada@example.com", "Ada@example.com", "reader")
    members = organization.projects.users
    assert (await members.retrieve(user.id, project_id=first.id)).role == "member"
    assert (await members.retrieve(user.id, project_id=second.id)).role == "owner"
    assert (await api.events())[:5] == [
        ("invite.accepted", {"id": made.id}),
        ("user.added", {"id": user.id, "data": {"role": "member"}}),
        ("user.added", {"id": user.id, "data": {"role": "owner"}}),
        ("user.added", {"id": user.id, "data": {"role": "reader"}}),
        ("invite.sent", {"id": made.id, "data": {"email": "Ada@example.com", "role": "reader"}}),
    ]
    assert len(await api.events(project_ids=first.id, resource_ids=user.id)) == 1


async def test_deleting_an_invite_leaves_its_user(api: AdminApi) -> None:
    """So that Terraform can destroy what it made."""
    organization = api.client.admin.organization
    made = await organization.invites.create(email="ada@example.com", role="reader", projects=[])
    gone = await organization.invites.delete(made.id)
    assert (gone.id, gone.deleted, gone.object) == (made.id, True, "organization.invite.deleted")
    assert await api.events(event_types="invite.deleted") == [("invite.deleted", {"id": made.id})]
    with pytest.raises(openai.NotFoundError):
        await organization.invites.retrieve(made.id)
    with pytest.raises(openai.NotFoundError):
        await organization.invites.delete(made.id)
    assert [one async for one in organization.invites.list()] == []
    assert [one.email async for one in organization.users.list()] == ["ada@example.com"]


async def test_nobody_is_invited_twice(api: AdminApi) -> None:
    invites = api.client.admin.organization.invites
    made = await invites.create(email="ada@example.com", role="reader")
    assert made.projects == []
    for email in ("ada@example.com", "ADA@example.com"):
        refused = await api.ask("POST", INVITES, {"email": email, "role": "owner"})
        assert refused.error == (400, "already_exists", None)
    assert [one.id async for one in invites.list()] == [made.id], "a refused one leaves nothing"


async def test_who_was_removed_comes_back_as_somebody_new(api: AdminApi) -> None:
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    await organization.invites.create(
        email="ada@example.com", role="owner", projects=[{"id": project.id, "role": "owner"}]
    )
    (user,) = [one async for one in organization.users.list()]
    await organization.users.update(user.id, developer_persona="builder")
    await organization.users.delete(user.id)
    api.clock.advance(60)
    await organization.invites.create(email="Ada@example.com", role="reader")
    back = await organization.users.retrieve(user.id)
    assert (back.email, back.role, back.added_at, back.developer_persona) == (
        "Ada@example.com",
        "reader",
        1_800_000_060,
        None,
    )
    assert back.projects is not None
    assert back.projects.data == []


async def test_whom_the_settings_let_go_of_brings_nothing_along(declared: AdminApi, tmp_path: Path) -> None:
    organization = declared.client.admin.organization
    refused = await declared.ask("POST", INVITES, {"email": "ada@example.com", "role": "reader"})
    assert refused.error == (400, "already_exists", None)
    await organization.projects.users.create("proj_declared", user_id="ada@example.com", role="owner")
    key = await declared.ask(
        "POST", "/organization/projects/proj_declared/api_keys", {"user_id": "ada@example.com", "name": "k"}
    )
    settings = settings_of(tmp_path, projects=[{"id": "proj_declared"}])
    await reconcile(Changes(declared.database, declared.clock), settings, declared.clock)
    await organization.invites.create(email="ada@example.com", role="reader")
    back = await organization.users.retrieve("ada@example.com")
    assert back.projects is not None
    assert back.projects.data == []
    refused = await declared.ask("GET", f"/organization/projects/proj_declared/api_keys/{key.body['id']}")
    assert refused.status == 404


async def test_only_owners_make_owners(api: AdminApi) -> None:
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    key = await api.ask("POST", "/organization/admin_api_keys", {"name": "inviting", "scopes": ["api.invites.write"]})
    for body in (
        {"email": "a@b.c", "role": "owner"},
        {"email": "a@b.c", "role": "reader", "projects": [{"id": project.id, "role": "owner"}]},
    ):
        refused = await api.ask("POST", INVITES, body, key=key.body["value"])
        assert refused.error == (401, "insufficient_permissions", None)
    allowed = {"email": "a@b.c", "role": "reader", "projects": [{"id": project.id, "role": "member"}]}
    assert (await api.ask("POST", INVITES, allowed, key=key.body["value"])).status == 200
    assert (await api.ask("GET", INVITES, key=key.body["value"])).status == 401


async def test_pages(api: AdminApi) -> None:
    invites = api.client.admin.organization.invites
    made = []
    for number in range(5):
        api.clock.advance(1)
        made.append((await invites.create(email=f"u{number}@example.com", role="reader")).id)
    assert [one.id async for one in invites.list(limit=2)] == made
    page = await api.ask("GET", f"{INVITES}?after={made[3]}")
    assert (page.body["first_id"], page.body["last_id"], page.body["has_more"]) == (made[4], made[4], False)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"role": "reader"}, (400, "missing_required_parameter", "email")),
        ({"email": "a@b.c"}, (400, "missing_required_parameter", "role")),
        ({"email": "", "role": "reader"}, (400, "invalid_value", "email")),
        ({"email": "a b@c", "role": "reader"}, (400, "invalid_value", "email")),
        ({"email": "a@b.c\n", "role": "reader"}, (400, "invalid_value", "email")),
        ({"email": "a\0@b.c", "role": "reader"}, (400, "invalid_value", "email")),
        ({"email": "a@" + "b" * 320, "role": "reader"}, (400, "invalid_value", "email")),
        ({"email": "a@b.c", "role": "king"}, (400, "invalid_value", "role")),
        ({"email": "a@b.c", "role": "reader", "projects": {}}, (400, "invalid_value", "projects")),
        ({"email": "a@b.c", "role": "reader", "projects": [{"id": "x"}]},
         (400, "missing_required_parameter", "projects[0].role")),
        ({"email": "a@b.c", "role": "reader", "projects": [{"id": "x", "role": "reader"}]},
         (400, "invalid_value", "projects[0].role")),
        ({"email": "a@b.c", "role": "reader", "projects": [{"id": "proj_none", "role": "member"}]},
         (400, "invalid_value", "projects[0].id")),
    ],
)  # fmt: skip
async def test_mistakes(api: AdminApi, body: object, error: tuple[int, str, str]) -> None:
    assert (await api.ask("POST", INVITES, body)).error == error


async def test_mistakes_with_projects(api: AdminApi) -> None:
    projects = api.client.admin.organization.projects
    there, archived = await projects.create(name="there"), await projects.create(name="archived")
    await projects.archive(archived.id)
    for other in (there.id, archived.id):
        into = [{"id": there.id, "role": "member"}, {"id": other, "role": "member"}]
        refused = await api.ask("POST", INVITES, {"email": "a@b.c", "role": "reader", "projects": into})
        assert refused.error == (400, "invalid_value", "projects[1].id")
    assert [one async for one in api.client.admin.organization.users.list()] == []
    for path in ("invite-none", "a%00b"):
        assert (await api.ask("GET", f"{INVITES}/{path}")).error == (404, "not_found", None)
        assert (await api.ask("DELETE", f"{INVITES}/{path}")).error == (404, "not_found", None)
