"""Answers that break off: the client can always tell, and an event stream says why where it can be understood."""

import asyncio
import http.client

import aiohttp
import httpx2
import openai
import pytest

from tests.fakes.upstream import SSE_HEAD, Exchange, closing, upstream
from tests.fakes.wire import chunk, soon, until
from tests.fakes.worker import KEY, CutError, gateway, request

CHAT = "/v1/chat/completions"


def _half(framing: str) -> bytes:
    if framing == "length":
        return b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it"
    if framing == "chunked":
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"half of it")
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of it"


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("framing", ["length", "chunked", "eof"])
async def test_cut_in_the_body(framing: str, end: str) -> None:
    if framing == "eof" and end == "close":
        return  # that is how such a body ends

    async def script(exchange: Exchange) -> None:
        await exchange.whole()
        exchange.send(_half(framing))
        await until(lambda: b"half of it" in client.raw)
        getattr(exchange.wire, end)()

    async with upstream(script) as up, gateway(up) as gw:
        client = await gw.connect()
        with pytest.raises(CutError) as caught:
            await client.ask(CHAT, b"{}")
        assert caught.value.body == b"half of it"
        line = (await gw.lines())[0]
        assert (line["status"], line["ended"], line["error"]) == (200, "upstream_failed", "upstream_cut")
        assert line["bytes_out"] == 10


async def test_silence_in_the_body() -> None:
    async def script(exchange: Exchange) -> None:
        exchange.send(_half("chunked"))
        await exchange.gone()

    async with upstream(script) as up, gateway(up, timeouts={"between_bytes_s": 0.1}) as gw:
        client = await gw.connect()
        with pytest.raises(CutError):
            await client.ask()
        await up.emptied()
        assert (await gw.lines())[0]["error"] == "upstream_timeout"


async def test_a_client_that_does_not_read_is_given_up() -> None:
    async def script(exchange: Exchange) -> None:
        exchange.send(SSE_HEAD)
        while not exchange.wire.ended.is_set():
            await exchange.wire.has_room()
            exchange.send(chunk(b"x" * 65536))

    async with upstream(script) as up, gateway(up, timeouts={"between_bytes_s": 0.2}) as gw:
        client = await gw.connect()
        client.send(request("GET", "/v1/models"))
        await client.head()
        client.stop_reading()
        await soon(up.wires[0].ended.wait())
        assert (await gw.lines())[0]["error"] == "request_timeout"
        await until(lambda: not gw.worker.server.connections)  # also what was written to it is given up


STREAMS = {
    "/v1/chat/completions": b"data: {json}\n\n",
    "/v1/completions": b"data: {json}\n\n",
    "/v1/responses": b'event: error\ndata: {"type":"error","sequence_number":8,"error":{json}}\n\n',
    "/v1/threads/runs": b"event: error\ndata: {json}\n\n",
    "/v1/unknown": b"event: error\ndata: {json}\n\n",
}


@pytest.mark.parametrize("target", list(STREAMS))
@pytest.mark.parametrize("cause", ["cut", "silence", "junk"])
async def test_an_error_event_ends_an_event_stream(target: str, cause: str) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.whole()
        exchange.send(SSE_HEAD + chunk(b'data: {"sequence_number":7}\n\n'))
        await until(lambda: b"number" in client.raw)
        if cause == "cut":
            exchange.wire.close()
        elif cause == "junk":
            exchange.send(b"no chunk\r\n")
        await exchange.gone()

    async with upstream(script) as up, gateway(up, timeouts={"between_bytes_s": 0.2}) as gw:
        client = await gw.connect()
        with pytest.raises(CutError) as caught:
            await client.ask(target, b"{}")
        events = caught.value.body.split(b"\n\n", 1)[1]
        code = {"cut": b"upstream_cut", "silence": b"upstream_timeout", "junk": b"upstream_malformed"}[cause]
        start, end = STREAMS[target].split(b"{json}")
        assert events.startswith(start)
        assert events.endswith(end)
        assert b'"code":"' + code + b'"' in events
        assert events.count(b"\n\n") == 1


