"""Spend limits of the organization, of projects and of users."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from sqlalchemy import insert

from gateway.accounts.spend import Spend
from gateway.control.admin.spent import SpentNow
from gateway.control.sql.tables import users
from gateway.keyspace import Keyspace
from gateway.limits import SpendLimit
from gateway.redisdb.client import connect
from gateway.settings.model import Redis
from tests.fakes.admin_api import AdminApi, admin_api
from tests.fakes.redis_servers import Server
from tests.unit.control.admin.audited import audited

ORGANIZATION = "/organization/spend_limit"
DECLARED = "/organization/projects/proj_declared/spend_limit"
BODY = {"threshold_amount": 5_000, "currency": "USD", "interval": "month"}
_CENT = 10_000_000  # nano-dollars


@pytest.fixture
async def limited(valkey: Server, registry_url: str, tmp_path: Path) -> AsyncIterator[AdminApi]:
    """With limits in the settings."""
    limits = {"projects": {"spend": {"month": 70}}, "by_user": {"ada": {"spend": {"day": "unlimited"}}}}
    key = {"name": "web", "hash": "sha256:" + "ab" * 32, "user": "ada"}
    spend = {"day": "1.239", "total": {"usd": 5, "shadow": True}}
    shadow = {"spend": {"month": {"usd": 5, "shadow": True}}}
    projects = [
        {"id": "proj_declared", "keys": [key], "limits": {"spend": spend}},
        {"id": "proj_shadow", "limits": shadow},
    ]
    async with admin_api(valkey, registry_url, tmp_path, limits=limits, projects=projects) as made:
        yield made


def own(api: AdminApi, subject: str) -> tuple[SpendLimit, ...]:
    document = api.document(subject)
    return document.own.spend if document is not None else ()


async def test_the_organization(api: AdminApi) -> None:
    limit = api.client.admin.organization.spend_limit
    with pytest.raises(openai.NotFoundError) as caught:
        await limit.retrieve()
    assert caught.value.code == "not_found"
    made = await limit.update(threshold_amount=10_050, currency="USD", interval="month")
    assert made.to_dict() == {
        "object": "organization.spend_limit",
        "threshold_amount": 10_050,
        "currency": "USD",
        "interval": "month",
        "enforcement": {"status": "inactive"},
    }
    assert await limit.retrieve() == made
    assert own(api, "o") == (SpendLimit("month", 10_050 * _CENT),)
    api.clock.advance(1)
    assert (await limit.delete()).to_dict() == {"object": "organization.spend_limit.deleted", "deleted": True}
    assert own(api, "o") == ()
    for again in (limit.delete, limit.retrieve):
        with pytest.raises(openai.NotFoundError):
            await again()
    requested = {"threshold_amount": 10_050, "currency": "USD", "interval": "month"}
    assert await audited(api, "organization.updated") == [
        {"id": "org-gateway", "changes_requested": {"spend_limit": requested}},
        {"id": "org-gateway", "changes_requested": {"spend_limit": None}},
    ]


async def test_a_project(api: AdminApi) -> None:
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    limit = organization.projects.spend_limit
    made = await limit.update(project.id, threshold_amount=799_999_999, currency="USD", interval="month")
    assert (made.object, made.threshold_amount) == ("project.spend_limit", 799_999_999)
    assert own(api, f"p:{project.id}") == (SpendLimit("month", 799_999_999 * _CENT),)
    assert await limit.retrieve(project.id) == made
    other = await organization.projects.create(name="Other")
    with pytest.raises(openai.NotFoundError):
        await limit.retrieve(other.id)
    assert (await limit.delete(project.id)).object == "project.spend_limit.deleted"
    with pytest.raises(openai.NotFoundError):
        await limit.delete(project.id)
    assert api.document(f"p:{project.id}") is None
    assert [one["id"] for one in await audited(api, "project.updated")] == [project.id] * 2


async def test_another_window_takes_the_place_of_the_one_before(api: AdminApi) -> None:
    for interval, amount in (("week", 0), ("day", 5), ("total", 9), ("month", 3)):
        body = {"threshold_amount": amount, "currency": "USD", "interval": interval}
        answer = await api.ask("POST", ORGANIZATION, body)
        assert (answer.status, answer.body["interval"], answer.body["threshold_amount"]) == (200, interval, amount)
        assert [(one.window, one.nano_usd) for one in own(api, "o")] == [(interval, amount * _CENT)]


async def test_a_user(api: AdminApi) -> None:
    row = {"id": "user-1", "organization_id": "org-gateway", "email": "a@b", "name": "A", "role": "reader"}
    async with api.database.transaction() as connection:
        await connection.execute(insert(users).values(**row, created_at=1, version=1))
    path = "/organization/users/user-1/spend_limit"
    assert (await api.ask("GET", path)).error == (404, "not_found", None)
    made = await api.ask("POST", path, BODY)
    assert (made.status, made.body["object"]) == (200, "organization.user.spend_limit")
    assert (await api.ask("GET", path)).body == made.body
    assert own(api, "u:user-1") == (SpendLimit("month", 5_000 * _CENT),)
    assert (await api.ask("DELETE", path)).body == {"object": "organization.user.spend_limit.deleted", "deleted": True}
    assert (await api.ask("DELETE", path)).status == 404
    assert [one["id"] for one in await audited(api, "user.updated")] == ["user-1", "user-1"]
    for missing in ("user-2", "a%00b", "x" * 3000):
        assert (await api.ask("POST", f"/organization/users/{missing}/spend_limit", BODY)).status == 404


async def test_what_the_settings_declare(limited: AdminApi) -> None:
    shown = await limited.ask("GET", DECLARED)
    assert (shown.body["threshold_amount"], shown.body["interval"]) == (123, "day"), "whole cents of it"
    assert (await limited.ask("DELETE", DECLARED)).error == (400, "declared_in_settings", None)
    for interval in ("day", "total"):
        refused = await limited.ask("POST", DECLARED, {**BODY, "interval": interval})
        assert refused.error == (400, "declared_in_settings", None)
    made = await limited.ask("POST", DECLARED, BODY)
    assert (made.status, (await limited.ask("GET", DECLARED)).body) == (200, made.body)
    windows = {(one.window, one.nano_usd, one.shadow) for one in own(limited, "p:proj_declared")}
    assert windows == {
        ("day", 1_239_000_000, False),
        ("total", 5_000_000_000, True),
        ("month", 5_000 * _CENT, False),
    }
    assert (await limited.ask("DELETE", DECLARED)).status == 200
    assert (await limited.ask("GET", DECLARED)).body == shown.body


async def test_what_is_unlimited_by_the_settings(limited: AdminApi) -> None:
    path = "/organization/users/ada/spend_limit"
    for method in ("GET", "DELETE"):
        assert (await limited.ask(method, path)).error == (404, "not_found", None)
    assert (await limited.ask("POST", path, {**BODY, "interval": "day"})).error == (400, "declared_in_settings", None)
    assert (await limited.ask("POST", path, BODY)).status == 200


async def test_what_a_project_inherits_is_not_its_own(limited: AdminApi) -> None:
    project = await limited.client.admin.organization.projects.create(name="New")
    path = f"/organization/projects/{project.id}/spend_limit"
    assert (await limited.ask("GET", path)).status == 404
    assert (await limited.ask("POST", path, BODY)).status == 200, "in its place"


async def spend(api: AdminApi, subject: str, cents: int) -> None:
    """As the scripts count it, today by Redis' own clock."""
    base, today = "gateway:{org-gateway}:spend", int(time.time()) // 86_400
    for window in (f"d{today}", time.strftime("m%Y%m", time.gmtime(today * 86_400)), "t"):
        api.server.command("HSET", base, f"{window}:{subject}", cents * _CENT)


