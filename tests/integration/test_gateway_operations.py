"""The operations listener: whether the gateway is well, what is away, and metrics that go on whatever happens."""

import asyncio
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Self

from gateway import __version__
from gateway.proxy.metering.counters import usage_metrics
from gateway.telemetry.metrics import METRICS
from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import HELLO, OTHER_KEY, Gateway
from tests.fakes.load import load
from tests.fakes.ports import free_port
from tests.fakes.redis_servers import VALKEY, StartServer, eventually, eventually_blocking
from tests.fakes.worker import configured

WORKERS = {"ready": 2, "starting": 0, "draining": 0}
WELL = {"status": "ready", "workers": WORKERS, "away": {}}


def test_what_it_serves_and_where(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    found = gateway.ask("/livez", at="operations", key=None)
    assert (found.status, found.body) == (200, b"ok\n")
    assert gateway.readyz() == (200, WELL)
    found = gateway.ask("/metrics", at="operations", key=None)
    assert (found.status, found.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert gateway.ask("/v1/models", at="operations").status == 404
    for path in ("/livez", "/readyz", "/metrics"):
        assert gateway.ask(path).status == 404, "not where clients call"


def test_a_redis_that_goes_and_comes_back(start_gateway: StartGateway, start_server: StartServer) -> None:
    server = start_server(VALKEY, "--appendonly", "yes", port=free_port())
    gateway = start_gateway(redis={"url": server.url})
    assert gateway.chat().status == 200
    for _ in range(2):
        server.kill()
        eventually_blocking(lambda: "redis" in gateway.readyz()[1]["away"])
        status, said = gateway.readyz()
        assert (status, said["status"], list(said["away"])) == (200, "ready", ["redis"]), "known keys are served"
        assert gateway.ask("/livez", at="operations", key=None).status == 200
        eventually_blocking(lambda: gateway.metric("gateway_redis_up") == 0)
        server.start()
        eventually_blocking(lambda: gateway.readyz() == (200, WELL))
        eventually_blocking(lambda: gateway.metric("gateway_redis_up") == 2)


def test_the_embedded_valkey_goes_and_comes_back(start_gateway: StartGateway, tmp_path: Path) -> None:
    """Its next start takes until the gate opens, and until then it is said to be away."""
    slow, gate = tmp_path / "slow-server", tmp_path / "gate"
    slow.write_text(f'#!/bin/sh\nwhile ! [ -e "{gate}" ]; do sleep 0.02; done\nexec "{VALKEY}" "$@"\n')
    slow.chmod(0o755)
    gate.touch()
    gateway = start_gateway(redis={"binary": str(slow)}, workers={"count": 1})
    assert gateway.chat().status == 200
    gate.unlink()
    gateway.kill("valkey")
    eventually_blocking(lambda: "is being started again" in gateway.readyz()[1]["away"].get("redis", ""))
    assert gateway.readyz()[0] == 200
    assert gateway.chat().status == 200, "a known key"
    gate.touch()
    eventually_blocking(lambda: gateway.readyz()[1]["away"] == {})
    # That is the supervisor's word; a worker may yet need a moment for its next attempt to connect.
    eventually_blocking(lambda: gateway.chat(key=OTHER_KEY).status == 200, within_s=2)


def test_a_valkey_that_hangs(start_gateway: StartGateway) -> None:
    """Its process is there, but nobody answers."""
    gateway = start_gateway()
    assert gateway.chat().status == 200
    with stopped(gateway, "valkey"):
        eventually_blocking(lambda: (gateway.chat().status, "redis" in gateway.readyz()[1]["away"]) == (200, True))
    eventually_blocking(lambda: gateway.readyz() == (200, WELL), within_s=20)


@contextmanager
def stopped(gateway: Gateway, role: str) -> Iterator[None]:
    pid = gateway.one(role)
    gateway.signal(signal.SIGSTOP, pid)
    try:
        yield
    finally:
        gateway.signal(signal.SIGCONT, pid)


def test_metrics_are_those_of_the_table(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    assert gateway.chat().status == 200
    body = {"model": "gpt-4o-mini", "messages": list(HELLO), "stream": True}
    assert gateway.ask("/v1/chat/completions", body).status == 200
    assert gateway.ask("/v1/models", key=None).status == 401
    assert gateway.ask("/v1/no/such/path").status == 404
    eventually_blocking(lambda: gateway.metric("gateway_requests_total") == 4)
    text = gateway.ask("/metrics", at="operations", key=None).body.decode()
    families = dict(re.findall(r"(?m)^# TYPE (\S+) (\S+)$", text))
    kinds = {metric.name: metric.kind for metric in METRICS + usage_metrics(configured("http://nowhere"))}
    assert families.items() <= kinds.items()
    assert {metric.name for metric in METRICS if not metric.labels} <= families.keys()
    calls = {"operation": "createChatCompletion", "status": "200", "ended": "complete"}
    assert gateway.metric("gateway_requests_total", **calls) == 2
    assert gateway.metric("gateway_errors_total", error="no_api_key") == 1
    assert gateway.metric("gateway_unknown_paths_total") == 1
    assert gateway.metric("gateway_request_seconds_count", operation="createChatCompletion") == 2
    assert gateway.metric("gateway_info", version=__version__) == 1
    assert {s: gateway.metric("gateway_workers", state=s) for s in WORKERS} == WORKERS


class Watch:
    """Looks at the metrics all the time, and notes each total that was smaller than before. Blocks nobody."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._over = Event()
        self._thread = Thread(target=self._look)
        self.looks = 0
        self.backwards: list[object] = []
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        before: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        try:
            while not self._over.is_set():
                now = {
                    where: value
                    for where, value in self._gateway.metrics().items()
                    if where[0].endswith(("_total", "_sum", "_count", "_bucket"))
                }
                self.backwards += [(at, value, now.get(at)) for at, value in before.items() if now.get(at, -1) < value]
                before.update(now)
                self.looks += 1
        except Exception as error:  # noqa: BLE001 - the test is told
            self.error = error


async def calls(gateway: Gateway) -> int:
    """Some hundred calls, by all workers; how many."""
    async with load(gateway.port, callers=8, keep=5) as seen:
        await eventually(lambda: seen.answers > 200)
    assert seen.failures == []
    return seen.answers


async def test_totals_are_those_of_all_workers_and_never_go_back(start_gateway: StartGateway) -> None:
    """Over a worker's death, a reload, and the end of what drains."""
    gateway = start_gateway()

    def served(number: int) -> bool:
        return gateway.metric("gateway_requests_total", operation="createChatCompletion", status="200") == number

    answers = 0
    with Watch(gateway) as watch:
        for _ in range(2):
            answers += await calls(gateway)
            await eventually(partial(served, answers))
            gateway.kill("worker", "0")  # its last counts have been carried over: nothing is lost
            await eventually(lambda: len(gateway.pids("worker")) == 2, within_s=20)
            assert served(answers)
            await gateway.reload()
        await eventually(lambda: gateway.readyz() == (200, WELL), within_s=20)
        assert {line["slot"] for line in gateway.events("request", status=200)} == {"0", "1"}
        assert served(answers)
        assert gateway.metric("gateway_request_seconds_count", operation="createChatCompletion") == answers
        assert gateway.metric("gateway_request_seconds_bucket", operation="createChatCompletion", le="+Inf") == answers
        # What is no total is of those that live.
        await eventually(lambda: gateway.metric("gateway_client_connections") == 0)
        assert gateway.metric("gateway_redis_up") == 2
        assert gateway.metric("gateway_restarts_total", role="worker") == 2
    assert watch.error is None
    assert watch.backwards == []
    assert watch.looks > 10


async def test_scraping_does_not_hold_up_what_else_is_asked(start_gateway: StartGateway) -> None:
    gateway = start_gateway(workers={"count": 1})
    scrapes = asyncio.gather(*(asyncio.to_thread(gateway.metrics) for _ in range(20)))
    probes = await asyncio.gather(*(asyncio.to_thread(gateway.readyz) for _ in range(20)))
    assert [status for status, _ in probes] == [200] * 20
    await scrapes
