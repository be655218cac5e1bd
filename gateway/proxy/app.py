"""A worker: makes the rooms of the data plane and joins them."""

import asyncio
import contextlib
import gc
import socket
from collections.abc import Callable, Sequence

from gateway.accounts.refusals import Refusals
from gateway.accounts.reservations import Reservations
from gateway.accounts.scripts import AccountScripts
from gateway.accounts.usage_stream import Packed, UsageStream
from gateway.clock import Clock
from gateway.errors import DRAINING, GatewayError
from gateway.keyspace import Keyspace
from gateway.operations.table import load_operations
from gateway.pricing.book import make_book
from gateway.process import Child, serve_until_told, take_turns
from gateway.proxy.admission.limits import Limits
from gateway.proxy.admission.permitted import Permitted
from gateway.proxy.admission.reserve import Open
from gateway.proxy.admission.socket import SocketGates
from gateway.proxy.auth.first_sight import AskControl
from gateway.proxy.auth.identify import Identify
from gateway.proxy.auth.keys import Fetch, KeyCache
from gateway.proxy.auth.read_model import ReadModel
from gateway.proxy.auth.revocation import Revocation
from gateway.proxy.auth.tokens import Tokens
from gateway.proxy.body.budget import Budget
from gateway.proxy.body.intake import Intake
from gateway.proxy.body.outgoing import query_with_model
from gateway.proxy.doorway import Doorway
from gateway.proxy.http.cors import Cors
from gateway.proxy.http.exchanges import Exchanges
from gateway.proxy.http.request import RequestIds
from gateway.proxy.http.server import ProxyServer
from gateway.proxy.metering.counters import UsageCounters, usage_metrics
from gateway.proxy.metering.intents import Intents
from gateway.proxy.metering.meter import Meter
from gateway.proxy.metering.outbox import Outbox, Sink
from gateway.proxy.metering.spool import Spools
from gateway.proxy.ops import Recorder
from gateway.proxy.ownership import Ownership
from gateway.proxy.pipeline import Pipeline
from gateway.proxy.upstream.forward import Forwarder
from gateway.proxy.upstream.router import Attempt, Destination, Router, control_attempts, destination
from gateway.proxy.websocket.serve import WebSockets
from gateway.redisdb.breaker import State
from gateway.redisdb.client import connect
from gateway.redisdb.hot import HotRedis
from gateway.settings.model import Settings
from gateway.settings.places import spool_folder
from gateway.settings.transfer import decode
from gateway.tasks import Tasks
from gateway.telemetry.logging import LineWriter, Logger, make_logger
from gateway.telemetry.metrics import Metrics, use_lane
from gateway.tokens.bearers import Bearers
from gateway.values import UsageEvent

_MIB = 1024 * 1024
_SWEEP_S = 0.25
_BACKLOG = 4096
_SUBSCRIBE_S = 2.0  # a worker serves also while Redis is away, but waits so long for it at its start
_LOOK_S = 0.1  # between two looks at what may be away
_BREAKER_STATES: tuple[State, ...] = ("closed", "open", "half_open")
_ORPHAN_S = 0.5  # what is in flight gets no longer than this when the supervisor has died


