"""Calls through a worker yield one usage event each, whatever way they end."""

import asyncio
import gzip
import json

import pytest

from tests.fakes.upstream import SSE_HEAD, Exchange, answer, upstream
from tests.fakes.wire import chunk, until
from tests.fakes.worker import gateway, request

CHAT = "/v1/chat/completions"
ASKED = json.dumps({"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Say something short."}]}).encode()
STREAM = ASKED[:-1] + b', "stream": true}'
USAGE = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
ANSWER = json.dumps({
    "id": "chatcmpl-1", "model": "gpt-5-mini-2025-08-07", "service_tier": "default",
    "choices": [{"message": {"role": "assistant", "content": "Something short."}}], "usage": USAGE,
}).encode()  # fmt: skip


def event(content: str, usage: str = "") -> bytes:
    return (
        b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","model":"gpt-5-mini-2025-08-07",'
        b'"choices":[{"index":0,"delta":{"content":"%b"}}]%b}\n\n' % (content.encode(), usage.encode())
    )


TEXT = ["Some", "thing", " short", "."]
FINAL = (
    b'data: {"id":"chatcmpl-1","model":"gpt-5-mini-2025-08-07","choices":[],"usage":%b}\n\n'
    % json.dumps(USAGE).encode()
)
DONE = b"data: [DONE]\n\n"


async def streaming(exchange: Exchange) -> None:
    """Tells its usage if it is asked to, as OpenAI does."""
    body = json.loads(await exchange.whole())
    asked = (body.get("stream_options") or {}).get("include_usage")
    exchange.send(SSE_HEAD)
    for text in TEXT:
        exchange.send(chunk(event(text, ',"usage":null' if asked else "")))
    exchange.send((chunk(FINAL) if asked else b"") + chunk(DONE) + b"0\r\n\r\n")


async def test_a_call_that_reports() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.whole()
        exchange.send(answer(body=ANSWER))

    async with upstream(script) as up, gateway(up) as gw:
        response = await gw.ask(CHAT, ASKED)
        assert response.body == ANSWER
        (found,) = gw.events
        (line,) = found.lines
        assert found.id == gw.access[0]["request_id"]
        assert (found.operation, found.category, found.status, found.ended) == (
            "createChatCompletion", "completions", 200, "complete",
        )  # fmt: skip
        assert (line.source, line.quantities.input_tokens, line.quantities.output_tokens) == ("reported", 11, 5)
        assert (line.request_model, line.response_model) == ("gpt-5-mini", "gpt-5-mini-2025-08-07")
        assert line.nano_usd == 11 * 250 + 5 * 2000
        assert (
            gw.metric(
                "gateway_usage_completions_input_tokens_total",
                project=gw.events[0].project_id,
                model="gpt-5-mini",
                batch="false",
            )
            == 11
        )


async def test_a_stream_is_asked_for_its_usage_and_the_client_sees_none_of_it() -> None:
    async with (
        upstream(streaming) as up,
        gateway(up) as gw,
        gateway({"main": {"base_url": up, "include_usage": "never"}}) as plain,
    ):
        response = await gw.ask(CHAT, STREAM)
        assert up.last.header(b"accept-encoding") == b"identity"
        assert json.loads(up.last.body)["stream_options"] == {"include_usage": True}
        without = await plain.ask(CHAT, STREAM)
        assert bytes(up.last.body) == STREAM
        assert response.body == without.body
        assert b"usage" not in response.body
        (line,) = gw.events[0].lines
        assert (line.source, line.quantities.input_tokens, line.quantities.output_tokens) == ("reported", 11, 5)
        (guess,) = plain.events[0].lines
        assert (guess.source, guess.response_model) == ("estimated", "gpt-5-mini-2025-08-07")
        assert guess.quantities.input_tokens == round(len("Say something short.") / 4.5) + 4
        assert guess.quantities.output_tokens == round(len("Something short.") / 4.5)


async def test_a_client_that_asks_sees_all() -> None:
    body = STREAM[:-1] + b', "stream_options": {"include_usage": true}}'
    async with upstream(streaming) as up, gateway(up) as gw:
        response = await gw.ask(CHAT, body)
        assert bytes(up.last.body) == body
        assert FINAL in response.body
        assert gw.events[0].lines[0].source == "reported"


