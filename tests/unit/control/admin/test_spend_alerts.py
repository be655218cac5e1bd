"""Spend alerts as the admin API has them, by the official client and by plain HTTP."""

from typing import Any

import openai
import pytest
from openai.types.admin.organization.spend_alert_create_params import NotificationChannel
from sqlalchemy import select, update

from gateway.control.sql.tables import audit_logs, spend_alerts
from tests.fakes.admin_api import ADMIN_KEY, AdminApi

EMAIL: NotificationChannel = {"type": "email", "recipients": ["finance@example.com"], "subject_prefix": "Spend"}
ALERT: dict[str, Any] = {
    "threshold_amount": 10_000,
    "currency": "USD",
    "interval": "month",
    "notification_channel": EMAIL,
}
ALL = "/organization/spend_alerts"


async def audited(api: AdminApi) -> list[tuple[str, Any, Any, Any]]:
    async with api.database.transaction() as connection:
        rows = await connection.execute(select(audit_logs).order_by(audit_logs.c.effective_at, audit_logs.c.id))
        return [(row.type, row.details, row.resource_id, row.project_id) for row in rows]


async def test_the_life_of_an_organizations_alert(api: AdminApi) -> None:
    alerts = api.client.admin.organization.spend_alerts
    made = await alerts.create(**ALERT)
    assert (made.id[:6], made.object, made.threshold_amount) == ("alert_", "organization.spend_alert", 10_000)
    assert (made.currency, made.interval, made.notification_channel.to_dict()) == ("USD", "month", EMAIL)
    assert await alerts.retrieve(made.id) == made
    assert [one async for one in alerts.list()] == [made]
    api.clock.advance(1)
    changed = await alerts.update(
        made.id,
        threshold_amount=5,
        currency="USD",
        interval="month",
        notification_channel={"type": "email", "recipients": ["a@b.example", "c+d@localhost"]},
    )
    assert (changed.id, changed.threshold_amount) == (made.id, 5)
    assert changed.notification_channel.recipients == ["a@b.example", "c+d@localhost"]
    assert changed.notification_channel.subject_prefix is None, "all is replaced"
    assert await alerts.retrieve(made.id) == changed
    api.clock.advance(1)
    gone = await alerts.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "organization.spend_alert.deleted", True)
    assert [one async for one in alerts.list()] == []
    with pytest.raises(openai.NotFoundError):
        await alerts.retrieve(made.id)
    kinds = [(kind, details["id"], resource, project) for kind, details, resource, project in await audited(api)]
    assert kinds == [("organization.updated", "org-gateway", made.id, None)] * 3
    said = [details["changes_requested"]["spend_alert"] for _, details, _, _ in await audited(api)]
    assert said[0] == {
        "id": made.id, "threshold_amount": 10_000, "interval": "month", "notification_channel": EMAIL
    }  # fmt: skip
    assert said[2] == {"id": made.id, "deleted": True}


async def test_the_life_of_a_projects_alert(api: AdminApi) -> None:
    organization = api.client.admin.organization
    mine, other = await organization.projects.create(name="Mine"), await organization.projects.create(name="Other")
    alerts = organization.projects.spend_alerts
    made = await alerts.create(mine.id, **ALERT)
    assert made.object == "project.spend_alert"
    assert await alerts.retrieve(made.id, project_id=mine.id) == made
    assert [one async for one in alerts.list(mine.id)] == [made]
    assert [one async for one in alerts.list(other.id)] == []
    assert [one async for one in organization.spend_alerts.list()] == []
    for path in (f"{ALL}/{made.id}", f"/organization/projects/{other.id}/spend_alerts/{made.id}"):
        assert (await api.ask("GET", path)).error == (404, "not_found", None)
        assert (await api.ask("POST", path, ALERT)).error == (404, "not_found", None)
        assert (await api.ask("DELETE", path)).error == (404, "not_found", None)
    changed = await alerts.update(made.id, project_id=mine.id, **{**ALERT, "threshold_amount": 7})
    assert changed.threshold_amount == 7
    await organization.projects.archive(mine.id)
    path = f"/organization/projects/{mine.id}/spend_alerts"
    assert (await api.ask("POST", path, ALERT)).error == (400, "invalid_state", None)
    assert (await api.ask("POST", f"{path}/{made.id}", ALERT)).error == (400, "invalid_state", None)
    assert await alerts.retrieve(made.id, project_id=mine.id) == changed
    gone = await alerts.delete(made.id, project_id=mine.id)
    assert gone.object == "project.spend_alert.deleted"
    updates = [one for one in await audited(api) if one[0] == "project.updated"]
    assert [(details["id"], resource, project) for _, details, resource, project in updates] == [
        (mine.id, made.id, mine.id)
    ] * 3


