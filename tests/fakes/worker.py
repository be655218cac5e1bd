"""A worker of the data plane in this process, listening on a free port; and a client that speaks in bytes."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, Protocol

import msgspec
import prometheus_client

from gateway.accounts.reservations import Reservations
from gateway.accounts.usage_stream import Packed
from gateway.clock import Clock, SystemClock
from gateway.credentials import digest
from gateway.proxy.app import Worker
from gateway.proxy.auth.keys import KeysAwayError
from gateway.proxy.http.connection import ServerConnection
from gateway.proxy.metering.counters import usage_metrics
from gateway.proxy.metering.outbox import Sink
from gateway.settings.model import Settings
from gateway.settings.transfer import convert
from gateway.telemetry.logging import LineWriter, make_logger
from gateway.telemetry.metrics import Metrics
from gateway.values import Principal, UsageEvent
from tests.fakes.upstream import Upstream
from tests.fakes.wire import Headers, Wire, chunk, lines_of, soon, until

KEY = "sk-gw-TESTKEYabcdefghijklmnopqrstuvwxyz0123456789AB"
OTHER_KEY = "sk-gw-OTHERKEYabcdefghijklmnopqrstuvwxyz012345678"
UPSTREAM_KEY = "sk-upstream-SECRETabcdefghijklmnopqrstuvwxyz"
SECRETS = (KEY, OTHER_KEY, UPSTREAM_KEY)
PRINCIPAL = Principal("key_1", "proj_1", "user_1", "org-1")
AUTH = b"Authorization: Bearer " + KEY.encode() + b"\r\n"
_SWEEP_S = 0.02  # tests wait for access lines often


def waiting_in(connection: ServerConnection) -> int:
    """Bytes of a request's body that have come, and that nobody has taken."""
    assert connection._body is not None
    return connection._body._size


class CutError(Exception):
    """An answer that was not complete when the connection ended."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body[-200:])
        self.body = body


class Response(msgspec.Struct):
    """An answer as it came. interim: the heads of 1xx answers before it."""

    status: int
    reason: bytes
    headers: Headers
    raw: bytes
    body: bytes = b""
    trailers: Headers = []
    interim: list[bytes] = []

    def values(self, name: bytes) -> list[bytes]:
        return [value for given, value in self.headers if given.lower() == name]

    def header(self, name: bytes) -> bytes | None:
        found = self.values(name)
        return found[0] if found else None

    @property
    def error(self) -> dict[str, Any]:
        """The `error` object of an answer of the gateway's own, which has all of OpenAI's members."""
        error: dict[str, Any] = msgspec.json.decode(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert self.header(b"content-type") == b"application/json"
        assert self.header(b"x-request-id")
        return error


class Client(Wire):
    """A client's connection. It frames answers strictly; what is left over stays for the next."""

    async def head(self) -> Response:
        """The head of the next answer that is not 1xx."""
        interim: list[bytes] = []
        while True:
            raw = await soon(self.upto(b"\r\n\r\n"))
            line, headers = lines_of(raw)
            version, status, reason = line.split(b" ", 2)
            assert version == b"HTTP/1.1"
            if not status.startswith(b"1"):
                return Response(int(status), reason, headers, raw, interim=interim)
            interim.append(raw)
            if status == b"101":
                return Response(101, reason, headers, raw, interim=interim)

    async def response(self, method: str = "GET") -> Response:
        """The next answer, whole. Raises CutError if it ends too early, EOFError if none comes."""
        found = await self.head()
        await soon(self._body(found, method))
        return found

    async def _body(self, found: Response, method: str) -> None:
        lengths, codings = found.values(b"content-length"), found.values(b"transfer-encoding")
        assert len(lengths) + len(codings) <= 1, found.raw
        if method == "HEAD" or found.status in {204, 304}:
            return
        body = bytearray()
        try:
            if codings:
                while data := await self.chunked():
                    body += data
                found.trailers = await self.trailers()
            elif lengths:
                while len(body) < int(lengths[0]):
                    body += await self.some(int(lengths[0]) - len(body))
            else:
                await self.ended.wait()
                body += self.take(1 << 40)
                if self.error is not None:
                    raise CutError(bytes(body))
        except EOFError:
            raise CutError(bytes(body)) from None
        found.body = bytes(body)

    async def closed(self) -> bytes:
        """Waits until the other side has closed; what came before that and was not read."""
        await soon(self.ended.wait())
        return self.take(1 << 40)

    async def ask(
        self,
        target: str = "/v1/models",
        body: bytes | None = None,
        *headers: bytes,
        method: str | None = None,
        key: str | None = KEY,
    ) -> Response:
        """A plain request and its answer. headers: whole lines without their end."""
        method = method or ("GET" if body is None else "POST")
        self.send(request(method, target, body, *headers, key=key))
        return await self.response(method)


def request(
    method: str, target: str, body: bytes | None = None, *headers: bytes, key: str | None = KEY, length: bool = True
) -> bytes:
    """A request's bytes. body None has none; length False leaves its framing to `headers`."""
    lines = [f"{method} {target} HTTP/1.1".encode("latin-1"), b"Host: gateway.test"]
    if key is not None:
        lines.append(b"Authorization: Bearer " + key.encode("latin-1"))
    lines += headers
    if body is not None:
        if not any(h.lower().startswith(b"content-type:") for h in headers):
            lines.append(b"Content-Type: application/json")
        if length:
            lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def chunked_request(target: str, pieces: list[bytes], *headers: bytes, key: str | None = KEY) -> bytes:
    """A POST whose body comes in chunks."""
    body = b"".join(map(chunk, pieces)) + b"0\r\n\r\n"
    return request("POST", target, body, b"Transfer-Encoding: chunked", *headers, key=key, length=False)


