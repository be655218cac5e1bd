"""A call, explained by the admin API; over both databases."""

from typing import Any

import msgspec
import pytest
from sqlalchemy import insert

from gateway.accounts.refusals import Refusal
from gateway.accounts.usage_stream import pack
from gateway.control.ledger.calls import upstream_key
from gateway.control.sql.ledger_tables import usage_events, usage_refusals
from gateway.values import Checked, Cost, Quantities, Taking, Tried, UsageEvent
from tests.fakes.admin_api import AdminApi
from tests.fakes.events import AT_US, MINUTE, ORG
from tests.fakes.events import event as plain

PATH = "/organization/requests"
COSTS = (
    Cost("gpt-4o-mini, input_tokens", "input_tokens", 193, 57_900),
    Cost("gpt-4o-mini, x", "output_tokens", 45, 17_250),
)
LIMITS = (
    Checked("requests_per_minute", "organization", 100),
    Checked("tokens_per_minute", "project_model", 9, "gpt-4o", shadow=True),
    Checked("concurrent_requests", "user", 8),
    Checked("spend.day", "member", 2_500_000_000),
    Checked("spend.total", "key", 1),
)


def event(number: int | str, **changes: Any) -> UsageEvent:
    (line,) = plain(number).lines
    told = {
        "reserved": Taking(tokens=900, audio_bytes=5, nano_usd=200_000),
        "limits": LIMITS,
        "attempts": (Tried(0, "first", 0, "upstream_unreachable", 3), Tried(1, "openai", 200, "", 250, "req_up")),
        "lines": (msgspec.structs.replace(line, costs=COSTS),),
    }
    return msgspec.structs.replace(plain(number), **{**told, **changes})


