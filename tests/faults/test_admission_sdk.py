"""Refusals as the official SDK sees them, and the headers of limits on every answer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import openai
import pytest

from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import KEY, OTHER_KEY, Gateway
from tests.fakes.paid_calls import BODY, DURABLE, MODEL, MOST, RESERVED, dollars, limited, paid
from tests.fakes.redis_servers import VALKEY, StartServer

LEVELS = {
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
}


class Sdk:
    """The SDK's client, and what went over the wire."""

    def __init__(self, gateway: Gateway, key: str = KEY, *, retries: int = 0) -> None:
        self.answers: list[Any] = []

        async def note(answer: Any) -> None:
            self.answers.append(answer)

        self.client = openai.AsyncOpenAI(
            api_key=key,
            base_url=gateway.base_url,
            http_client=openai.DefaultAsyncHttpxClient(event_hooks={"response": [note]}),
            max_retries=retries,
            timeout=20,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    async def chat(self) -> Any:
        return await self.client.chat.completions.create(
            model=MODEL, max_tokens=MOST, messages=[{"role": "user", "content": "Hello!"}]
        )

    @property
    def statuses(self) -> list[int]:
        return [answer.status_code for answer in self.answers]


@contextmanager
def at_least(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began >= seconds


async def test_it_sleeps_what_it_is_told_and_then_succeeds(
    start_gateway: StartGateway, start_server: StartServer
) -> None:
    limits = {"requests_per_minute": {"limit": 100, "burst": 1}}  # another one after 0.6 s
    async with paid(held=False) as upstream:
        gateway = start_gateway(**limited(start_server(VALKEY, *DURABLE), upstream, limits))
        async with Sdk(gateway, retries=1) as sdk:
            await sdk.chat()
            with at_least(0.5):
                answer = await sdk.chat()
            assert answer.choices[0].message.content == "Hi."
            assert sdk.statuses == [200, 429, 200]
            assert len(upstream.book) == 2
            told = int(sdk.answers[1].headers["retry-after-ms"])
            assert 500 <= told <= 600
            assert sdk.answers[1].headers["retry-after"] == "1"
            assert sdk.answers[2].request.headers["x-stainless-retry-count"] == "1"


async def test_a_rate_limit(start_gateway: StartGateway, start_server: StartServer) -> None:
    limits = {"requests_per_minute": {"limit": 60, "burst": 1}, "tokens_per_minute": 600_000}
    async with paid(held=False) as upstream:
        gateway = start_gateway(**limited(start_server(VALKEY, *DURABLE), upstream, limits))
        async with Sdk(gateway) as sdk:
            await sdk.chat()
            with pytest.raises(openai.RateLimitError) as refused:
                await sdk.chat()
            assert (refused.value.code, refused.value.type) == ("rate_limit_exceeded", "requests")
            assert "on requests per min (RPM): Limit 60, Used 1, Requested 1. Please try again in " in str(
                refused.value
            )
            passed, other = (answer.headers for answer in sdk.answers)
            assert passed.keys() >= LEVELS
            assert {name for name in other if name.startswith("x-ratelimit")} == LEVELS
            assert (passed["x-ratelimit-limit-requests"], passed["x-ratelimit-remaining-requests"]) == ("60", "0")
            assert passed["x-ratelimit-reset-requests"] == "1s"
            assert passed["x-ratelimit-limit-tokens"] == "600000"
            assert 599_000 < int(passed["x-ratelimit-remaining-tokens"]) < 600_000
            assert passed["x-ratelimit-reset-tokens"].endswith("ms")
            assert other["x-ratelimit-remaining-requests"] == "0"
            assert passed.get_list("x-ratelimit-limit-requests") == ["60"], "the upstream says 77"


async def test_tokens(start_gateway: StartGateway, start_server: StartServer) -> None:
    limits = {"tokens_per_minute": {"limit": 6000, "burst": 500}, "reserve": "strict"}
    async with paid(held=False) as upstream:
        upstream.used = (BODY, MOST)
        gateway = start_gateway(**limited(start_server(VALKEY, *DURABLE), upstream, limits))
        async with Sdk(gateway) as sdk:
            await sdk.chat()
            with pytest.raises(openai.RateLimitError) as refused:
                await sdk.chat()
            assert (refused.value.code, refused.value.type) == ("rate_limit_exceeded", "tokens")
            with pytest.raises(openai.RateLimitError, match="Request too large"):
                await sdk.client.chat.completions.create(
                    model=MODEL, max_tokens=1000, messages=[{"role": "user", "content": "Hello!"}]
                )
            assert sdk.answers[-1].headers["x-should-retry"] == "false"


async def test_a_spend_limit_is_not_tried_again(start_gateway: StartGateway, start_server: StartServer) -> None:
    limits = {"spend": {"month": dollars(RESERVED)}, "reserve": "strict"}
    async with paid(held=False) as upstream:
        gateway = start_gateway(**limited(start_server(VALKEY, *DURABLE), upstream, limits))
        async with Sdk(gateway, retries=3) as sdk:
            await sdk.chat()
            with pytest.raises(openai.RateLimitError) as refused:
                await sdk.chat()
            assert sdk.statuses == [200, 429], "one attempt"
            assert (refused.value.code, refused.value.type) == ("project_spend_limit_exceeded", "insufficient_quota")
            headers = sdk.answers[1].headers
            assert headers["x-should-retry"] == "false"
            assert not {"retry-after", "retry-after-ms"} & headers.keys()
            assert len(upstream.book) == 1


async def test_upstreams_limits_are_its_own(start_gateway: StartGateway, start_server: StartServer) -> None:
    """Where no limit holds, nothing is said of any."""
    async with paid(held=False) as upstream:
        gateway = start_gateway(**limited(start_server(VALKEY, *DURABLE), upstream, {}))
        for key in (KEY, OTHER_KEY):
            async with Sdk(gateway, key) as sdk:
                await sdk.chat()
                assert not [name for name in sdk.answers[0].headers if name.startswith("x-ratelimit")]
