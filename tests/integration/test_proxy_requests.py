"""What of a request reaches the upstream: everything as it came, but for what is listed here."""

import base64
import re

import pytest

from tests.fakes.upstream import answer, saying, upstream
from tests.fakes.wire import chunk
from tests.fakes.worker import AUTH, KEY, UPSTREAM_KEY, chunked_request, gateway, request

REPLACED = {b"host", b"authorization", b"x-request-id", b"content-length", b"transfer-encoding"}


@pytest.mark.parametrize(
    "target",
    [
        "/v1/models",
        "/v1/models?limit=2&after=a%20b&include%5B%5D=x&include[]=y&empty=&flag&&=",
        "/v1/models?q=%zz+%2B+%E2%82%AC/../?x=1",
        "/v1/models/org%2Fmodel%3Aname",
        "/v1/models/ft:gpt-4o:acme::7p",
        "/v1/files/a~b!$&'()*+,;=:@c",
        "/v1/unknown/thing.json",
        "/v1/chat/completions/",
        "/v1/MODELS",
    ],
)
async def test_path_and_query_go_up_as_they_came(target: str) -> None:
    async with upstream() as up, gateway(up) as gw:
        assert (await gw.ask(target)).status == 200
        assert up.last.target == target.encode()


async def test_the_base_path_of_an_upstream_is_put_before() -> None:
    async with upstream() as up, gateway(f"http://127.0.0.1:{up.port}/openai/v1/") as gw:
        await gw.ask("/v1/models?x=1")
        assert up.last.target == b"/openai/v1/models?x=1"


async def test_absolute_form_goes_where_we_want() -> None:
    async with upstream() as up, gateway(up) as gw:
        await gw.ask("http://user:secret@evil.example/v1/models?a=b")
        assert up.last.target == b"/v1/models?a=b"
        assert up.last.values(b"host") == [f"127.0.0.1:{up.port}".encode()]
        assert gw.access[0]["path"] == "/v1/models"


async def test_a_fragment_is_cut_off() -> None:
    async with upstream() as up, gateway(up) as gw:
        assert (await gw.ask("/v1/models?a=b#/../organization")).status == 200
        assert up.last.target == b"/v1/models?a=b"


@pytest.mark.parametrize(
    "target",
    [
        "/v1//models", "/v1/../v1/models", "/v1/%2e%2e/models", "/v1/a/..%2fb", "/v1/a%5c..%5cb", "/v1/%252e%252e/x",
        "/v2/models", "/v1", "/", "//v1/models", "/v1/a%00b", "/v1/./models", "http://h/", "*",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
async def test_what_could_escape_is_refused(target: str, method: str) -> None:
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(request(method, target))
        found = await client.response(method)
        assert found.status in {404, 400}
        assert found.error["type"] == "invalid_request_error"
        assert not up.requests


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "HEAD"])
async def test_methods(method: str) -> None:
    async with upstream() as up, gateway(up) as gw:
        assert (await gw.ask("/v1/models", method=method)).status == 200
        assert up.last.method == method.encode()
        has_length = method in {"POST", "PUT", "PATCH"}
        assert up.last.values(b"content-length") == ([b"0"] if has_length else [])


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
async def test_reflecting_methods_are_refused(method: str) -> None:
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(request(method, "/v1/models" if method == "TRACE" else "api.openai.com:443"))
        assert (await client.response()).status in {404, 405}
        if method == "CONNECT":
            assert await client.closed() == b""
        assert not up.requests


async def test_headers_keep_order_case_and_duplicates() -> None:
    sent = [
        b"X-Second: 2", b"x-first: 1", b"X-SECOND: two", b"Accept: application/json", b"OpenAI-Beta: assistants=v2",
        b"Idempotency-Key: abc", b"traceparent: 00-1-2-3", b"X-Stainless-Lang: python", b"Accept-Encoding: gzip, br",
        b"User-Agent: OpenAI/Python 3.54.0", b"X-Latin: caf\xe9 \xff", b"X-Empty:", b"X-Client-Request-Id: q", b"Range: bytes=0-1",
        b"x-UTF: \xe2\x82\xac", b"X_underscore: u", b"X-Colon: a: b",
    ]  # fmt: skip
    async with upstream() as up, gateway(up) as gw:
        await gw.ask("/v1/models", None, *sent)
        passed = [(n, v) for n, v in up.last.headers if n.lower() not in REPLACED]
        assert passed == [tuple(line.replace(b": ", b":", 1).split(b":", 1)) for line in sent]


