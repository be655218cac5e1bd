"""What projects and the organization may use and spend, through both halves of the official client."""

from typing import Any

import pytest
from openai import AsyncOpenAI

from tests.compat.nouns import a_project, in_pages, is_gone

CENTS = 700_000_000  # more than anybody spends here: the gateway is shared


async def test_rate_limits(client: AsyncOpenAI) -> None:
    limits = client.admin.organization.projects.rate_limits
    project_id = await a_project(client)
    found = [one async for one in limits.list_rate_limits(project_id)]
    assert {one.model for one in found} >= {"gpt-4o-mini", "gpt-4o"}, "an object for each model that has a price"
    ids = {one.id for one in found}
    await in_pages(limits.list_rate_limits, ids, project_id, limit=min(100, len(ids) // 3))
    (mini,) = [one for one in found if one.model == "gpt-4o-mini"]
    changed = await limits.update_rate_limit(
        mini.id,
        project_id=project_id,
        max_requests_per_1_minute=500,
        max_tokens_per_1_minute=40_000,
        max_requests_per_1_day=9000,
        batch_1_day_max_input_tokens=1_000_000,
    )
    assert (changed.id, changed.max_requests_per_1_minute, changed.max_tokens_per_1_minute) == (mini.id, 500, 40_000)
    assert (changed.max_requests_per_1_day, changed.batch_1_day_max_input_tokens) == (9000, 1_000_000)
    (listed,) = [one async for one in limits.list_rate_limits(project_id) if one.id == mini.id]
    assert listed == changed
    await is_gone(limits.update_rate_limit("rl-none", project_id=project_id, max_requests_per_1_minute=1))


@pytest.mark.parametrize("of", ["organization", "project"])
async def test_spend_limits(client: AsyncOpenAI, of: str) -> None:
    organization = client.admin.organization
    limit: Any
    if of == "organization":
        limit, where = organization.spend_limit, []
    else:
        limit, where = organization.projects.spend_limit, [await a_project(client)]
    await is_gone(limit.retrieve(*where))
    for cents in (CENTS, CENTS + 1):
        made = await limit.update(*where, currency="USD", interval="month", threshold_amount=cents)
        assert (made.threshold_amount, made.currency, made.interval) == (cents, "USD", "month")
        assert (made.object, made.enforcement.status) == (f"{of}.spend_limit", "inactive")
        assert await limit.retrieve(*where) == made
    assert (await limit.delete(*where)).deleted
    await is_gone(limit.retrieve(*where))


@pytest.mark.parametrize("of", ["organization", "project"])
async def test_spend_alerts(client: AsyncOpenAI, of: str) -> None:
    organization = client.admin.organization
    where: dict[str, Any] = {}
    alerts: Any = organization.spend_alerts
    if of == "project":
        where = {"project_id": await a_project(client)}
        alerts = organization.projects.spend_alerts
    fixed = {"currency": "USD", "interval": "month"}
    channel = {"type": "email", "recipients": ["ops@example.com"], "subject_prefix": "[spend]"}
    made = [
        await alerts.create(**where, **fixed, threshold_amount=CENTS + n, notification_channel=channel)
        for n in range(3)
    ]
    assert made[0].object == f"{of}.spend_alert"
    assert (made[0].threshold_amount, made[0].notification_channel.recipients) == (CENTS, ["ops@example.com"])
    found = [one.id for one in await in_pages(alerts.list, {one.id for one in made}, **where)]
    assert [one.id async for one in alerts.list(**where, before=found[2], limit=100)] == found[:2]
    assert await alerts.retrieve(made[0].id, **where) == made[0]
    channel = {"type": "email", "recipients": ["a@example.com", "b@example.com"]}
    changed = await alerts.update(made[0].id, **where, **fixed, threshold_amount=CENTS, notification_channel=channel)
    assert changed.notification_channel.recipients == ["a@example.com", "b@example.com"]
    assert changed.notification_channel.subject_prefix is None
    for one in made:
        assert (await alerts.delete(one.id, **where)).deleted
    await is_gone(alerts.retrieve(made[0].id, **where))


async def test_model_permissions(client: AsyncOpenAI) -> None:
    permissions = client.admin.organization.projects.model_permissions
    project_id = await a_project(client)
    await is_gone(permissions.retrieve(project_id))
    made = await permissions.update(project_id, mode="allow_list", model_ids=["gpt-4o", "gpt-4o-mini"])
    assert (made.mode, made.api_model_ids) == ("allow_list", ["gpt-4o", "gpt-4o-mini"])
    assert await permissions.retrieve(project_id) == made
    assert (await permissions.update(project_id, mode="deny_list", model_ids=["o3"])).mode == "deny_list"
    assert (await permissions.delete(project_id)).deleted
    await is_gone(permissions.retrieve(project_id))


async def test_hosted_tool_permissions(client: AsyncOpenAI) -> None:
    permissions = client.admin.organization.projects.hosted_tool_permissions
    project_id = await a_project(client)
    there = await permissions.retrieve(project_id)
    assert there.web_search.enabled
    changed = await permissions.update(project_id, web_search={"enabled": False}, mcp=None)
    assert (changed.web_search.enabled, changed.mcp.enabled, changed.file_search.enabled) == (False, True, True)
    assert await permissions.retrieve(project_id) == changed


async def test_service_tier_settings(client: AsyncOpenAI) -> None:
    settings = client.admin.organization.projects.service_tier_settings
    project_id = await a_project(client)
    there = await settings.retrieve(project_id)
    assert (there.default, there.enabled_tiers) == ("standard", "all")
    changed = await settings.update(project_id, enabled_tiers=["flex"])
    assert (changed.default, changed.enabled_tiers) == ("standard", ["flex"])
    assert await settings.retrieve(project_id) == changed
