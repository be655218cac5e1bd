"""A worker's delivery of usage without the worker: an outbox, its Redis connection and its spool."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from gateway.accounts.usage_stream import UsageStream, append_script
from gateway.clock import SystemClock
from gateway.proxy.metering.outbox import Outbox
from gateway.proxy.metering.spool import Spools
from gateway.redisdb.client import connect
from gateway.redisdb.hot import HotRedis
from gateway.settings.model import Redis
from gateway.telemetry.metrics import Metrics
from tests.fakes.events import KEYS, event
from tests.fakes.redis_servers import eventually

MIB = 1024 * 1024


class Stand:
    """An outbox and what can be seen of it. Events are numbered."""

    def __init__(self, outbox: Outbox, hot: HotRedis, metrics: Metrics, folder: Path) -> None:
        self.outbox = outbox
        self.hot = hot
        self.metrics = metrics
        self.folder = folder
        self.events: list[dict[str, Any]] = []  # of the log

    def add(self, *numbers: int | str) -> None:
        for number in numbers:
            self.outbox.add(event(number))

    def count(self, what: str) -> float:
        self.metrics.flush()
        return self.metrics.registry.get_sample_value("gateway_usage_events_total", {"what": what}) or 0

    @property
    def spool_bytes(self) -> float:
        return self.metrics.registry.get_sample_value("gateway_usage_spool_bytes") or 0

    @property
    def shows_full(self) -> bool:
        return self.metrics.registry.get_sample_value("gateway_usage_stream_full") == 1

    def said(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.events if line["event"] == name]

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*/*.jsonl"))


@asynccontextmanager
async def stand(
    redis: Redis,
    folder: Path,
    *,
    connected: bool = True,
    spool_bytes: int = 64 * MIB,
    stream_events: int = 0,
    **more: Any,
) -> AsyncIterator[Stand]:
    """folder: of all spools. connected: wait for that, for tests that begin with a Redis that is there. stream_events:
    as many as the stream takes; 0: any number."""
    lines: list[dict[str, Any]] = []

    def keep(_logger: Any, method: str, line: Any) -> Any:
        lines.append({**line, "level": method})
        raise structlog.DropEvent

    log = structlog.wrap_logger(structlog.PrintLogger(), processors=[keep])
    clock, metrics, script, client = SystemClock(), Metrics(), append_script(), connect(redis)
    hot = HotRedis(client, redis, clock=clock, log=log, scripts=[script])
    await hot.start()
    spools = Spools(folder, spool_bytes, clock)
    stream = UsageStream(hot, KEYS, script, most_events=stream_events)
    outbox = Outbox(stream, spools, metrics=metrics, log=log, clock=clock, **more)
    hot.listen(outbox.linked)
    found = Stand(outbox, hot, metrics, folder)
    found.events = lines
    try:
        if connected:
            await eventually(lambda: hot.trouble is None)
        outbox.start()
        yield found
    finally:
        await outbox.close()
        await hot.aclose()
        await client.aclose()
