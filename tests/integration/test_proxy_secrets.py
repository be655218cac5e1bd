"""No key in any word of the gateway's: not in its log, access lines, metrics, errors or reprs, however it came and
whatever went wrong. What the client itself wrote into path, query or other headers goes upstream as it is."""

import base64
import contextlib

import pytest

from gateway.credentials import digest
from gateway.proxy.http.request import RequestIds
from gateway.proxy.http.visit import Visit
from gateway.proxy.pipeline import Pipeline
from gateway.values import Principal
from tests.fakes.frames import handshake
from tests.fakes.ports import free_port
from tests.fakes.upstream import Exchange, closing, silent, upstream
from tests.fakes.wire import soon
from tests.fakes.worker import AUTH, KEY, OTHER_KEY, SECRETS, UPSTREAM_KEY, Gateway, gateway, request

ADMIN_KEY = "sk-admin-SECRETabcdefghijklmnopqrstuvwxyz0123456"
ALL = (*SECRETS, ADMIN_KEY)
K = KEY.encode()
CHAT = "/v1/chat/completions"
HEAD = b"GET /v1/models HTTP/1.1\r\nHost: h\r\n"
ROUTES = [{"models": ["gpt-*"], "upstreams": ["main"]}]


def leaks(gw: Gateway, *texts: bytes) -> list[str]:
    """The secrets that stand in what operators see, or in these texts; also as they look in Basic authentication."""
    said = gw.everything_said() + b"".join(texts)
    forms = {secret: [secret.encode(), base64.b64encode(secret.encode())[:-4]] for secret in ALL}
    return [secret for secret, looks in forms.items() if any(look in said for look in looks)]


async def sent(gw: Gateway, raw: bytes) -> bytes:
    """All that comes back until the connection ends, which the client's end brings about if need be."""
    client = await gw.connect()
    client.send(raw)
    with contextlib.suppress(EOFError):
        await client.response()
    answer = bytes(client.raw)
    client.close()
    return answer


MALFORMED = {
    "no colon": HEAD + b"Authorization Bearer " + K + b"\r\n\r\n",
    "a space before the colon": HEAD + b"Authorization : Bearer " + K + b"\r\n\r\n",
    "a control character": HEAD + b"Authorization: Bearer " + K + b"\x00\r\n\r\n",
    "no text": HEAD + b"Authorization: Bearer " + K + b"\xff\xfe\r\n\r\n",
    "no text in api-key": HEAD + b"api-key: " + K + b"\xe9\r\n\r\n",
    "no text in Basic": HEAD + b"Authorization: Basic \xff" + base64.b64encode(b":" + K) + b"\r\n\r\n",
    "a name that is a key": HEAD + K + b": x\r\n\r\n",
    "a method that is a key": K + b" /v1/models HTTP/1.1\r\n\r\n",
    "a version that is a key": b"GET /v1/models " + K + b"\r\n\r\n",
    "folded": HEAD + b"Authorization: Bearer\r\n " + K + b"\r\n\r\n",
    "lengths that differ": b"POST /v1/files HTTP/1.1\r\n" + AUTH + b"Content-Length: 1\r\nContent-Length: " + K + b"\r\n\r\n",
    "a length that is a key": b"POST /v1/files HTTP/1.1\r\n" + AUTH + b"Content-Length: " + K + b"\r\n\r\n",
    "a coding that is a key": b"POST /v1/files HTTP/1.1\r\nHost: h\r\n" + AUTH + b"Transfer-Encoding: " + K + b", chunked\r\n\r\n0\r\n\r\n",
    "a chunk that is a key": request("POST", CHAT, None, b"Transfer-Encoding: chunked") + K + b"\r\n",
    "headers too large": HEAD + AUTH + b"X: " + K * 3000 + b"\r\n\r\n",
    "userinfo": b"GET http://" + K + b":" + K + b"@h/v1/models HTTP/1.1\r\nHost: h\r\n\r\n",
    "userinfo and no path": b"GET http://user:" + K + b"@h HTTP/1.1\r\nHost: h\r\n\r\n",
    "userinfo and another path": b"GET http://user:" + K + b"@h/v2/x HTTP/1.1\r\nHost: h\r\n\r\n",
    "a slash in the userinfo": b"GET http://user/" + K + b"@h/v1/models HTTP/1.1\r\nHost: h\r\n\r\n",
    "no scheme": b"GET user:" + K + b"@h/v1/models HTTP/1.1\r\nHost: h\r\n\r\n",
    "CONNECT": b"CONNECT user:" + K + b"@h:443 HTTP/1.1\r\nHost: h\r\n\r\n",
    "TLS": b"\x16\x03\x01" + K,
}  # fmt: skip


@pytest.mark.parametrize("what", MALFORMED)
async def test_heads_that_are_malformed(what: str) -> None:
    async with upstream() as up, gateway(up) as gw:
        answer = await sent(gw, MALFORMED[what])
        assert answer.startswith(b"HTTP/1.1 4")
        assert not leaks(gw, answer)
        assert not any(exchange.complete for exchange in up.requests)