async def test_a_limit_that_is_reached_is_enforcing(api: AdminApi) -> None:
    project = await api.client.admin.organization.projects.create(name="Chat")
    limit = api.client.admin.organization.projects.spend_limit
    await spend(api, f"p:{project.id}", 250)
    for amount, status in ((251, "inactive"), (250, "enforcing"), (1, "enforcing")):
        made = await limit.update(project.id, threshold_amount=amount, currency="USD", interval="month")
        assert made.enforcement.status == status
        assert (await limit.retrieve(project.id)).enforcement.status == status
    for interval in ("day", "week", "total"):
        for amount, status in ((251, "inactive"), (250, "enforcing")):
            body = {"threshold_amount": amount, "currency": "USD", "interval": interval}
            answer = await api.ask("POST", f"/organization/projects/{project.id}/spend_limit", body)
            assert answer.body["enforcement"] == {"status": status}


async def test_nobody_knows_what_is_spent_without_redis(tmp_path: Path) -> None:
    client = connect(Redis(), embedded_url=f"unix://{tmp_path}/none.sock")
    assert await SpentNow(Spend(client, Keyspace()), "org").read(("o",)) is None
    await client.aclose()


async def test_limits_are_read_while_redis_does_not_answer(api: AdminApi) -> None:
    await api.ask("POST", ORGANIZATION, {**BODY, "threshold_amount": 0})
    assert (await api.ask("GET", ORGANIZATION)).body["enforcement"] == {"status": "enforcing"}
    api.server.pause()
    try:
        shown = await api.ask("GET", ORGANIZATION)
    finally:
        api.server.resume()
    assert shown.body["enforcement"] == {"status": "inactive"}


