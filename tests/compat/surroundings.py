"""Things that tests of the admin API need around what they test, made by plain HTTP."""

import re
import secrets
from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec

PROJECT = "/organization/projects/{project}"


class Recipe(msgspec.Struct, frozen=True):
    """How something is made. path, body: `{names}` are made before. by: where the answer has its id."""

    path: str
    body: Mapping[str, Any]
    by: str = "id"

    def needs(self) -> set[str]:
        return names_in(self) - {"fresh"}


def names_in(value: Any) -> set[str]:
    """The `{names}` in something."""
    return set(re.findall(r"\{(\w+)\}", msgspec.json.encode(value).decode()))


def filled(value: Any, known: Mapping[str, str]) -> Any:
    """The same with what `{names}` stand for."""
    if isinstance(value, str):
        return re.sub(r"\{(\w+)\}", lambda found: known[found[1]], value)
    if isinstance(value, Mapping):
        return {name: filled(one, known) for name, one in value.items()}
    return [filled(one, known) for one in value] if isinstance(value, list) else value


class Plain:
    """Plain HTTP. base_url: with /v1."""

    def __init__(self, base_url: str, session: aiohttp.ClientSession, key: str, **headers: str) -> None:
        self._base_url = base_url
        self._session = session
        self._headers = {"Authorization": f"Bearer {key}", **headers}

    async def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and answer. A POST without a body sends `null`, as clients in Go do."""
        content = msgspec.json.encode(body) if method == "POST" else None
        headers = self._headers | ({"Content-Type": "application/json"} if content is not None else {})
        async with self._session.request(method, self._base_url + path, data=content, headers=headers) as response:
            return response.status, await response.json()

    async def made(self, path: str, body: Any) -> Any:
        status, answer = await self.request("POST", path, body)
        assert status == 200, (path, answer)
        return answer


def recipes() -> dict[str, Recipe]:
    limit = {"currency": "USD", "interval": "month", "threshold_amount": 700_000_000}
    alert = {**limit, "notification_channel": {"type": "email", "recipients": ["ops@example.com"]}}
    role = {"role_name": "{fresh}", "permissions": ["api.groups.read"]}
    project_role = {"role_name": "{fresh}", "permissions": ["api.organization.projects.api_keys.read"]}
    email = "{fresh}@example.com"
    return {
        "project": Recipe("/organization/projects", {"name": "{fresh}"}),
        "account": Recipe(f"{PROJECT}/service_accounts", {"name": "bot"}),
        "api_key": Recipe(f"{PROJECT}/service_accounts/{{account}}/api_keys", {"name": "one"}),
        "admin_key": Recipe("/organization/admin_api_keys", {"name": "{fresh}"}),
        "invite": Recipe("/organization/invites", {"email": email, "role": "reader"}),
        "member": Recipe(f"{PROJECT}/users", {"user_id": "{user}", "role": "member"}),
        "group": Recipe("/organization/groups", {"name": "{fresh}"}),
        "grouped": Recipe("/organization/groups/{group}/users", {"user_id": "{user}"}, "user_id"),
        "role": Recipe("/organization/roles", role),
        "project_role": Recipe("/projects/{project}/roles", project_role),
        "project_group": Recipe(f"{PROJECT}/groups", {"group_id": "{group}", "role": "member"}, "group_id"),
        "user_role": Recipe("/organization/users/{user}/roles", {"role_id": "{role}"}, "object"),
        "group_role": Recipe("/organization/groups/{group}/roles", {"role_id": "{role}"}, "object"),
        "project_user_role": Recipe("/projects/{project}/users/{member}/roles", {"role_id": "{project_role}"}, "object"),
        "project_group_role": Recipe("/projects/{project}/groups/{group}/roles", {"role_id": "{project_role}"}, "object"),
        "alert": Recipe("/organization/spend_alerts", alert),
        "project_alert": Recipe(f"{PROJECT}/spend_alerts", alert),
        "limit": Recipe("/organization/spend_limit", limit, "object"),
        "project_limit": Recipe(f"{PROJECT}/spend_limit", limit, "object"),
        "permitted": Recipe(f"{PROJECT}/model_permissions", {"mode": "allow_list", "model_ids": ["gpt-4o"]}, "object"),
    }  # fmt: skip


async def surroundings(plain: Plain, needs: set[str]) -> dict[str, str]:
    """Ids of what these names stand for, freshly made, and of what that needs in turn; `fresh`: what nothing else has."""
    known = {"fresh": secrets.token_hex(8)}
    known_recipes = recipes()

    async def make(name: str) -> None:
        if name in known:
            return
        if name == "user":
            await make("invite")
            _, found = await plain.request("GET", f"/organization/users?emails={known['fresh']}@example.com")
            known[name] = found["data"][0]["id"]
            return
        recipe = known_recipes[name]
        for needed in sorted(recipe.needs()):
            await make(needed)
        known[name] = (await plain.made(filled(recipe.path, known), filled(recipe.body, known)))[recipe.by]

    for name in sorted(needs - {"fresh"}):
        await make(name)
    return known
