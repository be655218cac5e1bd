"""The audit log, by the official client and by plain HTTP; and what happens to whoever tries wrong keys."""

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import select

from gateway.clock import ManualClock
from gateway.control.admin.identify import Failures
from gateway.control.sql.tables import audit_logs
from gateway.errors import TOO_MANY_FAILURES, GatewayError
from tests.fakes.admin_api import ADMIN_KEY, AdminApi

WRONG = "sk-admin-wrong-0123456789abcdef0123456789abcdef"


async def test_what_was_done_newest_first(api: AdminApi) -> None:
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    await organization.projects.update(project.id, name="Talk")
    api.clock.advance(5)
    await organization.projects.archive(project.id)
    logs = [one async for one in organization.audit_logs.list()]
    assert [one.type for one in logs] == ["project.archived", "project.updated", "project.created"]
    assert [one.effective_at - 1_800_000_000 for one in logs] == [5, 0, 0]
    archived, updated, created = logs
    assert archived.project_archived is not None
    assert archived.project_archived.id == project.id
    assert archived.project is not None
    assert (archived.project.id, archived.project.name) == (project.id, "Talk"), "as it is called now"
    assert updated.project_updated is not None
    assert updated.project_updated.changes_requested is not None
    assert updated.project_updated.changes_requested.title == "Talk"
    assert created.project_created is not None
    assert created.actor is not None
    assert created.actor.api_key is not None
    assert (created.actor.type, created.actor.api_key.type) == ("api_key", "user")
    raw = (await api.ask("GET", "/organization/audit_logs?limit=1")).body["data"][0]
    assert raw["actor"]["api_key"]["ip_address"] == "127.0.0.1"
    assert "OpenAI/Python" in raw["actor"]["api_key"]["user_agent"]
    assert await api.events() == [
        ("project.archived", {"id": project.id}),
        ("project.updated", {"id": project.id, "changes_requested": {"name": "Talk", "title": "Talk"}}),
        ("project.created", {"id": project.id, "data": {"name": "Chat", "title": "Chat"}}),
    ]
    assert await api.events(event_types="project.archived") == [("project.archived", {"id": project.id})]


async def test_events_of_one_change_stay_in_their_order(api: AdminApi) -> None:
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    accounts = organization.projects.service_accounts
    for name in ("a", "b", "c"):
        await accounts.create(project.id, name=name)
    types = [one.type async for one in organization.audit_logs.list(limit=2)]
    assert types == ["api_key.created", "service_account.created"] * 3 + ["project.created"]


async def test_pages(api: AdminApi) -> None:
    organization = api.client.admin.organization
    for number in range(7):
        await organization.projects.create(name=f"P{number}")
    logs = organization.audit_logs
    ids = [one.id async for one in logs.list(limit=3)]
    assert len(set(ids)) == 7
    page = await logs.list(limit=2, after=ids[2])
    assert ([one.id for one in page.data], page.has_more) == (ids[3:5], True)
    page = await logs.list(limit=2, before=ids[4])
    assert ([one.id for one in page.data], page.has_more) == (ids[2:4], True), "the nearest, in the same order"
    page = await logs.list(limit=5, before=ids[2])
    assert ([one.id for one in page.data], page.has_more) == (ids[:2], False)
    page = await logs.list(after=ids[1], before=ids[5])
    assert [one.id for one in page.data] == ids[2:5]


async def test_filters(api: AdminApi) -> None:
    organization = api.client.admin.organization
    first = await organization.projects.create(name="First")
    api.clock.advance(10)
    second = await organization.projects.create(name="Second")
    api.clock.advance(10)
    other = await organization.admin_api_keys.create(name="other")
    assert other.value is not None
    client = api.as_caller(other.value)
    await client.admin.organization.projects.archive(second.id)
    await client.close()

    async def types(**filters: Any) -> list[str]:
        return [one.type async for one in organization.audit_logs.list(**filters)]

    start = 1_800_000_000
    assert await types(effective_at={"gt": start}) == ["project.archived", "api_key.created", "project.created"]
    assert await types(effective_at={"gte": start, "lt": start + 10}) == ["project.created"]
    assert await types(effective_at={"gt": start, "lte": start + 10}) == ["project.created"]
    assert await types(project_ids=[first.id]) == ["project.created"]
    assert await types(project_ids=[first.id, second.id]) == ["project.archived", "project.created", "project.created"]
    assert await types(event_types=["project.archived", "api_key.created"]) == ["project.archived", "api_key.created"]
    assert await types(resource_ids=[other.id]) == ["api_key.created"]
    assert await types(actor_ids=[other.id]) == ["project.archived"], "an admin key of nobody's"
    assert await types(actor_ids=[other.id], event_types=["project.created"]) == []
    assert await types(actor_emails=["nobody@example.com"]) == []
    assert await types(tenant_only=True) == []
    assert await types(tenant_only=False, limit=100) == await types()