@pytest.mark.parametrize("half", [b"data: {", b"data: {}\n", b"data: {}\r\n", b":", b"data: {}\r"])
async def test_no_error_event_inside_another_event(half: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        exchange.send(SSE_HEAD + chunk(b"data: 1\n\n" + half[:1]) + (chunk(half[1:]) if half[1:] else b""))
        await until(lambda: client.raw.count(b"data") or len(half) < 3)
        exchange.wire.close()

    async with upstream(script) as up, gateway(up) as gw:
        client = await gw.connect()
        with pytest.raises(CutError) as caught:
            await client.ask()
        assert caught.value.body == b"data: 1\n\n" + half


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n"])
async def test_an_event_may_end_in_any_way(end: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        exchange.send(SSE_HEAD + chunk(b"data: 1" + end[:-1]))
        exchange.send(chunk(end[-1:]))
        await until(lambda: client.raw.count(b"data"))
        exchange.wire.close()

    async with upstream(script) as up, gateway(up) as gw:
        client = await gw.connect()
        with pytest.raises(CutError) as caught:
            await client.ask()
        assert caught.value.body.count(b"upstream_cut") == 1


@pytest.mark.parametrize("header", [b"Content-Encoding: gzip", b"Content-Length: 100"])
async def test_no_error_event_where_it_could_not_be_read(header: bytes) -> None:
    """Inside compressed data it is junk; in a body of declared length it could even complete that."""

    async def script(exchange: Exchange) -> None:
        framing = b"" if header.startswith(b"Content-Length") else b"Transfer-Encoding: chunked\r\n"
        body = b"x" * 95 + b"\n\n"
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + header + b"\r\n" + framing + b"\r\n")
        exchange.send(chunk(body) if framing else body)
        await until(lambda: b"xxx" in client.raw)
        exchange.wire.close()

    async with upstream(script) as up, gateway(up) as gw:
        client = await gw.connect()
        with pytest.raises(CutError) as caught:
            await client.ask()
        assert caught.value.body == b"x" * 95 + b"\n\n"


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_http_clients_notice_a_cut(framing: str) -> None:
    async with upstream(closing(_half(framing))) as up, gateway(up) as gw:
        headers = {"Authorization": f"Bearer {KEY}"}
        async with aiohttp.ClientSession() as session, session.get(gw.url + "/models", headers=headers) as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        async with httpx2.AsyncClient() as client:
            with pytest.raises(httpx2.RemoteProtocolError):
                await client.get(gw.url + "/models", headers=headers)

        def standard_library() -> bytes:
            connection = http.client.HTTPConnection("127.0.0.1", gw.port, timeout=5)
            try:
                connection.request("GET", "/v1/models", headers=headers)
                return connection.getresponse().read()
            finally:
                connection.close()

        with pytest.raises(http.client.IncompleteRead):
            await asyncio.to_thread(standard_library)


async def test_the_official_client_raises_what_the_error_event_says() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.whole()
        event = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}\n\n'
        exchange.send(SSE_HEAD + chunk(event))
        exchange.wire.close()

    async with upstream(script) as up, gateway(up) as gw:
        async with openai.AsyncOpenAI(base_url=gw.url, api_key=KEY, max_retries=0) as client:
            stream = await client.chat.completions.create(model="m", messages=[], stream=True)
            with pytest.raises(openai.APIError) as caught:
                async for _ in stream:
                    pass
        assert caught.value.code == "upstream_cut"
        up.script = closing()
        async with openai.AsyncOpenAI(base_url=gw.url, api_key=KEY, max_retries=0) as client:
            with pytest.raises(openai.InternalServerError) as refused:
                await client.chat.completions.create(model="m", messages=[])
        assert refused.value.status_code == 502