class Worker:
    """One worker's rooms, without Redis: `fetch` asks for a key, `outbox` takes usage; `reservations` has a deadline,
    `patient` waits; every `sweep_s` seconds timeouts are looked at and access lines written. Serves on sockets that the
    supervisor opened."""

    def __init__(
        self,
        settings: Settings,
        *,
        fetch: Fetch,
        metrics: Metrics,
        log: Logger,
        clock: Clock,
        slot: str = "0",
        lines: LineWriter | None = None,
        outbox: Sink | None = None,
        intents: Intents | None = None,
        reservations: Reservations | None = None,
        patient: Reservations | None = None,
        sweep_s: float = _SWEEP_S,
    ) -> None:
        self._settings = settings
        self._sweep_s = sweep_s
        self._deliver: Callable[[UsageEvent | Packed], None] = outbox.add if outbox is not None else _nowhere
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._tasks, timeouts = Tasks(), settings.timeouts
        self._lines = lines or (LineWriter() if settings.logs.access else None)
        self._servers: list[asyncio.Server] = []
        self._recorder = recorder = Recorder(metrics, self._lines, clock, slot)
        self.keys = KeyCache(fetch, clock)
        self._tokens = self._make_tokens()
        self.exchanges = Exchanges(timeouts.response_s, timeouts.between_bytes_s)
        self.budget = Budget(settings.bodies.budget_mib * _MIB, timeouts.body_wait_s)
        self._destinations: dict[str, Destination] = {
            name: destination(name, upstream, timeouts) for name, upstream in settings.upstreams.items()
        }
        self._websockets = WebSockets(timeouts, settings.bodies, self.exchanges, clock, query_with_model)
        control = control_attempts(settings)
        self._pools = [d.pool for d in self._destinations.values()] + [a.destination.pool for a in control]
        self._book = make_book(settings.prices)
        counters = UsageCounters(settings, self._book, metrics)
        self._meter = Meter(load_operations(), self._book, counters, self._deliver, log, clock=clock)
        self.limits = None if reservations is None else self._make_limits(reservations, patient, intents)
        ids = RequestIds()
        self._door = Doorway(
            self._pipeline(control),
            recorder,
            cors=Cors(settings.cors.origins),
            ids=ids,
            clock=clock,
            log=log,
            max_in_flight=settings.workers.max_in_flight,
        )
        self.server = ProxyServer(
            self._door.handle,
            max_head_bytes=settings.bodies.headers_kib * 1024,
            max_connections=settings.workers.max_connections,
            timeouts=timeouts,
            ids=ids,
            refused=recorder.refused,
            turned_away=metrics.counter("gateway_connections_turned_away_total").add,
        )

    def _pipeline(self, control: tuple[Attempt, ...]) -> Pipeline:
        settings, metrics, clock = self._settings, self._metrics, self._clock
        retries = metrics.counter("gateway_upstream_retries_total")
        intake = Intake(settings.bodies, self.budget)
        admission = self.limits.admission if self.limits is not None else Open()
        return Pipeline(
            clock,
            self._loop,
            Identify(self.keys, self._tokens),
            Permitted(settings, metrics, self._book.refuses),
            intake,
            Ownership(),
            admission,
            SocketGates(admission, load_operations(), intake, clock),
            Router(settings, self._destinations),
            Forwarder(clock, self._tasks, retries.add),
            self._meter,
            self._websockets,
            self.exchanges,
            control,
        )

    def _make_limits(
        self, reservations: Reservations, patient: Reservations | None, intents: Intents | None
    ) -> Limits:  # fmt: skip
        metrics, log, clock = self._metrics, self._log, self._clock
        return Limits(
            self._settings, reservations, patient, self._book, metrics=metrics, log=log, clock=clock, intents=intents
        )

    def _make_tokens(self) -> Tokens | None:
        issuers = self._settings.tokens.issuers
        if not issuers:
            return None

        def tell(issuer: str, reason: str) -> None:
            self._log.warning("issuer_keys_away" if reason else "issuer_keys_back", issuer=issuer, reason=reason)

        bearers = Bearers(issuers, self._clock, tell)
        return Tokens(bearers, self.keys, AskControl(self._settings).make_known, self._metrics, self._clock)

    async def listen(self, sockets: Sequence[socket.socket]) -> None:
        """Begins to accept on these sockets."""
        for listening in sockets:
            self._servers.append(await self._loop.create_server(self.server, sock=listening, backlog=_BACKLOG))
        self._tasks.spawn(self._sweep(), "sweep")
        self._tasks.spawn(self._meter.load_tokenizers(), "load tokenizers")
        if self.limits is not None:
            self.limits.start()

    @property
    def in_flight(self) -> int:
        """Requests being served."""
        return self._door.in_flight

    async def _sweep(self) -> None:
        """Timeouts and gauges, a few times a second for all requests together: no timer per request."""
        due = self._loop.time()
        while True:
            due += self._sweep_s
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            now = self._loop.time()
            try:
                self._sweep_once(now, now - due)
            except Exception:  # noqa: BLE001 - else one mistake would end all timeouts of the worker
                self._log.exception("sweep_failed")
            due = max(due, now - self._sweep_s)

    def _sweep_once(self, now: float, lag_s: float) -> None:
        self.exchanges.sweep(now)
        self.server.sweep(now)
        for pool in self._pools:
            pool.sweep(now)
        self._gauges(lag_s)

    def _gauges(self, lag_s: float) -> None:
        metrics = self._metrics
        self._recorder.flush()
        if self._lines is not None:
            metrics.counter("gateway_log_lines_dropped_total").add((), self._lines.take_dropped())
        metrics.set("gateway_requests_in_flight", self._door.in_flight)
        metrics.set("gateway_client_connections", len(self.server.connections))
        metrics.set("gateway_websockets", self._websockets.open)
        metrics.set("gateway_body_bytes", self.budget.used)
        metrics.set("gateway_cached_keys", len(self.keys))
        metrics.set("gateway_loop_lag_seconds", max(0.0, lag_s))
        for to in self._destinations.values():
            metrics.set("gateway_upstream_connections", to.pool.idle, (to.name, "idle"))
            metrics.set("gateway_upstream_connections", len(to.pool) - to.pool.idle, (to.name, "busy"))
        self._meter.flush()
        if self.limits is not None:
            self.limits.flush()
        metrics.flush()

    async def drain(self, deadline_s: float) -> None:
        """Stops accepting, lets what is in flight end, and after the deadline ends it with an error."""
        for server in self._servers:
            server.close()
        self.server.drain(self._settings.timeouts.drain_idle_s)
        for pool in self._pools:
            pool.close()
        await self._until_empty(deadline_s)
        if self._door.in_flight:
            self._log.warning("drain_deadline_passed", still_in_flight=self._door.in_flight)
        error = GatewayError(DRAINING)
        self.server.drain(0.0)
        self.exchanges.end_all(error)
        self.budget.end_waits(error)
        self.server.end_waits(error)
        await self._until_empty(1.0)

    async def _until_empty(self, deadline_s: float) -> None:
        """Waits until no client is connected any more, or for so long."""
        try:
            async with asyncio.timeout(deadline_s):
                await self.server.empty()
        except TimeoutError:
            return

    async def close(self) -> None:
        """Ends everything at once."""
        for server in self._servers:
            server.close()
        await self.server.close()
        for pool in self._pools:
            pool.close()
        await self._websockets.close()
        if self._tokens is not None:
            await self._tokens.close()
        await self.keys.close()
        if self.limits is not None:
            await self.limits.close()
        await self._tasks.cancel()
        self._gauges(0.0)
        if self._lines is not None:
            self._lines.close()