async def test_no_header_is_invented() -> None:
    async with upstream(saying(answer(kind=b""))) as up, gateway(up) as gw:
        found = await gw.ask("/v1/models")
        assert {name.lower() for name, _ in up.last.headers} == {b"host", b"authorization", b"x-request-id"}
        assert {name.lower() for name, _ in found.headers} == {b"content-length", b"x-request-id"}


async def test_credentials_cookies_and_hop_by_hop_headers_stay_here() -> None:
    sent = [
        b"api-key: other", b"OpenAI-Organization: org-theirs", b"OpenAI-Project: proj_theirs", b"Cookie: a=b",
        b"Connection: keep-alive, X-Mine, Content-Type", b"Keep-Alive: timeout=5", b"Proxy-Authorization: Basic x",
        b"Proxy-Connection: keep-alive", b"TE: trailers", b"Trailer: X-T", b"X-Mine: 1", b"X-Kept: 1",
        b"Expect: something", b"HTTP2-Settings: AAA",
    ]  # fmt: skip
    options = {"base_url": "", "organization": "org-ours", "project": "proj_ours", "headers": {"X-Ours": "yes"}}
    async with upstream() as up, gateway({"main": options | {"base_url": up.url}}) as gw:
        await gw.ask("/v1/chat/completions", b"{}", *sent)
        assert dict(up.last.headers).keys() == {
            b"Host", b"Authorization", b"OpenAI-Organization", b"OpenAI-Project", b"X-Ours", b"X-Kept", b"Content-Type",
            b"Content-Length", b"x-request-id",
        }  # fmt: skip
        assert up.last.header(b"authorization") == b"Bearer " + UPSTREAM_KEY.encode()
        assert up.last.values(b"openai-organization") == [b"org-ours"]
        assert up.last.values(b"openai-project") == [b"proj_ours"]


@pytest.mark.parametrize(("auth", "name"), [("api-key", b"api-key"), ("none", b"")])
async def test_how_the_upstream_wants_its_key(auth: str, name: bytes) -> None:
    async with upstream() as up, gateway({"main": {"base_url": up, "auth": auth}}) as gw:
        await gw.ask("/v1/models", None, b"X-Ours: 1")
        found = {n.lower(): v for n, v in up.last.headers if n.lower() in {b"authorization", b"api-key"}}
        assert found == ({name: UPSTREAM_KEY.encode()} if name else {})


async def test_a_client_cannot_speak_for_the_upstreams_own_headers() -> None:
    async with upstream() as up, gateway({"main": {"base_url": up, "headers": {"X-Tenant": "ours"}}}) as gw:
        await gw.ask("/v1/models", None, b"x-tenant: theirs")
        assert up.last.values(b"x-tenant") == [b"ours"]


async def test_request_id_is_given() -> None:
    async with upstream() as up, gateway(up) as gw:
        found = await gw.ask("/v1/models")
        given = found.header(b"x-request-id") or b""
        assert re.fullmatch(rb"req_[0-9a-f]{32}", given)
        assert up.last.values(b"x-request-id") == [given]
        assert gw.access[0]["request_id"] == given.decode()


async def test_request_id_is_kept() -> None:
    script = saying(answer(b"{}", (b"X-Request-ID", b"req_upstreams")))
    async with upstream(script) as up, gateway(up) as gw:
        found = await gw.ask("/v1/models", None, b"X-Request-Id: mine")
        assert up.last.values(b"x-request-id") == [b"mine"]
        assert found.values(b"x-request-id") == [b"req_upstreams"]
        line = gw.access[0]
        assert line["client_request_id"] == "mine"
        assert line["upstream_request_id"] == "req_upstreams"
        assert line["request_id"].startswith("req_")


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(
            request("GET", "/v1/models?n=1") + request("POST", "/v1/files", b"abc", b"Content-Type: text/plain")
            + request("POST", "/v1/chat/completions", b'{"model":"x"}') + request("GET", "/v1/models?n=4")
        )  # fmt: skip
        for _ in range(4):
            assert (await client.response()).status == 200
        assert [r.target for r in up.requests] == [
            b"/v1/models?n=1", b"/v1/files", b"/v1/chat/completions", b"/v1/models?n=4",
        ]  # fmt: skip
        assert [bytes(r.body) for r in up.requests] == [b"", b"abc", b'{"model":"x"}', b""]


async def test_very_many_pipelined_requests() -> None:
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(b"".join(request("GET", f"/v1/models?n={n}") for n in range(200)))
        for _ in range(200):
            assert (await client.response()).status == 200
        assert [r.target for r in up.requests] == [b"/v1/models?n=%d" % n for n in range(200)]


async def test_a_request_byte_by_byte() -> None:
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        for byte in request("POST", "/v1/chat/completions", b'{"model":"gpt"}'):
            client.send(bytes([byte]))
        assert (await client.response()).status == 200
        assert up.last.body == b'{"model":"gpt"}'


