"""What of an answer reaches the client: status, headers and bytes as they came, in this connection's framing."""

import asyncio
import itertools

import pytest

from tests.fakes.upstream import Exchange, answer, closing, saying, upstream
from tests.fakes.wire import chunk, until
from tests.fakes.worker import AUTH, gateway, request


async def test_status_reason_headers_and_body_as_they_came() -> None:
    sent = [
        (b"X-One", b"1"), (b"x-two", b"caf\xe9"), (b"X-ONE", b"one"), (b"openai-processing-ms", b"12"),
        (b"x-ratelimit", b"60"), (b"Content-Encoding", b"br"), (b"ETag", b'"x"'), (b"Date", b"now"),
        (b"Retry-After", b"1"), (b"retry-after-ms", b"1000"), (b"Content-Disposition", b"attachment; filename=x"),
        (b"Location", b"/v1/realtime/calls/c"), (b"Server", b"cloudflare"), (b"access-control-allow-origin", b"*"),
        (b"x-request-id", b"req_1"), (b"X-Empty", b""),
    ]  # fmt: skip
    script = saying(answer(b"\x00\xffnot text", *sent, status=b"418 I'm a teapot", kind=b"application/x-thing"))
    async with upstream(script) as up, gateway(up) as gw:
        found = await gw.ask()
        assert (found.status, found.reason, found.body) == (418, b"I'm a teapot", b"\x00\xffnot text")
        assert found.headers == [(b"Content-Type", b"application/x-thing"), *sent, (b"Content-Length", b"10")]


async def test_what_concerns_the_upstreams_host_or_connection_stays_there() -> None:
    sent = [
        (b"Set-Cookie", b"a=b"), (b"set-cookie", b"c=d"), (b"Alt-Svc", b"h3"), (b"Strict-Transport-Security", b"max-age=1"),
        (b"Connection", b"keep-alive, X-Mine"), (b"Keep-Alive", b"timeout=5"), (b"X-Mine", b"1"), (b"X-Kept", b"1"),
        (b"x-ratelimit-limit-requests", b"60"), (b"X-RateLimit-Reset-Tokens", b"1s"), (b"Proxy-Authenticate", b"Basic"), (b"Upgrade", b"h2c"), (b"Trailer", b"X-T"), (b"TE", b"x"),
    ]  # fmt: skip
    async with upstream(saying(answer(b"{}", *sent, kind=b""))) as up, gateway(up) as gw:
        found = await gw.ask()
        assert {name for name, _ in found.headers} == {b"X-Kept", b"Content-Length", b"x-request-id"}


@pytest.mark.parametrize(
    "status", [b"200 OK", b"404 Not Found", b"429 Too Many Requests", b"500 X", b"503 ", b"302 Found", b"599 Y"]
)
async def test_every_status_passes(status: bytes) -> None:
    async with (
        upstream(saying(answer(b'{"error":{}}', (b"Location", b"http://x/"), status=status))) as up,
        gateway(up) as gw,
    ):
        found = await gw.ask("/v1/chat/completions", b"{}")
        assert b"%d %b" % (found.status, found.reason) == status
        assert found.body == b'{"error":{}}'
        assert len(up.requests) == 1  # no retries, no redirects