def refusal(request_id: str, **changes: Any) -> Refusal:
    made = Refusal(
        at_us=AT_US + 1, organization_id=ORG, project_id="proj_1", user_id="user_1", key_id="key_1",
        limit="tokens_per_minute", scope="project_model", subject="proj_1", model="gpt-4o", request_id=request_id,
        value=100, used=90, wanted=20,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


async def keep(api: AdminApi, *those: UsageEvent | Refusal) -> None:
    async with api.database.transaction() as connection:
        for number, one in enumerate(those):
            if isinstance(one, UsageEvent):
                row: dict[str, Any] = {"id": one.id, "at": one.at_us // 60_000_000, "event": pack(one).json}
                row |= {"unconfirmed": one.unconfirmed, "upstream_id": upstream_key(one)}
                await connection.execute(insert(usage_events), [row])
            else:
                row = {"position": f"1-{number}", "organization_id": ORG, "at": MINUTE, "request_id": one.request_id}
                await connection.execute(insert(usage_refusals), [{**row, "refusal": msgspec.json.encode(one)}])


async def shown(api: AdminApi, request_id: str) -> Any:
    found = await api.ask("GET", f"{PATH}/{request_id}")
    assert found.status == 200, found.body
    return found.body


def usd(value: float) -> dict[str, Any]:
    return {"value": value, "currency": "usd"}


async def test_all_that_is_known_of_a_call(api: AdminApi) -> None:
    await keep(api, event(1, end_user="u-1"), event(2), refusal("req_1", shadow=True, used=None), refusal("req_3"))
    found = await shown(api, "req_1")
    lines, limits, refusals = found.pop("lines"), found.pop("limits"), found.pop("refusals")
    assert found == {
        "object": "organization.request", "id": "req_1", "created_at": AT_US // 1_000_000, "outcome": "complete",
        "project_id": "proj_1", "user_id": "user_1", "api_key_id": "key_1", "operation": "createChatCompletion",
        "category": "completions", "model": "gpt-4o-mini", "status": 200, "stream": False, "end_user": "u-1",
        "pending_object_id": None, "checked_by": "redis",
        "reserved": {"requests": 1, "tokens": 900, "images": 0, "audio_bytes": 5, "batch_input_tokens": 0,
                     "amount": usd(0.0002)},
        "settled": {"requests": 1, "tokens": 366, "images": 0, "audio_bytes": 5, "batch_input_tokens": 0,
                    "amount": usd(0.00007515)},
        "attempts": [
            {"attempt": None, "upstream": "first", "status": None, "error": "upstream_unreachable", "milliseconds": 3,
             "request_id": None},
            {"attempt": 1, "upstream": "openai", "status": 200, "error": None, "milliseconds": 250,
             "request_id": "req_up"},
        ],
    }  # fmt: skip
    assert [(one["limit"], one["scope"], one["subject_id"], one["value"]) for one in limits] == [
        ("requests_per_minute", "organization", ORG, 100), ("tokens_per_minute", "project_model", "proj_1", 9),
        ("concurrent_requests", "user", "user_1", 8), ("spend.day", "member", "user_1", usd(2.5)),
        ("spend.total", "key", "key_1", usd(1e-9)),
    ]  # fmt: skip
    assert [(one.get("model"), one["shadow"]) for one in limits][:2] == [(None, False), ("gpt-4o", True)]
    (line,) = lines
    assert line["quantities"] == {"input_tokens": 321, "cached_tokens": 128, "output_tokens": 45}
    assert line["costs"][0] == {
        "line_item": "gpt-4o-mini, input_tokens", "unit": "input_tokens", "quantity": 193, "amount": usd(0.0000579)
    }  # fmt: skip
    assert sum(one["amount"]["value"] for one in line["costs"]) == pytest.approx(line["amount"]["value"])
    assert refusals == [
        {"at": AT_US // 1_000_000, "limit": "tokens_per_minute", "scope": "project_model", "subject_id": "proj_1",
         "value": 100, "used": None, "requested": 20, "shadow": True}
    ]  # fmt: skip


async def test_what_a_call_gives_back(api: AdminApi) -> None:
    """One that the upstream refused uses its request, and nothing else."""
    await keep(api, event(1, status=429, lines=()), event(2, reserved=None, limits=()), event(3, locally=True))
    refused = await shown(api, "req_1")
    assert (refused["settled"]["requests"], refused["settled"]["tokens"], refused["settled"]["audio_bytes"]) == (
        1,
        0,
        0,
    )
    assert refused["settled"]["amount"] == usd(0)
    assert (refused["status"], refused["model"], refused["lines"]) == (429, None, [])
    older = await shown(api, "req_2")
    assert (older["reserved"], older["limits"], older["checked_by"]) == (None, None, None)
    assert older["settled"]["tokens"] == 366
    assert (await shown(api, "req_3"))["checked_by"] == "worker"


async def test_an_event_of_an_earlier_version(api: AdminApi) -> None:
    await keep(api, plain(1), msgspec.structs.replace(plain(2), unconfirmed=True, ended="unknown"))
    found = await shown(api, "req_1")
    assert (found["attempts"], found["limits"], found["settled"]["requests"]) == ([], None, 1)
    assert (await shown(api, "req_2"))["outcome"] == "unknown"


async def test_why_a_call_was_refused(api: AdminApi) -> None:
    megabytes = {"limit": "audio_megabytes_per_minute", "value": 3, "used": 2_500_000, "wanted": 1_000_000}
    spend = {"limit": "spend.month", "value": 5 * 10**9, "used": 4 * 10**9, "wanted": 2 * 10**9}
    await keep(
        api, refusal("req_1"), refusal("req_2", **megabytes), refusal("req_3", **spend), refusal("req_4", shadow=True)
    )
    found = await shown(api, "req_1")
    (why,) = found.pop("refusals")
    assert found == {
        "object": "organization.request", "id": "req_1", "created_at": AT_US // 1_000_000, "outcome": "limited",
        "project_id": "proj_1", "user_id": "user_1", "api_key_id": "key_1", "model": "gpt-4o",
    }  # fmt: skip
    assert (why["limit"], why["value"], why["used"], why["requested"]) == ("tokens_per_minute", 100, 90, 20)
    counted = [(await shown(api, f"req_{number}"))["refusals"][0] for number in (2, 3)]
    assert [(one["value"], one["used"], one["requested"]) for one in counted] == [
        (3, 2.5, 1), (usd(5), usd(4), usd(2))
    ]  # fmt: skip
    assert (await shown(api, "req_4"))["outcome"] == "running", "a shadow let it pass"


async def test_a_socket_names_its_responses(api: AdminApi) -> None:
    await keep(api, event("9/1"), refusal("req_9/2"), event("9/12"), event("99/3"))
    found = await shown(api, "req_9")
    assert found == {
        "object": "organization.request", "id": "req_9", "outcome": "socket",
        "responses": ["req_9/1", "req_9/2", "req_9/12"],
    }  # fmt: skip
    assert (await shown(api, "req_9%2F12"))["settled"]["tokens"] == 366
    assert (await shown(api, "req_9%2F2"))["outcome"] == "limited"


async def test_what_is_not_there(api: AdminApi) -> None:
    await keep(api, event(1, organization_id="org-other"), event(2, lines=(), attempts=()))
    for request_id in ("req_9", "req_1", "x" * 5000, "%00", "req_%27--"):
        found = await api.ask("GET", f"{PATH}/{request_id}")
        assert found.error == (404, "not_found", None), request_id
        assert "kept for 7 days" in found.body["error"]["message"]
    assert (await api.ask("GET", f"{PATH}/req_2?limit=1")).error == (400, "unknown_parameter", "limit")
    assert (await api.ask("DELETE", f"{PATH}/req_2")).status == 405


async def test_who_may_ask(api: AdminApi) -> None:
    """A role that reads usage; and an API key, about its own calls."""
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    keys = [await organization.projects.service_accounts.create(project.id, name=name) for name in ("one", "two")]
    one, two = (made.api_key for made in keys)
    assert one is not None
    assert two is not None
    await keep(api, event(1, key_id=one.id), refusal("req_2", key_id=one.id), event("3/1", key_id=one.id))
    for request_id in ("req_1", "req_2", "req_3"):
        assert (await api.ask("GET", f"{PATH}/{request_id}", key=one.value)).status == 200
        assert (await api.ask("GET", f"{PATH}/{request_id}", key=two.value)).error == (404, "not_found", None)
    for scopes, status in ((["api.usage.read"], 200), (["api.audit_logs.read"], 401)):
        made = await api.ask("POST", "/organization/admin_api_keys", {"name": "k", "scopes": scopes})
        assert (await api.ask("GET", f"{PATH}/req_1", key=made.body["value"])).status == status
    assert (await api.ask("GET", f"{PATH}/req_1", key=None)).status == 401


async def test_quantities_that_are_none_are_left_out(api: AdminApi) -> None:
    (line,) = plain(1).lines
    images = msgspec.structs.replace(line, quantities=Quantities(images=3), nano_usd=None, costs=())
    await keep(api, event(1, lines=(images,)))
    found = await shown(api, "req_1")
    assert (found["lines"][0]["quantities"], found["settled"]["images"]) == ({"images": 3}, 3)
    assert found["lines"][0]["amount"] == usd(0)


async def test_a_call_is_known_by_its_upstreams_id_too(api: AdminApi) -> None:
    """That is what clients see. The newest one counts, should an upstream use an id again."""

    def called(number: int | str, upstream_id: str, *, days_ago: float = 0.0, **more: Any) -> UsageEvent:
        at_us = int((api.clock.wall() - days_ago * 86_400) * 1e6)
        return event(number, attempts=(Tried(1, "openai", 200, "", 250, upstream_id),), at_us=at_us, **more)

    await keep(
        api, called(1, "req_a"), called(2, "req_a", days_ago=3), called(3, "req_b", days_ago=7), called(4, "ü\U0001f600"),
        called("5/1", "req_s", days_ago=0.1), called("5/2", "req_s"), called("6/1", "req_s", days_ago=2),
        refusal("req_1", shadow=True), called(7, "req_other", organization_id="org-other"), called(8, "req_old", days_ago=30)
    )  # fmt: skip
    found = await shown(api, "req_a")
    assert (found["id"], found["attempts"][0]["request_id"], len(found["refusals"])) == ("req_1", "req_a", 1)
    assert (await shown(api, "req_b"))["id"] == "req_3"
    assert (await shown(api, "%C3%BC%F0%9F%98%80"))["id"] == "req_4"
    assert (await shown(api, "req_s"))["responses"] == ["req_5/1", "req_5/2"]
    assert (await shown(api, "req_old"))["id"] == "req_8", "as long as it is kept"
    assert (await api.ask("GET", f"{PATH}/req_other")).status == 404
