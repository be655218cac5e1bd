"""The simulator's own usage and costs, through the official client in its strict mode and over plain HTTP."""

from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any

import openai
import pytest

from gateway.clock import ManualClock
from gateway.simulator.families import organization
from gateway.simulator.options import SimulatorOptions
from gateway.simulator.world import fingerprint
from tests.unit.simulator.kit import KEY, Simulation, simulation

ADMIN = "sk-admin-test-0001"
DAY_S = 86_400
MINI, MINI_SERVED = "gpt-4o-mini", "gpt-4o-mini-2024-07-18"
PRICES: Mapping[str, Mapping[str, int]] = MappingProxyType({MINI_SERVED: {"input_tokens": 150, "output_tokens": 600}})


class Told:
    """A simulator, its clock and what it is asked as its organization's administrator."""

    def __init__(self, sim: Simulation, clock: ManualClock) -> None:
        self.sim = sim
        self.clock = clock
        self.midnight = int(clock.wall()) // DAY_S * DAY_S

    async def ask(self, path: str, *, key: str = ADMIN, **query: Any) -> Any:
        headers = {"authorization": f"Bearer {key}"}
        params = {"start_time": self.midnight} | query
        async with self.sim.session.get(
            f"{self.sim.url}/v1/organization/{path}", params=params, headers=headers
        ) as answer:
            return await answer.json()

    async def chat(self, model: str = MINI, key: str = KEY) -> Any:
        client = self.sim.client().with_options(api_key=key)
        made = await client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}])
        return made.usage


@pytest.fixture
async def told() -> AsyncIterator[Told]:
    clock = ManualClock()
    options = SimulatorOptions(
        keys=frozenset({KEY, "sk-other"}), admin_keys=frozenset({ADMIN}), prices=PRICES, clock=clock
    )
    async with simulation(options) as sim:
        yield Told(sim, clock)


async def test_the_official_client_reads_usage(told: Told) -> None:
    used = [await told.chat(), await told.chat(), await told.chat("gpt-4o")]
    with pytest.raises(openai.NotFoundError):
        await told.chat("nope")
    client = told.sim.client(admin_api_key=ADMIN)
    page = await client.admin.organization.usage.completions(start_time=told.midnight, group_by=["model"])
    (bucket,) = page.data
    assert (bucket.start_time, bucket.end_time, page.has_more) == (told.midnight, told.midnight + DAY_S, False)
    results = [one for one in bucket.results if one.object == "organization.usage.completions.result"]
    found = {one.model: (one.num_model_requests, one.input_tokens, one.output_tokens) for one in results}
    mini = used[:2]
    assert found == {
        MINI_SERVED: (2, sum(one.prompt_tokens for one in mini), sum(one.completion_tokens for one in mini)),
        "gpt-4o-2024-08-06": (1, used[2].prompt_tokens, used[2].completion_tokens),
    }


async def test_every_category_answers_in_its_own_terms(told: Told) -> None:
    client = told.sim.client()
    await client.embeddings.create(model="text-embedding-3-small", input="Hello", encoding_format="float")
    await client.audio.speech.create(model="tts-1", voice="alloy", input="Hello there")
    await client.images.generate(model="dall-e-3", prompt="A kite")
    await client.moderations.create(input="Hello")
    await client.responses.create(model=MINI, input="Hi", tools=[{"type": "web_search"}], tool_choice="required")
    usage = told.sim.client(admin_api_key=ADMIN).admin.organization.usage
    found = {}
    for category in organization.GROUPS:
        page = await getattr(usage, category)(start_time=told.midnight)
        found[category] = [one.to_dict() for bucket in page.data for one in bucket.results]
    counted = {category: one.get("num_model_requests") for category, results in found.items() for one in results}
    assert counted == dict.fromkeys(
        ("completions", "embeddings", "moderations", "images", "audio_speeches", "web_search_calls"), 1
    )
    assert found["audio_speeches"][0]["characters"] == len("Hello there")
    assert found["images"][0]["images"] == 1
    assert found["web_search_calls"][0]["num_requests"] >= 1


async def test_keys_and_projects_group_and_filter(told: Told) -> None:
    await told.chat()
    await told.chat(key="sk-other")
    page = await told.ask("usage/completions", group_by="api_key_id")
    keys = {one["api_key_id"]: one["num_model_requests"] for one in page["data"][0]["results"]}
    assert keys == {f"key_{fingerprint(KEY)}": 1, f"key_{fingerprint('sk-other')}": 1}
    page = await told.ask(
        "usage/completions", **{"api_key_ids[]": f"key_{fingerprint(KEY)}", "group_by[]": "project_id"}
    )
    (one,) = page["data"][0]["results"]
    assert (one["num_model_requests"], one["project_id"], one["model"]) == (1, "proj_simulator", None)
    assert (await told.ask("usage/completions", project_ids="proj_other"))["data"][0]["results"] == []
    assert (await told.ask("usage/completions", batch="true"))["data"][0]["results"] == []


async def test_buckets_and_pages(told: Told) -> None:
    await told.chat()
    told.clock.advance(DAY_S)
    await told.chat()
    start = told.midnight + 3600 + 61
    page = await told.ask("usage/completions", start_time=start, bucket_width="1d", limit=1)
    (first,) = page["data"]
    assert (first["start_time"], first["end_time"]) == (start - 1, told.midnight + DAY_S)
    assert page["has_more"]
    page = await told.ask("usage/completions", start_time=start, bucket_width="1d", limit=1, page=page["next_page"])
    (second,) = page["data"]
    assert (page["has_more"], page["next_page"]) == (False, None)
    assert [len(bucket["results"]) for bucket in (first, second)] == [1, 1]
    hours = (await told.ask("usage/completions", bucket_width="1h", limit=48))["data"]
    assert [number for number, bucket in enumerate(hours) if bucket["results"]] == [8, 32]
    minutes = await told.ask("usage/completions", start_time=int(told.clock.wall()), bucket_width="1m")
    assert [len(bucket["results"]) for bucket in minutes["data"]] == [1]


async def test_costs_are_those_that_have_prices(told: Told) -> None:
    used = await told.chat()
    await told.chat("gpt-4o")
    client = told.sim.client(admin_api_key=ADMIN)
    page = await client.admin.organization.usage.costs(start_time=told.midnight, group_by=["line_item"])
    found = {
        one.line_item: (one.quantity, one.quantity_unit, one.amount.value)
        for one in page.data[0].results
        if one.object == "organization.costs.result" and one.amount is not None
    }
    assert found == {
        f"{MINI_SERVED}, input_tokens": (used.prompt_tokens, "tokens", used.prompt_tokens * 150 / 1e9),
        f"{MINI_SERVED}, output_tokens": (used.completion_tokens, "tokens", used.completion_tokens * 600 / 1e9),
    }


async def test_what_is_wrong_is_refused(told: Told) -> None:
    async def code(path: str = "usage/completions", **query: Any) -> tuple[str, str | None]:
        error = (await told.ask(path, **query))["error"]
        return error["message"], error["param"]

    assert "Missing scopes: api.usage.read" in (await code(key=KEY))[0]
    assert "Incorrect API key provided" in (await code(key="sk-admin-somebody"))[0]
    assert (await code(group_by="colour"))[1] == "group_by"
    assert (await code("costs", bucket_width="1h"))[1] == "bucket_width"
    assert (await code(limit=32))[1] == "limit"
    assert (await code(limit=0))[1] == "limit"
    assert (await code(start_time="noon"))[1] == "start_time"
    assert (await code(page="next"))[1] == "page"
    assert (await code("users"))[0].startswith("Invalid URL")
