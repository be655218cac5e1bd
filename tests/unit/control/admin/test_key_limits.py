"""Limits of single API keys, which OpenAI does not have."""

from pathlib import Path

import pytest

from gateway.control.registry.declared import declared_keys
from gateway.limits import LimitSet, RateLimit, SpendLimit
from tests.fakes.admin_api import AdminApi, admin_api, settings_of
from tests.fakes.redis_servers import Server
from tests.unit.control.admin.audited import audited

BODY = {"threshold_amount": 5_000, "currency": "USD", "interval": "day"}


async def new_key(api: AdminApi) -> tuple[str, str]:
    """Its id and its path."""
    project = await api.client.admin.organization.projects.create(name="Chat")
    made = await api.client.admin.organization.projects.service_accounts.create(project.id, name="bot")
    assert made.api_key is not None
    return made.api_key.id, f"/organization/projects/{project.id}/api_keys/{made.api_key.id}"


async def test_rate_limits(api: AdminApi) -> None:
    key_id, path = await new_key(api)
    nothing = {"object": "project.api_key.rate_limit", "id": f"rl-{key_id}"}
    assert (await api.ask("GET", f"{path}/rate_limits")).body == nothing
    requested = {"max_requests_per_1_minute": 0, "max_tokens_per_1_minute": 90}
    made = await api.ask("POST", f"{path}/rate_limits", requested)
    assert (made.status, made.body) == (200, nothing | requested)
    assert (await api.ask("GET", f"{path}/rate_limits")).body == made.body
    document = api.document(f"k:{key_id}")
    assert document is not None
    assert {(rate.kind, rate.limit) for rate in document.own.rates} == {
        ("requests_per_minute", 0),
        ("tokens_per_minute", 90),
    }
    taken = await api.ask("POST", f"{path}/rate_limits", {"max_requests_per_1_minute": 1_000_000_000_000})
    assert taken.body == nothing | {"max_tokens_per_1_minute": 90}
    assert api.document(f"k:{key_id}").own == LimitSet((RateLimit("tokens_per_minute", 90),))  # type: ignore[union-attr]
    assert (await audited(api, "api_key.updated"))[0] == {"id": key_id, "changes_requested": requested}


async def test_a_spend_limit(api: AdminApi) -> None:
    key_id, path = await new_key(api)
    assert (await api.ask("GET", f"{path}/spend_limit")).error == (404, "not_found", None)
    made = await api.ask("POST", f"{path}/spend_limit", BODY)
    assert made.body == {"object": "project.api_key.spend_limit", **BODY, "enforcement": {"status": "inactive"}}
    assert api.document(f"k:{key_id}").own.spend == (SpendLimit("day", 50_000_000_000),)  # type: ignore[union-attr]
    assert (await api.ask("GET", f"{path}/spend_limit")).body == made.body
    gone = await api.ask("DELETE", f"{path}/spend_limit")
    assert gone.body == {"object": "project.api_key.spend_limit.deleted", "deleted": True}
    assert (await api.ask("DELETE", f"{path}/spend_limit")).error == (404, "not_found", None)
    assert api.document(f"k:{key_id}") is None
    assert [one["id"] for one in await audited(api, "api_key.updated")] == [key_id, key_id]


async def test_limits_end_with_their_key(api: AdminApi) -> None:
    """Else every worker would keep those of all keys that there ever were."""
    key_id, path = await new_key(api)
    await api.ask("POST", f"{path}/rate_limits", {"max_requests_per_1_minute": 5})
    await api.ask("POST", f"{path}/spend_limit", BODY)
    assert api.document(f"k:{key_id}") is not None
    assert (await api.ask("DELETE", path)).status == 200
    assert api.document(f"k:{key_id}") is None
    await api.publisher.publish_all()
    assert api.document(f"k:{key_id}") is None


@pytest.mark.parametrize("noun", ["rate_limits", "spend_limit"])
async def test_keys_that_are_not_there(api: AdminApi, noun: str) -> None:
    _, path = await new_key(api)
    other, _ = await new_key(api)
    project = path.rsplit("/", 1)[0]
    for key_id in (other, "key_none", "a%00b", "k" * 3000):
        for method in ("GET", "POST"):
            answer = await api.ask(method, f"{project}/{key_id}/{noun}", BODY)
            assert answer.error == (404, "not_found", None)
    assert (await api.ask("DELETE", path)).status == 200
    assert (await api.ask("GET", f"{path}/{noun}")).status == 404


async def test_mistakes(api: AdminApi) -> None:
    key_id, path = await new_key(api)
    for body, error in (
        ({"max_requests_per_1_minute": "x"}, (400, "invalid_value", "max_requests_per_1_minute")),
        ({"limit": 1}, (400, "unknown_parameter", "limit")),
        (b"{", (400, None, None)),
    ):
        assert (await api.ask("POST", f"{path}/rate_limits", body)).error == error
    assert (await api.ask("POST", f"{path}/spend_limit", {})).status == 400
    assert api.document(f"k:{key_id}") is None


async def test_an_archived_project_keeps_its_limits(api: AdminApi) -> None:
    _, path = await new_key(api)
    await api.ask("POST", f"{path}/spend_limit", BODY)
    await api.client.admin.organization.projects.archive(path.split("/")[3])
    assert (await api.ask("GET", f"{path}/spend_limit")).status == 200
    for method, noun in (("POST", "spend_limit"), ("DELETE", "spend_limit"), ("POST", "rate_limits")):
        assert (await api.ask(method, f"{path}/{noun}", BODY)).error == (400, "invalid_state", None)


async def test_what_the_settings_declare(valkey: Server, registry_url: str, tmp_path: Path) -> None:
    key = {
        "name": "web",
        "hash": "sha256:" + "ab" * 32,
        "limits": {"tokens_per_minute": 50, "spend": {"day": 3}},
    }
    more = {
        "limits": {"keys": {"requests_per_day": 800, "requests_per_minute": 20}},
        "projects": [{"id": "proj_x", "keys": [key], "limits": {"keys": {"requests_per_minute": "unlimited"}}}],
    }
    key_id = declared_keys(settings_of(tmp_path, **more))[0].principal.key_id
    path = f"/organization/projects/proj_x/api_keys/{key_id}"
    async with admin_api(valkey, registry_url, tmp_path, **more) as api:
        shown = (await api.ask("GET", f"{path}/rate_limits")).body
        holds = {"max_tokens_per_1_minute": 50, "max_requests_per_1_day": 800}
        assert shown == {"object": "project.api_key.rate_limit", "id": f"rl-{key_id}", **holds}
        refused = await api.ask("POST", f"{path}/rate_limits", {"max_tokens_per_1_minute": 60})
        assert refused.error == (400, "declared_in_settings", "max_tokens_per_1_minute")
        made = await api.ask("POST", f"{path}/rate_limits", {"max_requests_per_1_minute": 7})
        assert made.body == shown | {"max_requests_per_1_minute": 7}
        assert (await api.ask("POST", f"{path}/spend_limit", BODY)).error == (400, "declared_in_settings", None)
        assert (await api.ask("GET", f"{path}/spend_limit")).body["threshold_amount"] == 300