async def test_http_1_0() -> None:
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(b"GET /v1/models HTTP/1.0\r\n" + AUTH + b"Connection: keep-alive\r\n\r\n")
        found = await client.response()
        assert found.header(b"connection") == b"keep-alive"
        client.send(b"GET /v1/models HTTP/1.0\r\n" + AUTH + b"\r\n")
        assert (await client.response()).header(b"connection") == b"close"
        assert await client.closed() == b""
        assert [r.values(b"host") for r in up.requests] == [[f"127.0.0.1:{up.port}".encode()]] * 2


async def test_connection_close_is_done() -> None:
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        found = await client.ask("/v1/models", None, b"Connection: close")
        assert found.header(b"connection") == b"close"
        assert await client.closed() == b""


async def test_bodies_of_known_length_and_in_chunks() -> None:
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        await client.ask("/v1/files", b"0123456789" * 9000, b"Content-Type: application/octet-stream")
        assert up.last.header(b"content-length") == b"90000"
        client.send(chunked_request("/v1/files", [b"one", b"two" * 50_000], b"Content-Type: application/octet-stream"))
        assert (await client.response()).status == 200
        assert up.last.header(b"transfer-encoding") == b"chunked"
        assert up.last.body == b"one" + b"two" * 50_000
        client.send(chunked_request("/v1/chat/completions", [b'{"mod', b'el":"m"}']))
        assert (await client.response()).status == 200
        assert up.last.body == b'{"model":"m"}'  # known by now, so its length is told
        assert up.last.header(b"content-length") == b"13"
        await client.ask("/v1/threads", b"")
        assert up.last.header(b"content-length") == b"0"
        assert len(gw.clients) == 1


async def test_a_body_may_come_with_any_method() -> None:
    async with upstream() as up, gateway(up) as gw:
        for method in ("GET", "DELETE", "OPTIONS"):
            await gw.ask("/v1/files/f", b"{}", method=method)
            assert (up.last.method, bytes(up.last.body)) == (method.encode(), b"{}")


async def test_an_upgrade_that_is_none_for_us_is_ignored() -> None:
    upgrade = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAA")
    async with upstream() as up, gateway(up) as gw:
        for body in (None, b'{"model":"x"}'):
            client = await gw.connect()
            found = await client.ask("/v1/chat/completions", body, *upgrade)
            assert found.status == 200
            assert found.header(b"connection") == b"close"
            assert await client.closed() == b""
            assert bytes(up.last.body) == (body or b"")
            assert not {b"upgrade", b"connection", b"http2-settings"} & {n.lower() for n, _ in up.last.headers}


async def test_key_in_every_place() -> None:
    basic = b"Basic Onct"  # a password that is not ours; see tests/unit/test_credentials.py for more
    async with upstream() as up, gateway(up) as gw:
        for lines, status in (
            ([b"api-key: " + KEY.encode()], 200),
            ([b"Authorization: Basic " + base64.b64encode(b"anyone:" + KEY.encode())], 200),
            ([b"authorization: bearer  " + KEY.encode()], 200),
            ([b"Authorization: " + basic], 401),
            ([b"Authorization: Bearer " + KEY.encode() + b"x"], 401),
            ([], 401),
        ):
            found = await gw.ask("/v1/models", None, *lines, key=None)
            assert found.status == status
        assert all(KEY.encode() not in r.head for r in up.requests)


async def test_trailers_of_a_request_end_with_it() -> None:
    """No parser may make one a header of the connection's next request."""
    head = b"POST /v1/files HTTP/1.1\r\nHost: h\r\n" + AUTH + b"Transfer-Encoding: chunked\r\n\r\n"
    body = chunk(b"abc") + b"0\r\nX-One: 1\r\nAuthorization: Bearer stolen\r\nX-Last: 2\r\n\r\n"
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        for piece in (head + body, head + body[:-30], body[-30:]):
            client.send(piece)
        client.send(request("GET", "/v1/models", key=None) + request("GET", "/v1/models"))
        assert [(await client.response()).status for _ in range(4)] == [200, 200, 401, 200]
        assert [(r.target, bytes(r.body), r.trailers) for r in up.requests[:2]] == [(b"/v1/files", b"abc", [])] * 2
        assert not {b"x-one", b"x-last"} & {name.lower() for r in up.requests for name, _ in r.headers}


async def test_a_chunked_body_without_trailers_keeps_the_connection() -> None:
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        for _ in range(3):
            client.send(chunked_request("/v1/files", [b"abc", b"def"], b"Content-Type: text/plain"))
            assert (await client.response()).header(b"connection") is None
        assert len(up.requests) == 3
