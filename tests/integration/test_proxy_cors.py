"""Browsers: preflights are answered here for the origins of the settings, and answers tell what scripts may read."""

import pytest

from tests.fakes.upstream import answer, saying, upstream
from tests.fakes.worker import Response, gateway, request

ORIGIN = "https://app.example"
EXPOSED = {
    b"x-request-id", b"retry-after",
    *(f"x-ratelimit-{what}-{of}".encode() for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")),
}  # fmt: skip


def preflight(origin: str = ORIGIN) -> bytes:
    lines = [b"Origin: " + origin.encode("latin-1"), b"Access-Control-Request-Method: POST"]
    return request(
        "OPTIONS", "/v1/chat/completions", None, *lines, b"Access-Control-Request-Headers: authorization,x-a", key=None
    )


def allowed(found: Response) -> bytes | None:
    return found.header(b"access-control-allow-origin")


@pytest.mark.parametrize("origins", [[ORIGIN], ["*"], ["https://other.example", ORIGIN]])
async def test_a_preflight_needs_no_key_and_goes_nowhere(origins: list[str]) -> None:
    async with upstream() as up, gateway(up, cors={"origins": origins}) as gw:
        client = await gw.connect()
        for _ in range(2):
            client.send(preflight())
            found = await client.response("OPTIONS")
            assert (found.status, allowed(found), found.body) == (204, ORIGIN.encode(), b"")
            assert b"POST" in (found.header(b"access-control-allow-methods") or b"").split(b", ")
            assert found.header(b"access-control-allow-headers") == b"authorization,x-a"
            assert int(found.header(b"access-control-max-age") or 0) > 0
            assert not found.values(b"content-length")
            assert b"Origin" in (found.header(b"vary") or b"")
            assert found.header(b"access-control-allow-credentials") is None
        assert not up.requests
        assert not gw.keys.asked
        assert gw.access[0]["status"] == 204


async def test_a_foreign_origin_is_permitted_nothing() -> None:
    script = saying(answer(b"{}", (b"Access-Control-Allow-Origin", b"*")))
    async with upstream(script) as up, gateway(up, cors={"origins": [ORIGIN]}) as gw:
        client = await gw.connect()
        for origin in ("https://evil.example", "null", ORIGIN + ".evil", ORIGIN.upper(), "https://app.example\xff"):
            client.send(preflight(origin))
            found = await client.response("OPTIONS")
            assert found.status == 204
            assert not [n for n, _ in found.headers if n.lower().startswith(b"access-control-")]
            found = await client.ask("/v1/models", None, b"Origin: " + origin.encode("latin-1"))
            assert (found.status, allowed(found), found.header(b"vary")) == (200, None, b"Origin")
        assert len(up.requests) == 5


async def test_answers_and_errors_tell_what_scripts_may_read() -> None:
    theirs = [
        (b"Access-Control-Allow-Origin", b"*"),
        (b"access-control-expose-headers", b"X-Request-ID"),
        (b"X-A", b"1"),
    ]
    async with upstream(saying(answer(b"{}", *theirs))) as up, gateway(up, cors={"origins": [ORIGIN]}) as gw:
        origin = b"Origin: " + ORIGIN.encode()
        for key, target, status in ((None, "/v1/models", 401), ("sk-wrong", "/v1/models", 401), (None, "/v2", 404)):
            found = await gw.ask(target, None, origin, key=key)
            assert (found.status, found.values(b"access-control-allow-origin")) == (status, [ORIGIN.encode()])
        found = await gw.ask("/v1/models", None, origin)
        assert found.values(b"access-control-allow-origin") == [ORIGIN.encode()]
        assert found.header(b"x-a") == b"1"
        exposed = found.values(b"access-control-expose-headers")
        assert len(exposed) == 1
        assert set(exposed[0].split(b", ")) >= EXPOSED
        assert b"origin" in {name.lower() for name, _ in up.last.headers}


async def test_without_origins_in_the_settings_the_upstream_is_asked() -> None:
    theirs = answer(b"", (b"Access-Control-Allow-Origin", b"*"), status=b"200 OK", kind=b"")
    async with upstream(saying(theirs)) as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(preflight())
        assert (await client.response("OPTIONS")).status == 401  # a preflight brings no key
        found = await gw.ask("/v1/models", None, b"Origin: " + ORIGIN.encode())
        assert found.values(b"access-control-allow-origin") == [b"*"]
        assert found.header(b"vary") is None


@pytest.mark.parametrize("line", [b"Access-Control-Request-Method: GET", b"Origin: https://app.example"])
async def test_options_that_are_no_preflight_go_up(line: bytes) -> None:
    async with upstream() as up, gateway(up, cors={"origins": ["https://elsewhere.example"]}) as gw:
        if line.startswith(b"Origin"):
            assert (await gw.ask("/v1/models", None, line, method="OPTIONS")).status == 200
            assert up.last.method == b"OPTIONS"
        else:
            assert (await gw.ask("/v1/models", None, line, method="OPTIONS")).status == 204  # permits nothing
            assert not up.requests


async def test_a_preflight_for_administrative_paths() -> None:
    """Answered here as well: the page in question may well be the admin's."""
    async with upstream() as up, gateway(up, cors={"origins": [ORIGIN]}, control_url=up.url.removesuffix("/v1")) as gw:
        client = await gw.connect()
        client.send(preflight().replace(b"/v1/chat/completions", b"/v1/organization/projects"))
        assert (await client.response("OPTIONS")).status == 204
        assert not up.requests
