"""What a project's calls may use: models, hosted tools, service tiers."""

import openai
import pytest

from gateway.limits import ModelPermissions, Permissions
from tests.fakes.admin_api import AdminApi
from tests.unit.control.admin.audited import audited


async def new_project(api: AdminApi) -> str:
    return (await api.client.admin.organization.projects.create(name="Chat")).id


def published(api: AdminApi, project_id: str) -> Permissions | None:
    document = api.document(f"p:{project_id}")
    return document.permissions if document is not None else None


async def test_models(api: AdminApi) -> None:
    project_id = await new_project(api)
    models = api.client.admin.organization.projects.model_permissions
    with pytest.raises(openai.NotFoundError):
        await models.retrieve(project_id)
    made = await models.update(project_id, mode="allow_list", model_ids=["GPT-4.1", "o3"])
    assert made.to_dict() == {
        "object": "project.model_permissions",
        "mode": "allow_list",
        "model_ids": ["GPT-4.1", "o3"],
    }
    assert await models.retrieve(project_id) == made
    assert published(api, project_id) == Permissions(models=ModelPermissions("allow_list", ("gpt-4.1", "o3")))
    api.clock.advance(1)
    await models.update(project_id, mode="deny_list", model_ids=[])
    assert (await models.retrieve(project_id)).mode == "deny_list"
    api.clock.advance(1)
    gone = await models.delete(project_id)
    assert gone.to_dict() == {"object": "project.model_permissions.deleted", "deleted": True}
    assert published(api, project_id) is None
    with pytest.raises(openai.NotFoundError):
        await models.delete(project_id)
    requested = [one["changes_requested"]["model_permissions"] for one in await audited(api, "project.updated")]
    assert requested == [
        {"mode": "allow_list", "model_ids": ["GPT-4.1", "o3"]},
        {"mode": "deny_list", "model_ids": []},
        None,
    ]


async def test_hosted_tools(api: AdminApi) -> None:
    project_id = await new_project(api)
    tools = api.client.admin.organization.projects.hosted_tool_permissions
    names = ["file_search", "web_search", "image_generation", "mcp", "code_interpreter"]
    assert (await tools.retrieve(project_id)).to_dict() == {name: {"enabled": True} for name in names}
    changed = await tools.update(project_id, mcp={"enabled": False}, web_search=None)
    assert [name for name, one in changed.to_dict().items() if not one["enabled"]] == ["mcp"]  # type: ignore[index]
    assert published(api, project_id) == Permissions(denied_tools=("mcp",))
    changed = await tools.update(project_id, file_search={"enabled": False})
    assert not changed.file_search.enabled
    assert not changed.mcp.enabled, "what is not named stays"
    assert await tools.retrieve(project_id) == changed
    assert await tools.update(project_id) == changed
    await tools.update(project_id, file_search={"enabled": True}, mcp={"enabled": True})
    assert published(api, project_id) is None
    assert len(await audited(api, "project.updated")) == 3


async def test_service_tiers(api: AdminApi) -> None:
    project_id = await new_project(api)
    tiers = api.client.admin.organization.projects.service_tier_settings
    present = await tiers.retrieve(project_id)
    assert present.to_dict() == {
        "object": "project.service_tier_settings",
        "default": "standard",
        "enabled_tiers": "all",
    }
    changed = await tiers.update(project_id, enabled_tiers=["flex", "fast"])
    assert (changed.default, changed.enabled_tiers) == ("standard", ["flex", "fast"])
    assert published(api, project_id) == Permissions(tiers=("flex", "fast"))
    changed = await tiers.update(project_id, default="fast")
    assert (changed.default, changed.enabled_tiers) == ("fast", ["flex", "fast"])
    assert published(api, project_id) == Permissions(default_tier="fast", tiers=("flex", "fast"))
    with pytest.raises(openai.BadRequestError) as caught:
        await tiers.update(project_id, enabled_tiers=[])
    assert (caught.value.code, caught.value.param) == ("invalid_value", "default")
    assert await tiers.retrieve(project_id) == changed
    changed = await tiers.update(project_id, default="scale", enabled_tiers=[])
    assert (changed.default, changed.enabled_tiers) == ("scale", [])
    await tiers.update(project_id, default="standard", enabled_tiers="all")
    assert published(api, project_id) is None


