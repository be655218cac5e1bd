"""WebSockets: handshakes in both directions, and messages as they come."""

import asyncio

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from gateway.credentials import digest
from gateway.values import Principal
from tests.fakes.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    agreeing,
    echo,
    frame,
    handshake,
    handshaken,
    opened,
    read_frame,
    switching,
)  # fmt: skip
from tests.fakes.ports import free_port
from tests.fakes.upstream import Exchange, answer, saying, silent, upstream
from tests.fakes.wire import soon, until
from tests.fakes.worker import KEY, OTHER_KEY, UPSTREAM_KEY, gateway, request

MIB = 1024 * 1024
BROWSER = b"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key." + KEY.encode() + b", openai-beta.realtime-v1"


@pytest.mark.parametrize(
    "target", ["/v1/realtime?model=m", "/v1/responses", "/v1/live/sessions?x=%5B", "/v1/some/other"]
)
async def test_any_path_can_be_a_websocket(target: str) -> None:
    async with upstream(switching(echo)) as up, gateway(up) as gw:
        client = await opened(gw, target)
        assert up.last.target == target.encode()
        for kind, data in (
            (TEXT, "grüße €".encode()),
            (BINARY, b"\x00\xff" * 1000),
            (TEXT, b""),
            (BINARY, b"x" * 70_000),
        ):
            client.send(frame(kind, data, mask=True))
            found = await soon(read_frame(client))
            assert (found.kind, found.data, found.fin, found.masked) == (kind, data, True, False)


async def test_headers_of_the_handshake() -> None:
    script = switching(
        echo, b"X-Request-Id: req_up", b"openai-model: m", b"Set-Cookie: a=b", b"X-Two: 1", b"X-Two: 2", b"Server: up"
    )
    async with upstream(script) as up, gateway({"main": {"base_url": up, "organization": "org-ours"}}) as gw:
        client = await gw.connect()
        sent = [
            b"OpenAI-Beta: realtime=v1",
            b"User-Agent: ours",
            b"Cookie: a=b",
            b"OpenAI-Organization: theirs",
            b"X-A: 1",
            b"X-A: 2",
            b"Origin: http://x",
        ]
        found = await handshaken(client, "/v1/realtime?model=m", *sent, b"Sec-WebSocket-Extensions: permessage-deflate")
        assert found.status == 101
        for name, value in ((b"x-request-id", b"req_up"), (b"openai-model", b"m"), (b"server", b"up")):
            assert found.values(name) == [value]
        assert found.values(b"x-two") == [b"1", b"2"]
        assert not found.values(b"set-cookie")
        seen = {(n.lower(), v) for n, v in up.last.headers}
        assert seen >= {
            (b"openai-beta", b"realtime=v1"),
            (b"user-agent", b"ours"),
            (b"x-a", b"1"),
            (b"x-a", b"2"),
            (b"origin", b"http://x"),
        }
        assert up.last.values(b"authorization") == [b"Bearer " + UPSTREAM_KEY.encode()]
        assert up.last.values(b"openai-organization") == [b"org-ours"]
        assert not {b"cookie", b"sec-websocket-extensions", b"accept", b"accept-encoding"} & {n for n, _ in seen}
        assert up.last.values(b"host") == [f"127.0.0.1:{up.port}".encode()]
        assert (up.last.header(b"x-request-id") or b"").startswith(b"req_")


async def test_no_header_is_invented_upstream() -> None:
    async with upstream(switching(echo)) as up, gateway(up) as gw:
        await opened(gw)
        assert {n.lower() for n, _ in up.last.headers} == {
            b"host", b"authorization", b"x-request-id", b"connection", b"upgrade", b"sec-websocket-key", b"sec-websocket-version",
        }  # fmt: skip


async def test_a_browsers_key_among_the_subprotocols() -> None:
    async with upstream(switching(echo)) as up, gateway(up) as gw:
        client = await gw.connect()
        found = await handshaken(client, "/v1/realtime?model=m", BROWSER, key=None)
        assert found.values(b"sec-websocket-protocol") == [b"realtime"]  # a browser insists on a choice
        assert up.last.values(b"sec-websocket-protocol") == [b"realtime,openai-beta.realtime-v1"]
        assert KEY.encode() not in up.last.head
        assert KEY.encode() not in gw.everything_said()
        wrong = BROWSER.replace(KEY.encode(), OTHER_KEY.encode())
        assert (await handshaken(await gw.connect(), "/v1/realtime", wrong, key=None)).status == 401
        assert OTHER_KEY.encode() not in gw.everything_said()


async def test_subprotocols() -> None:
    chosen = switching(echo, b"Sec-WebSocket-Protocol: second")
    for script, offered, answered in (
        (chosen, [b"Sec-WebSocket-Protocol: first, second"], [b"second"]),
        (switching(echo), [b"Sec-WebSocket-Protocol: first, second"], []),
        (chosen, [], []),  # nobody asked for it
    ):
        async with upstream(script) as up, gateway(up) as gw:
            found = await handshaken(await gw.connect(), "/v1/realtime", *offered)
            assert found.values(b"sec-websocket-protocol") == answered


