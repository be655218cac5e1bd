"""News by webhook, to a real receiver over TLS."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import openai
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.control.jobs import webhooks as module
from gateway.control.jobs.news import News, NotToldError
from gateway.control.jobs.webhooks import Webhooks
from gateway.control.registry.channels import WebhookChannel
from gateway.settings.model import Alerts
from gateway.values import Secret
from tests.fakes.hooks import Hooks, hooks_server
from tests.fakes.tls_front import Certificate, self_signed

SECRET = "whsec_" + "c2VjcmV0" * 4
NEWS = News("alert_1", "org-gateway", "p:proj_1", "month", 10**11, "2027-01", 10**11 + 9_999_999, 1_800_000_000)
PUBLIC = "93.184.215.14"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def hooks(certificate: Certificate) -> AsyncIterator[Hooks]:
    async with hooks_server(certificate) as hooks:
        yield hooks


class Names(AbstractResolver):
    """Resolves any name to the next of these lists; the last one stays."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        kinds = {True: socket.AF_INET6, False: socket.AF_INET}
        return [
            ResolveResult(hostname=host, host=one, port=port, family=kinds[":" in one], proto=0, flags=0)
            for one in addresses
        ]

    async def close(self) -> None:
        """There is nothing to release."""


def webhooks(certificate: Certificate, *allowed: str, names: Names | None = None, trusting: bool = True) -> Webhooks:
    tls = certificate.trusting() if trusting else None
    return Webhooks(Alerts(webhook_allowed_hosts=list(allowed)), Secret(SECRET), tls=tls, resolver=names)


def to(hooks: Hooks, host: str = "localhost", path: str = "/hook?for=me") -> WebhookChannel:
    return WebhookChannel(f"https://{host}:{hooks.port}{path}")


@pytest.fixture
def dialed(monkeypatch: pytest.MonkeyPatch, hooks: Hooks) -> list[str]:
    """The addresses that are connected to; those that are not of this machine lead to the receiver."""
    found: list[str] = []
    connect = asyncio.SelectorEventLoop.sock_connect

    async def record(loop: Any, sock: socket.socket, address: Any) -> None:
        found.append(address[0])
        here = address[0] in {"127.0.0.1", "::1"}
        await connect(loop, sock, address if here else ("127.0.0.1", hooks.port))

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", record)
    return found


async def test_what_is_sent_and_signed(certificate: Certificate, hooks: Hooks) -> None:
    await webhooks(certificate, "LOCALHOST").tell(to(hooks), NEWS)
    (hook,) = hooks.received
    assert hook.path == "/hook?for=me"
    assert hook.headers["host"] == f"localhost:{hooks.port}"
    assert (hook.headers["webhook-id"], hook.headers["webhook-timestamp"]) == (NEWS.id, "1800000000")
    client = openai.OpenAI(api_key="none", webhook_secret=SECRET)
    long = 10**9
    client.webhooks.verify_signature(hook.body, hook.headers, tolerance=long)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.verify_signature(hook.body + b" ", hook.headers, tolerance=long)
    assert msgspec.json.decode(hook.body) == {
        "id": NEWS.id,
        "object": "event",
        "created_at": 1_800_000_000,
        "type": "spend_alert.reached",
        "data": {
            "id": "alert_1",
            "object": "project.spend_alert",
            "organization_id": "org-gateway",
            "project_id": "proj_1",
            "threshold_amount": 10_000,
            "currency": "USD",
            "interval": "month",
            "window": "2027-01",
            "spent_amount": 10_000,
        },
    }


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "localhost", "[::ffff:127.0.0.1]", "10.1.2.3", "169.254.169.254"]
)
async def test_private_targets_are_refused(
    certificate: Certificate, hooks: Hooks, dialed: list[str], host: str
) -> None:
    with pytest.raises(NotToldError, match="is not public"):
        await webhooks(certificate, "elsewhere").tell(to(hooks, host), NEWS)
    assert (dialed, hooks.received) == ([], [])


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1."])
async def test_other_ways_to_write_them(certificate: Certificate, hooks: Hooks, dialed: list[str], host: str) -> None:
    with pytest.raises(NotToldError):
        await webhooks(certificate).tell(to(hooks, host), NEWS)
    assert (dialed, hooks.received) == ([], [])


async def test_a_name_that_becomes_private(certificate: Certificate, hooks: Hooks, dialed: list[str]) -> None:
    """What is looked at is what is dialed: it is asked for once, and what a second answer says does not matter."""
    names = Names([PUBLIC], ["127.0.0.1"])
    sender = webhooks(certificate, names=names)
    await sender.tell(to(hooks), NEWS)
    assert (names.asked, dialed, len(hooks.received)) == (["localhost"], [PUBLIC], 1)
    with pytest.raises(NotToldError, match=r"127\.0\.0\.1 is not public"):
        await sender.tell(to(hooks), NEWS)
    assert (len(names.asked), dialed, len(hooks.received)) == (2, [PUBLIC], 1)


async def test_only_public_ones_of_several_addresses_are_dialed(
    certificate: Certificate, hooks: Hooks, dialed: list[str]
) -> None:
    await webhooks(certificate, names=Names(["10.0.0.1", "fd00::1", PUBLIC])).tell(to(hooks), NEWS)
    assert (dialed, len(hooks.received)) == ([PUBLIC], 1)


async def test_redirects_are_not_followed(certificate: Certificate, hooks: Hooks) -> None:
    for status in (301, 302, 307, 308, 400, 410, 500):
        hooks.status = status
        with pytest.raises(NotToldError, match=f"it answered {status}"):
            await webhooks(certificate, "localhost").tell(to(hooks), NEWS)
    assert {hook.path for hook in hooks.received} == {"/hook?for=me"}
    hooks.status = 204
    await webhooks(certificate, "localhost").tell(to(hooks), NEWS)
    assert len(hooks.received) == 8


async def test_a_certificate_that_is_not_trusted(certificate: Certificate, hooks: Hooks) -> None:
    with pytest.raises(NotToldError, match="certificate"):
        await webhooks(certificate, "localhost", trusting=False).tell(to(hooks), NEWS)
    sender = webhooks(certificate, "hooks.example", names=Names(["127.0.0.1"]))
    with pytest.raises(NotToldError, match="certificate"):
        await sender.tell(to(hooks, "hooks.example"), NEWS)
    assert hooks.received == []


async def test_a_receiver_that_does_not_answer(
    certificate: Certificate, hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ALL_S", 0.3)
    hooks.answers.clear()
    with pytest.raises(NotToldError, match="it takes too long"):
        await webhooks(certificate, "localhost").tell(to(hooks), NEWS)


async def test_no_failure_says_what_a_path_may_hide(certificate: Certificate, hooks: Hooks) -> None:
    sender = webhooks(certificate, "localhost", "a..b", "x" * 64)
    for host in ("localhost", "a..b", "x" * 64, "no-such-host.invalid"):
        with pytest.raises(NotToldError) as caught:
            await sender.tell(WebhookChannel(f"https://{host}:1/hidden"), NEWS)
        assert "hidden" not in str(caught.value)
