"""What an event says of how its call came about: what was reserved, against which limits, and which attempts were made."""

import json
from pathlib import Path

import pytest

from gateway.limits import RateLimit, SpendLimit
from gateway.values import Checked, Tried, UsageEvent
from tests.fakes.limited import Limited, limited, own
from tests.fakes.ports import free_port
from tests.fakes.redis_servers import Server
from tests.fakes.upstream import SSE_HEAD, Exchange, answer, closing, saying, upstream
from tests.fakes.wire import chunk
from tests.fakes.worker import CutError, gateway

CHAT = "/v1/chat/completions"
ASKED = json.dumps(
    {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Say it."}], "max_tokens": 50}
).encode()
STREAM = ASKED[:-1] + b', "stream": true}'
USAGE = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
ANSWER = json.dumps({
    "id": "chatcmpl-1", "model": "gpt-5-mini-2025-08-07",
    "choices": [{"message": {"role": "assistant", "content": "Something short."}}], "usage": USAGE,
}).encode()  # fmt: skip
ANSWERS = saying(answer(ANSWER))
RPM, SPEND = RateLimit("requests_per_minute", 600), SpendLimit("month", 9_000_000_000)
SHADOW = RateLimit("tokens_per_minute", 1, shadow=True)


async def only(stand: Limited) -> UsageEvent:
    await stand.settled()
    (event,) = stand.events()
    return event


def untimed(event: UsageEvent) -> list[tuple[int, str, int, str]]:
    """Attempts without their milliseconds, which are none that nobody would believe."""
    assert all(0 <= one.ms < 60_000 for one in event.attempts)
    return [(one.attempt, one.upstream, one.status, one.error) for one in event.attempts]


async def test_what_was_reserved_and_against_what(valkey: Server, tmp_path: Path) -> None:
    """On the short way that most calls go and on the long one, and again once the limits have changed."""
    limits = (
        Checked("spend.month", "organization", 9_000_000_000),
        Checked("requests_per_minute", "project", 600),
        Checked("tokens_per_minute", "key", 1, shadow=True),
    )
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        await stand.publish({"o": own(SPEND), "p:proj_1": own(RPM), "k:key_1": own(SHADOW)})
        for _ in range(20):
            assert (await stand.gw.ask(CHAT, ASKED)).status == 200
        await stand.settled()
        await stand.publish({"o": None})
        assert (await stand.gw.ask(CHAT, ASKED)).status == 200
        await stand.settled()
        *events, last = stand.events()
        assert {event.limits for event in events} == {limits}
        assert last.limits == limits[1:]
        for event in (*events, last):
            assert event.reserved is not None
            assert event.reserved.requests == 1
            assert event.reserved.tokens > 16
            assert event.reserved.nano_usd > (event.lines[0].nano_usd or 0) > 0
            assert untimed(event) == [(1, "main", 200, "")]
            assert not event.locally
        refusals = await stand.recorded()
        assert {(one.limit, one.value, one.used, one.shadow) for one in refusals if one.request_id} == {
            ("tokens_per_minute", 1, None, True)
        }


async def test_a_refusal_says_how_much_was_left(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        await stand.publish({"k:key_1": own(RateLimit("requests_per_minute", 1))})
        assert (await stand.gw.ask(CHAT, ASKED)).status == 200
        assert (await stand.gw.ask(CHAT, ASKED)).status == 429
        (refusal,) = await stand.recorded()
        assert (refusal.limit, refusal.value, refusal.used, refusal.wanted) == ("requests_per_minute", 1, 1, 1)


async def test_a_stream_that_is_cut(valkey: Server, tmp_path: Path) -> None:
    word = b'data: {"id":"1","model":"gpt-5-mini","choices":[{"index":0,"delta":{"content":"Some words"}}]}\n\n'

    async def script(exchange: Exchange) -> None:
        await exchange.whole()
        exchange.send(SSE_HEAD + chunk(word))
        exchange.wire.close()

    async with limited(valkey, tmp_path, script) as stand:
        with pytest.raises(CutError):
            await stand.gw.ask(CHAT, STREAM)
        event = await only(stand)
        assert untimed(event) == [(1, "main", 200, "upstream_cut")]
        assert (event.ended, event.reserved is not None, event.limits) == ("cut", True, ())


async def test_what_the_gateway_asked_for_and_was_refused(valkey: Server, tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        if b"stream_options" in await exchange.whole():
            return exchange.send(answer(b'{"error":{"message":"unknown: stream_options"}}', status=b"400 Bad Request"))
        usage = b'data: {"id":"1","model":"gpt-5-mini","choices":[],"usage":%b}\n\n' % json.dumps(USAGE).encode()
        return exchange.send(SSE_HEAD + chunk(usage) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async with limited(valkey, tmp_path, script) as stand:
        assert (await stand.gw.ask(CHAT, STREAM)).status == 200
        event = await only(stand)
        assert untimed(event) == [(1, "main", 400, ""), (2, "main", 200, "")]
        assert [line.attempt for line in event.lines] == [2]


async def test_redis_is_away(valkey: Server, tmp_path: Path) -> None:
    """Then the worker has limits of its own, and what it held the call against is said."""
    async with limited(valkey, tmp_path, ANSWERS, deadline_ms=50) as stand:
        await stand.publish({"p:proj_1": own(RPM)})
        assert (await stand.gw.ask(CHAT, ASKED)).status == 200
        valkey.pause()
        try:
            assert (await stand.gw.ask(CHAT, ASKED)).status == 200
        finally:
            valkey.resume()
        await stand.gw.idle()
        first, second = stand.gw.events
        assert (first.locally, second.locally) == (False, True)
        assert first.limits == second.limits == (Checked("requests_per_minute", "project", 600),)
        assert second.reserved is not None


ROUTE = [{"models": ["*"], "upstreams": ["first", "second"]}]


async def test_an_upstream_that_cannot_be_reached() -> None:
    async with (
        upstream(ANSWERS) as up,
        gateway({"first": f"http://127.0.0.1:{free_port()}/v1", "second": up}, routes=ROUTE) as gw,
    ):
        assert (await gw.ask(CHAT, ASKED)).status == 200
        (event,) = gw.events
        assert untimed(event) == [(0, "first", 0, "upstream_unreachable"), (1, "second", 200, "")]
        assert event.lines[0].upstream == "second"


async def test_nobody_answers() -> None:
    async with upstream(closing()) as up, gateway(up) as gw:
        assert (await gw.ask(CHAT, ASKED)).status == 502
        (event,) = gw.events
        assert (event.attempts, event.status) == ((Tried(1, "main", 0, "upstream_cut", event.attempts[0].ms),), 0)
