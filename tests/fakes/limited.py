"""A worker in this process whose limits are counted in a real Redis, and what is to be seen there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from gateway.accounts.limits_store import LimitsStore
from gateway.accounts.refusals import Refusal, Refusals
from gateway.accounts.reservations import Reservations
from gateway.accounts.scripts import AccountScripts
from gateway.accounts.spend import Spend
from gateway.accounts.usage_stream import UsageStream
from gateway.clock import SystemClock
from gateway.credentials import digest
from gateway.limits import LimitDocument, LimitSet, RateLimit, SpendLimit
from gateway.proxy.admission.limits import Limits
from gateway.proxy.metering.outbox import Outbox
from gateway.proxy.metering.spool import Spools
from gateway.redisdb.client import Client, connect
from gateway.redisdb.hot import HotRedis
from gateway.telemetry.logging import make_logger
from gateway.telemetry.metrics import Metrics
from gateway.values import Principal, UsageEvent
from tests.fakes.events import KEYS, PATIENT
from tests.fakes.redis_servers import Server, eventually
from tests.fakes.upstream import OK, Script, Upstream, upstream
from tests.fakes.worker import KEY, PRINCIPAL, Gateway, Response, gateway

ORG = PRINCIPAL.organization_id
SUBJECTS = ["o", "p:proj_1", "u:user_1", "k:key_1"]
MIB = 1024 * 1024


def limits(*given: RateLimit | SpendLimit) -> LimitSet:
    return LimitSet(
        tuple(one for one in given if isinstance(one, RateLimit)),
        tuple(one for one in given if isinstance(one, SpendLimit)),
    )


def own(*given: RateLimit | SpendLimit) -> LimitDocument:
    return LimitDocument(own=limits(*given))


class Redis:
    """What a worker needs of Redis."""

    def __init__(self, client: Client, hot: HotRedis, outbox: Outbox, scripts: AccountScripts) -> None:
        self.client = client
        self.reservations = Reservations(hot, KEYS, scripts)
        self.outbox = outbox


class Limited:
    """A worker, its upstream and its organization's counters."""

    def __init__(self, server: Server, redis: Redis, gw: Gateway, up: Upstream) -> None:
        self.server = server
        self.gw = gw
        self.up = up
        self._redis = redis
        self._store = LimitsStore(redis.client, KEYS)
        self._spend = Spend(redis.client, KEYS)
        self._refusals = Refusals(redis.client, KEYS)
        self._version = 0
        self.add_key(KEY)

    @property
    def limits(self) -> Limits:
        limits = self.gw.worker.limits
        assert limits is not None
        return limits

    async def publish(self, documents: dict[str, LimitDocument | None]) -> None:
        """As the control plane does. By field: `o`, `p:proj_1`, .."""
        self._version += 1
        encoded = {field: msgspec.json.encode(one) if one is not None else None for field, one in documents.items()}
        await self._store.publish(ORG, self._version, encoded)

    async def open(self) -> None:
        await self._spend.open_epoch(ORG, "epoch-1")

    def add_key(self, key: str, **more: Any) -> None:
        self.gw.keys.known[digest(key)] = msgspec.structs.replace(PRINCIPAL, **{"version": 1, **more})

    async def change_key(self, key: str = KEY, **more: Any) -> None:
        """A newer version of a key's record, of which no worker hears."""
        found: Principal = self.gw.keys.known[digest(key)]
        newer = msgspec.structs.replace(found, version=found.version + 1, **more)
        self.gw.keys.known[digest(key)] = newer
        await self.publish_key_version(newer.key_id, newer.version)

    async def publish_key_version(self, key_id: str, version: int) -> None:
        await self._store.publish_key_versions(ORG, {key_id: version})

    async def settled(self) -> None:
        """Waits until all calls have ended, and nothing of them is held."""
        await self.gw.idle()
        await self._redis.outbox.drain()
        assert await self.limits.leases.end_now()
        assert len(self.limits.leases) == 0
        assert self.server.command("EXISTS", f"{KEYS.base(ORG)}:leases") == 0
        assert self.running() == {}

    async def spent(self, *subjects: str) -> list[int]:
        """Nano-dollars of all time."""
        return [one.total for one in (await self._spend.read(ORG, subjects or SUBJECTS)).by_subject.values()]

    def running(self) -> dict[str, int]:
        found = self.server.command("HGETALL", f"{KEYS.base(ORG)}:buckets")
        counts = {name.decode(): value for name, value in zip(found[::2], found[1::2], strict=True)}
        return {name[2:]: int(value) for name, value in counts.items() if name.startswith("c:") and int(value)}

    def events(self) -> list[UsageEvent]:
        """Of the usage stream."""
        found = self.server.command("XRANGE", KEYS.usage(ORG), "-", "+")
        return [msgspec.json.decode(fields[3], type=UsageEvent) for _, fields in found]

    async def recorded(self, *, end: bool = True) -> list[Refusal]:
        """Refusals in Redis, the oldest first."""
        if end:
            await self.limits.record_rest(self._refusals)
        return (await self._refusals.newest(ORG))[::-1]


def levels(found: Response) -> dict[str, str]:
    """`limit-requests` and so on."""
    given = [(name.decode(), value.decode()) for name, value in found.headers if name[:12] == b"x-ratelimit-"]
    assert len(dict(given)) == len(given), "each once"
    return {name[12:]: value for name, value in given}


@asynccontextmanager
async def limited(
    server: Server,
    folder: Path,
    script: Script = OK,
    *,
    to: str = "",
    opened: bool = True,
    deadline_ms: int = PATIENT,
    **options: Any,
) -> AsyncIterator[Limited]:
    """folder: of the spool. to: an upstream's URL in the place of the scripted one. opened: the counters have an epoch."""
    clock, scripts = SystemClock(), AccountScripts.load()
    settings = server.settings(deadline_ms=deadline_ms)
    log = make_logger("worker", "error", clock, write=lambda _: None)
    client = connect(settings)
    hot = HotRedis(client, settings, clock=clock, log=log, scripts=scripts.all)
    await hot.start()
    stream = UsageStream(hot, KEYS, scripts.settle)
    outbox = Outbox(stream, Spools(folder, MIB, clock), metrics=Metrics(), log=log, clock=clock)
    redis = Redis(client, hot, outbox, scripts)
    try:
        await eventually(lambda: hot.trouble is None)
        outbox.start()
        async with upstream(script) as up, gateway(to or up, counters=redis, **options) as gw:
            made = Limited(server, redis, gw, up)
            if opened:
                await made.open()
            yield made
    finally:
        await outbox.close()
        await hot.aclose()
        await client.aclose()