async def test_an_answer_without_reason() -> None:
    async with upstream(saying(b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok")) as up, gateway(up) as gw:
        assert (await gw.ask()).body == b"ok"


async def test_head_has_the_headers_of_a_body_and_none() -> None:
    async def script(exchange: Exchange) -> None:
        whole = answer(b"12345")
        exchange.send(whole[:-5] if exchange.method == b"HEAD" else whole)

    async with upstream(script) as up, gateway(up) as gw:
        client = await gw.connect()
        for method, body in (("HEAD", b""), ("GET", b"12345"), ("HEAD", b""), ("HEAD", b""), ("GET", b"12345")):
            found = await client.ask(method=method)
            assert found.header(b"content-length") == b"5"
            assert found.body == body
        assert len(up.wires) == 1


@pytest.mark.parametrize("framing", [b"", b"Transfer-Encoding: chunked\r\n"])
async def test_head_without_a_length(framing: bytes) -> None:
    async with upstream(saying(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")) as up, gateway(up) as gw:
        client = await gw.connect()
        for _ in range(2):
            found = await client.ask(method="HEAD")
            assert (found.status, found.values(b"content-length"), found.values(b"transfer-encoding")) == (200, [], [])


@pytest.mark.parametrize(
    "head", [b"204 No Content\r\n", b"304 Not Modified\r\nETag: x\r\nContent-Length: 9\r\n", b"304 Not Modified\r\n"]
)
async def test_answers_without_a_body(head: bytes) -> None:
    async with upstream(saying(b"HTTP/1.1 " + head + b"\r\n")) as up, gateway(up) as gw:
        client = await gw.connect()
        for _ in range(2):
            found = await client.ask(method="DELETE")
            assert found.raw.startswith(b"HTTP/1.1 " + head)
            assert not found.values(b"transfer-encoding")
        assert len(up.wires) == 1


async def test_a_range() -> None:
    script = saying(
        answer(b"cd", (b"Content-Range", b"bytes 2-3/26"), (b"Accept-Ranges", b"bytes"), status=b"206 Partial Content")
    )
    async with upstream(script) as up, gateway(up) as gw:
        found = await gw.ask("/v1/files/f/content", None, b"Range: bytes=2-3", b"If-Range: x")
        assert up.last.header(b"range") == b"bytes=2-3"
        assert (found.status, found.body, found.header(b"content-range")) == (206, b"cd", b"bytes 2-3/26")


async def test_chunked_answers_stay_chunked() -> None:
    async with upstream(saying(answer(chunks=[b"one", b"two" * 100_000, b"x"]))) as up, gateway(up) as gw:
        client = await gw.connect()
        for _ in range(2):
            found = await client.ask()
            assert found.values(b"transfer-encoding") == [b"chunked"]
            assert found.body == b"one" + b"two" * 100_000 + b"x"
        assert len(up.wires) == 1


async def test_chunk_extensions_and_trailers_are_ignored_safely() -> None:
    body = b"3;a=b\r\nabc\r\n0;last\r\nX-Trailer: 1\r\nSet-Cookie: a=b\r\n\r\n"
    script = saying(b"HTTP/1.1 200 OK\r\nTrailer: X-Trailer\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    async with upstream(script) as up, gateway(up) as gw:
        client = await gw.connect()
        for _ in range(2):
            found = await client.ask()
            assert (found.body, found.trailers) == (b"abc", [])
            assert {name for name, _ in found.headers} == {b"x-request-id", b"Transfer-Encoding"}
        assert len(up.wires) == 1


async def test_a_body_that_ends_with_the_connection() -> None:
    script = closing(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n", b"all of it")
    async with upstream(script) as up, gateway(up) as gw:
        client = await gw.connect()
        for _ in range(2):
            found = await client.ask()
            assert (found.body, found.values(b"transfer-encoding")) == (b"all of it", [b"chunked"])
        assert len(up.wires) == 2


@pytest.mark.parametrize("version", [b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200 OK\r\nConnection: close\r\n"])
async def test_an_upstream_that_closes_after_each_answer(version: bytes) -> None:
    async with upstream(closing(version + b"Content-Length: 2\r\n\r\nok")) as up, gateway(up) as gw:
        client = await gw.connect()
        for _ in range(3):
            found = await client.ask()
            assert (found.body, found.header(b"connection")) == (b"ok", None)
        assert len(up.wires) == 3


async def test_1xx_answers_of_an_upstream_are_its_own() -> None:
    early = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
    )
    async with upstream(saying(early + answer(b"ok"))) as up, gateway(up) as gw:
        client = await gw.connect()
        for _ in range(2):
            found = await client.ask("/v1/chat/completions", b"{}")
            assert (found.body, found.interim, found.header(b"link")) == (b"ok", [], None)
        assert len(up.wires) == 1


async def test_http_1_0_clients_get_an_end_instead_of_chunks() -> None:
    async with upstream(saying(answer(chunks=[b"one", b"two"]))) as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(b"GET /v1/models HTTP/1.0\r\nConnection: keep-alive\r\n" + AUTH + b"\r\n")
        found = await client.response()
        assert (found.body, found.header(b"connection"), found.values(b"transfer-encoding")) == (
            b"onetwo",
            b"close",
            [],
        )


async def test_http_1_0_clients_see_when_the_end_is_not_the_end() -> None:
    async def script(exchange: Exchange) -> None:
        exchange.send(answer(chunks=[b"one"])[:-5])
        await until(lambda: b"one" in client.raw)
        exchange.wire.reset()

    async with upstream(script) as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(b"GET /v1/models HTTP/1.0\r\n" + AUTH + b"\r\n")
        await until(client.ended.is_set)
        assert isinstance(client.error, ConnectionResetError)


async def test_a_second_answer_nobody_asked_for_is_dropped() -> None:
    for first, more in itertools.product(
        (answer(b"first"), answer(chunks=[b"first"])), (answer(b"second"), b"junk\r\n\r\n", b"\x00")
    ):
        async with upstream(saying(first + more)) as up, gateway(up) as gw:
            client = await gw.connect()
            assert (await client.ask()).body == b"first"
            assert (await client.ask()).body == b"first"
            assert len(up.wires) == 2


async def test_words_on_an_idle_connection_end_it() -> None:
    async with upstream() as up, gateway(up) as gw:
        assert (await gw.ask()).status == 200
        up.wires[0].send(answer(b"injected"))
        await up.wires[0].ended.wait()
        assert (await gw.ask()).body == b'{"ok":true}'
        assert len(up.wires) == 2


async def test_connections_are_reused() -> None:
    async with upstream() as up, gateway(up) as gw:
        for _ in range(10):
            await gw.ask("/v1/chat/completions", b"{}")
        assert len(up.wires) == 1
        await asyncio.gather(*(gw.ask() for _ in range(20)))
        await asyncio.gather(*(gw.ask() for _ in range(20)))
        assert len(up.wires) <= 20


async def test_no_more_connections_than_the_setting_allows() -> None:
    together = 0
    most = 0

    async def script(exchange: Exchange) -> None:
        nonlocal together, most
        together += 1
        most = max(most, together)
        await asyncio.sleep(0)
        together -= 1
        exchange.send(answer())

    async with upstream(script) as up, gateway({"main": {"base_url": up, "max_connections": 3}}) as gw:
        found = await asyncio.gather(*(gw.ask() for _ in range(40)))
        assert {f.status for f in found} == {200}
        assert len(up.wires) == 3 >= most


async def test_a_place_that_does_not_come_free_is_overload() -> None:
    release = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await release.wait()
        exchange.send(answer())

    options = {"base_url": "", "max_connections": 1}
    async with (
        upstream(script) as up,
        gateway({"main": options | {"base_url": up.url}}, timeouts={"connect_s": 0.1}) as gw,
    ):
        first = await gw.connect()
        first.send(request("GET", "/v1/models"))
        await up.request()
        found = await gw.ask()
        assert (found.status, found.error["code"]) == (503, "server_is_overloaded")
        release.set()
        assert (await first.response()).status == 200
        assert (await gw.ask()).status == 200


async def test_a_large_answer_leaves_its_connection_usable() -> None:
    """A slow client pauses the upstream's connection; it must not stay paused for the next request on it."""
    body = b"x" * 16_000_000

    async def script(exchange: Exchange) -> None:
        exchange.send(answer(body))

    async with upstream(script) as up, gateway(up) as gw:
        for _ in range(3):
            client = await gw.connect()
            client.stop_reading()
            client.send(request("GET", "/v1/models"))
            await until(
                lambda: gw.worker.server.connections and any(c.writing_paused for c in gw.worker.server.connections)
            )
            client.read_on()
            assert (await client.response()).body == body
            client.close()
        assert len(up.wires) == 1


async def test_pieces_of_a_head() -> None:
    async def script(exchange: Exchange) -> None:
        for byte in answer(b"ok", (b"X-A", b"b")) + b"":
            exchange.send(bytes([byte]))
            await asyncio.sleep(0)

    async with upstream(script) as up, gateway(up) as gw:
        found = await gw.ask()
        assert (found.body, found.header(b"x-a")) == (b"ok", b"b")


async def test_an_empty_chunked_body() -> None:
    async with upstream(saying(answer(chunks=[]))) as up, gateway(up) as gw:
        client = await gw.connect()
        assert (await client.ask()).body == b""
        assert (await client.ask()).body == b""
        assert chunk(b"") == b"0\r\n\r\n"