@pytest.mark.parametrize("value", ["[]", "{}", "0", '"yes"'])
async def test_what_is_no_answer_to_whether_it_asks_is_the_upstreams_to_judge(value: str) -> None:
    body = STREAM[:-1] + b', "stream_options": {"include_usage": %b}}' % value.encode()
    async with upstream(streaming) as up, gateway(up) as gw:
        assert (await gw.ask(CHAT, body)).status == 200
        assert bytes(up.last.body) == body


async def test_an_upstream_that_refuses_to_be_asked_is_asked_no_more() -> None:
    async def script(exchange: Exchange) -> None:
        if b"stream_options" in await exchange.whole():
            exchange.send(
                answer(
                    b'{"error":{"message":"Unknown parameter: stream_options.include_usage"}}',
                    status=b"400 Bad Request",
                )
            )
        else:
            exchange.send(SSE_HEAD + chunk(event("Hi")) + chunk(DONE) + b"0\r\n\r\n")

    async with upstream(script) as up, gateway(up) as gw:
        for _ in range(2):
            assert (await gw.ask(CHAT, STREAM)).body == event("Hi") + DONE
        assert len(up.requests) == 3
        assert [found.lines[0].source for found in gw.events] == ["estimated", "estimated"]


async def test_another_refusal_reaches_the_client() -> None:
    refusal = b'{"error":{"message":"No such model"}}'

    async def script(exchange: Exchange) -> None:
        await exchange.whole()
        exchange.send(answer(refusal, status=b"400 Bad Request"))

    async with upstream(script) as up, gateway(up) as gw:
        response = await gw.ask(CHAT, STREAM)
        assert (response.status, response.body) == (400, refusal)
        assert len(up.requests) == 1
        assert (gw.events[0].status, gw.events[0].lines) == (400, ())


async def test_a_client_that_leaves_is_charged_for_what_it_got() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.whole()
        exchange.send(SSE_HEAD + b"".join(chunk(event(text, ',"usage":null')) for text in TEXT))
        await exchange.gone()

    async with upstream(script) as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(request("POST", CHAT, STREAM))
        await client.head()
        await client.chunked()
        client.close()
        await until(lambda: gw.events)
        (line,) = gw.events[0].lines
        assert (gw.events[0].ended, line.source) == ("client_left", "estimated")
        assert line.quantities.output_tokens == round(len("Something short.") / 4.5)


async def test_a_cut_stream_is_estimated() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.whole()
        exchange.send(SSE_HEAD + chunk(event("Something")))
        exchange.wire.reset()

    async with upstream(script) as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(request("POST", CHAT, STREAM))
        await client.ended.wait()
        await until(lambda: gw.events)
        assert (gw.events[0].ended, gw.events[0].lines[0].source) == ("cut", "estimated")


async def test_an_answer_that_is_cut_is_taken_for_a_usual_one() -> None:
    """It was written to its end, and is billed; how long it was nobody knows."""

    async def script(exchange: Exchange) -> None:
        body = await exchange.whole()
        exchange.send(answer(ANSWER) if b"whole" in body else answer(ANSWER)[:-20])
        if b"whole" not in body:
            exchange.wire.reset()

    async with upstream(script) as up, gateway(up) as gw:
        for expected in (100, 5):
            gw.events.clear()
            client = await gw.connect()
            client.send(request("POST", CHAT, ASKED))
            await client.ended.wait()
            await until(lambda: gw.events)
            (line,) = gw.events[0].lines
            assert (line.source, line.quantities.output_tokens) == ("estimated", expected)
            await gw.ask(CHAT, ASKED[:-1] + b', "user": "whole"}')


