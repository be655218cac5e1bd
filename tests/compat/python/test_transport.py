"""What is around the calls: request ids, headers and queries, retries, timeouts, clients that leave, many at once."""

import asyncio
import time
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient

from gateway.simulator.world import fingerprint
from tests.compat.conftest import Make, Served
from tests.compat.stand import UPSTREAM_KEY, Gate
from tests.fakes.redis_servers import eventually

HELLO: Any = [{"role": "user", "content": "Hello!"}]


async def chat(client: AsyncOpenAI, model: str = "gpt-4o", **options: Any) -> Any:
    return await client.chat.completions.create(model=model, messages=HELLO, **options)


async def test_request_ids_are_the_upstreams(client: AsyncOpenAI, gate: Gate, served: Served) -> None:
    answer = await chat(client)
    with pytest.raises(openai.NotFoundError) as caught:
        await client.files.retrieve("file-unknown")
    records = {record.request_id: record for record in await served()}
    record = records[answer._request_id]
    assert record.key == fingerprint(UPSTREAM_KEY)
    assert caught.value.request_id in records

    def logged() -> bool:
        return {answer._request_id, caught.value.request_id} <= {line.upstream_request_id for line in gate.calls()}

    await eventually(logged)
    own = {line.upstream_request_id: line.request_id for line in gate.calls()}
    assert record.incoming_request_id == own[answer._request_id]


async def test_a_clients_own_ids_go_up(client: AsyncOpenAI, served: Served) -> None:
    mine = {"x-request-id": "req_of_my_own", "x-client-request-id": "trace-7"}
    answer = await chat(client, extra_headers=mine)
    (record,) = [record for record in await served() if record.request_id == answer._request_id]
    assert (record.incoming_request_id, record.client_request_id) == ("req_of_my_own", "trace-7")


