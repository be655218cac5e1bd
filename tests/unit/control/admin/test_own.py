"""What an API key may ask about itself, and that it may ask nothing else."""

import asyncio

import pytest

from tests.fakes.admin_api import AdminApi


class Own:
    def __init__(self, api: AdminApi, project: str, key: str, secret: str, account: str) -> None:
        self.api, self.project, self.key, self.secret, self.account = api, project, key, secret, account

    async def ask(self, path: str, method: str = "GET", body: object = None) -> tuple[int, object]:
        found = await self.api.ask(method, path, body, key=self.secret)
        return found.status, found.body


@pytest.fixture
async def own(api: AdminApi) -> Own:
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    made = await organization.projects.service_accounts.create(project.id, name="bot")
    assert made.api_key is not None
    return Own(api, project.id, made.api_key.id, made.api_key.value, made.id)


async def test_who_it_is_and_which_limits_hold(own: Own) -> None:
    path = f"/organization/projects/{own.project}"
    limits = {"max_requests_per_1_minute": 7}
    assert (await own.api.ask("POST", f"{path}/rate_limits/rl-gpt-4o", limits)).status == 200
    budget = {"threshold_amount": 500, "currency": "USD", "interval": "month"}
    assert (await own.api.ask("POST", f"{path}/spend_limit", budget)).status == 200
    status, found = await own.ask("/organization/api_key?model=gpt-4o")
    assert status == 200
    assert isinstance(found, dict)
    assert (found["id"], found["project"], found["user_id"]) == (
        own.key,
        {"id": own.project, "name": "Chat"},
        own.account,
    )
    assert found["rate_limits"] == [
        {"scope": "project_model", "subject_id": own.project, "model": "gpt-4o", "shadow": False,
         "kind": "requests_per_minute", "limit": 7}
    ]  # fmt: skip
    assert found["spend_limits"] == [
        {"scope": "project", "subject_id": own.project, "shadow": False, "interval": "month", "currency": "USD",
         "threshold_amount": 500, "spent_amount": 0}
    ]  # fmt: skip
    assert found["spent_amounts"] == {"day": 0, "week": 0, "month": 0, "total": 0}
    assert (await own.ask("/organization/api_key"))[1]["rate_limits"] == []  # type: ignore[index]


async def test_what_it_may_see(own: Own) -> None:
    project = f"/organization/projects/{own.project}"
    key = f"{project}/api_keys/{own.key}"
    for path in (project, key, f"{key}/rate_limits", f"{project}/rate_limits"):
        assert (await own.ask(path))[0] == 200, path
    for path in (f"{key}/spend_limit", f"{project}/spend_limit", "/organization/spend_limit"):
        assert (await own.ask(path))[0] == 404, f"{path}: there is none"


async def test_what_it_may_not(own: Own) -> None:
    other = (await own.api.client.admin.organization.projects.create(name="Other")).id
    account = await own.api.client.admin.organization.projects.service_accounts.create(own.project, name="other")
    assert account.api_key is not None
    here = f"/organization/projects/{own.project}"
    for method, path in (
        ("GET", "/organization/projects"),
        ("GET", f"/organization/projects/{other}"),
        ("GET", f"/organization/projects/{other}/rate_limits"),
        ("GET", f"{here}/api_keys"),
        ("GET", f"{here}/api_keys/{account.api_key.id}"),
        ("GET", f"{here}/service_accounts"),
        ("GET", "/organization/audit_logs"),
        ("POST", here),
        ("POST", f"{here}/archive"),
        ("POST", f"{here}/rate_limits/rl-gpt-4o"),
        ("DELETE", f"{here}/api_keys/{own.key}"),
        ("POST", "/organization/spend_limit"),
        ("GET", f"/organization/users/{own.account}/spend_limit"),
    ):
        assert (await own.ask(path, method))[0] in {401, 404}, path
    assert (await own.api.ask("GET", "/organization/api_key")).error == (401, "insufficient_permissions", None)


async def test_it_may_nothing_where_it_does_not_work(api: AdminApi) -> None:
    """A user's key in a project works while they are in it, here as well as for calls."""
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    await organization.invites.create(email="ada@example.com", role="reader")
    (ada,) = [user async for user in organization.users.list()]
    await organization.projects.users.create(project.id, user_id=ada.id, role="member")
    path = f"/organization/projects/{project.id}/api_keys"
    made = await api.ask("POST", path, {"user_id": ada.id, "name": "k"})
    asked = ("GET", "/organization/api_key")
    assert (await api.ask(*asked, key=made.body["value"])).body["user_id"] == ada.id
    await organization.projects.users.delete(ada.id, project_id=project.id)
    assert (await api.ask(*asked, key=made.body["value"])).error == (401, "invalid_api_key", None)
    await organization.projects.users.create(project.id, user_id=ada.id, role="member")
    assert (await api.ask(*asked, key=made.body["value"])).status == 200


async def test_redis_is_waited_for_once(own: Own) -> None:
    """Whoever waits holds a connection of the database, and SQLite has but one."""
    own.api.server.pause()
    try:
        async with asyncio.timeout(1.5):
            status, found = await own.ask("/organization/api_key")
    finally:
        own.api.server.resume()
    assert status == 200
    assert isinstance(found, dict)
    assert found["spent_amounts"] == {"day": None, "week": None, "month": None, "total": None}