async def test_extensions_and_what_is_not_said_of_webhooks(api: AdminApi) -> None:
    for interval in ("day", "week", "month", "total"):
        channel = {"type": "webhook", "url": "https://hooks.example:8443/services/secret?a=b"}
        body = {**ALERT, "interval": interval, "notification_channel": channel}
        made = (await api.ask("POST", ALL, body)).body
        assert made == {**body, "id": made["id"], "object": "organization.spend_alert"}
        assert (await api.ask("GET", f"{ALL}/{made['id']}")).body == made
    assert "secret" not in str(await audited(api))


async def test_pages(api: AdminApi) -> None:
    made = []
    for amount in range(5):
        api.clock.advance(1)
        made.append((await api.ask("POST", ALL, {**ALERT, "threshold_amount": amount})).body["id"])
    alerts = api.client.admin.organization.spend_alerts
    assert [one.id async for one in alerts.list(limit=2)] == made
    assert [one.id async for one in alerts.list(limit=2, order="desc")] == made[::-1]
    before = await api.ask("GET", f"{ALL}?before={made[3]}&limit=2")
    assert ([one["id"] for one in before.body["data"]], before.body["has_more"]) == (made[1:3], True)
    assert (before.body["first_id"], before.body["last_id"]) == (made[1], made[2])
    none = await api.ask("GET", f"{ALL}?limit=0")
    assert (none.body["data"], none.body["has_more"], none.body["last_id"]) == ([], True, None)


HOOK = {"type": "webhook", "url": "https://hooks.example/x"}
CHANNEL = "notification_channel"


MISTAKES: tuple[tuple[dict[str, Any], tuple[str, str]], ...] = (
    ({"threshold_amount": -1}, ("invalid_value", "threshold_amount")),
    ({"threshold_amount": 1.5}, ("invalid_value", "threshold_amount")),
    ({"threshold_amount": 10**11 + 1}, ("invalid_value", "threshold_amount")),
    ({"threshold_amount": 10**40}, ("invalid_value", "threshold_amount")),
    ({"threshold_amount": None}, ("invalid_value", "threshold_amount")),
    ({"currency": "EUR"}, ("invalid_value", "currency")),
    ({"interval": "year"}, ("invalid_value", "interval")),
    ({"more": 1}, ("unknown_parameter", "more")),
    ({CHANNEL: None}, ("invalid_value", CHANNEL)),
    ({CHANNEL: {"recipients": ["a@b.example"]}}, ("missing_required_parameter", f"{CHANNEL}.type")),
    ({CHANNEL: {"type": "pigeon"}}, ("invalid_value", f"{CHANNEL}.type")),
    ({CHANNEL: {"type": "email"}}, ("missing_required_parameter", f"{CHANNEL}.recipients")),
    ({CHANNEL: {**EMAIL, "url": "https://a"}}, ("unknown_parameter", f"{CHANNEL}.url")),
    ({CHANNEL: {**EMAIL, "recipients": []}}, ("invalid_value", f"{CHANNEL}.recipients")),
    ({CHANNEL: {**EMAIL, "recipients": ["a@b.example"] * 101}}, ("invalid_value", f"{CHANNEL}.recipients")),
    ({CHANNEL: {**EMAIL, "subject_prefix": "a\0b"}}, ("invalid_value", f"{CHANNEL}.subject_prefix")),
    ({CHANNEL: {**EMAIL, "subject_prefix": "a" * 257}}, ("invalid_value", f"{CHANNEL}.subject_prefix")),
    *(
        ({CHANNEL: {**EMAIL, "recipients": ["a@b.example", wrong]}}, ("invalid_value", f"{CHANNEL}.recipients[1]"))
        for wrong in ("", "a", "@b", "a@", "a b@c", "a@b c", "a@b\r\nBcc: x@y", "a@b,c@d", "<a@b>", "a@-b", "a@b.",
                  ".a@b", "a..b@c", "ä@b", "a@ä", "x" * 250 + "@b.example")
    ),
    *(
        ({CHANNEL: {**HOOK, "url": wrong}}, ("invalid_value", f"{CHANNEL}.url"))
        for wrong in ("", "x", "http://a", "https://", "https://u:p@a/", "https://a b", "https://a/\r\n", "https://ä/",
                  "https://a#b", "https://a:b", "ftp://a", "https://a\\@b", "https://" + "a" * 2048)
    ),
    ({CHANNEL: {**HOOK, "url": "https://a:70000/"}}, ("invalid_value", CHANNEL)),
    ({CHANNEL: {**HOOK, "url": "https://a:0/"}}, ("invalid_value", CHANNEL)),
    ({CHANNEL: {**HOOK, "url": "https://[::]]/"}}, ("invalid_value", f"{CHANNEL}.url")),
    ({CHANNEL: {**HOOK, "url": "https://[1:2]/"}}, ("invalid_value", CHANNEL)),
)  # fmt: skip
MISTAKEN_REQUESTS = (
    ("GET", f"{ALL}/alert_none", (404, "not_found", None)),
    ("GET", f"{ALL}/a%00b", (404, "not_found", None)),
    ("GET", "/organization/projects/proj_none/spend_alerts", (404, "not_found", None)),
    ("POST", "/organization/projects/proj_none/spend_alerts", (404, "not_found", None)),
    ("GET", f"{ALL}?limit=101", (400, "invalid_value", "limit")),
    ("GET", f"{ALL}?limit=-1", (400, "invalid_value", "limit")),
    ("GET", f"{ALL}?after=alert_none", (400, "invalid_value", "after")),
    ("GET", f"{ALL}?before=alert_none", (400, "invalid_value", "before")),
    ("PATCH", ALL, (405, "method_not_supported", None)),
)