REFUSED = {
    "in a path": request("GET", "/v2/" + KEY),
    "in a query": request("GET", f"/v2/x?key={KEY}"),
    "in a spelling that is refused": request("GET", f"/v1//{KEY}"),
    "in a method's path": request("TRACE", "/v1/models/" + KEY),
    "with a letter too many": request("GET", "/v1/models", key=OTHER_KEY),
    "as a password": HEAD + b"Authorization: Basic " + base64.b64encode(b":" + OTHER_KEY.encode()) + b"\r\n\r\n",
    "as a user": HEAD + b"Authorization: Basic " + base64.b64encode(K + b":") + b"\r\n\r\n",
    "in another scheme": HEAD + b"Authorization: Digest " + K + b"\r\n\r\n",
    "in a cookie": HEAD + b"Cookie: key=" + K + b"\r\n\r\n",
    "as a model": request("POST", CHAT, b'{"model":"' + K + b'"}'),
    "in JSON that is none": request("POST", CHAT, b'{"model":"gpt-4","key":"' + K + b'",}'),
    "as a member of another type": request("POST", CHAT, b'{"model":{"' + K + b'":1}}'),
    "as an encoding": request("POST", CHAT, b"{}", b"Content-Encoding: " + K),
    "as a kind of form": request("POST", "/v1/audio/transcriptions", b"x", b"Content-Type: " + K),
    "in an Expect": request("POST", CHAT, b"", b"Expect: " + K, b"Content-Type: text/plain", key=None),
    "in a request id": request("GET", "/v1/models", None, b"x-request-id: " + K, key=OTHER_KEY),
    "in a subprotocol": handshake("/v1/realtime", b"Sec-WebSocket-Protocol: openai-insecure-api-key." + K + b"x", key=None),
    "in a handshake that is malformed": handshake("/v1/realtime", version=K),
    "in a method that is refused": request("POST", "/v1/realtime/client_secrets", b'{"key":"' + K + b'"}'),
    "of an administrator": request("GET", "/v1/models", key=ADMIN_KEY),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
async def test_keys_in_requests_that_are_refused(what: str) -> None:
    async with upstream() as up, gateway(up, routes=ROUTES, admin_keys=[ADMIN_KEY]) as gw:
        answer = await sent(gw, REFUSED[what])
        assert answer.startswith(b"HTTP/1.1 4"), answer
        assert not leaks(gw, answer)
        assert not up.requests


async def test_keys_in_requests_that_pass() -> None:
    """They go up as they are, for they are the client's words; here nothing of them is written down."""
    async with upstream() as up, gateway(up) as gw:
        found = await gw.ask(f"/v1/models/{KEY}?key={KEY}", None, b"x-request-id: " + K, b"User-Agent: " + K)
        assert found.status == 200
        assert up.last.target.count(K) == 2
        assert up.last.values(b"authorization") == [b"Bearer " + UPSTREAM_KEY.encode()]
        await gw.ask(CHAT, b'{"model":"' + K + b'"}')
        assert gw.access[0]["path"] == "/v1/models/sk-***"
        assert gw.access[1]["model"] == "sk-***"
        assert not leaks(gw, found.raw)


async def headless(exchange: Exchange) -> None:
    exchange.send(b"junk\r\n\r\n")
    await exchange.gone()


@pytest.mark.parametrize("script", [closing(), silent, headless])
@pytest.mark.parametrize("socket", [False, True])
async def test_upstreams_that_fail(script: object, socket: bool) -> None:
    raw = handshake("/v1/realtime") if socket else request("POST", CHAT, b'{"model":"m"}')
    async with upstream(script) as up, gateway(up, timeouts={"response_s": 0.1}) as gw:  # type: ignore[arg-type]
        answer = await sent(gw, raw)
        assert answer.startswith(b"HTTP/1.1 50")
        assert not leaks(gw, answer)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:{port}/v1", "https://127.0.0.1:{port}/v1", "http://no-such.invalid/v1"]
)
async def test_upstreams_that_cannot_be_reached(url: str) -> None:
    async with gateway(url.format(port=free_port())) as gw:
        for raw in (handshake("/v1/realtime"), request("POST", CHAT, b'{"model":"m"}')):
            answer = await sent(gw, raw)
            assert answer.startswith(b"HTTP/1.1 502")
            assert not leaks(gw, answer)


async def test_a_mistake_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged with its traceback, in which the request may be shown: without its headers."""
    shown: list[str] = []

    async def broken(_self: object, visit: Visit) -> None:
        shown.append(repr(visit))
        raise RuntimeError(f"no idea what to do with {visit!r}, {visit.request!r} and {visit.seen!r}")

    monkeypatch.setattr(Pipeline, "serve", broken)
    async with upstream() as up, gateway(up, tidy=False) as gw:
        for line in (
            b"Authorization: Bearer " + K,
            b"api-key: " + K,
            b"Authorization: Basic " + base64.b64encode(b":" + K),
        ):
            found = await gw.ask(f"/v1/models?key={KEY}", None, line, key=None)
            assert (found.status, found.error["type"]) == (500, "server_error")
            assert b"no idea" not in found.body
            assert not leaks(gw, found.raw, found.body)
        assert "/models" in shown[0]
        assert [line["event"] for line in gw.log if line["level"] == "error"] == ["request_failed"] * 3
        assert gw.metric("gateway_errors_total", error="internal") == 3


async def test_what_a_worker_is_made_of_shows_no_key() -> None:
    async with upstream() as up, gateway(up, admin_keys=[ADMIN_KEY]) as gw:
        await gw.ask()
        worker = gw.worker
        things = [
            worker._settings,
            worker._destinations,
            worker._door._pipeline,
            worker.keys,
            worker.server,
            worker._pools,
        ]
        things += [
            worker._destinations["main"].pool,
            Principal("k", "p", "u", "o"),
            RequestIds(),
            *worker.server.connections,
        ]
        shown = " ".join(map(repr, things)).encode()
        assert not leaks(gw, shown)
        assert digest(KEY).hex().encode() not in shown


async def test_an_access_line_with_a_key_in_a_url_of_another_form() -> None:
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        await soon(client.ask(f"http://{KEY}:{KEY}@evil.example/v1/models"))
        assert gw.access[0]["path"] == "/v1/models"
        assert not leaks(gw)
