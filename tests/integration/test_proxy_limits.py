"""Limits through a worker, counted in a real Redis: what clients hear, and what is left when calls have ended."""

import asyncio
import json
from pathlib import Path

import pytest

from gateway.limits import LimitDocument, RateLimit, SpendLimit
from gateway.proxy.metering.meter import Meter
from tests.fakes.limited import Limited, levels, limited, own
from tests.fakes.ports import free_port
from tests.fakes.redis_servers import Server
from tests.fakes.upstream import SSE_HEAD, Exchange, answer, saying
from tests.fakes.wire import chunk, until
from tests.fakes.worker import Response, request

CHAT = "/v1/chat/completions"
ASKED = json.dumps(
    {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Say it."}], "max_tokens": 50}
).encode()
STREAM = ASKED[:-1] + b', "stream": true}'
USAGE = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
ANSWER = json.dumps({
    "id": "chatcmpl-1", "model": "gpt-5-mini-2025-08-07", "service_tier": "default",
    "choices": [{"message": {"role": "assistant", "content": "Something short."}}], "usage": USAGE,
}).encode()  # fmt: skip
PRICE = 11 * 250 + 5 * 2000
ITS_OWN = [
    (b"x-ratelimit-limit-requests", b"7"),
    (b"X-RateLimit-Remaining-Tokens", b"7"),
    (b"x-ratelimit-reset-x", b"7"),
]
ANSWERS = saying(answer(ANSWER, *ITS_OWN))
RPM, TPM = RateLimit("requests_per_minute", 600), RateLimit("tokens_per_minute", 100_000)
WORDS = b'data: {"id":"1","model":"gpt-5-mini","choices":[{"index":0,"delta":{"content":"Some words"}}]}\n\n'


async def streaming(exchange: Exchange) -> None:
    await exchange.whole()
    exchange.send(SSE_HEAD.replace(b"\r\n\r\n", b"\r\nx-ratelimit-limit-tokens: 7\r\n\r\n"))
    usage = b'data: {"id":"1","model":"gpt-5-mini","choices":[],"usage":%b}\n\n' % json.dumps(USAGE).encode()
    exchange.send(chunk(WORDS) + chunk(usage) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


async def leaving_open(exchange: Exchange) -> None:
    await exchange.whole()
    exchange.send(SSE_HEAD + chunk(WORDS))
    await exchange.gone()


def failing(status: bytes) -> Exchange:
    return saying(answer(b'{"error":{"message":"no"}}', *ITS_OWN, status=status))  # type: ignore[return-value]


async def remaining(stand: Limited, body: bytes = ASKED) -> tuple[int, int]:
    """Requests and tokens that are left before a call of this body, as its refusal or answer says."""
    found = levels(await stand.gw.ask(CHAT, body))
    await stand.settled()
    return int(found["remaining-requests"]), int(found["remaining-tokens"])


# What clients hear


@pytest.mark.parametrize(
    ("script", "body", "status"),
    [
        (ANSWERS, ASKED, 200), (streaming, STREAM, 200), (failing(b"400 Bad Request"), ASKED, 400),
        (failing(b"429 Too Many Requests"), STREAM, 429), (failing(b"500 Internal Server Error"), ASKED, 500),
    ],
)  # fmt: skip
async def test_every_answer_says_what_is_left(
    script: object, body: bytes, status: int, valkey: Server, tmp_path: Path
) -> None:
    async with limited(valkey, tmp_path, script) as stand:  # type: ignore[arg-type]
        await stand.publish({"p:proj_1": own(RPM, TPM)})
        found = await stand.gw.ask(CHAT, body)
        assert found.status == status
        said = levels(found)
        assert set(said) == {
            "limit-requests", "remaining-requests", "reset-requests", "limit-tokens", "remaining-tokens", "reset-tokens",
        }, "and nothing of the upstream's own"  # fmt: skip
        assert (said["limit-requests"], said["remaining-requests"], said["reset-requests"]) == ("600", "599", "100ms")
        taken = 100_000 - int(said["remaining-tokens"])
        assert 50 < taken < 150
        assert said["limit-tokens"] == "100000"
        assert said["reset-tokens"] == f"{taken * 60_000 // 100_000}ms"
        await stand.settled()


async def test_the_gateways_own_errors_say_it_too(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, to=f"http://127.0.0.1:{free_port()}/v1") as stand:
        await stand.publish({"k:key_1": own(RPM)})
        found = await stand.gw.ask(CHAT, ASKED)
        assert (found.status, found.error["code"]) == (502, "upstream_unreachable")
        assert levels(found) == {"limit-requests": "600", "remaining-requests": "599", "reset-requests": "100ms"}
        await stand.settled()


async def test_none_is_said_where_there_is_no_such_limit(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        await stand.publish({"o": own(RateLimit("requests_per_minute", 1, shadow=True), SpendLimit("day", 10**12))})
        assert levels(await stand.gw.ask(CHAT, ASKED)) == {}
        assert levels(await stand.gw.ask("/v1/models")) == {}
        await stand.settled()


async def test_a_refusal(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        await stand.publish({"o": own(RateLimit("requests_per_minute", 2), TPM)})
        for _ in range(2):
            assert (await stand.gw.ask(CHAT, ASKED)).status == 200
        await stand.settled()
        found = await stand.gw.ask(CHAT, ASKED)
        assert (found.status, found.error["type"], found.error["code"]) == (429, "requests", "rate_limit_exceeded")
        assert found.error["message"].startswith(
            "Rate limit reached for gpt-5-mini in organization org-1 on requests per min (RPM): Limit 2, Used 2, "
            "Requested 1. Please try again in 2"
        )
        assert 25_000 < int(found.header(b"retry-after-ms") or 0) <= 30_000
        assert int(found.header(b"retry-after") or 0) in {29, 30}
        said = levels(found)
        assert (said["limit-requests"], said["remaining-requests"]) == ("2", "0")
        assert int(said["remaining-tokens"]) > 99_900
        assert len(stand.up.requests) == 2
        assert stand.gw.access[-1]["error"] == "requests_limited"
        await stand.settled()
        assert len(stand.events()) == 2, "refusals are no usage"


async def test_a_request_that_is_too_large_is_refused_at_once(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path) as stand:
        await stand.publish({"o": own(RateLimit("tokens_per_minute", 40))})
        found = await stand.gw.ask(CHAT, ASKED)
        assert (found.status, found.error["type"]) == (429, "tokens")
        assert found.error["message"].startswith(
            "Request too large for gpt-5-mini in organization org-1 on tokens per min"
        )
        assert (found.header(b"retry-after"), found.header(b"x-should-retry")) == (None, b"false")
        assert not stand.up.requests


async def test_strict_refuses_what_nothing_bounds(valkey: Server, tmp_path: Path) -> None:
    body = b'{"model":"gpt-5-mini","messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"f"}}]}]}'
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        await stand.publish({"p:proj_1": LimitDocument(reserve="strict")})
        found = await stand.gw.ask(CHAT, body.replace(b"gpt-5-mini", b"a-model-of-ours"))
        assert (found.status, found.error["type"], found.error["code"]) == (
            400,
            "invalid_request_error",
            "unbounded_request",
        )
        assert not stand.up.requests
        assert (await stand.gw.ask("/v1/brand/new", b"{}")).status == 400
        assert (await stand.gw.ask(CHAT, ASKED)).status == 200
        await stand.settled()


async def test_a_budget_that_is_spent(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        await stand.publish({"p:proj_1": own(SpendLimit("month", 10 * PRICE))})
        statuses = []
        for _ in range(2):
            statuses.append((await stand.gw.ask(CHAT, ASKED)).status)
            await stand.settled()
        found = await stand.gw.ask(CHAT, ASKED)
        statuses.append(found.status)
        assert statuses == [200, 200, 429], "each reserves about eight times its price"
        assert found.error["type"] == "insufficient_quota"
        assert found.error["code"] == "project_spend_limit_exceeded"
        assert (found.header(b"retry-after"), found.header(b"x-should-retry")) == (None, b"false")
        assert await stand.spent("p:proj_1") == [2 * PRICE]


# What is left when calls have ended


@pytest.mark.parametrize(("script", "body"), [(ANSWERS, ASKED), (streaming, STREAM)])
async def test_what_was_spent_is_what_the_events_say(
    script: object, body: bytes, valkey: Server, tmp_path: Path
) -> None:
    async with limited(valkey, tmp_path, script) as stand:  # type: ignore[arg-type]
        await stand.publish({"o": own(RPM, TPM, SpendLimit("day", 10**12))})
        for _ in range(3):
            await stand.gw.ask(CHAT, body)
        await stand.settled()
        assert await stand.spent() == [3 * PRICE] * 4
        assert [event.lines[0].nano_usd for event in stand.events()] == [PRICE] * 3
        assert not any(event.unconfirmed for event in stand.events())
        assert (await remaining(stand, body))[0] >= 596
        assert stand.gw.metric("gateway_limit_usd_total", what="settled") == pytest.approx(4 * PRICE / 1e9)
        assert stand.gw.metric("gateway_limit_tokens_total", what="settled") == 4 * 16
        assert stand.gw.metric("gateway_limit_tokens_total", what="reserved") > 4 * 50
        assert stand.gw.metric("gateway_reservations") == 0
        assert stand.gw.metric("gateway_reserve_seconds_count") == 5, "four calls, and one to learn the limits"


async def test_a_call_that_the_upstream_refuses_counts_as_a_request_and_nothing_else(
    valkey: Server, tmp_path: Path
) -> None:
    tiny = RateLimit("requests_per_day", 100), RateLimit("tokens_per_minute", 1000)
    async with limited(valkey, tmp_path, failing(b"400 Bad Request")) as stand:  # type: ignore[arg-type]
        await stand.publish({"o": own(*tiny)})
        left = [await remaining(stand) for _ in range(4)]
        assert [requests for requests, _ in left] == [99, 98, 97, 96]
        assert len({tokens for _, tokens in left}) == 1
        assert await stand.spent() == [0] * 4
        assert [event.lines for event in stand.events()] == [()] * 4


async def test_an_upstream_that_cannot_be_reached_costs_nothing_at_all(valkey: Server, tmp_path: Path) -> None:
    tiny = RateLimit("requests_per_day", 100), RateLimit("tokens_per_minute", 1000), RateLimit("concurrent_requests", 1)
    async with limited(valkey, tmp_path, to=f"http://127.0.0.1:{free_port()}/v1") as stand:
        await stand.publish({"o": own(*tiny)})
        left = {await remaining(stand) for _ in range(4)}
        assert len(left) == 1
        assert left.pop()[0] == 99
        assert await stand.spent() == [0] * 4
        assert stand.events() == stand.gw.events == []


async def test_a_client_that_leaves_pays_what_is_estimated(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, leaving_open) as stand:
        await stand.publish({"o": own(RPM, RateLimit("concurrent_requests", 1))})
        client = await stand.gw.connect()
        client.send(request("POST", CHAT, STREAM))
        await client.head()
        await client.chunked()
        assert stand.running() == {"o:org-1": 1}
        assert (await stand.gw.ask(CHAT, STREAM)).status == 429
        client.close()
        await stand.settled()
        (event,) = stand.events()
        assert (event.ended, event.lines[0].source, event.unconfirmed) == ("client_left", "estimated", False)
        assert await stand.spent() == [event.lines[0].nano_usd] * 4
        assert event.lines[0].nano_usd


async def test_a_path_that_is_not_known_reserves_a_flat_amount_and_gives_it_back(
    valkey: Server, tmp_path: Path
) -> None:
    async with limited(valkey, tmp_path, limits={"unknown_call_usd": 0.5}) as stand:
        holding, go_on = asyncio.Event(), asyncio.Event()

        async def script(exchange: Exchange) -> None:
            await exchange.whole()
            holding.set()
            await go_on.wait()
            exchange.send(answer())

        stand.up.script = script
        await stand.publish({"o": own(SpendLimit("total", 600_000_000))})
        first: asyncio.Task[Response] = asyncio.ensure_future(stand.gw.ask("/v1/brand/new", b"{}"))
        await holding.wait()
        assert await stand.spent() == [500_000_000] * 4
        found = await stand.gw.ask("/v1/brand/new", b"{}")
        assert (found.status, found.error["code"]) == (429, "organization_spend_limit_exceeded")
        go_on.set()
        assert (await first).status == 200
        await stand.settled()
        assert await stand.spent() == [0] * 4
        assert stand.events() == []


async def test_calls_at_a_time(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, leaving_open) as stand:
        await stand.publish({"k:key_1": own(RateLimit("concurrent_requests", 2))})
        clients = [await stand.gw.connect() for _ in range(2)]
        for client in clients:
            client.send(request("POST", CHAT, STREAM))
            await client.head()
        found = await stand.gw.ask(CHAT, STREAM)
        assert (found.status, found.error["type"], found.header(b"retry-after")) == (429, "requests", b"1")
        assert "on concurrent requests: Limit 2, Used 2, Requested 1. Please try again in 1s." in found.error["message"]
        clients[0].close()
        await until(lambda: stand.running() == {"k:key_1": 1})
        stand.up.script = ANSWERS
        assert (await stand.gw.ask(CHAT, ASKED)).status == 200
        clients[1].close()
        await stand.settled()


@pytest.mark.parametrize(("method", "charged"), [("begin", False), ("_settle", True)])
async def test_a_mistake_in_metering_leaks_no_reservation(
    method: str, charged: bool, monkeypatch: pytest.MonkeyPatch, valkey: Server, tmp_path: Path
) -> None:
    """What was sent is charged as reserved when its lease is over; what was not is given back."""

    def mistake(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Meter, method, mistake)
    async with limited(valkey, tmp_path, ANSWERS, tidy=False) as stand:
        await stand.publish({"o": own(RateLimit("concurrent_requests", 5))})
        await stand.gw.ask(CHAT, ASKED)
        await stand.gw.idle()
        leases = stand.limits.leases
        assert await leases.end_now()
        assert len(leases) == 0, "it is renewed no more"
        assert stand.running() == ({"o:org-1": 1} if charged else {})
        assert any(line["event"] == "request_failed" for line in stand.gw.log)
