"""Fixtures that start whole gateways (gateway_process.py), and end them.

`start_gateway()` runs `gateway serve` in front of a simulator that all tests share; `start_gateway(command="proxy", …)`
and `"control"` run one plane; `start_demo(…)` runs `gateway demo`. They return when it serves. Each is ended after the
test, and then everything that it wrote must have been lines of JSON, without a secret in them.
`start_module_gateway` is the same for a gateway that the tests of a module share.
"""

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import pytest

from gateway.redisdb.embedded import dying_with_parent
from tests.fakes.gateway_process import END_S, START_S, Demo, Gateway, settings_for
from tests.fakes.ports import free_port
from tests.fakes.redis_servers import eventually_blocking


class StartGateway(Protocol):
    """`start_gateway(command="serve", wait=True, folder=None, **changes of the settings)`."""

    def __call__(
        self, *, command: str = "serve", wait: bool = True, folder: Path | None = None, **changes: Any
    ) -> Gateway: ...


class StartDemo(Protocol):
    """`start_demo("--workers", "1")`: `gateway demo` with these options, on free ports unless they name some."""

    def __call__(self, *options: str, wait: bool = True) -> Demo: ...


@pytest.fixture(scope="session")
def simulator_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A simulated OpenAI in a process of its own, shared by all tests; its URL without /v1."""
    port = free_port()
    with (tmp_path_factory.mktemp("simulator") / "log").open("wb") as log:
        command = [sys.executable, "-m", "gateway", "simulator", "--port", str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=dying_with_parent())  # noqa: PLW1509
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None
        with suppress(OSError), urllib.request.urlopen(f"{url}/_simulator/health", timeout=5):
            return True
        return False

    try:
        eventually_blocking(answers, within_s=START_S)
        yield url
    finally:
        process.kill()
        process.wait(END_S)


@pytest.fixture
def start_gateway(simulator_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartGateway]:
    with many_gateways(simulator_url, tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="module")
def start_module_gateway(simulator_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartGateway]:
    with many_gateways(simulator_url, tmp_path_factory) as start:
        yield start


@contextmanager
def many_gateways(upstream: str, folders: pytest.TempPathFactory) -> Iterator[StartGateway]:
    with ExitStack() as running:

        def start(*, command: str = "serve", wait: bool = True, folder: Path | None = None, **changes: Any) -> Gateway:
            place = folder or folders.mktemp("g")
            settings = settings_for(upstream, place / "data", changes)
            gateway = Gateway(place, [command, "--config", str(place / "gateway.yaml")], settings=settings)
            gateway.rewrite()
            gateway.start()
            running.callback(gateway.close)
            return gateway.until_serving() if wait else gateway

        yield start


@pytest.fixture
def start_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartDemo]:
    with ExitStack() as running:

        def start(*options: str, wait: bool = True) -> Demo:
            place = folders_of_demo(tmp_path_factory)
            ports = [w for name in ("--port", "--operations-port") if name not in options for w in (name, "0")]
            gateway = Demo(place, ["demo", *ports, *options])
            gateway.start(TMPDIR=str(place / "tmp"))
            running.callback(gateway.close)
            return gateway.until_serving() if wait else gateway

        yield start


def folders_of_demo(folders: pytest.TempPathFactory) -> Path:
    place = folders.mktemp("demo")
    (place / "tmp").mkdir()
    return place
