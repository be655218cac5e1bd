"""Routes: which upstreams a model goes to, and what a request to one begins with."""

import pytest

from gateway.errors import MODEL_NOT_FOUND, GatewayError
from gateway.proxy.upstream.router import Destination, Router, address_of, destination
from gateway.settings.model import Settings
from gateway.settings.transfer import convert
from tests.fakes.worker import UPSTREAM_KEY


def settings(*routes: dict[str, object]) -> Settings:
    upstreams = {name: {"base_url": f"http://{name}.example/v1"} for name in ("one", "two", "three")}
    return convert({"upstreams": upstreams, "routes": list(routes)})


def router(*routes: dict[str, object]) -> Router:
    made = settings(*routes)
    return Router(made, {name: destination(name, up, made.timeouts) for name, up in made.upstreams.items()})


def where(found: object) -> list[tuple[str, str | None]]:
    return [(a.destination.name, a.upstream_model) for a in found]  # type: ignore[attr-defined]


async def test_without_routes_everything_goes_to_the_first_upstream() -> None:
    made = router()
    for model in ("gpt-4o", "", "any/thing\n", None):
        assert where(made.route(model)) == [("one", None)]


async def test_the_first_route_that_matches_is_taken() -> None:
    made = router(
        {"models": ["gpt-4o"], "upstreams": ["one"]},
        {"models": ["gpt-*", "o?[x]*"], "upstreams": ["two", {"upstream": "one", "upstream_model": "other"}]},
        {"models": ["*-mini"], "upstreams": ["three"]},
    )
    assert where(made.route("gpt-4o")) == [("one", None)]
    assert where(made.route("gpt-4o-mini")) == [("two", None), ("one", "other")]
    assert where(made.route("o?[x]y")) == [("two", None), ("one", "other")]
    assert where(made.route("o3-mini")) == [("three", None)]
    for model in ("GPT-4o", "xgpt-4o", "gpt", "o1x", "", None):
        with pytest.raises(GatewayError) as caught:
            made.route(model)
        assert caught.value.kind is MODEL_NOT_FOUND


async def test_a_call_without_a_model_takes_the_first_route_for_everything_and_no_other_name() -> None:
    made = router(
        {"models": ["gpt-*"], "upstreams": ["one"]},
        {"models": ["x", "*"], "upstreams": [{"upstream": "two", "upstream_model": "default"}]},
        {"models": ["*"], "upstreams": ["three"]},
    )
    assert where(made.route(None)) == [("two", None)]
    assert where(made.route("anything")) == [("two", "default")]


async def test_what_is_remembered_is_bounded_and_true() -> None:
    made = router({"models": ["m*"], "upstreams": ["one"]})
    for number in range(10_000):
        assert where(made.route(f"m{number}")) == [("one", None)]
    assert len(made._known) <= 4096
    for _ in range(3):
        with pytest.raises(GatewayError):
            made.route("x" * 10_000)


def plain(**options: object) -> Destination:
    made = convert({"upstreams": {"one": {"base_url": "http://one.example:81/a%20é/v1/", **options}}})
    return destination("one", made.upstreams["one"], made.timeouts)


async def test_a_head() -> None:
    to = plain(api_key=UPSTREAM_KEY, organization="org-1", project="proj_1", headers={"X-Ours": "1"})
    head = to.head("POST", "/x%2Fy?a=b", b"\r\nX-A: 1", 5)
    assert head.split(b"\r\n") == [
        b"POST /a%20%C3%A9/v1/x%2Fy?a=b HTTP/1.1", b"Host: one.example:81", b"Authorization: Bearer " + UPSTREAM_KEY.encode(),
        b"OpenAI-Organization: org-1", b"OpenAI-Project: proj_1", b"X-Ours: 1", b"X-A: 1", b"Content-Length: 5", b"", b"",
    ]  # fmt: skip
    assert b"x-ours" in to.dropped


@pytest.mark.parametrize(
    ("method", "length", "framing"),
    [("GET", 0, b""), ("DELETE", 0, b""), ("POST", 0, b"Content-Length: 0"), ("GET", 3, b"Content-Length: 3"), ("PUT", None, b"Transfer-Encoding: chunked")],
)  # fmt: skip
async def test_framing(method: str, length: int | None, framing: bytes) -> None:
    lines = plain().head(method, "/x", b"", length).split(b"\r\n")
    assert [line for line in lines if line.lower().startswith((b"content-length", b"transfer-"))] == (
        [framing] if framing else []
    )


async def test_how_the_key_is_sent() -> None:
    assert (b"api-key", UPSTREAM_KEY.encode()) in plain(api_key=UPSTREAM_KEY, auth="api-key").constant
    assert UPSTREAM_KEY.encode() not in b"".join(v for _, v in plain(api_key=UPSTREAM_KEY, auth="none").constant)


def test_addresses() -> None:
    for url, host, port, secure in (
        ("http://h/v1", "h", 80, False), ("https://h/v1", "h", 443, True), ("http://[::1]:8/v1", "::1", 8, False),
    ):  # fmt: skip
        address, tls = address_of(url)
        assert (address.host, address.port, tls) == (host, port, secure)
