"""What operators see of a request: one access line, whatever happens, and metrics that agree with it."""

import re
from typing import Any

import prometheus_client
import pytest

from tests.fakes.upstream import SSE_HEAD, Exchange, answer, closing, saying, silent, upstream
from tests.fakes.wire import chunk, until
from tests.fakes.worker import Gateway, gateway, request

CHAT = "/v1/chat/completions"
FIELDS = {"ts", "event", "process", "slot", "request_id", "client", "method", "path", "status", "ended", "duration_us",
          "bytes_in", "bytes_out"}  # fmt: skip


async def test_a_line_says_who_what_where_and_how_long() -> None:
    script = saying(answer(b'{"ok":true}', (b"x-request-id", b"req_up")))
    routes = [{"models": ["*"], "upstreams": [{"upstream": "main", "upstream_model": "real"}]}]
    async with upstream(script) as up, gateway(up, routes=routes) as gw:
        found = await gw.ask(CHAT + "?secret=in-a-query", b'{"model":"m","stream":true}', b"x-request-id: theirs")
        line = (await gw.lines())[0]
        fixed = {
            "event": "request", "process": "worker", "slot": "0", "client": "127.0.0.1", "method": "POST", "path": CHAT, "status": 200,
            "ended": "complete", "bytes_in": 27, "bytes_out": 11, "operation": "createChatCompletion", "project": "proj_1", "key": "key_1",
            "user": "user_1", "model": "m", "upstream": "main", "upstream_model": "real", "upstream_request_id": "req_up",
            "client_request_id": "theirs", "stream": True, "attempts": 1,
        }  # fmt: skip
        assert {name: line[name] for name in fixed} == fixed
        assert set(line) - set(fixed) == {"ts", "request_id", "duration_us", "own_us", "upstream_head_us"}
        assert re.fullmatch("req_[0-9a-f]{32}", line["request_id"])
        assert 0 < line["own_us"] < line["duration_us"]
        assert 0 < line["upstream_head_us"] <= line["duration_us"]
        assert "in-a-query" not in gw.everything_said().decode()
        assert found.header(b"x-request-id") == b"req_up"


async def test_each_request_has_its_line_however_it_ends() -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.whole()
        exchange.send(SSE_HEAD + chunk(b"data: 1\n\n"))
        exchange.wire.close()

    async with upstream() as up, gateway(up, timeouts={"response_s": 0.2}) as gw:
        await gw.ask()
        await gw.ask(key=None)
        await gw.ask("/v2")
        for script in (closing(), silent):
            up.script = script
            await gw.ask(CHAT, b"{}")
        up.script = cut
        client = await gw.connect()
        client.send(request("POST", CHAT, b"{}"))
        await client.closed()
        client = await gw.connect()
        client.send(b"junk\r\n\r\n")
        await client.closed()
        lines = await gw.lines(7)
        found = [(line["status"], line["ended"], line.get("error")) for line in lines]
        assert found == [
            (200, "complete", None), (401, "refused", "no_api_key"), (404, "refused", "invalid_url"), (502, "upstream_failed", "upstream_cut"),
            (504, "upstream_failed", "upstream_timeout"), (200, "upstream_failed", "upstream_cut"), (400, "refused", "bad_request"),
        ]  # fmt: skip
        assert all(set(line) >= FIELDS for line in lines)
        assert len({line["request_id"] for line in lines}) == 7
        total = sum(sample.value for sample in _samples(gw, "gateway_requests_total"))
        assert total == 7
        for error in ("no_api_key", "invalid_url", "upstream_timeout", "bad_request"):
            assert gw.metric("gateway_errors_total", error=error) == 1
        assert gw.metric("gateway_errors_total", error="upstream_cut") == 2


def _samples(gw: Gateway, name: str) -> list[Any]:
    gw.worker._gauges(0.0)
    return [s for family in gw.metrics.registry.collect() for s in family.samples if s.name == name]


async def test_metrics_of_requests() -> None:
    async with upstream(saying(answer(b"x" * 100))) as up, gateway(up) as gw:
        for _ in range(3):
            await gw.ask(CHAT, b'{"model":"m"}')
        await gw.lines(3)
        gw.worker._gauges(0.0)
        operation = {"operation": "createChatCompletion"}
        assert gw.metric("gateway_requests_total", **operation, status="200", ended="complete") == 3
        assert gw.metric("gateway_request_bytes_total", **operation) == 39
        assert gw.metric("gateway_response_bytes_total", **operation) == 300
        assert gw.metric("gateway_request_seconds_count", **operation) == 3
        assert gw.metric("gateway_own_seconds_count") == 3
        assert gw.metric("gateway_upstream_head_seconds_count", upstream="main") == 3
        assert 0 < gw.metric("gateway_own_seconds_sum") < gw.metric("gateway_request_seconds_sum", **operation)


async def test_gauges_of_what_is_under_way() -> None:
    async with upstream(silent) as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(request("POST", CHAT, b"{}" + b" " * 100_000))
        await up.request()
        await until(lambda: gw.metric("gateway_requests_in_flight") == 1)
        assert gw.metric("gateway_client_connections") == 1
        assert gw.metric("gateway_body_bytes") == 100_002
        assert gw.metric("gateway_cached_keys") == 1
        assert gw.metric("gateway_upstream_connections", upstream="main", state="busy") == 1
        client.close()
        await until(lambda: not gw.metric("gateway_requests_in_flight") and not gw.metric("gateway_client_connections"))
        assert gw.metric("gateway_upstream_connections", upstream="main", state="busy") == 0


LABELS_OF_CLIENTS = ["zz-method", "zz-path", "zz-model", "zz-agent"]


async def test_no_text_of_a_client_becomes_a_label() -> None:
    """Else anybody could make as many time series as they like."""
    async with upstream() as up, gateway(up) as gw:
        await gw.ask("/v1/zz-path/x", b'{"model":"zz-model"}', b"User-Agent: zz-agent", method="QUERY")
        await gw.ask(CHAT, b'{"model":"zz-model"}')
        await gw.ask("/v2/zz-path")
        await gw.lines(3)
        gw.worker._gauges(0.0)
        text = prometheus_client.generate_latest(gw.metrics.registry).decode()
        assert not [word for word in LABELS_OF_CLIENTS if word in text]
        assert 'operation="unknown"' in text


@pytest.mark.parametrize(
    ("target", "body", "headers"),
    [
        ("/v1/" + "long/" * 3000, None, []), (CHAT, b'{"model":"' + b"\\u20ac" * 5000 + b'"}', []),
        ("/v1/models", None, [b"x-request-id: " + b"\xff\xfe" * 2000]), ("/v1/\xff\xfe" * 5, None, []), (CHAT, b'{"model":"\\n\\u0000"}', []),
        ("/v1/models", None, [b'x-request-id: "},{"event":"forged"']),
    ],
)  # fmt: skip
async def test_a_line_is_one_line_of_json_that_a_pipe_takes_at_once(
    target: str, body: bytes | None, headers: list[bytes]
) -> None:
    async with upstream() as up, gateway(up) as gw:
        await gw.ask(target, body, *headers)
        line = (await gw.lines())[0]
        raw = gw.captured.lines[0]
        assert raw.count(b"\n") == 1
        assert len(raw) <= 4096
        assert line["event"] == "request"
        assert line["status"] in {200, 400, 404}
