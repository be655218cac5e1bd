"""Requests that are refused: the client gets to read why, and nothing of them is done or goes upstream."""

import asyncio

import pytest

from gateway.credentials import digest
from gateway.values import Principal
from tests.fakes.upstream import Exchange, answer, silent, upstream
from tests.fakes.wire import soon, until
from tests.fakes.worker import AUTH, KEY, OTHER_KEY, Gateway, gateway, request, waiting_in

BIG = 8 * 1024 * 1024


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [(None, 401, None), (OTHER_KEY, 401, "invalid_api_key"), ("short", 401, "invalid_api_key")],
)
async def test_who_has_no_good_key(key: str | None, status: int, code: str | None) -> None:
    async with upstream() as up, gateway(up) as gw:
        found = await gw.ask("/v1/chat/completions", b"{}", key=key)
        assert (found.status, found.error["code"], found.error["type"]) == (status, code, "invalid_request_error")
        assert found.header(b"www-authenticate")
        assert not up.requests
        assert gw.access[0]["status"] == 401
        assert gw.access[0]["ended"] == "refused"
        assert gw.metric("gateway_errors_total", error="incorrect_api_key" if code else "no_api_key") == 1


async def test_a_refusal_of_a_head_request_has_no_body() -> None:
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        for target, key, status in (("/v1/models", OTHER_KEY, 401), ("/v2", KEY, 404), ("/v1/models", KEY, 200)):
            found = await client.ask(target, method="HEAD", key=key)
            assert (found.status, found.body, found.header(b"connection")) == (status, b"", None)
            assert int(found.header(b"content-length") or 0) > 0 or status == 200
            up.script = headless


async def headless(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\n\r\n")


async def _sends_on(gw: Gateway, head: bytes, size: int = BIG) -> tuple[int, bytes]:
    """A client that sends its whole body before it looks at the answer."""
    client = await gw.connect()
    client.send(head)
    await client.send_all(b"x" * size)
    found = await client.response("POST")
    assert found.header(b"connection") == b"close"
    assert await client.closed() == b""
    assert client.error is None
    return found.status, found.body


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        ("/v1/chat/completions", [], 401),
        ("/v1/files", [b"Content-Type: multipart/form-data; boundary=x"], 401),
        ("/v1/chat/completions", [AUTH[:-2]], 413),
        ("/v2/other", [AUTH[:-2]], 404),
        ("/v1/realtime/client_secrets", [AUTH[:-2]], 403),
        ("/v1/chat/completions", [AUTH[:-2], b"Content-Encoding: br"], 415),
    ],
)
async def test_the_answer_reaches_a_client_that_goes_on_sending(target: str, headers: list[bytes], status: int) -> None:
    async with upstream() as up, gateway(up, bodies={"json_mib": 1 if status == 413 else 64}) as gw:
        head = request("POST", target, None, *headers, b"Content-Length: %d" % BIG, key=None)
        assert (await _sends_on(gw, head))[0] == status
        assert not up.requests


async def test_the_answer_reaches_a_client_that_sends_chunks_without_end() -> None:
    async with upstream() as up, gateway(up, bodies={"json_mib": 1}) as gw:
        client = await gw.connect()
        client.send(request("POST", "/v1/chat/completions", None, b"Transfer-Encoding: chunked"))
        sending = asyncio.ensure_future(client.send_all((b"100000\r\n" + b" " * 0x100000 + b"\r\n") * 4))
        assert (await client.response()).status == 413
        assert await client.closed() == b""
        await sending
        assert not up.requests


async def test_nothing_of_a_body_is_read_before_the_key_is_accepted() -> None:
    """The socket is left unread while the key is looked up, but for a little that is read ahead."""
    async with upstream() as up, gateway(up) as gw:
        gw.keys.gate.clear()
        client = await gw.connect()
        client.send(request("POST", "/v1/chat/completions", None, b"Content-Length: %d" % (64 * 1024 * 1024)))
        sending = asyncio.ensure_future(client.send_all(b" " * (64 * 1024 * 1024 - 2) + b"{}"))
        await until(lambda: gw.keys.asked)
        connection = gw.worker.server.connections[0]
        await until(lambda: connection.unread)
        assert waiting_in(connection) <= 640 * 1024
        assert gw.budget_used == 0
        gw.keys.gate.set()
        assert (await client.response()).status == 200
        assert await sending == 64 * 1024 * 1024
        assert len(up.last.body) == 64 * 1024 * 1024


