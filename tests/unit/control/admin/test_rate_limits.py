"""Rate limits of projects, by the official client and by plain HTTP."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.control.admin.pages import cut_page
from gateway.control.sql.tables import seen_models
from gateway.errors import GatewayError
from gateway.limits import LimitSet, RateLimit
from tests.fakes.admin_api import AdminApi, admin_api
from tests.fakes.redis_servers import Server
from tests.unit.control.admin.audited import audited

NONE = 1_000_000_000_000
LIMITS = {
    "groups": {"Six": ["gpt-6-*"]},
    "projects": {"models": {"Six": {"tokens_per_minute": 9_000}, "*": {"requests_per_minute": 500}}},
}
DECLARED = {
    "gpt-4.1": {"tokens_per_minute": 70, "requests_per_minute": {"limit": 5, "shadow": True}},
    "own/Llama": {"requests_per_day": 11},
    "o3": {"requests_per_minute": "unlimited"},
}


@pytest.fixture
async def limited(valkey: Server, registry_url: str, tmp_path: Path) -> AsyncIterator[AdminApi]:
    """With limits in the settings."""
    projects = [{"id": "proj_declared", "limits": {"models": DECLARED}}]
    async with admin_api(valkey, registry_url, tmp_path, limits=LIMITS, projects=projects) as made:
        yield made


async def by_model(api: AdminApi, project_id: str) -> dict[str, Any]:
    limits = api.client.admin.organization.projects.rate_limits.list_rate_limits(project_id)
    return {one.model: one async for one in limits}


async def test_every_model_has_an_object(api: AdminApi) -> None:
    project = await api.client.admin.organization.projects.create(name="Chat")
    found = await by_model(api, project.id)
    assert list(found) == sorted(found)
    assert {"gpt-4.1", "whisper-1", "gpt-image-1"} <= found.keys()
    assert found["gpt-4.1"].to_dict() == {
        "object": "project.rate_limit",
        "id": "rl-gpt-4.1",
        "model": "gpt-4.1",
        "max_requests_per_1_minute": NONE,
        "max_tokens_per_1_minute": NONE,
    }
    assert found["gpt-image-1"].max_images_per_1_minute == NONE
    assert found["whisper-1"].max_audio_megabytes_per_1_minute == NONE


async def test_limits_are_set_and_taken_away(api: AdminApi) -> None:
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    limits = organization.projects.rate_limits
    made = await limits.update_rate_limit(
        "rl-gpt-4.1", project_id=project.id, max_requests_per_1_minute=600, max_requests_per_1_day=0
    )
    assert (made.max_requests_per_1_minute, made.max_tokens_per_1_minute, made.max_requests_per_1_day) == (600, NONE, 0)
    assert (await by_model(api, project.id))["gpt-4.1"] == made
    document = api.document(f"p:{project.id}")
    assert document is not None
    rates = {(rate.kind, rate.limit) for rate in document.models["gpt-4.1"].rates}
    assert rates == {("requests_per_minute", 600), ("requests_per_day", 0)}
    api.clock.advance(1)
    again = await limits.update_rate_limit(
        "rl-gpt-4.1", project_id=project.id, max_requests_per_1_minute=NONE, max_requests_per_1_day=7
    )
    assert (again.max_requests_per_1_minute, again.max_requests_per_1_day) == (NONE, 7)
    document = api.document(f"p:{project.id}")
    assert document is not None
    assert document.models == {"gpt-4.1": LimitSet(rates=(RateLimit("requests_per_day", 7),))}
    api.clock.advance(1)
    assert (await limits.update_rate_limit("rl-gpt-4.1", project_id=project.id)) == again, "nothing changes"
    await limits.update_rate_limit("rl-gpt-4.1", project_id=project.id, max_requests_per_1_day=NONE)
    assert api.document(f"p:{project.id}") is None
    details = await audited(api, "rate_limit.updated")
    assert details == [
        {"id": "rl-gpt-4.1", "changes_requested": {"max_requests_per_1_minute": 600, "max_requests_per_1_day": 0}},
        {"id": "rl-gpt-4.1", "changes_requested": {"max_requests_per_1_minute": NONE, "max_requests_per_1_day": 7}},
        {"id": "rl-gpt-4.1", "changes_requested": {"max_requests_per_1_day": NONE}},
    ]


async def test_projects_do_not_see_each_others_limits(api: AdminApi) -> None:
    organization = api.client.admin.organization
    one, other = [await organization.projects.create(name=name) for name in "ab"]
    limits = organization.projects.rate_limits
    await limits.update_rate_limit("rl-o3", project_id=one.id, batch_1_day_max_input_tokens=3)
    assert (await by_model(api, one.id))["o3"].batch_1_day_max_input_tokens == 3
    assert (await by_model(api, other.id))["o3"].batch_1_day_max_input_tokens is None


async def test_what_the_settings_say_holds_and_is_shown(limited: AdminApi) -> None:
    found = await by_model(limited, "proj_declared")
    assert {"six", "*", "own/llama"} <= found.keys(), "whatever has limits is there, and so are groups"
    declared, others, llama, free = found["gpt-4.1"], found["o1"], found["own/llama"], found["o3"]
    assert (declared.max_tokens_per_1_minute, declared.max_requests_per_1_minute) == (70, NONE), "a shadow refuses none"
    assert (others.max_tokens_per_1_minute, others.max_requests_per_1_minute) == (NONE, 500)
    assert (llama.max_requests_per_1_day, llama.max_requests_per_1_minute) == (11, 500)
    assert free.max_requests_per_1_minute == NONE
    assert found["six"].max_tokens_per_1_minute == 9_000
    shared = [one.max_tokens_per_1_minute for model, one in found.items() if model.startswith("gpt-6-")]
    assert shared
    assert set(shared) == {9_000}


async def test_what_is_declared_for_the_project_stays(limited: AdminApi) -> None:
    limits = limited.client.admin.organization.projects.rate_limits
    for field in ("max_tokens_per_1_minute", "max_requests_per_1_minute"):
        path = "/organization/projects/proj_declared/rate_limits/rl-gpt-4.1"
        refused = await limited.ask("POST", path, {field: 9})
        assert refused.error == (400, "declared_in_settings", field)
    assert (await by_model(limited, "proj_declared"))["gpt-4.1"].max_tokens_per_1_minute == 70
    added = await limits.update_rate_limit("rl-gpt-4.1", project_id="proj_declared", max_images_per_1_minute=2)
    assert (added.max_images_per_1_minute, added.max_tokens_per_1_minute) == (2, 70)
    slash = await limits.update_rate_limit("rl-own/llama", project_id="proj_declared", max_tokens_per_1_minute=12)
    assert (slash.id, slash.max_tokens_per_1_minute, slash.max_requests_per_1_day) == ("rl-own/llama", 12, 11)


async def test_what_is_inherited_can_be_changed_for_a_project(limited: AdminApi) -> None:
    limits = limited.client.admin.organization.projects.rate_limits
    one = await limits.update_rate_limit("rl-o1", project_id="proj_declared", max_requests_per_1_minute=900)
    assert one.max_requests_per_1_minute == 900
    back = await limits.update_rate_limit("rl-o1", project_id="proj_declared", max_requests_per_1_minute=NONE)
    assert back.max_requests_per_1_minute == 500, "what all projects have holds again"
    await limits.update_rate_limit("rl-*", project_id="proj_declared", max_requests_per_1_minute=40)
    found = await by_model(limited, "proj_declared")
    assert (found["o1"].max_requests_per_1_minute, found["*"].max_requests_per_1_minute) == (40, 40)


async def test_models_of_a_group_have_its_limits(limited: AdminApi) -> None:
    limits = limited.client.admin.organization.projects.rate_limits
    group = await limits.update_rate_limit("rl-six", project_id="proj_declared", max_tokens_per_1_minute=80)
    assert group.max_tokens_per_1_minute == 80
    found = await by_model(limited, "proj_declared")
    members = [model for model in found if model.startswith("gpt-6-")]
    assert {found[model].max_tokens_per_1_minute for model in members} == {80}
    with pytest.raises(openai.BadRequestError, match="in the group 'six'") as caught:
        await limits.update_rate_limit(f"rl-{members[0]}", project_id="proj_declared", max_tokens_per_1_minute=1)
    assert caught.value.code == "invalid_state"


async def test_every_other_model_may_have_limits_where_none_are_declared(api: AdminApi) -> None:
    project = await api.client.admin.organization.projects.create(name="Chat")
    limits = api.client.admin.organization.projects.rate_limits
    assert "*" not in await by_model(api, project.id)
    await limits.update_rate_limit("rl-*", project_id=project.id, max_requests_per_1_minute=4)
    found = await by_model(api, project.id)
    assert {one.max_requests_per_1_minute for one in found.values()} == {4}
    assert "*" in found


async def test_pages(api: AdminApi) -> None:
    project = await api.client.admin.organization.projects.create(name="Chat")
    path = f"/organization/projects/{project.id}/rate_limits"
    limits = api.client.admin.organization.projects.rate_limits
    every = [one.id async for one in limits.list_rate_limits(project.id)]
    assert [one.id async for one in limits.list_rate_limits(project.id, limit=7)] == every
    assert [one.id async for one in limits.list_rate_limits(project.id, before=every[3])] == every[:3]
    first = (await api.ask("GET", f"{path}?limit=2")).body
    assert (first["first_id"], first["last_id"], first["has_more"], first["object"]) == (*every[:2], True, "list")
    for query, param in (
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("after=rl-no", "after"),
        ("before=x", "before"),
    ):
        assert (await api.ask("GET", f"{path}?{query}")).error == (400, "invalid_value", param)
    assert (await api.ask("GET", f"{path}?after=a%00b")).error == (400, "invalid_value", "after")
    assert (await api.ask("GET", f"{path}?order=asc")).error == (400, "unknown_parameter", "order")


@pytest.mark.parametrize(
    ("limit", "after", "before", "page"),
    [
        (3, None, None, ("abc", True)),
        (5, None, None, ("abcde", False)),
        (9, None, None, ("abcde", False)),
        (2, "b", None, ("cd", True)),
        (3, "b", None, ("cde", False)),
        (3, "e", None, ("", False)),
        (2, None, "d", ("bc", True)),
        (3, None, "d", ("abc", False)),
        (3, None, "a", ("", False)),
        (1, "a", "d", ("b", True)),
        (2, "a", "d", ("bc", False)),
        (2, "d", "b", ("", False)),
    ],
)
def test_cutting_pages(limit: int, after: str | None, before: str | None, page: tuple[str, bool]) -> None:
    ids, has_more = cut_page(list("abcde"), limit, after, before)
    assert ("".join(ids), has_more) == page


def test_pages_of_nothing() -> None:
    assert cut_page([], 3, None, None) == ([], False)
    with pytest.raises(GatewayError):
        cut_page([], 3, "a", None)


@pytest.mark.parametrize(
    ("limit", "body", "error"),
    [
        ("rl-gpt-4.1", {"max_requests_per_1_minute": -1}, (400, "invalid_value", "max_requests_per_1_minute")),
        ("rl-gpt-4.1", {"max_requests_per_1_minute": NONE + 1}, (400, "invalid_value", "max_requests_per_1_minute")),
        ("rl-gpt-4.1", {"max_requests_per_1_minute": 2**70}, (400, "invalid_value", "max_requests_per_1_minute")),
        ("rl-gpt-4.1", {"max_requests_per_1_minute": 1.5}, (400, "invalid_value", "max_requests_per_1_minute")),
        ("rl-gpt-4.1", {"max_requests_per_1_minute": "9"}, (400, "invalid_value", "max_requests_per_1_minute")),
        ("rl-gpt-4.1", {"max_requests_per_minute": 9}, (400, "unknown_parameter", "max_requests_per_minute")),
        ("rl-gpt-4.1", b"[]", (400, None, None)),
        ("rl-GPT-4.1", {}, (404, "not_found", None)),
        ("rl-unknown", {}, (404, "not_found", None)),
        ("rl-", {}, (404, "not_found", None)),
        ("gpt-4.1", {}, (404, "not_found", None)),
        ("rl-a%00b", {}, (404, "not_found", None)),
        ("rl-" + "a" * 4000, {}, (404, "not_found", None)),
    ],
)
async def test_mistakes(api: AdminApi, limit: str, body: object, error: tuple[int, str, str]) -> None:
    project = await api.client.admin.organization.projects.create(name="Chat")
    assert (await api.ask("POST", f"/organization/projects/{project.id}/rate_limits/{limit}", body)).error == error
    assert api.document(f"p:{project.id}") is None


async def test_archived_and_missing_projects(api: AdminApi) -> None:
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    await organization.projects.archive(project.id)
    assert await by_model(api, project.id)
    with pytest.raises(openai.BadRequestError, match="archived"):
        await organization.projects.rate_limits.update_rate_limit(
            "rl-o3", project_id=project.id, max_tokens_per_1_minute=1
        )
    with pytest.raises(openai.NotFoundError):
        await by_model(api, "proj_none")


async def test_a_model_with_a_long_name(valkey: Server, registry_url: str, tmp_path: Path) -> None:
    model = "m" * 200
    projects = [{"id": "proj_declared", "limits": {"models": {model: {"requests_per_minute": 5}}}}]
    async with admin_api(valkey, registry_url, tmp_path, projects=projects) as api:
        path = f"/organization/projects/proj_declared/rate_limits/rl-{model}"
        changed = await api.ask("POST", path, {"max_tokens_per_1_minute": 7})
        assert (changed.status, changed.body["max_tokens_per_1_minute"]) == (200, 7)
        [(_, event)] = await api.events(resource_ids=f"rl-{model}")
        assert event["id"] == f"rl-{model}"


async def test_models_that_were_called_have_an_object_too(api: AdminApi) -> None:
    organization = api.client.admin.organization
    one, other = [await organization.projects.create(name=name) for name in "ab"]
    longest = "own/modèle ✓" + "x" * 188
    rows = [
        {"organization_id": "org-gateway", "project_id": one.id, "model": model, "seen_at": 1}
        for model in (longest, "gpt-4.1")
    ]
    async with api.database.transaction() as connection:
        await connection.execute(seen_models.insert(), rows)
    found = await by_model(api, one.id)
    assert found[longest].max_requests_per_1_minute == NONE
    assert found.keys() - (await by_model(api, other.id)).keys() == {longest}
    limits = organization.projects.rate_limits
    limit = found[longest].id
    changed = await limits.update_rate_limit(limit, project_id=one.id, max_requests_per_1_minute=3)
    assert (changed.id, changed.max_requests_per_1_minute) == (limit, 3)
    document = api.document(f"p:{one.id}")
    assert document is not None
    assert document.models == {longest: LimitSet(rates=(RateLimit("requests_per_minute", 3),))}
    ((kind, details),) = await api.events(**{"resource_ids[]": limit})
    assert (kind, details["id"]) == ("rate_limit.updated", limit)
    with pytest.raises(openai.NotFoundError):
        await limits.update_rate_limit(limit, project_id=other.id, max_requests_per_1_minute=3)