class Keys:
    """The read model as tests have it. away: it cannot be asked. gate: answers wait until it is set."""

    def __init__(self) -> None:
        self.known: dict[bytes, Principal] = {digest(KEY): PRINCIPAL}
        self.away = False
        self.asked: list[bytes] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self, wanted: bytes) -> Principal | None:
        self.asked.append(wanted)
        found = self.known.get(wanted)
        await self.gate.wait()
        if self.away:
            raise KeysAwayError
        return found


class CapturedLines(LineWriter):
    """Access lines, kept."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def add(self, line: bytes) -> None:
        assert line.endswith(b"\n")
        self.lines.append(line)

    def flush(self) -> None:
        return

    def take_dropped(self) -> int:
        return 0

    def close(self, timeout_s: float = 2.0) -> None:
        return


class Counters(Protocol):
    """Where a worker's limits are counted and its usage goes to: see `tests.fakes.limited`."""

    @property
    def reservations(self) -> Reservations: ...
    @property
    def outbox(self) -> Sink: ...


class Gateway:
    """A running worker and what can be seen of it."""

    def __init__(self, settings: Settings, clock: Clock, counters: Counters | None = None) -> None:
        self.keys = Keys()
        self._counters = counters
        self.metrics = Metrics(more=usage_metrics(settings))
        self.events: list[UsageEvent] = []  # of usage
        self.logged: list[bytes] = []
        self.captured = CapturedLines()
        self.clients: list[Client] = []
        self.port = 0
        self._settings = settings
        self.worker = Worker(
            settings,
            fetch=self.keys.fetch,
            metrics=self.metrics,
            log=make_logger("worker", "debug", clock, write=self.logged.append),
            clock=clock,
            lines=self.captured,
            outbox=self,
            reservations=counters.reservations if counters is not None else None,
            sweep_s=_SWEEP_S,
        )
        self.worker.keys.connected()

    def add(self, event: UsageEvent | Packed) -> None:
        """Takes usage, as the worker's outbox."""
        unpacked = msgspec.json.decode(event.json, type=UsageEvent) if isinstance(event, Packed) else event
        self.events.append(unpacked)
        if self._counters is not None:
            self._counters.outbox.add(event)

    async def start(self) -> None:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", 0))
        listening.setblocking(False)
        self.port = listening.getsockname()[1]
        await self.worker.listen([listening])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def connect(self) -> Client:
        _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", self.port)
        self.clients.append(client)
        return client

    async def ask(
        self, target: str = "/v1/models", body: bytes | None = None, *headers: bytes, **options: Any
    ) -> Response:
        """A plain request on a connection of its own."""
        client = await self.connect()
        try:
            return await client.ask(target, body, *headers, **options)
        finally:
            client.close()

    @property
    def access(self) -> list[dict[str, Any]]:
        """The access lines so far."""
        self.worker._recorder.flush()  # what has gathered
        return [msgspec.json.decode(line) for line in self.captured.lines]

    async def lines(self, number: int = 1) -> list[dict[str, Any]]:
        """The access lines, when there are so many."""
        await until(lambda: len(self.access) >= number)
        return self.access

    @property
    def log(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line) for line in self.logged]

    def metric(self, name: str, **labels: str) -> float:
        self.worker._gauges(0.0)
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def everything_said(self) -> bytes:
        """All that operators see: log, access lines, metrics."""
        self.worker._recorder.flush()
        self.metrics.flush()
        return b"".join([*self.logged, *self.captured.lines, prometheus_client.generate_latest(self.metrics.registry)])

    @property
    def in_flight(self) -> int:
        return self.worker.in_flight

    @property
    def budget_used(self) -> int:
        return self.worker.budget.used

    async def idle(self) -> None:
        """Waits until nothing is under way: no request, no exchange, nothing of the budget taken."""
        worker = self.worker
        await until(lambda: not (worker.in_flight or len(worker.exchanges) or worker.budget.used))

    async def leave(self) -> None:
        """All clients go."""
        for client in self.clients:
            if not client.ended.is_set():
                client.transport.abort()
        await self.idle()


def configured(upstreams: "Upstream | str | Mapping[str, Any]", **sections: Any) -> Settings:
    """Settings: of one upstream, or of several by name; other sections as they stand in YAML."""
    if isinstance(upstreams, Upstream | str):
        upstreams = {"main": upstreams}
    made = {}
    for name, given in upstreams.items():
        options = dict(given) if isinstance(given, Mapping) else {}
        if not isinstance(given, Mapping):
            options["base_url"] = given.url if isinstance(given, Upstream) else given
        elif isinstance(options.get("base_url"), Upstream):
            options["base_url"] = options["base_url"].url
        made[name] = {"api_key": UPSTREAM_KEY, **options}
    return convert({"upstreams": made, **sections})


NOTHING: Mapping[str, Any] = MappingProxyType({})


@asynccontextmanager
async def gateway(
    upstreams: "Upstream | str | Mapping[str, Any]",
    *,
    clock: Clock | None = None,
    tidy: bool = True,
    counters: Counters | None = None,
    **sections: Any,
) -> AsyncIterator[Gateway]:
    """A worker in front of these upstreams. At its end it fails the test if something is left over.

    tidy: False for tests that leave something on purpose, or have drained the worker.
    """
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    made = Gateway(configured(upstreams, **sections), clock or SystemClock(), counters)
    try:
        await made.start()
        try:
            yield made
            if tidy:
                await made.leave()
                assert not [line for line in made.log if line["level"] == "error"], made.log
        finally:
            with contextlib.suppress(TimeoutError):
                await made.leave()
            await made.worker.close()
    finally:
        root.handlers, root.level = handlers, level