async def test_continue_is_said_only_when_the_key_is_good_and_the_body_wanted() -> None:
    expecting = b"Expect: 100-continue"
    async with upstream() as up, gateway(up, bodies={"json_mib": 1}) as gw:
        for target, headers, length in (
            ("/v1/chat/completions", [AUTH[:-2]], 10),
            ("/v1/files", [AUTH[:-2], b"Content-Type: text/plain"], 10),
        ):
            client = await gw.connect()
            client.send(request("POST", target, None, *headers, expecting, b"Content-Length: %d" % length, key=None))
            await client.upto(b"HTTP/1.1 100 Continue\r\n\r\n")
            client.send(b'{"a": 1}  ')
            found = await client.response()
            assert (found.status, found.interim, found.header(b"connection")) == (200, [], None)
            assert b"expect" not in up.last.head.lower()
            assert (await client.ask()).interim == []
        for target, headers, length, status in (
            ("/v1/chat/completions", [], 10, 401),
            ("/v1/chat/completions", [AUTH[:-2]], 2 << 20, 413),
            ("/v3", [AUTH[:-2]], 10, 404),
        ):
            client = await gw.connect()
            client.send(request("POST", target, None, *headers, expecting, b"Content-Length: %d" % length, key=None))
            found = await client.response()
            assert (found.status, found.interim, found.header(b"connection")) == (status, [], b"close")
            await until(lambda client=client: client.finished)  # type: ignore[misc]


async def test_continue_is_said_once_and_not_when_the_body_is_there_already() -> None:
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        for _ in range(2):
            found = await client.ask("/v1/chat/completions", b"{}", b"Expect: 100-continue")
            assert (found.status, found.interim) == (200, [])
        client.send(request("POST", "/v1/chat/completions", None, b"Content-Length: 2"))
        await until(lambda: gw.in_flight)
        client.send(b"{}")
        assert (await client.response()).interim == []


async def test_continue_means_nothing_to_http_1_0() -> None:
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(
            b"POST /v1/chat/completions HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n" + AUTH + b"\r\n"
        )
        await until(lambda: gw.in_flight)
        client.send(b"{}")
        assert (await client.response()).interim == []


async def test_headers_that_are_too_large() -> None:
    async with upstream() as up, gateway(up) as gw:
        fits = b"X-Pad: " + b"x" * (64 * 1024 - 600)
        assert (await gw.ask("/v1/models", None, fits)).status == 200
        for lines in (
            [b"X-Pad: " + b"x" * 64 * 1024],
            [b"X-Pad-%d: " % n + b"x" * 1024 for n in range(64)],
            [b"X-Pad: " + b"x" * 4 * 1024 * 1024],
            [b"X-%d: y" % n for n in range(300)],
            [b"x" * 70_000 + b": 1"],
        ):
            found = await gw.ask("/v1/models", None, *lines)
            assert (found.status, found.header(b"connection")) == (431, b"close")
        assert (await gw.ask("/v1/models?" + "x" * 70_000)).status == 431
        assert len(up.requests) == 1
        assert gw.metric("gateway_errors_total", error="headers_too_large") == 6
        refused = [line for line in gw.access if line["status"] == 431]
        assert len(refused) == 6
        assert refused[0]["error"] == "headers_too_large"


async def test_headers_that_never_end() -> None:
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(b"GET /v1/models HTTP/1.1\r\nHost: h\r\n")
        await client.send_all(b"X: y\r\n" * 500_000)
        assert (await client.response()).status == 431
        assert await client.closed() == b""
        client = await gw.connect()  # few enough and each short enough, but together too large
        client.send(b"GET /v1/models HTTP/1.1\r\nHost: h\r\n" + (b"X: " + b"y" * 1000 + b"\r\n") * 70)
        assert (await client.response()).status == 431
        assert await client.closed() == b""
        client = await gw.connect()  # behind a request that is being served
        up.script = silent
        client.send(request("GET", "/v1/models") + b"GET /v1/models HTTP/1.1\r\nHost: h\r\n")
        await up.request()
        await client.send_all((b"X: " + b"y" * 1000 + b"\r\n") * 5000)
        await until(lambda: any(c._requests.ended for c in gw.worker.server.connections))