async def test_mistakes(api: AdminApi) -> None:
    made = (await api.ask("POST", ALL, ALERT)).body
    for change, error in MISTAKES:
        for path in (ALL, f"{ALL}/{made['id']}"):
            found = await api.ask("POST", path, {**ALERT, **change})
            assert found.error == (400, *error), (change, found.body)
    for missing in ALERT:
        body = {name: value for name, value in ALERT.items() if name != missing}
        for path in (ALL, f"{ALL}/{made['id']}"):
            assert (await api.ask("POST", path, body)).error == (400, "missing_required_parameter", missing)
    for method, path, refusal in MISTAKEN_REQUESTS:
        assert (await api.ask(method, path, ALERT if method == "POST" else None)).error == refusal, path
    assert (await api.ask("GET", ALL)).body["data"] == [made], "nothing has come of any of them"


async def test_who_may(api: AdminApi) -> None:
    made = await api.ask("POST", "/organization/admin_api_keys", {"name": "k", "scopes": ["api.spend_alerts.read"]})
    key = made.body["value"]
    assert (await api.ask("GET", ALL, key=key)).status == 200
    refused = await api.ask("POST", ALL, ALERT, key=key)
    assert "api.spend_alerts.write" in refused.body["error"]["message"]
    assert (await api.ask("POST", ALL, ALERT, key=ADMIN_KEY)).status == 200


CHANGES: tuple[tuple[dict[str, Any], int, bool], ...] = (
    ({}, 0, False),
    ({"threshold_amount": 9_999}, 0, False),
    ({CHANNEL: HOOK}, 0, False),
    ({"threshold_amount": 10_001}, 0, True),
    ({"interval": "week"}, 0, True),
    ({}, 3, True),
    ({CHANNEL: HOOK}, 20, True),
)


async def test_what_a_change_makes_be_told_again(api: AdminApi) -> None:
    """Whether the job is to begin anew; what it does then, its own tests show."""
    for change, attempts, again in CHANGES:
        made = (await api.ask("POST", ALL, ALERT)).body["id"]
        told = {"told_window": "2027-01", "attempts": attempts, "next_at": 5 if attempts == 3 else None}
        mine = spend_alerts.c.id == made
        async with api.database.transaction() as connection:
            await connection.execute(update(spend_alerts).where(mine).values(**told))
        assert (await api.ask("POST", f"{ALL}/{made}", {**ALERT, **change})).status == 200
        async with api.database.transaction() as connection:
            row = (await connection.execute(select(spend_alerts).where(mine))).one()
        state = {name: getattr(row, name) for name in told}
        assert state == ({"told_window": None, "attempts": 0, "next_at": None} if again else told), change
        assert row.channel == {**ALERT, **change}[CHANNEL]