@pytest.mark.parametrize(
    "query",
    ["event_types[]=a.b&event_types[]=project.created", "event_types[0]=project.created", "event_types=project.created",
     "event_types=a.b,project.created"],
)  # fmt: skip
async def test_spellings_of_lists(api: AdminApi, query: str) -> None:
    await api.client.admin.organization.projects.create(name="Chat")
    await api.client.admin.organization.admin_api_keys.create(name="x")
    found = await api.ask("GET", f"/organization/audit_logs?{query}")
    assert [one["type"] for one in found.body["data"]] == ["project.created"]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=99999999999999999999999", "limit"),
        ("effective_at[gt]=99999999999999999999999", "effective_at.gt"),
        ("effective_at[gt]=soon", "effective_at.gt"),
        ("effective_at=5", "effective_at"),
        ("tenant_only=maybe", "tenant_only"),
        ("after=audit_log-none", "after"),
        ("before=audit_log-none", "before"),
        ("actor_ids[]=a%00b", "actor_ids.0"),
        ("actor_ids=" + "a," * 201, "actor_ids"),
    ],
)
async def test_mistakes(api: AdminApi, query: str, param: str) -> None:
    assert (await api.ask("GET", f"/organization/audit_logs?{query}")).error == (400, "invalid_value", param)


async def test_wrong_keys_are_written_down_and_held_up(api: AdminApi) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(3):
        refused = await api.ask("GET", "/organization/projects", key=WRONG, **{"User-Agent": "curl"})
        assert refused.error == (401, "invalid_api_key", None)
    assert loop.time() - began >= 0.05 + 0.1 + 0.2, "each waits twice as long as the one before"
    assert (await api.ask("GET", "/organization/projects", key=None)).status == 401
    logs = [one async for one in api.client.admin.organization.audit_logs.list(event_types=["login.failed"])]
    assert len(logs) == 3, "a request without any key is no attempt"
    assert logs[0].login_failed is not None
    assert logs[0].login_failed.error_code == "invalid_api_key"
    assert logs[0].project is None
    raw = (await api.ask("GET", "/organization/audit_logs?limit=1")).body["data"][0]
    assert raw["actor"] == {
        "type": "session",
        "session": {"user": None, "ip_address": "127.0.0.1", "user_agent": "curl"},
    }


async def test_many_wrong_keys_do_not_fill_the_log(api: AdminApi, monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(_: float) -> None:
        pass

    monkeypatch.setattr("gateway.control.admin.identify.asyncio.sleep", at_once)
    for _ in range(70):
        assert (await api.ask("GET", "/organization/projects", key=WRONG)).status == 401
    assert len(await api.events(event_types="login.failed")) == 22, "20, the 32nd and the 64th"


async def test_no_secret_is_in_it(api: AdminApi) -> None:
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    account = await organization.projects.service_accounts.create(project.id, name="bot")
    admin = await organization.admin_api_keys.create(name="x")
    assert account.api_key is not None
    assert admin.value is not None
    used = api.as_caller(admin.value)
    await used.admin.organization.projects.archive(project.id)
    await used.close()
    await api.ask("GET", "/organization/projects", key=WRONG)
    await api.ask("GET", "/organization/projects", key=account.api_key.value)
    async with api.database.transaction() as connection:
        rows = [dict(row._mapping) for row in await connection.execute(select(audit_logs))]
    everything = json.dumps(rows)
    assert len(rows) >= 6
    for secret in (ADMIN_KEY, WRONG, admin.value, account.api_key.value):
        assert secret not in everything
        assert secret[8:-4] not in everything


async def test_failures_wait_longer_each_time_until_a_minute_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def recorded(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("gateway.control.admin.identify.asyncio.sleep", recorded)
    clock = ManualClock()
    failures = Failures(clock)
    for _ in range(9):
        await failures.hold_up("a")
    assert waits == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 3.0, 3.0]
    waits.clear()
    await failures.hold_up("b")
    clock.advance(61)
    await failures.hold_up("a")
    assert waits == [0.05, 0.05], "another address, and the same one later"


async def test_more_than_are_held_up_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entered, go = asyncio.Semaphore(0), asyncio.Event()

    async def held(_: float) -> None:
        entered.release()
        await go.wait()

    monkeypatch.setattr("gateway.control.admin.identify.asyncio.sleep", held)
    failures = Failures(ManualClock())
    waiting = [asyncio.ensure_future(failures.hold_up(str(number))) for number in range(100)]
    for _ in waiting:
        await entered.acquire()
    with pytest.raises(GatewayError) as caught:
        await failures.hold_up("one more")
    assert caught.value.kind is TOO_MANY_FAILURES
    go.set()
    await asyncio.gather(*waiting)
    await failures.hold_up("one more")


async def test_what_was_done_with_a_users_key_is_found_by_both(api: AdminApi) -> None:
    organization = api.client.admin.organization
    await organization.invites.create(email="ada@example.com", role="owner")
    (ada,) = [user async for user in organization.users.list()]
    key = (await api.ask("POST", "/organization/admin_api_keys", {"name": "k", "user_id": ada.id})).body
    assert (await api.ask("POST", "/organization/projects", {"name": "hers"}, key=key["value"])).status == 200
    for actor in (ada.id, key["id"]):
        found = await api.ask("GET", f"/organization/audit_logs?actor_ids[]={actor}")
        assert [one["type"] for one in found.body["data"]] == ["project.created"], actor