@pytest.mark.parametrize("target", ["/v1/files", "/v1/chat/completions"])
@pytest.mark.parametrize("line", [b"X-Trailer: " + b"y" * 50 + b"\r\n", b"yyyy"])
async def test_trailers_that_never_end(target: str, line: bytes) -> None:
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        head = request("POST", target, None, b"Content-Type: text/plain", b"Transfer-Encoding: chunked")
        client.send(head + b"2\r\n{}\r\n0\r\n")
        await client.send_all(line * 100_000)
        assert (await client.response()).status in {400, 431}
        await up.emptied()
        assert not any(exchange.complete for exchange in up.requests)


@pytest.mark.parametrize("name", [b"Content-Type", b"Content-Length", b"Host", b"Transfer-Encoding"])
async def test_headers_of_which_there_can_be_one_only(name: bytes) -> None:
    async with upstream() as up, gateway(up) as gw:
        value = {b"Content-Length": b"2", b"Transfer-Encoding": b"chunked"}.get(name, b"text/plain")
        client = await gw.connect()
        client.send(request("POST", "/v1/files", b"{}", b"Content-Type: text/plain", name + b": " + value))
        assert (await client.response()).status == 400
        assert not up.requests


async def test_a_client_that_is_slow_with_its_headers() -> None:
    async with upstream() as up, gateway(up, timeouts={"client_headers_s": 0.1}) as gw:
        client = await gw.connect()
        client.send(b"GET /v1/models HTTP/1.1\r\nHos")
        found = await client.response()
        assert (found.status, found.error["code"]) == (408, "request_timeout")
        assert await client.closed() == b""
        silent_one = await gw.connect()
        assert await silent_one.closed() == b""


async def test_a_drip_of_headers_is_not_enough() -> None:
    async with upstream() as up, gateway(up, timeouts={"client_headers_s": 0.4}) as gw:
        client = await gw.connect()
        client.send(b"GET /v1/models HTTP/1.1\r\nHost: h\r\n")
        started = asyncio.get_running_loop().time()
        while not client.raw:
            client.send(b"X: y\r\n")
            await asyncio.sleep(0.02)
            assert asyncio.get_running_loop().time() - started < 2
        assert (await client.response()).status == 408


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/v1/files"])
async def test_a_client_that_is_slow_with_its_body(target: str) -> None:
    async with upstream(silent) as up, gateway(up, timeouts={"client_body_s": 0.1}) as gw:
        client = await gw.connect()
        client.send(request("POST", target, None, b"Content-Type: text/plain", b"Content-Length: 10") + b"{")
        found = await client.response()
        assert (found.status, found.header(b"connection")) == (408, b"close")
        await up.emptied()
        assert gw.access[0]["error"] == "request_timeout"


async def test_an_idle_connection_is_closed() -> None:
    async with upstream() as up, gateway(up, timeouts={"client_keepalive_s": 0.1}) as gw:
        client = await gw.connect()
        assert (await client.ask()).status == 200
        assert await client.closed() == b""
        assert client.error is None


async def test_a_client_that_does_not_say_goodbye_after_its_last_answer() -> None:
    async with upstream() as up, gateway(up, tidy=False) as gw:
        gw.worker.server._limits["parting"] = 0.1
        client = await gw.connect()
        client.send(request("POST", "/v1/x", None, b"Content-Length: 10", key=None))
        assert (await client.response()).status == 401
        await until(lambda: client.finished)
        await until(lambda: not gw.worker.server.connections)


