"""A worker in this process whose limits and usage are in a real Redis, for tests of sockets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import structlog

from gateway.accounts.limits_store import LimitsStore
from gateway.accounts.reservations import Reservations
from gateway.accounts.scripts import AccountScripts
from gateway.accounts.spend import Spend, Spent
from gateway.accounts.usage_stream import UsageStream
from gateway.clock import SystemClock
from gateway.limits import LimitDocument, LimitSet, RateLimit, SpendLimit, project_field
from gateway.proxy.metering.outbox import Outbox
from gateway.proxy.metering.spool import Spools
from gateway.redisdb.client import connect
from gateway.redisdb.hot import HotRedis
from gateway.telemetry.metrics import Metrics
from gateway.values import UsageEvent
from tests.fakes.events import KEYS, PATIENT
from tests.fakes.redis_servers import Server, eventually
from tests.fakes.worker import PRINCIPAL, Gateway, gateway

ORG = PRINCIPAL.organization_id
_MIB = 1024 * 1024


class _Counters:
    def __init__(self, reservations: Reservations, outbox: Outbox) -> None:
        self.reservations = reservations
        self.outbox = outbox


class Limited:
    """A worker, and what Redis has of its project."""

    def __init__(self, gw: Gateway, server: Server, hot: HotRedis, outbox: Outbox) -> None:
        self.gw = gw
        self.outbox = outbox
        self._server = server
        self._spend = Spend(hot, KEYS)
        self._limits = LimitsStore(hot, KEYS)
        self._version = 0

    async def limit(self, *limits: RateLimit | SpendLimit, **more: Any) -> None:
        """The project has these limits from now on. more: members of its document."""
        self._version += 1
        rates = tuple(limit for limit in limits if isinstance(limit, RateLimit))
        spend = tuple(limit for limit in limits if isinstance(limit, SpendLimit))
        document = LimitDocument(own=LimitSet(rates, spend), **more)
        field = project_field(PRINCIPAL.project_id)
        await self._limits.publish(ORG, self._version, {field: msgspec.json.encode(document)})

    async def key_version(self, version: int) -> None:
        """The key's record has this version now."""
        await self._limits.publish_key_versions(ORG, {PRINCIPAL.key_id: version})

    async def spent(self) -> Spent:
        return (await self._spend.read(ORG, [project_field(PRINCIPAL.project_id)])).by_subject["p:proj_1"]

    def running(self) -> list[str]:
        """Counts of what runs that are not 0."""
        found = self._server.command("HGETALL", f"{KEYS.base(ORG)}:buckets")
        pairs = zip(found[::2], found[1::2], strict=True)
        return [name.decode() for name, count in pairs if name.startswith(b"c:") and int(count)]

    def buckets(self) -> list[str]:
        """Names of buckets from which something was taken."""
        found = self._server.command("HKEYS", f"{KEYS.base(ORG)}:buckets")
        return sorted(name.decode() for name in found if name.startswith(b"b:"))

    def keys(self, pattern: str) -> list[str]:
        """Names of keys, without the organization's base."""
        base = KEYS.base(ORG) + ":"
        return sorted(key.decode().removeprefix(base) for key in self._server.command("KEYS", base + pattern))

    def living(self) -> list[str]:
        """Reservations that have not ended, and what is counted while they live."""
        records = [key for key in self.keys("r:*") if self._server.command("GET", f"{KEYS.base(ORG)}:{key}") != b"x"]
        return records + self.running() + self.keys("leases")

    def stream(self) -> list[UsageEvent]:
        """All events that have reached Redis."""
        found = self._server.command("XRANGE", KEYS.usage(ORG), "-", "+")
        return [msgspec.json.decode(fields[3], type=UsageEvent) for _, fields in found]

    async def settled(self) -> list[UsageEvent]:
        """All events, when nothing is reserved any more; they are what is spent."""
        await self.outbox.drain()
        await eventually(lambda: not self.living())
        found = self.stream()
        spent = sum(line.nano_usd or 0 for event in found for line in event.lines)
        assert (await self.spent()).total == spent
        assert sorted(event.id for event in found) == sorted(event.id for event in self.gw.events)
        assert not [event for event in found if event.unconfirmed]
        return found


@asynccontextmanager
async def limited(
    upstreams: Any, server: Server, folder: Path, *, deadline_ms: int = PATIENT, **sections: Any
) -> AsyncIterator[Limited]:
    """A worker in front of these upstreams whose counters are open. folder: for its spool. deadline_ms: of Redis."""
    redis = server.settings(deadline_ms=deadline_ms)
    clock, log, client, scripts = SystemClock(), structlog.get_logger(), connect(redis), AccountScripts.load()
    hot = HotRedis(client, redis, clock=clock, log=log, scripts=scripts.all)
    await hot.start()
    spools = Spools(folder, 64 * _MIB, clock)
    outbox = Outbox(UsageStream(hot, KEYS, scripts.settle), spools, metrics=Metrics(), log=log, clock=clock)
    outbox.start()
    try:
        await Spend(hot, KEYS).open_epoch(ORG, "epoch-1")
        counters = _Counters(Reservations(hot, KEYS, scripts), outbox)
        async with gateway(upstreams, counters=counters, **sections) as gw:
            made = Limited(gw, server, hot, outbox)
            await made.limit()
            yield made
    finally:
        await outbox.close()
        await hot.aclose()
        await client.aclose()
