"""Fixtures of the compat suites: one gateway for all of them, and the official clients pointed at it."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI

from gateway.simulator.book import Record
from tests.compat.both import as_async
from tests.compat.methods import Tags, proxied_methods
from tests.compat.stand import ADMIN_KEY, HALVES, UPSTREAM_KEY, Gate, opened
from tests.fakes.ports import free_port
from tests.unit.simulator.kit import Simulation

Make = Callable[..., AsyncOpenAI]
Served = Callable[[], Awaitable[list[Record]]]
_HERE = Path(__file__).parent
_LEFT_OUT = pytest.StashKey[set[str]]()
_LAST = "test_completeness"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the suites have called is looked at when they have ended."""
    items.sort(key=lambda item: _LAST in item.nodeid)


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.config.stash.setdefault(_LEFT_OUT, set()).add(item.path.name)


@pytest.fixture(scope="module")
def whole_suite(request: pytest.FixtureRequest) -> None:
    """Skips tests where only a part of the compat suites runs, or where a test has failed before them."""
    run = {item.path for item in request.session.items}
    missing = {path.name for path in _HERE.rglob("test_*.py") if path not in run}
    left_out: set[str] = request.config.stash.get(_LEFT_OUT, set())
    if (missing | left_out) - {"test_node.py"}:
        pytest.skip("only a part of the compat suites runs")
    if request.session.testsfailed:
        pytest.skip("tests have failed: they may not have called what they are there for")


@pytest.fixture(scope="session")
def gate(simulator_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """The gateway that the suites share: the demo's settings, and ways around the meter open."""
    with opened(simulator_url, tmp_path_factory, allow_unmetered=True) as gate:
        yield gate


@pytest.fixture(scope="session")
def strict(simulator_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A second gateway, for its refusals: it knows few models, is impatient, and takes small bodies only.

    Its upstream `scripted` is there only while a test listens on its port: see `scripted_port`.
    """
    renamed = {"upstream": "simulator", "upstream_model": "gpt-4o-mini"}
    settings = {
        "upstreams": {
            "nobody": {"base_url": f"http://127.0.0.1:{free_port()}/v1"},
            "scripted": {"base_url": f"http://127.0.0.1:{free_port()}/v1", "api_key": UPSTREAM_KEY},
        },
        "routes": [
            {"models": ["gpt-4o*", "tts-1*"], "upstreams": ["simulator"]},
            {"models": ["refused-*"], "upstreams": ["nobody"]},
            {"models": ["scripted-*"], "upstreams": ["scripted"]},
            {"models": ["fallback-*"], "upstreams": ["nobody", renamed]},
        ],
        "timeouts": {"response_s": 1.5, "between_bytes_s": 1.0},
        "bodies": {"json_mib": 1},
        "unknown_paths": "deny",
    }
    with opened(simulator_url, tmp_path_factory, **settings) as gate:
        yield gate


@pytest.fixture
def scripted_port(strict: Gate) -> int:
    """Where the strict gateway looks for its upstream of the models `scripted-*`."""
    return int(strict.gateway.settings["upstreams"]["scripted"]["base_url"].rpartition(":")[2].removesuffix("/v1"))


@pytest.fixture
async def served(simulator_url: str) -> AsyncIterator[Served]:
    """`await served()`: what the simulator says it has served since the test began, when nothing is in flight."""
    async with aiohttp.ClientSession() as session:
        book = Simulation(simulator_url, session)
        async with session.get(f"{simulator_url}/_simulator/stats") as response:
            before = (await response.json())["records"]
        yield lambda: book.records(before)


@pytest.fixture(params=HALVES)
def half(request: pytest.FixtureRequest) -> str:
    """Which half of the official client a test runs with. Each has an API key of its name."""
    return str(request.param)


@pytest.fixture(scope="session")
def tags() -> dict[str, Tags]:
    """What makes the calls of each half say which methods they came through."""
    clients: dict[str, OpenAI | AsyncOpenAI] = {"sync": OpenAI(api_key="none"), "async": AsyncOpenAI(api_key="none")}
    return {half: Tags(half, proxied_methods(client)) for half, client in clients.items()}


@pytest.fixture
async def make(gate: Gate, half: str, tags: dict[str, Tags]) -> AsyncIterator[Make]:
    """`make(max_retries=2, …)`: an official client for this gateway, which refuses answers that do not fit its types."""
    made: list[AsyncOpenAI] = []

    def client(**options: Any) -> AsyncOpenAI:
        fixed: dict[str, Any] = {
            "base_url": gate.base_url,
            "api_key": gate.keys[half],
            "admin_api_key": ADMIN_KEY,
            "max_retries": 0,
            "timeout": 30,
            "_strict_response_validation": True,
        }
        # The client's own default, but for reading the system's certificates: most of a client's start, and no use here.
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if half == "async":
            made.append(AsyncOpenAI(**{"http_client": DefaultAsyncHttpxClient(verify=trust)} | fixed | options))
        else:
            made.append(as_async(OpenAI(**{"http_client": DefaultHttpxClient(verify=trust)} | fixed | options)))
        return made[-1]

    with tags[half].put_on():
        yield client
    for one in made:
        await one.close()


@pytest.fixture
def client(make: Make) -> AsyncOpenAI:
    """The official client, once its asynchronous half, once its synchronous one in the same form."""
    return make()
