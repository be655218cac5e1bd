"""Reservations whose worker died, on a real server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gateway.accounts.reservations import Reservations
from gateway.accounts.scripts import AccountScripts
from gateway.clock import SystemClock
from gateway.control.jobs.sweeper import Sweeper
from gateway.redisdb.client import Client, connect
from gateway.redisdb.failures import RedisLost, RedisReplyError
from gateway.tasks import Tasks
from gateway.telemetry.logging import make_logger
from tests.fakes.events import KEYS, ORG
from tests.fakes.redis_servers import Server
from tests.unit.accounts.stand import Accounts, plan_of, rate


@pytest.fixture
async def client(valkey: Server) -> AsyncIterator[Client]:
    client = connect(valkey.settings())
    yield client
    await client.aclose()


@pytest.fixture
def accounts(valkey: Server) -> Iterator[Accounts]:
    accounts = Accounts(valkey)
    accounts.now = int(SystemClock.wall() * 1e6) - 60_000_000  # a lease of then is over
    yield accounts
    accounts.redis.close()


class Sweeping:
    """A sweeper of which each pause is seen, and lasts until the test has looked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, reservations: Any) -> None:
        self.logged: list[bytes] = []
        self.paused = asyncio.Semaphore(0)
        self._go = asyncio.Event()
        self._tasks = Tasks()
        log = make_logger("control", "info", SystemClock(), write=self.logged.append)
        monkeypatch.setattr("asyncio.sleep", self._pause)
        self._sweeper = Sweeper(reservations, ORG, log)

    async def _pause(self, seconds: float) -> None:
        assert seconds == 2
        self._go.clear()
        self.paused.release()
        await self._go.wait()

    def start(self) -> None:
        self._tasks.spawn(self._sweeper.keep_swept(), "sweep")

    def again(self) -> None:
        self._go.set()

    async def stop(self) -> None:
        await self._tasks.cancel()


async def paused(sweeping: Sweeping) -> None:
    async with asyncio.timeout(10):
        await sweeping.paused.acquire()


async def test_it_ends_what_is_over_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, client: Client, accounts: Accounts
) -> None:
    plan = plan_of(rate("key", "key_1", "concurrent_requests", 1000))
    for number in range(250):
        accounts.admitted(plan, f"req_{number}", nano_usd=5)
    accounts.now += 60_000_000
    accounts.admitted(plan, "req_living", nano_usd=5)
    sweeping = Sweeping(monkeypatch, Reservations(client, KEYS, AccountScripts.load()))
    sweeping.start()
    await paused(sweeping)
    assert accounts.keys("leases") == ["leases"]
    assert len(accounts.events()) == 250
    assert all(event.unconfirmed for event in accounts.events())
    assert accounts.spent().total == 251 * 5, "charged as reserved"
    assert accounts.redis.command("HGET", KEYS.base(ORG) + ":buckets", "c:k:key_1") == b"1"
    assert len(sweeping.logged) == 3, "in parts, so that others get their turn"
    sweeping.again()
    await paused(sweeping)
    assert len(accounts.events()) == 250
    assert len(sweeping.logged) == 3
    await sweeping.stop()


async def test_it_goes_on_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        calls = 0

        async def sweep(self, organization_id: str, most: int) -> int:
            assert (organization_id, most) == (ORG, 100)
            self.calls += 1
            if self.calls == 1:
                raise RedisLost("away")
            if self.calls <= 3:
                raise RedisReplyError("OOM", "no memory")
            return 0

    failing = Failing()
    sweeping = Sweeping(monkeypatch, failing)
    sweeping.start()
    await paused(sweeping)
    assert sweeping.logged == [], "whoever publishes says so"
    for _ in range(3):
        sweeping.again()
        await paused(sweeping)
    assert failing.calls == 4
    assert len(sweeping.logged) == 1, "once a reason"
    assert b"OOM" in sweeping.logged[0]
    await sweeping.stop()