async def test_fragments_are_put_together_and_control_frames_pass_between_them() -> None:
    async with upstream(switching(echo)) as up, gateway(up) as gw:
        client = await opened(gw)
        client.send(frame(TEXT, b"one ", fin=False, mask=True) + frame(PING, b"now", mask=True))
        assert await soon(read_frame(client)) == Frame(PONG, b"now")
        client.send(frame(CONTINUATION, b"two ", fin=False, mask=True) + frame(CONTINUATION, b"three", mask=True))
        assert await soon(read_frame(client)) == Frame(TEXT, b"one two three")


async def test_pings_and_pongs_go_from_end_to_end() -> None:
    heard: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()

    async def talk(exchange: Exchange) -> None:
        exchange.send(frame(PING, b"from above"))
        while True:
            found = await read_frame(exchange.wire)
            heard.put_nowait((found.kind, found.data))

    async with upstream(switching(talk)) as up, gateway(up) as gw:
        client = await opened(gw)
        found = await soon(read_frame(client))
        assert (found.kind, found.data) == (PING, b"from above")
        assert heard.empty()  # nobody in between answers
        client.send(frame(PONG, b"from below", mask=True) + frame(PING, b"ask", mask=True))
        assert await soon(heard.get()) == (PONG, b"from below")
        assert await soon(heard.get()) == (PING, b"ask")
        assert len(up.wires) == 1


async def test_text_that_is_no_utf_8_is_not_ours_to_judge() -> None:
    async with upstream(switching(echo)) as up, gateway(up) as gw:
        client = await opened(gw)
        client.send(frame(TEXT, b"\xff\xfe", mask=True))
        assert (await soon(read_frame(client))).data == b"\xff\xfe"


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_message_of_64_mib() -> None:
    message = bytes(range(256)) * (64 * 4096)
    async with upstream(switching(echo)) as up, gateway(up) as gw:
        client = await opened(gw)
        sending = asyncio.ensure_future(client.send_all(frame(BINARY, message, mask=True), 1 << 20))
        found = await soon(read_frame(client), 60)
        assert found.data == message
        await sending


async def test_a_message_beyond_the_limit() -> None:
    async with upstream(switching(echo)) as up, gateway(up, bodies={"websocket_message_mib": 1}) as gw:
        client = await opened(gw)
        client.send(frame(BINARY, b"x" * MIB, mask=True))
        assert len((await soon(read_frame(client))).data) == MIB
        client.send(frame(BINARY, b"x" * (MIB + 1), mask=True))
        found = await soon(read_frame(client))
        assert (found.kind, found.code) == (CLOSE, 1009)
        await up.emptied()


@pytest.mark.parametrize(
    "status",
    [b"400 Bad Request", b"401 Unauthorized", b"404 Not Found", b"426 Upgrade Required", b"302 Found", b"200 OK"],
)
async def test_an_upstream_that_refuses(status: bytes) -> None:
    body = b'{"error":{"message":"' + b"x" * 100_000 + b'"}}'
    script = saying(
        answer(body, (b"X-Request-Id", b"req_up"), (b"Location", b"http://x/"), (b"Set-Cookie", b"a=b"), status=status)
    )
    async with upstream(script) as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(handshake("/v1/realtime?model=m"))
        found = await client.response()
        assert b"%d %b" % (found.status, found.reason) == status
        assert found.body == body
        assert (found.header(b"x-request-id"), found.header(b"location"), found.header(b"set-cookie")) == (
            b"req_up",
            b"http://x/",
            None,
        )
        assert found.header(b"connection") == b"close"
        await up.emptied()
        assert len(up.requests) == 1  # a redirect is not followed


async def test_a_refusal_in_chunks() -> None:
    async with upstream(saying(answer(chunks=[b"no", b" way"], status=b"403 Forbidden"))) as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(handshake("/v1/realtime"))
        found = await client.response()
        assert (found.status, found.body, found.values(b"transfer-encoding")) == (403, b"no way", [])


async def test_upstreams_that_do_not_get_so_far() -> None:
    async def bad_accept(exchange: Exchange) -> None:
        exchange.send(agreeing(exchange).replace(b"Accept: ", b"Accept: x"))
        await exchange.gone()

    async def cut(exchange: Exchange) -> None:
        exchange.wire.close()

    async def junk(exchange: Exchange) -> None:
        exchange.send(b"junk\r\n\r\n")
        await exchange.gone()

    for script, status, code in (
        (bad_accept, 502, "upstream_malformed"), (cut, 502, "upstream_cut"), (junk, 502, "upstream_malformed"),
        (silent, 504, "upstream_timeout"),
    ):  # fmt: skip
        async with upstream(script) as up, gateway(up, timeouts={"response_s": 0.2}) as gw:
            client = await gw.connect()
            client.send(handshake("/v1/realtime"))
            found = await client.response()
            assert (found.status, found.error["code"]) == (status, code)
            await up.emptied()
            assert gw.access[0]["ended"] == "upstream_failed"
    async with gateway(f"http://127.0.0.1:{free_port()}/v1") as gw:
        client = await gw.connect()
        client.send(handshake("/v1/realtime"))
        found = await client.response()
        assert (found.status, found.error["code"]) == (502, "upstream_unreachable")