async def test_thoughts_that_a_stream_does_not_show_are_as_in_other_calls() -> None:
    """What is learned of a model is of its own tokens and not of its tools."""
    used = {"input_tokens": 9, "output_tokens": 705, "output_tokens_details": {"reasoning_tokens": 640}}
    search = {"type": "web_search_call", "status": "completed"}
    whole = {"id": "r", "model": "o4-mini-2025-04-16", "usage": used, "output": [search]}
    whole["tool_usage"] = {"web_search": {"num_requests": 1}}
    seen = {"type": "response.output_text.delta", "delta": "Something short."}

    async def script(exchange: Exchange) -> None:
        if b"stream" in await exchange.whole():
            exchange.send(SSE_HEAD + chunk(b"data: %b\n\n" % json.dumps(seen).encode()))
            exchange.wire.close()
        else:
            exchange.send(answer(json.dumps(whole).encode()))

    async with upstream(script) as up, gateway(up) as gw:
        await gw.ask("/v1/responses", b'{"model":"o4-mini","input":"Hi"}')
        client = await gw.connect()
        client.send(request("POST", "/v1/responses", b'{"model":"o4-mini","input":"Hi","stream":true}'))
        await client.ended.wait()
        await until(lambda: len(gw.events) == 2)
        used_now = gw.events[1].lines[0].quantities
        assert (used_now.output_tokens, used_now.reasoning_tokens) == (640 + 4, 640)


async def test_compressed_answers_are_read_from_a_copy() -> None:
    packed = gzip.compress(ANSWER)

    async def script(exchange: Exchange) -> None:
        await exchange.whole()
        exchange.send(answer(packed, (b"Content-Encoding", b"gzip")))

    async with upstream(script) as up, gateway(up) as gw:
        assert (await gw.ask(CHAT, ASKED)).body == packed
        assert gw.events[0].lines[0].quantities.input_tokens == 11


async def test_what_is_free_yields_nothing() -> None:
    async with upstream() as up, gateway(up) as gw:
        await gw.ask("/v1/models")
        await gw.ask("/v1/chat/completions/chatcmpl-1")
        await asyncio.sleep(0)
        assert gw.events == []


async def test_what_a_tool_used_is_not_taken_for_a_short_answer() -> None:
    """Estimates of answers that nobody saw follow those that were seen, and not their tools' lines."""
    usage = {"input_tokens": 10, "output_tokens": 700, "total_tokens": 710}
    whole = {"id": "resp_1", "model": "gpt-5-mini", "status": "completed", "output": [], "usage": usage}
    searched = json.dumps(whole | {"tool_usage": {"web_search": {"num_requests": 2}}}).encode()
    asked = json.dumps({"model": "gpt-5-mini", "input": "Say something."}).encode()

    async def script(exchange: Exchange) -> None:
        await exchange.whole()
        if len(up.requests) == 1:
            exchange.send(answer(body=searched))
        else:
            exchange.wire.reset()

    async with upstream(script) as up, gateway(up) as gw:
        await gw.ask("/v1/responses", asked)
        assert [line.category for line in gw.events[0].lines] == ["completions", "web_search_calls"]
        client = await gw.connect()
        client.send(request("POST", "/v1/responses", asked))
        await client.response()
        assert gw.events[1].lines[0].quantities.output_tokens == 700


async def test_what_is_stored_upstream_teaches_nothing_of_tokens() -> None:
    """A request that goes on from an earlier one reads far more than it says."""
    usage = {"input_tokens": 2000, "output_tokens": 5, "total_tokens": 2005}
    whole = {"id": "resp_1", "model": "gpt-5-mini", "status": "completed", "output": [], "usage": usage}
    text = "x" * 1800
    asked = {"model": "gpt-5-mini", "input": text, "previous_response_id": "resp_0"}

    async def script(exchange: Exchange) -> None:
        await exchange.whole()
        if len(up.requests) == 1:
            exchange.send(answer(body=json.dumps(whole).encode()))
        else:
            exchange.wire.reset()

    async with upstream(script) as up, gateway(up) as gw:
        await gw.ask("/v1/responses", json.dumps(asked).encode())
        client = await gw.connect()
        client.send(request("POST", "/v1/responses", json.dumps({"model": "gpt-5-mini", "input": text}).encode()))
        await client.response()
        assert gw.events[1].lines[0].quantities.input_tokens == 400


async def test_an_estimate_knows_the_request_after_the_answer_has_begun() -> None:
    """By then the request's body has been let go."""
    text = "x" * 4500
    asked = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": text}], "stream": True}

    async def script(exchange: Exchange) -> None:
        await exchange.whole()
        exchange.send(SSE_HEAD + chunk(event("Something")))
        exchange.wire.reset()

    async with upstream(script) as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(request("POST", CHAT, json.dumps(asked).encode()))
        await client.ended.wait()
        await until(lambda: gw.events)
        assert gw.events[0].lines[0].quantities.input_tokens == 1000 + 4


