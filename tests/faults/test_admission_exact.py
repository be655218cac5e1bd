"""What is changed in Redis holds for the very next call, also where no worker was told: the reserve itself says so."""

import asyncio
import hashlib
from collections.abc import Iterator

import msgspec
import pytest

from gateway.limits import LimitDocument, LimitSet, RateLimit, SpendLimit
from gateway.values import Principal
from tests.fakes.events import KEYS, ORG
from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.measuring import Measured, Size
from tests.fakes.paid_calls import DURABLE, Caller, caller, limited, paid
from tests.fakes.redis_servers import VALKEY, Server, StartServer
from tests.unit.accounts.stand import Accounts, done

pytestmark = [pytest.mark.proof, pytest.mark.timeout(300)]
WORKERS = 4
SPREAD = 8 * WORKERS  # connections after which each worker has had one, all but certainly
NOTHING = LimitSet(rates=(RateLimit("requests_per_minute", 0),))
BROKE = LimitSet(spend=(SpendLimit("day", 1),))


class Quietly:
    """Publishes as control does, but for the message that tells the workers."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._accounts = Accounts(server, epoch=False)

    def revoke(self, secret: str) -> None:
        name = KEYS.key(hashlib.sha256(secret.encode()).hexdigest())
        version, record = self._server.command("HMGET", name, "v", "d")
        principal = msgspec.json.decode(record, type=Principal)
        gone = msgspec.json.encode(msgspec.structs.replace(principal, revoked=True))
        self._server.command("HSET", name, "v", int(version) + 1, "d", gone)
        assert done(self._accounts.limits.publish_key_versions(ORG, {principal.key_id: int(version) + 1}))

    def key_id(self, secret: str) -> str:
        record = self._server.command("HGET", KEYS.key(hashlib.sha256(secret.encode()).hexdigest()), "d")
        return msgspec.json.decode(record, type=Principal).key_id

    def limit(self, field: str, limits: LimitSet | None) -> None:
        version = done(self._accounts.limits.read_documents(ORG)).version + 1
        document = None if limits is None else msgspec.json.encode(LimitDocument(own=limits))
        assert done(self._accounts.limits.publish(ORG, version, {field: document})) == 1

    def close(self) -> None:
        self._accounts.redis.close()


@pytest.fixture
def server(start_server: StartServer) -> Server:
    return start_server(VALKEY, *DURABLE)


@pytest.fixture
def quietly(server: Server) -> Iterator[Quietly]:
    found = Quietly(server)
    yield found
    found.close()


def secrets_of(number: int) -> list[str]:
    return [f"sk-gw-test-EXACT{n:04}AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" for n in range(number)]


async def known(calls: Caller, secret: str) -> None:
    """Calls until each worker has the key in its memory."""
    said = await asyncio.gather(*(calls.call(key=secret) for _ in range(SPREAD)))
    assert {one.status for one in said} == {200}


async def test_a_revoked_key(
    start_gateway: StartGateway, server: Server, quietly: Quietly, size: Size, measured: Measured
) -> None:
    secrets = secrets_of(size(small=10, full=200))
    async with paid(held=False) as upstream:
        settings = limited(server, upstream, {})
        keys = [{"name": f"k{n}", "secret": secret} for n, secret in enumerate(secrets)]
        settings["projects"] = [{"id": "proj_a", "keys": keys}]
        gateway = start_gateway(workers={"count": WORKERS}, **settings)
        gateway.secrets |= set(secrets)
        admitted = 0
        async with caller(gateway) as calls:
            for secret in secrets:
                await known(calls, secret)
                served = len(upstream.came)
                quietly.revoke(secret)
                said = await asyncio.gather(*(calls.call(key=secret) for _ in range(SPREAD)))
                admitted += len(upstream.came) - served
                assert {one.status for one in said} == {401}
    measured("keys revoked without a message", len(secrets), "keys")
    measured(f"of {SPREAD} calls with each after that: admitted", admitted, "calls", "0")
    assert admitted == 0


@pytest.mark.parametrize(("limits", "code"), [(NOTHING, "rate_limit_exceeded"), (BROKE, "key_spend_limit_exceeded")])
async def test_a_lowered_limit(  # noqa: PLR0917 - fixtures
    limits: LimitSet,
    code: str,
    start_gateway: StartGateway,
    server: Server,
    quietly: Quietly,
    size: Size,
) -> None:
    """Down and up again: each change holds for all calls that begin after it."""
    secrets = secrets_of(1)
    async with paid(held=False) as upstream:
        settings = limited(server, upstream, {})
        settings["projects"] = [{"id": "proj_a", "keys": [{"name": "k", "secret": secrets[0]}]}]
        gateway = start_gateway(workers={"count": WORKERS}, **settings)
        gateway.secrets |= set(secrets)
        field = f"k:{quietly.key_id(secrets[0])}"
        async with caller(gateway) as calls:
            for _ in range(size(small=5, full=100)):
                await known(calls, secrets[0])
                served = len(upstream.came)
                quietly.limit(field, limits)
                said = await asyncio.gather(*(calls.call(key=secrets[0]) for _ in range(SPREAD)))
                assert {(one.status, one.code) for one in said} == {(429, code)}
                assert len(upstream.came) == served
                quietly.limit(field, None)