async def test_the_next_upstream_and_another_name_for_the_model() -> None:
    routes = [
        {"models": ["alias"], "upstreams": ["gone", {"upstream": "main", "upstream_model": "gpt realtime"}]},
        {"models": ["*"], "upstreams": ["main"]},
    ]
    async with (
        upstream(switching(echo)) as up,
        gateway({"gone": f"http://127.0.0.1:{free_port()}/v1", "main": up}, routes=routes) as gw,
    ):
        await opened(gw, "/v1/realtime?intent=x&model=alias&include%5B%5D=y")
        assert up.last.target == b"/v1/realtime?intent=x&model=gpt%20realtime&include%5B%5D=y"
        found = await handshaken(await gw.connect(), "/v1/realtime?model=a&model=b")
        assert found.status == 400  # which of the two?


@pytest.mark.parametrize(
    "raw",
    [
        handshake("/v1/realtime", nonce=b"short"), handshake("/v1/realtime", nonce=b"!!!"), handshake("/v1/realtime", version=b"12"),
        handshake("/v1/realtime").replace(b"Sec-WebSocket-Key: ", b"X-Key: "),
    ],
)  # fmt: skip
async def test_handshakes_that_are_malformed(raw: bytes) -> None:
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(raw)
        assert (await client.response()).status == 400
        assert await client.closed() == b""
        assert not up.requests


async def test_what_is_refused_before_it_is_dialled() -> None:
    async with upstream() as up, gateway(up) as gw:
        for headers, key, status in (((), None, 401), ((), OTHER_KEY, 401)):
            client = await gw.connect()
            found = await handshaken(client, "/v1/realtime", *headers, key=key)
            assert (found.status, found.header(b"connection")) == (status, b"close")
        revoked = Principal("k", "p", "u", "o", revoked=True)
        gw.keys.known[digest(OTHER_KEY)] = revoked
        assert (await handshaken(await gw.connect(), "/v1/realtime", key=OTHER_KEY)).status == 401
        assert not up.requests


async def test_a_handshake_as_another_browser_spells_it() -> None:
    async with upstream(switching(echo)) as up, gateway(up) as gw:
        client = await gw.connect()
        raw = handshake("/v1/realtime").replace(b"Connection: Upgrade", b"connection: keep-alive, upgrade")
        client.send(raw.replace(b"Upgrade: websocket", b"UPGRADE: WebSocket"))
        assert (await client.head()).status == 101
        assert up.last.values(b"connection") == [b"Upgrade"]


async def test_bytes_that_follow_the_handshake_at_once() -> None:
    async with upstream(switching(echo)) as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(handshake("/v1/realtime") + frame(TEXT, b"early", mask=True))
        assert (await client.head()).status == 101
        assert (await soon(read_frame(client))).data == b"early"


async def test_a_post_that_asks_for_a_websocket_is_a_post() -> None:
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(request("POST", "/v1/chat/completions", b"{}", b"Connection: Upgrade", b"Upgrade: websocket"))
        found = await client.response()
        assert (found.status, found.header(b"connection")) == (200, b"close")
        assert up.last.method == b"POST"


async def test_aiohttp_on_both_ends() -> None:
    async def serve(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(protocols=["realtime"])
        await ws.prepare(request)
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                await ws.send_str(message.data.upper())
            else:
                await ws.send_bytes(message.data[::-1])
        return ws

    app = web.Application()
    app.router.add_get("/v1/realtime", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with gateway(f"http://127.0.0.1:{port}/v1") as gw, aiohttp.ClientSession() as session:
            headers = {"Authorization": f"Bearer {KEY}"}
            async with session.ws_connect(
                f"{gw.url}/realtime", headers=headers, protocols=["realtime"], compress=15
            ) as ws:
                assert ws.protocol == "realtime"
                assert not ws.compress
                for number in range(50):
                    await ws.send_str(f"hello {number}")
                    await ws.send_bytes(b"abc")
                for number in range(50):
                    assert await ws.receive_str() == f"HELLO {number}"
                    assert await ws.receive_bytes() == b"cba"
                await ws.close(code=4001, message=b"bye")
            line = (await gw.lines())[0]
            assert (line["status"], line["ended"], line["operation"]) == (101, "complete", "connectRealtime")
            assert (line["bytes_in"], line["bytes_out"]) == (50 * 3 + sum(len(f"hello {n}") for n in range(50)),) * 2
    finally:
        await runner.cleanup()


async def test_how_many_are_open_is_counted() -> None:
    async with upstream(switching(echo)) as up, gateway(up) as gw:
        clients = [await opened(gw) for _ in range(3)]
        await until(lambda: gw.metric("gateway_websockets") == 3)
        for client in clients:
            client.close()
        await until(lambda: gw.metric("gateway_websockets") == 0)
        assert len(up.wires) == 3