async def test_raw_responses_have_openais_headers(client: AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO)
    for name in ("x-request-id", "openai-organization", "openai-project", "openai-processing-ms", "openai-version",
                 "x-ratelimit-limit-requests", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"):  # fmt: skip
        assert name in raw.headers
    assert raw.parse().choices[0].message.content
    async with client.chat.completions.with_streaming_response.create(model="gpt-4o", messages=HELLO) as streamed:
        assert streamed.headers["content-type"] == "application/json"
        assert (await streamed.parse()).choices[0].message.content


async def test_a_clients_organization_and_project_stay_here(make: Make) -> None:
    """Upstream they would be somebody else's: the simulator refuses an organization that is not its own."""
    client = make(organization="org-mine", project="proj_mine", default_headers={"cookie": "a=b"})
    assert (await chat(client)).choices


async def test_queries_go_up_as_they_are(client: AsyncOpenAI) -> None:
    first, _ = [await client.files.create(file=(name, b"x"), purpose="fine-tune") for name in ("a", "b")]
    page = await client.files.list(extra_query={"limit": 1, "purpose": "fine-tune", "order": "desc"})
    assert len(page.data) == 1
    assert first.id not in [file.id for file in page.data]
    metadata = {"a key with spaces & signs": "größe=1/2?"}
    made = await chat(client, store=True, metadata=metadata)
    listed = [one.id async for one in client.chat.completions.list(metadata=metadata)]
    assert listed == [made.id] or made.id in listed


async def test_any_verb_on_any_path(client: AsyncOpenAI) -> None:
    models: Any = await client.get("/models", cast_to=object)
    assert models["object"] == "list"
    body: Any = {"model": "gpt-4o", "messages": HELLO}
    answer: Any = await client.post("/chat/completions", body=body, cast_to=object)
    assert answer["object"] == "chat.completion"
    for call in (client.put, client.patch, client.delete):
        with pytest.raises(openai.NotFoundError, match=r"Invalid URL"):
            await call("/something/new", cast_to=object)


async def test_encoded_answers_are_decoded_by_the_client(client: AsyncOpenAI) -> None:
    assert (await chat(client, "gpt-4o+gzip")).choices[0].message.content
    stream = await chat(client, "gpt-4o+gzip", stream=True)
    assert [chunk async for chunk in stream][-1].choices[0].finish_reason == "stop"


async def test_large_bodies_both_ways(client: AsyncOpenAI) -> None:
    picture = "data:image/png;base64," + "iVBORw0KGgo" * 1_000_000
    parts: Any = [{"type": "image_url", "image_url": {"url": picture}}]
    answer = await client.chat.completions.create(model="gpt-4o+huge=16", messages=[{"role": "user", "content": parts}])
    assert answer.usage is not None
    assert len(getattr(answer, "padding", "")) > 15 << 20


class Once:
    """Lets a fault happen to a call's first attempt only."""

    def __init__(self) -> None:
        self.attempts: list[float] = []

    def __call__(self, request: httpx2.Request) -> None:
        self.attempts.append(time.monotonic())
        if request.headers.get("x-stainless-retry-count") != "0":
            request.headers.pop("x-simulator-fault", None)

    async def asynchronously(self, request: httpx2.Request) -> None:
        self(request)

    def client(self, half: str) -> Any:
        if half == "async":
            return DefaultAsyncHttpxClient(event_hooks={"request": [self.asynchronously]})
        return DefaultHttpxClient(event_hooks={"request": [self]})


@pytest.mark.parametrize("fault", ["429", "500", "503", "408", "409", "cut_head", "malformed", "cut=100"])
async def test_a_second_attempt_succeeds(make: Make, half: str, fault: str) -> None:
    once = Once()
    client = make(max_retries=2, http_client=once.client(half))
    assert (await chat(client, extra_headers={"x-simulator-fault": fault})).choices
    assert len(once.attempts) == 2
    waited_s = once.attempts[1] - once.attempts[0]
    assert waited_s >= (1.0 if fault in {"429", "503"} else 0.3), "retry-after says one second"


async def test_attempts_are_as_many_as_the_client_says(make: Make, half: str, served: Served) -> None:
    once = Once()
    with pytest.raises(openai.InternalServerError):
        await chat(make(max_retries=1, http_client=once.client(half)), "gpt-4o+500")
    assert len(once.attempts) == 2
    assert [record.status for record in await served()] == [500, 500], "the gateway makes no attempts of its own"


async def test_timeouts_are_the_clients(make: Make, served: Served) -> None:
    client = make(timeout=0.5)
    with pytest.raises(openai.APITimeoutError):
        await chat(client, "gpt-4o+delay=30s")
    with pytest.raises(openai.APITimeoutError):
        async for _ in await chat(client, "gpt-4o+stall=3", stream=True):
            pass
    assert [record.ended for record in await served()] == ["client_left", "client_left"]


async def test_a_client_that_leaves_ends_the_work_upstream(client: AsyncOpenAI, served: Served) -> None:
    stream = await chat(client, "gpt-4o+chunks=5000+pace=10ms", stream=True)
    seen = 0
    async for _ in stream:
        seen += 1
        if seen == 5:
            break
    left_at = time.monotonic()
    await stream.close()
    (record,) = await served()
    assert time.monotonic() - left_at < 2.0
    assert (record.ended, record.request_id) == ("client_left", stream.response.headers["x-request-id"])
    assert record.events_sent < 500


async def test_many_at_once(gate: Gate) -> None:
    """One client, a hundred calls at a time: half of them streams."""
    async with AsyncOpenAI(base_url=gate.base_url, api_key=gate.keys["raw"], max_retries=0) as client:

        async def one(number: int) -> str:
            said: Any = [{"role": "user", "content": f"Number {number}"}]
            if number % 2:
                answer = await client.chat.completions.create(model="gpt-4o", messages=said)
                return answer.choices[0].message.content or ""
            stream = await client.chat.completions.create(model="gpt-4o+pace=1ms", messages=said, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        texts = await asyncio.gather(*map(one, range(100)))
        again = await asyncio.gather(*map(one, range(0, 100, 20)))
    assert all(texts)
    assert list(again) == texts[::20]
