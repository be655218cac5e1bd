"""Usage and costs of calls that were made, through both halves of the official client, whose types must fit."""

from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.admin.organization.usage_completions_response import DataResultOrganizationUsageCompletionsResult
from openai.types.admin.organization.usage_costs_response import DataResultOrganizationCostsResult

from gateway.clock import SystemClock
from tests.compat.conftest import Make
from tests.compat.nouns import a_project
from tests.fakes.redis_servers import eventually

DAY_S = 86_400


async def test_calls_are_in_the_ledger(client: AsyncOpenAI, make: Make) -> None:
    """Of a key of its own: what its calls say is what is reported, to its administrator and to itself."""
    organization = client.admin.organization
    project_id = await a_project(client)
    account = await organization.projects.service_accounts.create(project_id, name="bot")
    assert account.api_key is not None
    started = int(SystemClock.wall())
    caller = make(api_key=account.api_key.value, admin_api_key=account.api_key.value)
    calls = [
        await caller.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
        for _ in range(2)
    ]
    used = [call.usage for call in calls if call.usage is not None]
    wanted = (sum(one.prompt_tokens for one in used), sum(one.completion_tokens for one in used), 2)

    async def told(asking: AsyncOpenAI, **options: Any) -> list[tuple[int, ...]]:
        page = await asking.admin.organization.usage.completions(
            start_time=started, bucket_width="1m", group_by=["model", "api_key_id"], **options
        )
        results = [one for bucket in page.data for one in bucket.results]
        assert all(isinstance(one, DataResultOrganizationUsageCompletionsResult) for one in results)
        keys: list[Any] = results
        assert all(one.api_key_id == account.api_key.id for one in keys if account.api_key)
        sums: Any = zip(*((one.input_tokens, one.output_tokens, one.num_model_requests) for one in keys), strict=True)
        return [tuple(map(sum, sums))] if keys else []

    async def is_there() -> bool:
        return await told(client, project_ids=[project_id]) == [wanted]

    await eventually(is_there, within_s=20)
    assert await told(caller) == [wanted]
    costs = await client.admin.organization.usage.costs(start_time=started, project_ids=[project_id], group_by=["line_item"])  # fmt: skip
    results = [one for day in costs.data for one in day.results if isinstance(one, DataResultOrganizationCostsResult)]
    assert {one.line_item: one.quantity for one in results} == {
        f"{calls[0].model}, input_tokens": wanted[0],
        f"{calls[0].model}, output_tokens": wanted[1],
    }
    with pytest.raises(openai.AuthenticationError):
        await told(caller, api_key_ids=["key_of_another"])


async def test_searches_say_where_they_looked(client: AsyncOpenAI) -> None:
    usage: Any = client.admin.organization.usage
    started = int(SystemClock.wall())
    file = await client.files.create(file=("facts.txt", b"Oslo is in Norway."), purpose="assistants")
    store = await client.vector_stores.create(name="x", file_ids=[file.id])
    tools: Any = [
        {"type": "web_search", "search_context_size": "high"},
        {"type": "file_search", "vector_store_ids": [store.id]},
    ]
    await client.responses.create(model="gpt-4o", input="Tell me", tools=tools)
    async with client.responses.stream(model="gpt-4o", input="Tell me", tools=tools) as stream:
        await stream.until_done()
    await client.vector_stores.search(store.id, query="Oslo")

    async def told(kind: str, by: str, **options: Any) -> dict[Any, int]:
        page = await getattr(usage, kind)(start_time=started, bucket_width="1h", group_by=[by], **options)
        return {getattr(one, by): one.num_requests for bucket in page.data for one in bucket.results}

    async def files() -> bool:
        return await told("file_search_calls", "vector_store_id", vector_store_ids=[store.id]) == {store.id: 3}

    await eventually(files, within_s=20)
    assert (await told("web_search_calls", "context_level", context_levels=["high"]))["high"] >= 2


async def test_every_endpoint_in_pages(client: AsyncOpenAI) -> None:
    usage: Any = client.admin.organization.usage
    start = int(SystemClock.wall()) // DAY_S * DAY_S - 2 * DAY_S
    for name in (
        "completions", "embeddings", "moderations", "images", "audio_speeches", "audio_transcriptions", "vector_stores",
        "code_interpreter_sessions", "web_search_calls", "file_search_calls", "decisions", "costs",
    ):  # fmt: skip
        ask = getattr(usage, name)
        first = await ask(start_time=start, limit=2, group_by=["project_id"])
        assert (len(first.data), first.has_more) == (2, True), name
        last = await ask(start_time=start, limit=2, group_by=["project_id"], page=first.next_page)
        assert (len(last.data), last.has_more, last.next_page) == (1, False, None), name