async def test_one_does_not_touch_the_others(api: AdminApi) -> None:
    project_id = await new_project(api)
    projects = api.client.admin.organization.projects
    await projects.model_permissions.update(project_id, mode="deny_list", model_ids=["o3"])
    await projects.hosted_tool_permissions.update(project_id, mcp={"enabled": False})
    await projects.service_tier_settings.update(project_id, enabled_tiers=[])
    await projects.spend_limit.update(project_id, threshold_amount=1, currency="USD", interval="month")
    permissions = Permissions(ModelPermissions("deny_list", ("o3",)), ("mcp",), None, ())
    assert published(api, project_id) == permissions
    await projects.model_permissions.delete(project_id)
    assert published(api, project_id) == Permissions(None, ("mcp",), None, ())
    assert published(api, await new_project(api)) is None


@pytest.mark.parametrize(
    ("noun", "body", "error"),
    [
        ("model_permissions", {"mode": "allow_list"}, (400, "missing_required_parameter", "model_ids")),
        ("model_permissions", {"mode": "all", "model_ids": []}, (400, "invalid_value", "mode")),
        ("model_permissions", {"mode": "deny_list", "model_ids": "o3"}, (400, "invalid_value", "model_ids")),
        ("model_permissions", {"mode": "deny_list", "model_ids": [""]}, (400, "invalid_value", "model_ids[0]")),
        ("model_permissions", {"mode": "deny_list", "model_ids": ["a\0"]}, (400, "invalid_value", "model_ids.0")),
        ("model_permissions", {"mode": "deny_list", "model_ids": ["a"] * 1001}, (400, "invalid_value", "model_ids")),
        ("hosted_tool_permissions", {"mcp": True}, (400, "invalid_value", "mcp")),
        ("hosted_tool_permissions", {"mcp": {}}, (400, "missing_required_parameter", "mcp.enabled")),
        ("hosted_tool_permissions", {"mcp": {"enabled": "no"}}, (400, "invalid_value", "mcp.enabled")),
        ("hosted_tool_permissions", {"computer": {"enabled": False}}, (400, "unknown_parameter", "computer")),
        ("service_tier_settings", {"default": "flex"}, (400, "invalid_value", "default")),
        ("service_tier_settings", {"enabled_tiers": ["scale"]}, (400, "invalid_value", "enabled_tiers[0]")),
        ("service_tier_settings", {"enabled_tiers": "none"}, (400, "invalid_value", "enabled_tiers")),
        ("service_tier_settings", {"default": "fast", "enabled_tiers": []}, (400, "invalid_value", "default")),
    ],
)
async def test_mistakes(api: AdminApi, noun: str, body: object, error: tuple[int, str, str]) -> None:
    project_id = await new_project(api)
    assert (await api.ask("POST", f"/organization/projects/{project_id}/{noun}", body)).error == error
    assert published(api, project_id) is None


@pytest.mark.parametrize("noun", ["model_permissions", "hosted_tool_permissions", "service_tier_settings"])
async def test_archived_and_missing_projects(api: AdminApi, noun: str) -> None:
    body = {"mode": "deny_list", "model_ids": ["o3"]} if noun == "model_permissions" else {}
    project_id = await new_project(api)
    path = f"/organization/projects/{project_id}/{noun}"
    assert (await api.ask("POST", path, body)).status == 200
    await api.client.admin.organization.projects.archive(project_id)
    assert (await api.ask("GET", path)).status == 200
    assert (await api.ask("POST", path, body)).error == (400, "invalid_state", None)
    for method in ("GET", "POST"):
        answer = await api.ask(method, f"/organization/projects/proj_none/{noun}", body)
        assert answer.error == (404, "not_found", None)
