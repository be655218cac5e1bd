"""The endpoints of usage and costs: shapes, parameters, rights, and what an API key may ask of them."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from openai.types.admin.organization.usage_completions_response import DataResultOrganizationUsageCompletionsResult
from openai.types.admin.organization.usage_costs_response import DataResultOrganizationCostsResult

from gateway.control.admin.usage import ENDPOINTS
from gateway.redisdb.client import connect
from gateway.values import Cost, Quantities, UsageEvent
from tests.fakes.admin_api import ADMIN_KEY, AdminApi, admin_api
from tests.fakes.events import AT_US
from tests.fakes.events import event as plain
from tests.fakes.ledger import Ledger
from tests.fakes.redis_servers import Server

DAY, HOUR = 86_400, 3_600
NOW = AT_US // 1_000_000
TODAY = NOW - NOW % DAY
COMPLETIONS = f"/organization/usage/completions?start_time={TODAY - 2 * DAY}"
COSTS = f"/organization/costs?start_time={TODAY - 2 * DAY}"


async def fold(api: AdminApi, *events: UsageEvent) -> None:
    client = connect(api.server.settings())
    try:
        await Ledger(api.database, client).folded(*events)
    finally:
        await client.aclose()


def event(number: int, *, ago_s: int = 0, **more: Any) -> UsageEvent:
    """One that costs 2,000 nano-dollars."""
    made = plain(number, at_us=AT_US - ago_s * 1_000_000)
    costs = (Cost("gpt-4o-mini, input_tokens", "input_tokens", 321, 1_500), Cost("gpt-4o-mini, storage", "bytes", 1 << 30, 500))  # fmt: skip
    line = msgspec.structs.replace(made.lines[0], nano_usd=2_000, costs=costs)
    return msgspec.structs.replace(made, **{"lines": (line,), **more})


async def results(api: AdminApi, path: str, key: str = ADMIN_KEY) -> list[list[dict[str, Any]]]:
    """Of each bucket."""
    found = await api.ask("GET", path, key=key)
    assert found.status == 200, found.body
    return [bucket["results"] for bucket in found.body["data"]]


async def test_completions_by_the_official_client(api: AdminApi) -> None:
    await fold(api, event(1), event(2), event(3, ago_s=DAY, key_id="key_2"))
    usage = api.client.admin.organization.usage
    page = await usage.completions(start_time=TODAY - 2 * DAY, group_by=["project_id", "model"], models=["gpt-4o-mini-2024-07-18"])  # fmt: skip
    assert (page.object, page.has_more, page.next_page) == ("page", False, None)
    assert [(one.start_time, one.end_time) for one in page.data] == [
        (TODAY + n * DAY, TODAY + (n + 1) * DAY) for n in (-2, -1, 0)
    ]
    assert [len(one.results) for one in page.data] == [0, 1, 1]
    (result,) = page.data[2].results
    assert isinstance(result, DataResultOrganizationUsageCompletionsResult)
    assert (result.input_tokens, result.input_cached_tokens, result.output_tokens) == (642, 256, 90)
    assert (result.input_uncached_tokens, result.num_model_requests) == (386, 2)
    assert (result.project_id, result.model) == ("proj_1", "gpt-4o-mini-2024-07-18")
    told = result.to_dict()
    assert {name: told[name] for name in ("user_id", "api_key_id", "batch", "service_tier", "api_source")} == dict.fromkeys(
        ("user_id", "api_key_id", "batch", "service_tier", "api_source")
    )  # fmt: skip


async def test_all_others_by_the_official_client(api: AdminApi) -> None:
    """Its types fit, which it checks; and each has its own kind of result, though a call is of one only."""
    quantities = Quantities(input_tokens=2, images=1, characters=3, duration_ms=1_500, sessions=1, web_searches=4, file_searches=5, bytes=6)  # fmt: skip
    lines = [msgspec.structs.replace(plain(1).lines[0], category=name, quantities=quantities) for name in ENDPOINTS]
    await fold(api, *(event(n, category=line.category, lines=(line,)) for n, line in enumerate(lines)))
    usage = api.client.admin.organization.usage
    seen = set()
    for name in ENDPOINTS:
        ask: Any = getattr(usage, name)
        page = await ask(start_time=TODAY, bucket_width="1h", limit=24)
        (result,) = [one for bucket in page.data for one in bucket.results]
        seen.add((name, result.object.split(".")[2]))
        told = result.to_dict()
        assert told.get("num_model_requests", 1) == 1
        wanted = {"images": 1, "characters": 3, "seconds": 2, "num_sessions": 1, "usage_bytes": 6}
        searched = {"web_search_calls": 4, "file_search_calls": 5}.get(name)
        for field, value in {**wanted, "num_requests": searched}.items():
            assert told.get(field, value) == value, (name, field)
    other = {"web_search_calls": "web_searches", "file_search_calls": "file_searches"}
    assert seen == {(name, other.get(name, name)) for name in ENDPOINTS}


async def test_costs_by_the_official_client(api: AdminApi) -> None:
    await fold(api, event(1), event(2))
    usage = api.client.admin.organization.usage
    (total,) = (await usage.costs(start_time=TODAY)).data[0].results
    assert isinstance(total, DataResultOrganizationCostsResult)
    assert total.amount is not None
    assert (total.amount.value, total.amount.currency, total.quantity, total.quantity_unit) == (4e-6, "usd", None, None)
    grouped = (await usage.costs(start_time=TODAY, group_by=["line_item", "api_key_id"])).data[0].results
    assert [one.to_dict() for one in grouped] == [
        {"object": "organization.costs.result", "amount": {"value": value, "currency": "usd"}, "quantity": quantity,
         "quantity_unit": unit, "line_item": item, "api_key_id": "key_1", "user_id": None, "project_id": None,
         "api_source": None}
        for item, value, quantity, unit in (
            ("gpt-4o-mini, input_tokens", 3e-6, 642, "tokens"), ("gpt-4o-mini, storage", 1e-6, 48, "gibibyte_hours"),
        )
    ]  # fmt: skip
    item = "gpt-4o-mini, input_tokens"
    only = await usage.costs(start_time=TODAY, line_items=[item], group_by=["line_item"])
    assert [one.line_item for one in only.data[0].results if isinstance(one, DataResultOrganizationCostsResult)] == [item]  # fmt: skip
    (by_hand,) = await results(
        api, f"/organization/costs?start_time={TODAY}&line_items=gpt-4o-mini,+input_tokens,other"
    )
    assert [one["amount"]["value"] for one in by_hand] == [3e-6], "a comma before a space is part of the name"


async def test_the_loop_of_openais_cookbook(api: AdminApi) -> None:
    """Lists as Python's requests writes them, all parameters again with each page, until next_page is null."""
    await fold(api, *(event(n, ago_s=n * DAY, project_id=f"proj_{n % 2}") for n in range(5)))
    parameters = (
        f"start_time={TODAY - 4 * DAY}&bucket_width=1d&limit=2&group_by=model&group_by=project_id&group_by=batch"
    )
    found: list[Any] = []
    page = ""
    while True:
        answer = (await api.ask("GET", f"/organization/usage/completions?{parameters}{page}")).body
        found += answer["data"]
        if not answer.get("next_page"):
            break
        page = f"&page={answer['next_page']}"
    told = [(one["project_id"], one["batch"], one["input_tokens"]) for day in found for one in day["results"]]
    assert told == [(f"proj_{n % 2}", False, 321) for n in (4, 3, 2, 1, 0)]


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/organization/usage/completions", "start_time"),
        ("/organization/usage/completions?start_time=soon", "start_time"),
        ("/organization/usage/completions?start_time=-1", "start_time"),
        (f"/organization/usage/completions?start_time={2**70}", "start_time"),
        (f"/organization/usage/completions?start_time=1&end_time={2**70}", "end_time"),
        (f"{COMPLETIONS}&limit={2**70}", "limit"),
        (f"{COMPLETIONS}&end_time={TODAY - 2 * DAY}", "end_time"),
        (f"{COMPLETIONS}&bucket_width=1w", "bucket_width"),
        (f"{COMPLETIONS}&limit=32", "limit"),
        (f"{COMPLETIONS}&limit=0", "limit"),
        (f"{COMPLETIONS}&bucket_width=1h&limit=169", "limit"),
        (f"{COMPLETIONS}&page=page_nonsense", "page"),
        (f"{COMPLETIONS}&batch=maybe", "batch"),
        (f"{COMPLETIONS}&group_by=model&group_by=size", "group_by[1]"),
        (f"{COMPLETIONS}&group_by[]=line_item", "group_by[0]"),
        (f"{COMPLETIONS}&sizes=1024x1024", "sizes"),
        (f"{COMPLETIONS}&models[]=a%00b", "models.0"),
        (f"{COMPLETIONS}&start_time=1", "start_time"),
        ("/organization/usage/images?start_time=1&sources=image.scan", "sources[0]"),
        ("/organization/usage/web_search_calls?start_time=1&context_levels=huge", "context_levels[0]"),
        ("/organization/usage/vector_stores?start_time=1&group_by=model", "group_by[0]"),
        ("/organization/usage/vector_stores?start_time=1&api_key_ids=key_1", "api_key_ids"),
        (f"{COSTS}&bucket_width=1h", "bucket_width"),
        (f"{COSTS}&limit=181", "limit"),
        (f"{COSTS}&group_by=model", "group_by[0]"),
        (f"{COSTS}&models=gpt-4o", "models"),
    ],
)
async def test_mistakes_are_named(api: AdminApi, path: str, param: str) -> None:
    found = await api.ask("GET", path)
    assert (found.status, found.error[2]) == (400, param)
    assert found.body["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("more", ["", "&group_by=user_id", "&bucket_width=1m&api_key_ids=key_1", "&bucket_width=1h"])
async def test_any_time_may_be_asked_for(api: AdminApi, more: str) -> None:
    for start in (0, 61, 200_000_000_041, 253_402_300_799):
        path = f"/organization/usage/completions?start_time={start}&end_time={start + 9 * DAY}{more}"
        expected = 200 if start < 253_000_000_000 else 400
        assert (await api.ask("GET", path)).status == expected
        if start and expected == 200:
            assert not any(await results(api, path))


async def test_a_page_belongs_to_its_question(api: AdminApi) -> None:
    page = (await api.ask("GET", f"{COMPLETIONS}&limit=1&group_by=model&group_by=batch")).body["next_page"]
    assert (await api.ask("GET", f"{COMPLETIONS}&limit=2&group_by=batch,model&page={page}")).status == 200
    for other in (f"{COMPLETIONS}&limit=1&page={page}", f"{COSTS}&page={page}", f"{COMPLETIONS}&models=x&group_by=model&group_by=batch&page={page}"):  # fmt: skip
        assert (await api.ask("GET", other)).error == (400, "invalid_value", "page")


async def test_what_was_taken_back_is_nowhere(api: AdminApi) -> None:
    """A call that was thought to have another model has left rows of nothing."""
    line = msgspec.structs.replace(event(1).lines[0], response_model="thought")
    await fold(api, event(1, unconfirmed=True, lines=(line,)))
    await fold(api, event(1))
    (found,) = await results(api, f"/organization/usage/completions?start_time={TODAY}&group_by=model")
    assert [one["model"] for one in found] == ["gpt-4o-mini-2024-07-18"]


async def test_where_minutes_are_gone_the_bucket_begins_with_the_hour(
    valkey: Server, registry_url: str, tmp_path: Path
) -> None:
    asked = f"start_time={TODAY - 2 * DAY + 17 * HOUR + 1_866}&end_time={TODAY - DAY}"
    ledger = {"minutes_days": 2, "hours_days": 400, "events_days": 7}
    async with admin_api(valkey, registry_url, tmp_path, ledger=ledger) as api:
        at = TODAY - 2 * DAY + 17 * HOUR
        await fold(api, event(1, ago_s=NOW - at - 60), event(2, ago_s=NOW - at - 1_900))
        for now_s, begins, requests in ((0, at + 1_860, 1), (DAY, at, 2)):
            api.clock.advance(now_s)
            body = (await api.ask("GET", f"/organization/usage/completions?{asked}")).body
            assert [one["start_time"] for one in body["data"]] == [begins]
            assert [one["num_model_requests"] for one in body["data"][0]["results"]] == [requests]


async def test_stored_bytes_are_an_average(api: AdminApi) -> None:
    """Two stores of 24 and 48 bytes, one of them for half of yesterday; and of today, eight hours of which are over."""
    line = msgspec.structs.replace(plain(0).lines[0], category="vector_stores", response_model="")
    samples = [
        event(100 * hour + size, ago_s=NOW - TODAY + DAY - hour * HOUR - 60, key_id="", user_id="", category="vector_stores",
              lines=(msgspec.structs.replace(line, quantities=Quantities(bytes=size)),))
        for size, hours in ((24, 32), (48, 12)) for hour in range(hours)
    ]  # fmt: skip
    await fold(api, *samples)
    found = await results(api, f"/organization/usage/vector_stores?start_time={TODAY - DAY}")
    assert [[one["usage_bytes"] for one in day] for day in found] == [[48], [24]]


async def test_an_api_key_sees_what_is_its_own(api: AdminApi) -> None:
    organization = api.client.admin.organization
    project = await organization.projects.create(name="Chat")
    account = await organization.projects.service_accounts.create(project.id, name="bot")
    assert account.api_key is not None
    own: dict[str, Any] = {"project_id": project.id, "user_id": account.id, "key_id": account.api_key.id}
    secret = account.api_key.value
    sample = msgspec.structs.replace(plain(0).lines[0], category="vector_stores", quantities=Quantities(bytes=5))
    await fold(api, event(1, **own), event(2), event(3, **{**own, "key_id": "another"}), event(4, key_id="", user_id="", category="vector_stores", lines=(sample,)))  # fmt: skip
    usage: dict[str, Any] = {}
    for more in ("&group_by=api_key_id", "", f"&project_ids={project.id}", f"&api_key_ids={own['key_id']}&user_ids={account.id}"):  # fmt: skip
        (usage,) = [one for day in await results(api, COMPLETIONS + more, secret) for one in day]
        assert usage["num_model_requests"] == 1
        (costs,) = [one for day in await results(api, COSTS + more, secret) for one in day]
        assert costs["amount"]["value"] == 2e-6
    for other in ("&project_ids=proj_1", f"&api_key_ids={own['key_id']},key_1", "&user_ids=user_1"):
        for path in (COMPLETIONS, COSTS):
            assert (await api.ask("GET", path + other, key=secret)).error == (401, "insufficient_permissions", None)
    for name in ENDPOINTS:
        path = f"/organization/usage/{name}?start_time={TODAY}"
        assert (await results(api, path, secret))[0] == ([usage] if name == "completions" else [])


async def test_who_may_ask(api: AdminApi) -> None:
    for scopes, status in ((["api.usage.read"], 200), (["*.read"], 200), (["api.usage.write", "api.projects.*"], 401)):
        made = await api.ask("POST", "/organization/admin_api_keys", {"name": "k", "scopes": scopes})
        for path in (COMPLETIONS, COSTS):
            assert (await api.ask("GET", path, key=made.body["value"])).status == status
    assert (await api.ask("GET", COSTS, key=None)).status == 401
    assert (await api.ask("POST", COSTS)).status == 405