async def test_many_refused_uploads_can_all_be_sent_to_their_end() -> None:
    """Each client sends all of its body before it reads its answer."""
    head = b"POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (4 << 20)

    async def upload(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        for _ in range(64):
            writer.write(b"x" * 65536)
            await writer.drain()
        answer = await reader.read()
        writer.close()
        return answer

    async with upstream() as up, gateway(up) as gw:
        answers = await asyncio.gather(*(upload(gw.port) for _ in range(30)))
        assert {answer[:12] for answer in answers} == {b"HTTP/1.1 401"}
        await until(lambda: not gw.worker.server.connections)


async def test_what_refused_clients_still_send_is_read_away_of_a_few_at_a_time() -> None:
    async with upstream() as up, gateway(up) as gw:
        partings = gw.worker.server.partings
        clients = [await gw.connect() for _ in range(30)]
        for client in clients:
            client.stop_reading()  # else it closes as soon as it has its answer
            client.send(request("POST", "/v1/files", None, b"Content-Length: 1000000", key=None))
        await until(lambda: len(partings._reading) + len(partings._waiting) == 30)
        assert len(partings._reading) == 8
        for client in clients:
            client.read_on()
            assert (await client.response()).status == 401, "also of those whose turn has not come"
            client.close()
        await until(lambda: not gw.worker.server.connections)
        assert (len(partings._reading), len(partings._waiting), partings._free) == (0, 0, 8)


async def test_more_requests_than_a_worker_takes() -> None:
    release = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await release.wait()
        exchange.send(answer())

    async with upstream(script) as up, gateway(up, workers={"max_in_flight": 2}) as gw:
        waiting = [asyncio.ensure_future(gw.ask()) for _ in range(2)]
        await up.request(2)
        found = await gw.ask("/v1/chat/completions", b"{}")
        assert (found.status, found.error["code"], found.header(b"retry-after")) == (503, "server_is_overloaded", b"1")
        release.set()
        assert [(await w).status for w in waiting] == [200, 200]
        assert (await gw.ask()).status == 200


async def test_more_connections_than_a_worker_takes() -> None:
    async with upstream() as up, gateway(up, workers={"max_connections": 3}) as gw:
        clients = [await gw.connect() for _ in range(3)]
        for client in clients:
            assert (await client.ask()).status == 200
        for _ in range(2):
            turned_away = await gw.connect()
            await soon(turned_away.ended.wait())
            assert not turned_away.raw
        assert gw.metric("gateway_connections_turned_away_total") == 2
        clients[0].close()
        await until(lambda: len(gw.worker.server.connections) == 2)
        assert (await gw.ask()).status == 200
        assert (await clients[1].ask()).status == 200


@pytest.mark.parametrize(
    "path",
    ["/realtime/calls", "/realtime/sessions", "/realtime/client_secrets", "/REALTIME/Calls/", "/realtime/%63alls"],
)
async def test_ways_around_the_meter(path: str) -> None:
    async with upstream() as up:
        async with gateway(up) as gw:
            found = await gw.ask("/v1" + path, b"{}")
            assert (found.status, found.error["code"]) == (403, "operation_not_allowed")
            assert not up.requests
        async with gateway(up, allow_unmetered=True) as gw:
            assert (await gw.ask("/v1" + path, b"{}")).status == 200


async def test_unknown_paths() -> None:
    async with upstream() as up:
        async with gateway(up) as gw:
            assert (await gw.ask("/v1/brand/new?x=1", b"\x00", b"Content-Type: application/x")).status == 200
            assert (up.last.target, bytes(up.last.body)) == (b"/v1/brand/new?x=1", b"\x00")
            assert gw.metric("gateway_unknown_paths_total") == 1
        async with gateway(up, unknown_paths="deny") as gw:
            found = await gw.ask("/v1/brand/new", b"{}")
            assert (found.status, found.error["message"]) == (404, "Invalid URL (POST /v1/brand/new)")
            assert (await gw.ask("/v1/models")).status == 200
            assert (await gw.ask("/v1/Chat/Completions/", b"{}")).status == 200  # a spelling of something known


async def test_a_model_that_no_route_has() -> None:
    async with upstream() as up, gateway(up, routes=[{"models": ["gpt-*"], "upstreams": ["main"]}]) as gw:
        found = await gw.ask("/v1/chat/completions", b'{"model":"claude"}')
        assert (found.status, found.error["code"], found.error["param"]) == (404, "model_not_found", "model")
        assert (await gw.ask("/v1/models")).status == 404  # no route takes what names no model
        assert (await gw.ask("/v1/chat/completions", b'{"model":"gpt-4o"}')).status == 200


async def test_a_key_revoked_while_its_body_was_coming() -> None:
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(request("POST", "/v1/chat/completions", None, b"Content-Length: 2"))
        await until(lambda: gw.in_flight and gw.keys.asked)
        gw.keys.known[digest(KEY)] = Principal("key_1", "proj_1", "user_1", "org-1", revoked=True)
        gw.worker.keys.invalidate(digest(KEY))
        client.send(b"{}")
        assert (await client.response()).status == 401
        assert not up.requests


async def test_what_is_no_http() -> None:
    async with upstream() as up, gateway(up) as gw:
        for junk in (b"\x16\x03\x01\x02\x00\x01\x00", b"hello\r\n\r\n", b"GET /v1/models\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                     b"GET /v1/models HTTP/2.0\r\nHost: h\r\n\r\n", b"GET /v1/models HTTP/1.1\r\n\r\n"):  # fmt: skip
            client = await gw.connect()
            client.send(junk)
            found = await client.response()
            assert (found.status, found.error["type"]) == (400, "invalid_request_error")
            assert await client.closed() == b""
        assert not up.requests
