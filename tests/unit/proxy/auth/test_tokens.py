"""Tokens on a worker: checked, made known by the control process, and then as keys are."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from gateway.clock import ManualClock
from gateway.errors import INVALID_TOKEN, GatewayError
from gateway.proxy.auth.identify import Caller, Identify
from gateway.proxy.http.headers import Headers
from gateway.proxy.http.visit import Observation
from gateway.settings.tokens import Issuer as IssuerSettings
from gateway.tokens.bearers import bearer_of
from gateway.values import Principal
from tests.fakes.issuer import NOW, Issuer, issuer, part, rsa_key
from tests.fakes.ports import free_port
from tests.fakes.upstream import Exchange, Upstream, answer, saying, silent, upstream
from tests.fakes.wire import until
from tests.fakes.worker import KEY, Gateway, gateway, request

RECORD = Principal("key_t", "proj_1", "user-1", "org-1", version=1)
KNOWN = answer(b'{"object":"organization.access_token","id":"key_t","project_id":"proj_1"}')


class Bench:
    """A worker that takes tokens, and a control process that makes them known."""

    def __init__(self, gw: Gateway, up: Upstream, control: Upstream, idp: Issuer, clock: ManualClock) -> None:
        self.gw, self.up, self.control, self.idp, self.clock = gw, up, control, idp, clock
        self.says = KNOWN
        self.gate = asyncio.Event()
        self.gate.set()
        self.record: Principal | None = RECORD
        control.script = self._control

    def digest(self, **claims: Any) -> bytes:
        settings = msgspec.convert(self.idp.settings(default_project="proj_1"), IssuerSettings)
        return bearer_of({"sub": "ada", "exp": NOW, **claims}, settings).key_digest()

    async def _control(self, exchange: Exchange) -> None:
        await self.gate.wait()
        if self.record is not None:
            self.gw.keys.known[self.digest()] = self.record
        exchange.send(self.says)

    def refusing(self, reason: str) -> None:
        self.record, self.says = None, answer(GatewayError(INVALID_TOKEN, reason=reason).json(), status=b"401 No")

    async def status(self, token: str) -> int:
        return (await self.gw.ask(key=token)).status

    async def error(self, token: str) -> tuple[int, str, str]:
        found = await self.gw.ask(key=token)
        return found.status, found.error["code"], found.error["message"]


@asynccontextmanager
async def made(**more: Any) -> AsyncIterator[Bench]:
    clock = ManualClock(NOW)
    async with issuer() as idp, upstream(saying(answer())) as up, upstream() as control:
        tokens = {"issuers": [idp.settings(**{"default_project": "proj_1", **more})]}
        async with gateway(up, clock=clock, control_url=control.url.removesuffix("/v1"), tokens=tokens) as gw:
            yield Bench(gw, up, control, idp, clock)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with made() as one:
        yield one


async def test_a_token_in_place_of_a_key(bench: Bench) -> None:
    token = bench.idp.token()
    for _ in range(3):
        assert await bench.status(token) == 200
    assert len(bench.control.requests) == 1
    asked = bench.control.last
    assert (asked.method, asked.target) == (b"POST", b"/v1/organization/access_tokens")
    assert asked.values(b"authorization") == [f"Bearer {token}".encode()]
    assert bench.idp.asked == ["/jwks"]
    assert bench.gw.keys.asked == [bench.digest()] * 2, "once before, once after it was made known"
    assert bench.up.last.values(b"authorization") != [f"Bearer {token}".encode()]
    line = (await bench.gw.lines(3))[-1]
    assert (line["project"], line["key"]) == ("proj_1", "key_t")
    assert await bench.status(KEY) == 200, "keys work beside"
    assert bench.gw.metric("gateway_token_checks_total", result="good") == 1
    assert token.encode() not in bench.gw.everything_said()


async def test_another_token_of_the_same_subject_has_the_same_record(bench: Bench) -> None:
    for token in (bench.idp.token(), bench.idp.token("ec-1", jti="2"), bench.idp.token(exp=NOW + 60)):
        assert await bench.status(token) == 200
    assert len(bench.control.requests) == 1


async def test_many_at_once_ask_once(bench: Bench) -> None:
    bench.gate.clear()
    token = bench.idp.token()
    waiting = [asyncio.ensure_future(bench.status(token)) for _ in range(20)]
    await until(lambda: len(bench.control.requests) == 1)
    bench.gate.set()
    assert await asyncio.gather(*waiting) == [200] * 20
    assert len(bench.control.requests) == 1


async def test_it_ends_when_it_expires(bench: Bench) -> None:
    token = bench.idp.token(exp=NOW + 60)
    assert await bench.status(token) == 200
    bench.clock.advance(89)
    assert await bench.status(token) == 200
    bench.clock.advance(1)
    status, code, message = await bench.error(token)
    assert (status, code) == (401, "invalid_token")
    assert "expired" in message
    assert await bench.status(bench.idp.token()) == 200


async def test_it_ends_with_its_record(bench: Bench) -> None:
    token, hashed = bench.idp.token(), bench.digest()
    assert await bench.status(token) == 200
    bench.refusing("its user was removed")
    bench.gw.keys.known[hashed] = replace(RECORD, revoked=True, version=2)
    bench.gw.worker.keys.invalidate(hashed)
    for _ in range(5):
        assert await bench.error(token) == (
            401,
            "invalid_token",
            "Your access token is not accepted: its user was removed.",
        )
    assert len(bench.control.requests) == 2, "it is not asked each time"
    bench.clock.advance(6)
    assert (await bench.error(token))[0] == 401
    assert len(bench.control.requests) == 3
    bench.gw.keys.known[hashed] = replace(RECORD, version=3)
    bench.gw.worker.keys.invalidate(hashed)
    assert await bench.status(token) == 200


async def test_a_record_that_expires_sooner(bench: Bench) -> None:
    bench.record = replace(RECORD, expires_at=NOW + 10)
    token = bench.idp.token()
    assert await bench.status(token) == 200
    bench.clock.advance(10)
    bench.refusing("x")
    assert (await bench.error(token))[0] == 401


async def test_what_is_refused_here_asks_nobody(bench: Bench) -> None:
    idp = bench.idp
    head, claims, _ = idp.token().split(".")
    wrong = [
        idp.token(exp=NOW - 60), idp.token(aud="x"), idp.token(iss="https://x"), idp.token(key=rsa_key()),
        f"{part({'alg': 'none'})}.{claims}.", f"{head}.{claims}.", idp.token(sub=None), idp.token(big="x" * 8192),
    ]  # fmt: skip
    for token in wrong:
        status, code, _ = await bench.error(token)
        assert (status, code) == (401, "invalid_token"), token
    assert bench.gw.metric("gateway_token_checks_total", result="refused") == len(wrong)
    assert not bench.control.requests
    assert not bench.gw.keys.asked
    assert not bench.up.requests


async def test_control_is_away_or_fails(bench: Bench) -> None:
    bench.record, bench.says = None, answer(b"oh", status=b"500 Oh")
    token = bench.idp.token()
    assert (await bench.error(token))[:2] == (503, "key_check_unavailable")
    bench.says = answer(b"oh", status=b"401 No")
    assert (await bench.error(bench.idp.token(jti="2")))[:2] == (401, "invalid_token")
    bench.clock.advance(6)
    bench.says = KNOWN
    assert (await bench.error(token))[:2] == (503, "key_check_unavailable"), "made known, and not there yet"


async def test_control_cannot_be_reached() -> None:
    async with issuer() as idp, upstream(saying(answer())) as up:
        tokens = {"issuers": [idp.settings(default_project="proj_1")]}
        url = f"http://127.0.0.1:{free_port()}"
        async with gateway(up, clock=ManualClock(NOW), control_url=url, tokens=tokens) as gw:
            found = await gw.ask(key=idp.token())
            assert (found.status, found.error["code"]) == (503, "key_check_unavailable")


async def test_the_issuer_is_away(bench: Bench) -> None:
    bench.idp.does = "fail"
    assert (await bench.error(bench.idp.token()))[:2] == (503, "key_check_unavailable")
    assert bench.gw.metric("gateway_token_checks_total", result="failed") == 1
    assert [line["event"] for line in bench.gw.log if "issuer" in line] == ["issuer_keys_away"]
    assert await bench.status(KEY) == 200
    bench.idp.does = "ok"
    bench.clock.advance(11)
    assert await bench.status(bench.idp.token()) == 200


async def test_without_a_project() -> None:
    async with made(default_project=None) as bench:
        status, code, message = await bench.error(bench.idp.token())
        assert (status, code) == (401, "invalid_token")
        assert "no project" in message


async def test_a_worker_without_issuers_takes_it_for_a_key() -> None:
    async with issuer() as idp, upstream(saying(answer())) as up, gateway(up) as gw:
        found = await gw.ask(key=idp.token())
        assert (found.status, found.error["code"]) == (401, "invalid_api_key")


async def test_what_runs_under_a_token_runs_under_its_record(bench: Bench) -> None:
    """So it ends with the record, as what runs under a key."""
    bench.up.script = silent
    token = bench.idp.token()
    for first in (True, False):
        client = await bench.gw.connect()
        client.send(request("POST", "/v1/chat/completions", b'{"model":"m"}', key=token))
        await until(lambda: bool(bench.gw.worker.exchanges.open_keys()))
        assert bench.gw.worker.exchanges.open_keys() == {bench.digest()}, first
        assert bench.gw.worker.exchanges.end_of_key(bench.digest(), GatewayError(INVALID_TOKEN, reason="x")) == 1
        assert (await client.response()).status == 401
        await bench.gw.idle()


async def test_a_token_that_expires_while_a_body_arrives(bench: Bench) -> None:
    token = bench.idp.token(exp=NOW + 10)
    assert await bench.status(token) == 200
    client = await bench.gw.connect()
    whole = request("POST", "/v1/chat/completions", b'{"model":"m"}', key=token)
    client.send(whole[:-5])
    await until(lambda: bench.gw.budget_used > 0)
    bench.clock.advance(41)
    client.send(whole[-5:])
    found = await client.response()
    assert (found.status, found.error["code"]) == (401, "invalid_token")
    assert len(bench.up.requests) == 1


async def test_a_socket_that_outlives_its_token(bench: Bench) -> None:
    """What it asks for next is asked of the token again."""
    token = bench.idp.token(exp=NOW + 10)
    assert await bench.status(token) == 200
    worker = bench.gw.worker
    asked: Any = SimpleNamespace(headers=Headers([], {b"authorization": f"Bearer {token}".encode()}), websocket=True)
    seen = Observation("req_1", "GET", "/v1/realtime", "", 0.0, 0.0)
    caller = Caller(Identify(worker.keys, worker._tokens), asked, bench.digest(), seen, lambda _: None)
    assert (await caller.now()).expires_at == NOW + 40
    bench.clock.advance(40)
    with pytest.raises(GatewayError) as caught:
        await caller.now()
    assert caught.value.kind is INVALID_TOKEN
