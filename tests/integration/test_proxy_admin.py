"""The hand-over: administrative requests go to the control process as they are, in any spelling, and never upstream;
and ways around the meter are refused in any spelling."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.settings.model import Settings
from gateway.settings.places import control_socket
from tests.fakes.ports import free_port
from tests.fakes.upstream import Exchange, Upstream, answer, closing, saying, silent, upstream
from tests.fakes.wire import soon, until
from tests.fakes.worker import AUTH, KEY, Gateway, configured, gateway, request

PATHS = ["/organization", "/organization/", "/organization/projects", "/organization/no/such/thing", "/projects",
         "/projects/proj_1/roles", "/oauth/token", "/organization/usage/completions?start_time=1&group_by%5B%5D=model"]  # fmt: skip


@asynccontextmanager
async def both(**sections: Any) -> AsyncIterator[tuple[Upstream, Upstream, Gateway]]:
    """An upstream, a control process and a worker between them."""
    async with (
        upstream() as up,
        upstream(saying(answer(b"control"))) as control,
        gateway(up, control_url=control.url.removesuffix("/v1"), **sections) as gw,
    ):
        yield up, control, gw


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "QUERY"])
async def test_administrative_by_prefix_known_or_not(path: str, method: str) -> None:
    async with both() as (up, control, gw):
        found = await gw.ask("/v1" + path, method=method, key=None)
        assert (found.status, found.body) == (200, b"control")
        assert (control.last.method, control.last.target) == (method.encode(), b"/v1" + path.encode())
        assert not up.requests
        assert not gw.keys.asked  # control authenticates on its own
        assert gw.access[0]["operation"] == "admin"


@pytest.mark.parametrize(
    "target",
    [
        "/v1/%6frganization/users", "/v1/organizatio%6E", "/v1/%256frganization/users", "/v1/%25256frganization", "/v1/Organization/x",
        "/v1/ORGANIZATION", "/v1/PrOjEcTs/p", "/v1/organization%2Fusers", "/v1/projects%3Fx", "/v1/organization;v=1/users", "/v1/organization.json",
        "/v1/projects%20", "http://elsewhere.example/v1/organization/users", "/v1/organization%23x", "/v1/organization:x",
    ],
)  # fmt: skip
async def test_administrative_in_any_spelling(target: str) -> None:
    async with both() as (up, control, gw):
        assert (await gw.ask(target)).body == b"control"
        assert control.last.target.decode() == target.removeprefix("http://elsewhere.example")
        assert not up.requests


async def test_the_exchange_of_tokens_is_beside_v1_too() -> None:
    async with both() as (up, control, gw):
        for target in ("/oauth/token", "/oauth/token?x=1", "http://elsewhere.example/oauth/token"):
            assert (await gw.ask(target, b"{}", key=None)).body == b"control"
            assert control.last.target == b"/v1/oauth/token" + (b"?x=1" if "?" in target else b"")
        asked = len(control.requests)
        for target in ("/oauth/token/", "/oauth/Token", "/oauth", "/oauth/tokens", "/oauth%2ftoken", "//oauth/token"):
            assert (await gw.ask(target, b"{}", key=None)).status == 404
        assert len(control.requests) == asked
        assert not up.requests


@pytest.mark.parametrize(
    "target",
    [
        "/v1/x/../organization", "/v1/./organization", "/v1//organization", "/v1/x/%2e%2e/organization/users", "/v1/%2e/organization",
        "/v1/x%2f..%2forganization", "/v1/x\\..\\organization", "/v1/\\organization", "/v1/%5corganization", "/v1/%2forganization",
        "/v1/models/..%5corganization", "/v1/x/%252e%252e/organization", "//v1/organization", "/v1/../v1/organization", "/./v1/organization",
        "/%76%31/organization", "/V1/organization", "/v1%2forganization",
    ],
)  # fmt: skip
async def test_spellings_that_might_be_administrative_go_nowhere(target: str) -> None:
    async with both() as (up, control, gw):
        assert (await gw.ask(target)).status == 404
        assert not up.requests
        assert not control.requests


@pytest.mark.parametrize(
    "target", ["/v1/organizations", "/v1/projects2", "/v1/organization_x", "/v1/x/organization", "/v1/models/projects"]
)
async def test_what_is_not_administrative(target: str) -> None:
    async with both() as (up, control, gw):
        assert (await gw.ask(target)).status == 200
        assert up.last.target == target.encode()
        assert not control.requests


async def test_head_and_body_are_handed_over_unchanged_and_the_clients_address_is_added() -> None:
    lines = [b"Authorization: Bearer sk-admin-x", b"OpenAI-Organization: org-a", b"OpenAI-Project: p", b"Cookie: a=b", b"X-A: 1", b"x-a: caf\xe9",
             b"api-key: k", b"x-request-id: mine", b"Content-Encoding: zstd", b"Content-Type: application/json",
             b"X-Gateway-Client-Address: 8.8.8.8", b"Connection: close, X-Hop", b"X-Hop: 1"]  # fmt: skip
    async with both() as (up, control, gw):
        body = b"\x28\xb5\x2f\xfdnot looked at"
        found = await gw.ask("/v1/organization/projects", body, *lines, key=None)
        assert found.status == 200
        assert bytes(control.last.body) == body
        expected = [tuple(line.split(b": ", 1)) for line in [b"Host: gateway.test", *lines[:-3]]]
        added = [(b"x-gateway-client-address", b"127.0.0.1"), (b"Content-Length", b"%d" % len(body))]
        assert control.last.headers == [*expected, *added]
        assert not up.requests


async def test_answers_of_the_control_process_pass_as_they_are() -> None:
    async with both() as (_, control, gw):
        control.script = saying(
            answer(
                b'{"error":{}}', (b"Retry-After", b"3"), (b"X-A", b"1"), (b"x-request-id", b"req_c"), status=b"429 Slow"
            )
        )
        found = await gw.ask("/v1/organization/users")
        assert (found.status, found.reason, found.body) == (429, b"Slow", b'{"error":{}}')
        assert (found.header(b"retry-after"), found.values(b"x-request-id")) == (b"3", [b"req_c"])


async def test_uploads_to_the_control_process_stream() -> None:
    async with both() as (_, control, gw):
        received: asyncio.Queue[bytes] = asyncio.Queue()

        async def script(exchange: Exchange) -> None:
            while data := await exchange.read():
                received.put_nowait(data)
            exchange.send(answer())

        control.script = script
        client = await gw.connect()
        client.send(request("POST", "/v1/projects/p/x", None, b"Content-Length: 6"))
        for piece in (b"abc", b"def"):
            client.send(piece)
            assert await soon(received.get()) == piece
        assert (await client.response()).status == 200


async def test_the_control_process_is_away() -> None:
    async with upstream() as up, gateway(up, control_url=f"http://127.0.0.1:{free_port()}") as gw:
        found = await gw.ask("/v1/organization/users", b"{}")
        assert (found.status, found.error["code"], found.header(b"retry-after")) == (503, "admin_api_unavailable", b"2")
        assert (await gw.ask()).status == 200  # and nobody else minds
        assert len(up.requests) == 1
        assert gw.metric("gateway_errors_total", error="admin_unavailable") == 1


async def test_the_control_process_fails() -> None:
    async with both(timeouts={"response_s": 0.1}) as (_, control, gw):
        for script, status in ((closing(), 502), (silent, 504)):
            control.script = script
            assert (await gw.ask("/v1/organization/users", b"{}")).status == status


async def test_over_the_unix_socket_in_the_data_folder(tmp_path: Path) -> None:
    settings: Settings = configured("http://127.0.0.1:1/v1", data_dir=str(tmp_path))
    path = control_socket(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    async with upstream(saying(answer(b"control")), path=path) as control, upstream() as up:
        async with gateway(up, data_dir=str(tmp_path)) as gw:
            assert (await gw.ask("/v1/organization/users")).body == b"control"
            client = await gw.connect()
            client.send(b"GET /v1/projects HTTP/1.0\r\n" + AUTH + b"\r\n")
            assert (await client.response()).status == 200
            assert control.last.values(b"host") == [b"gateway"]
            assert control.last.values(b"x-gateway-client-address") == [b"127.0.0.1"]
            assert control.last.values(b"authorization") == [f"Bearer {KEY}".encode()]
            assert len(control.wires) == 1
        assert not up.requests


async def test_a_client_that_leaves_ends_its_administrative_request() -> None:
    async with both() as (_, control, gw):
        control.script = silent
        client = await gw.connect()
        client.send(request("GET", "/v1/organization/users"))
        await control.request()
        client.close()
        await soon(control.wires[0].ended.wait())
        await until(lambda: not gw.in_flight)


UNMETERED = ["/realtime/calls", "/realtime/sessions", "/realtime/client_secrets", "/realtime/translations/client_secrets",
             "/realtime/transcription_sessions", "/brand/new/client_secrets"]  # fmt: skip
SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda path: path,
    "with a query": lambda path: path + "?x=1",
    "with a slash": lambda path: path + "/",
    "with an encoded slash": lambda path: path + "%2f",
    "upper case": str.upper,
    "one letter encoded": lambda path: path.replace("a", "%61", 1),
    "encoded twice": lambda path: path.replace("a", "%2561", 1),
    "slashes encoded": lambda path: "/" + path[1:].replace("/", "%2F"),
    "a backslash": lambda path: "/" + path[1:].replace("/", "\\"),
    "upper case and encoded": lambda path: path.upper().replace("S", "%53", 1) + "/",
}


@pytest.mark.parametrize("path", UNMETERED)
@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_ways_around_the_meter_are_refused_in_any_spelling(path: str, spelling: str) -> None:
    target = "/v1" + SPELLINGS[spelling](path)
    async with upstream() as up, gateway(up) as gw:
        for body in (b"{}", b""):
            found = await gw.ask(target, body, method="POST")
            assert (found.status, found.error["code"]) == (403, "operation_not_allowed")
            assert "allow_unmetered" in found.error["message"]
        absolute = await gw.ask("http://h" + target, b"{}")
        assert absolute.status == 403
        assert not up.requests


async def test_a_way_around_the_meter_that_looks_like_the_id_of_something() -> None:
    """`/agents/{id}` is known; an upstream that does not look at case takes this id for another operation."""
    async with upstream() as up, gateway(up) as gw:
        for target in ("/v1/agents/automations", "/v1/agents/Automations", "/v1/agents/AUTOMATIONS/"):
            assert (await gw.ask(target, b"{}")).status == 403
        assert not up.requests
        assert (await gw.ask("/v1/agents/automations2", b"{}")).status == 200