async def test_a_shadow_enforces_nothing(limited: AdminApi) -> None:
    for project_id, status in (("proj_declared", "enforcing"), ("proj_shadow", "inactive")):
        await spend(limited, f"p:{project_id}", 900_000)
        shown = await limited.ask("GET", f"/organization/projects/{project_id}/spend_limit")
        assert shown.body["enforcement"] == {"status": status}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"threshold_amount": None}, (400, "invalid_value", "threshold_amount")),
        ({"threshold_amount": -1}, (400, "invalid_value", "threshold_amount")),
        ({"threshold_amount": 1.5}, (400, "invalid_value", "threshold_amount")),
        ({"threshold_amount": 800_000_000}, (400, "invalid_value", "threshold_amount")),
        ({"threshold_amount": 2**80}, (400, "invalid_value", "threshold_amount")),
        ({"currency": "EUR"}, (400, "invalid_value", "currency")),
        ({"interval": "year"}, (400, "invalid_value", "interval")),
        ({"shadow": True}, (400, "unknown_parameter", "shadow")),
    ],
)
async def test_mistakes(api: AdminApi, change: dict[str, object], error: tuple[int, str, str]) -> None:
    assert (await api.ask("POST", ORGANIZATION, {**BODY, **change})).error == error


async def test_what_is_missing(api: AdminApi) -> None:
    for name in BODY:
        body = {one: value for one, value in BODY.items() if one != name}
        assert (await api.ask("POST", ORGANIZATION, body)).error == (400, "missing_required_parameter", name)
    assert (await api.ask("POST", ORGANIZATION, b"")).status == 400
    for method in ("GET", "POST", "DELETE"):
        assert (await api.ask(method, "/organization/projects/proj_no/spend_limit", BODY)).status == 404


async def test_archived_projects_are_read_only(api: AdminApi) -> None:
    project = await api.client.admin.organization.projects.create(name="Chat")
    path = f"/organization/projects/{project.id}/spend_limit"
    await api.ask("POST", path, BODY)
    await api.client.admin.organization.projects.archive(project.id)
    assert (await api.ask("GET", path)).status == 200
    for method in ("POST", "DELETE"):
        assert (await api.ask(method, path, BODY)).error == (400, "invalid_state", None)


async def test_a_user_in_one_project(api: AdminApi) -> None:
    organization = api.client.admin.organization
    here, there = [(await organization.projects.create(name=name)).id for name in ("here", "there")]
    await organization.invites.create(email="ada@example.com", role="reader", projects=[{"id": here, "role": "member"}])
    (ada,) = [user async for user in organization.users.list()]
    path = f"/organization/projects/{here}/users/{ada.id}/spend_limit"
    assert (await api.ask("GET", path)).error == (404, "not_found", None)
    made = await api.ask("POST", path, BODY)
    assert (made.status, made.body["object"], made.body["threshold_amount"]) == (200, "project.user.spend_limit", 5_000)
    document = api.document(f"m:{here}:{ada.id}")
    assert document is not None
    assert document.own.spend == (SpendLimit("month", 5_000 * _CENT),)
    assert (await api.ask("GET", path)).body == made.body
    assert (await api.ask("GET", path.replace(here, there))).error == (404, "not_found", None)
    assert (await api.ask("DELETE", path)).body == {"object": "project.user.spend_limit.deleted", "deleted": True}
    assert api.document(f"m:{here}:{ada.id}") is None
    assert (await api.ask("POST", path.replace(ada.id, "user-none"), BODY)).status == 404
