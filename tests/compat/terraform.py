"""OpenAI's Terraform provider, as far as the gateway sees it: its resources, and which requests it makes for each.

Read off its source (openai/terraform-provider-openai, August 2026). Left out are what a gateway does not have:
certificates, external keys, data retention.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from tests.compat.stand import ADMIN_KEY
from tests.compat.surroundings import PROJECT, Plain, filled, names_in

_LISTED = "limit=100"


class Resource(msgspec.Struct, frozen=True):
    """A resource. all: where it is created; one: where it is; `{names}` are made before, `{id}` is its own.
    body, change: what it is created and updated with; without change the provider creates it anew.
    state: what it keeps of an answer, each maybe `answer=body` where the request has another name for it.
    listed: how it looks for it in a list, where it does not ask for the one; by: its id there.
    destroy: what ends it; without it nothing does. left: what is the case then; without it the answer is 404.
    """

    name: str
    all: str
    one: str
    body: Mapping[str, Any]
    state: tuple[str, ...] = ()
    change: Mapping[str, Any] | None = None
    listed: str = ""
    by: str = "id"
    destroy: tuple[str, str] | None = ("DELETE", "")
    left: Mapping[str, Any] | None = None

    def needs(self) -> set[str]:
        return names_in(self) - {"id"}


def _alert(name: str, path: str) -> Resource:
    fixed = {"currency": "USD", "interval": "month"}
    return Resource(
        name,
        f"{path}/spend_alerts",
        f"{path}/spend_alerts/{{id}}",
        {
            **fixed,
            "threshold_amount": 700_000_000,
            "notification_channel": {"type": "email", "recipients": ["ops@example.com"], "subject_prefix": "[ai]"},
        },
        (
            "id", "threshold_amount", "currency", "interval", "notification_channel.type",
            "notification_channel.recipients", "notification_channel.subject_prefix",
        ),
        {
            **fixed,
            "threshold_amount": 700_000_001,
            "notification_channel": {"type": "email", "recipients": ["a@example.com"], "subject_prefix": None},
        },
        listed=_LISTED,
    )  # fmt: skip


def _limit(name: str, path: str) -> Resource:
    fixed = {"currency": "USD", "interval": "month"}
    return Resource(
        name,
        f"{path}/spend_limit",
        f"{path}/spend_limit",
        {**fixed, "threshold_amount": 700_000_000},
        ("object", "threshold_amount", "currency", "interval", "enforcement.status"),
        {**fixed, "threshold_amount": 700_000_001},
    )


def _role(name: str, path: str, permission: str) -> Resource:
    return Resource(
        name,
        f"{path}/roles",
        f"{path}/roles/{{id}}",
        {"role_name": "{fresh}", "permissions": [permission], "description": "looks"},
        ("id", "name=role_name", "permissions", "description", "resource_type", "predefined_role"),
        {"role_name": "{fresh}!", "permissions": [permission], "description": None},
    )


def _assignment(name: str, path: str, role: str) -> Resource:
    return Resource(name, f"{path}/roles", f"{path}/roles/{{{role}}}", {"role_id": f"{{{role}}}"})


def _tools(*, web_search: bool) -> dict[str, Any]:
    names = ("file_search", "web_search", "image_generation", "mcp", "code_interpreter")
    return {name: {"enabled": web_search if name == "web_search" else True} for name in names}


def resources() -> list[Resource]:
    return [*_of_projects(), *_of_people()]


def _of_projects() -> list[Resource]:
    limits = ("requests_per_1_minute", "tokens_per_1_minute", "images_per_1_minute", "audio_megabytes_per_1_minute")
    rate_limit = f"{PROJECT}/rate_limits/rl-gpt-4o-mini"
    return [
        Resource(
            "project", "/organization/projects", "/organization/projects/{id}", {"name": "{fresh}"},
            ("id", "name", "external_key_id", "created_at", "archived_at", "status"),
            {"name": "{fresh}!", "geography": None, "external_key_id": None},
            listed=f"include_archived=true&{_LISTED}", destroy=("POST", "/archive"), left={"status": "archived"},
        ),
        Resource(
            "project_service_account", f"{PROJECT}/service_accounts", f"{PROJECT}/service_accounts/{{id}}",
            {"create_service_account_only": True, "name": "bot"}, ("id", "name", "created_at"),
        ),
        Resource(
            "project_rate_limit", rate_limit, rate_limit, {"max_requests_per_1_minute": 500},
            ("id", "model", "max_requests_per_1_day", "batch_1_day_max_input_tokens", *(f"max_{one}" for one in limits)),
            {"max_requests_per_1_minute": 400, "max_tokens_per_1_minute": 9000, "batch_1_day_max_input_tokens": 10_000},
            listed="limit=1000", destroy=None, left={"max_requests_per_1_minute": 400},
        ),
        _limit("organization_spend_limit", "/organization"),
        _limit("project_spend_limit", PROJECT),
        _alert("organization_spend_alert", "/organization"),
        _alert("project_spend_alert", PROJECT),
        Resource(
            "project_model_permissions", f"{PROJECT}/model_permissions", f"{PROJECT}/model_permissions",
            {"mode": "allow_list", "model_ids": ["gpt-4o"]}, ("object", "mode", "model_ids"),
            {"mode": "deny_list", "model_ids": ["o3", "o1"]},
        ),
        Resource(
            "project_hosted_tool_permissions", f"{PROJECT}/hosted_tool_permissions", f"{PROJECT}/hosted_tool_permissions",
            _tools(web_search=False), tuple(f"{name}.enabled" for name in _tools(web_search=True)),
            _tools(web_search=True), destroy=None, left={"web_search": {"enabled": True}},
        ),
    ]  # fmt: skip


def _of_people() -> list[Resource]:
    users = "/organization/users"
    return [
        Resource(
            "project_user", f"{PROJECT}/users", f"{PROJECT}/users/{{id}}", {"user_id": "{user}", "role": "member"},
            ("id=user_id", "email", "role", "name", "added_at"), {"role": "owner"},
        ),
        Resource(
            "project_group", f"{PROJECT}/groups", f"{PROJECT}/groups/{{id}}",
            {"group_id": "{group}", "role": "{project_role}"},
            ("project_id", "group_id", "group_name", "group_type", "created_at"), listed=_LISTED, by="group_id",
        ),
        _role("role", "/organization", "api.groups.read"),
        _role("project_role", "/projects/{project}", "api.organization.projects.api_keys.read"),
        _assignment("user_role", f"{users}/{{user}}", "role"),
        _assignment("group_role", "/organization/groups/{group}", "role"),
        _assignment("project_user_role", "/projects/{project}/users/{member}", "project_role"),
        _assignment("project_group_role", "/projects/{project}/groups/{group}", "project_role"),
        Resource(
            "group", "/organization/groups", "/organization/groups/{id}", {"name": "{fresh}"},
            ("id", "name", "created_at", "is_scim_managed"), {"name": "{fresh}!"},
        ),
        Resource(
            "group_user", "/organization/groups/{group}/users", "/organization/groups/{group}/users/{user}",
            {"user_id": "{user}"},
        ),
        Resource(
            "invite", "/organization/invites", "/organization/invites/{id}",
            {"email": "to-{fresh}@example.com", "role": "reader", "projects": []},
            ("id", "email", "role", "projects", "status", "created_at", "expires_at", "accepted_at"),
        ),
        # The provider only takes users over who are there: this one is updated from what the invite made of them.
        Resource(
            "organization_user", f"{users}/{{user}}", f"{users}/{{user}}", {"role": "owner"},
            (
                "id", "name", "email", "role", "added_at", "is_default", "created", "is_service_account",
                "is_scale_tier_authorized_purchaser", "is_scim_managed", "technical_level", "developer_persona",
            ),
            {"role": "reader", "technical_level": "high", "developer_persona": None},
        ),
    ]  # fmt: skip


class Provider(Plain):
    """Makes the provider's requests."""

    def __init__(self, base_url: str, session: aiohttp.ClientSession) -> None:
        super().__init__(base_url, session, ADMIN_KEY, **{"User-Agent": "terraform-provider-openai/1.1.0"})

    async def read(self, resource: Resource, known: Mapping[str, str]) -> tuple[int, Any]:
        """Status and the resource, from a list where the provider looks there: 404 if the list does not have it."""
        if not resource.listed:
            return await self.request("GET", filled(resource.one, known))
        path, after = filled(resource.one, known).rpartition("/")[0], ""
        while True:
            status, page = await self.request("GET", f"{path}?{resource.listed}{after}")
            if status != 200:
                return status, page
            for one in page["data"]:
                if one[resource.by] == known["id"]:
                    return 200, one
            cursor = page["next"] or (page["data"][-1].get("id", "") if page["data"] else "")
            if not page["has_more"] or not cursor:
                return 404, page
            after = f"&after={quote(cursor, safe='')}"