async def run(child: Child, clock: Clock) -> None:
    """A worker process, from its start by the supervisor to its end."""
    start = child.start
    settings = decode(start.settings)
    log = make_logger("worker", settings.logs.level, clock, slot=start.slot)
    if isinstance(settings.workers.count, int):
        take_turns(settings.workers.count)
    use_lane(start.lane)
    metrics = Metrics(more=usage_metrics(settings))
    client = connect(settings.redis, embedded_url=start.redis_url)
    keyspace, scripts = Keyspace(settings.redis.prefix), AccountScripts.load()
    hot = HotRedis(client, settings.redis, clock=clock, log=log, scripts=scripts.all)
    await hot.start()
    model = ReadModel(hot, client, keyspace, metrics)
    spools = Spools(spool_folder(settings), settings.usage.spool_mib * _MIB, clock)
    stream = UsageStream(hot, keyspace, scripts.settle, most_events=settings.usage.stream_events)
    intents = Intents(spools, log)
    outbox = Outbox(stream, spools, metrics=metrics, log=log, clock=clock, intents=intents)
    worker = Worker(
        settings,
        fetch=model.fetch,
        metrics=metrics,
        log=log,
        clock=clock,
        slot=start.slot,
        outbox=outbox,
        intents=intents,
        reservations=Reservations(hot, keyspace, scripts),
        patient=Reservations(client, keyspace, scripts),
    )
    hot.listen(outbox.linked)
    if worker.limits is not None:
        hot.listen(worker.limits.leases.linked)
        worker.limits.leases.listen(outbox.epoch_is)
    tasks = Tasks()
    refusals = Refusals(client, keyspace)
    subscribed = asyncio.Event()
    revocation = Revocation(model, worker.keys, worker.exchanges, tasks, log)
    tasks.spawn(revocation.listen(subscribed.set), "listen for changes of keys")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SUBSCRIBE_S):
            await subscribed.wait()
    sockets = child.sockets()
    if await child.ready():
        outbox.start()
        await worker.listen(sockets)
    _spare_the_collector()
    tasks.spawn(_report(child, hot, worker, outbox, metrics), "report health")
    if worker.limits is not None:
        tasks.spawn(worker.limits.record(refusals), "record refusals")
    await serve_until_told(child, worker.drain, _ORPHAN_S)
    await tasks.cancel()
    await worker.close()
    if worker.limits is not None:
        await worker.limits.record_rest(refusals)
    await outbox.close()
    await intents.close()
    metrics.flush()
    await hot.aclose()
    await client.aclose()


def _nowhere(_event: UsageEvent | Packed) -> None:
    """Where usage goes that nobody wants, in a worker by itself."""


def _spare_the_collector() -> None:
    """What exists now lives as long as the process: the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


async def _report(child: Child, hot: HotRedis, worker: Worker, outbox: Outbox, metrics: Metrics) -> None:
    """Tells the supervisor which dependencies are away, whenever that changes."""
    while True:
        away = {}
        if (trouble := hot.trouble) is not None:
            away["redis"] = f"a worker's calls fail: {trouble}"
        elif not worker.keys.subscribed:
            away["redis"] = "a worker does not hear of changed keys"
        metrics.set("gateway_redis_up", 0 if away else 1)
        if outbox.full:
            away["usage"] = "nobody folds the usage stream, and it is full: usage goes to disk"
        states = list(hot.states.values())
        for state in _BREAKER_STATES:
            metrics.set("gateway_redis_breaker", states.count(state), (state,))
        await child.health(away)
        await asyncio.sleep(_LOOK_S)