async def test_models_without_a_price_are_refused_where_settings_say_so() -> None:
    prices = {"unknown_model": "refuse", "models": {"ours": {"input_tokens": 1, "output_tokens": 2}}}
    routes = [
        {"models": ["alias"], "upstreams": [{"upstream": "main", "upstream_model": "gpt-5-mini"}]},
        {"models": ["*"], "upstreams": ["main"]},
    ]
    async with upstream() as up, gateway(up, prices=prices, routes=routes) as gw:
        refused = await gw.ask(CHAT, b'{"model":"nobody-knows","messages":[]}')
        assert (refused.status, refused.error["code"], refused.error["param"]) == (403, "model_not_allowed", "model")
        assert not up.requests
        for model in (b"ours", b"alias", b"gpt-5-mini"):
            assert (await gw.ask(CHAT, b'{"model":"%b","messages":[]}' % model)).status == 200
        assert (await gw.ask("/v1/models/nobody-knows")).status == 200
        assert [found.lines[0].source for found in gw.events] == ["estimated"] * 3


async def test_an_unknown_model_costs_the_ceiling_and_is_named_once() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.whole()
        exchange.send(answer(ANSWER.replace(b"gpt-5-mini-2025-08-07", b"sk-gw-notakeybutlookslikeone0123456789abcdef")))

    async with upstream(script) as up, gateway(up, prices={"ceiling": {"input_tokens": 1, "output_tokens": 2}}) as gw:
        for _ in range(2):
            await gw.ask(CHAT, b'{"model":"nobody-knows","messages":[]}')
        assert [found.lines[0].nano_usd for found in gw.events] == [11 * 1000 + 5 * 2000] * 2
        (said,) = [entry for entry in gw.log if entry["event"] == "model_without_price"]
        assert "notakey" not in str(said)
        assert gw.metric("gateway_unpriced_lines_total", model="other") == 2
        assert gw.metric("gateway_costs_usd_total", project="proj_1", model="other", batch="false") == 42e-6


async def test_large_requests_are_kept_within_a_bound_and_estimated_either_way() -> None:
    """Nobody looks at one whose answer reports; of what cannot be kept the size is noted when its answer begins."""
    content = "word " * 20_000
    body = json.dumps(
        {"model": "gpt-5-mini", "messages": [{"role": "user", "content": content}], "stream": True}
    ).encode()

    async def script(exchange: Exchange) -> None:
        await exchange.whole()
        exchange.send(SSE_HEAD + chunk(event("Hi")))
        await exchange.gone()

    async with upstream(script) as up, gateway(up) as gw:
        held = gw.worker._meter._held
        for most in (held._most, 0):
            held._most = most
            client = await gw.connect()
            client.send(request("POST", CHAT, body))
            await client.head()
            await client.chunked()
            assert held.size >= len(body) if most else held.size == 0
            client.close()
            await gw.idle()
        assert held.size == 0
        kept, measured = (found.lines[0].quantities.input_tokens for found in gw.events)
        assert kept == pytest.approx(len(content) / 4.5, rel=0.02)
        assert measured == pytest.approx(kept, rel=0.02)


async def test_a_container_that_the_request_names_is_no_new_session() -> None:
    """It was one when it was made."""
    used = {"input_tokens": 9, "output_tokens": 7, "total_tokens": 16}
    runs = [
        {"type": "code_interpreter_call", "container_id": one, "status": "completed"} for one in ("cntr_1", "cntr_2")
    ]
    whole = json.dumps({"id": "r", "model": "gpt-5-mini", "usage": used, "output": runs}).encode()

    async def script(exchange: Exchange) -> None:
        await exchange.whole()
        exchange.send(answer(body=whole))

    async with upstream(script) as up, gateway(up) as gw:
        for container, sessions in (({"type": "auto"}, ["cntr_1", "cntr_2"]), ("cntr_1", ["cntr_2"])):
            tools = [{"type": "code_interpreter", "container": container}]
            gw.events.clear()
            await gw.ask("/v1/responses", json.dumps({"model": "gpt-5-mini", "input": "Hi", "tools": tools}).encode())
            (event,) = gw.events
            assert [line.object_id for line in event.lines if line.quantities.sessions] == sessions
