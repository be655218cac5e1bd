"""Nothing is forgotten: every method of the official clients, and every operation, was called through the gateway.

Methods are counted in the simulator's book (see `methods.py`), operations in the gateway's access lines. These tests run
after all others of the compat suites, and only if all of them run. The Node suite is looked at where it has run.
"""

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import aiohttp
import pytest

from gateway.control.admin import not_served
from gateway.control.admin.nouns import all_routes
from gateway.control.admin.routes import Routes
from gateway.operations.matcher import Matcher
from tests.compat.described import OLDEST, administrative, described, proxied
from tests.compat.exceptions import NO_CALL, NOT_THERE, UNMARKED
from tests.compat.methods import Arrived, Tags, arrived
from tests.compat.stand import HALVES, UPSTREAM_KEY, Gate
from tests.fakes.redis_servers import eventually
from tests.fakes.tls_front import OPENSSL
from tests.unit.simulator.kit import Simulation

pytestmark = pytest.mark.usefixtures("whole_suite")
_PLAIN = str.maketrans("", "", "{}")
NODE = Path(__file__).parent.parent / "node"
BY_ANOTHER_PATH = {"cancelEvalRun"}  # both clients know the path that the description's own example has


def called(gate: Gate, who: str, *more: int) -> set[str]:
    """The operations for which a client of ours, by the name of its key, was answered well or with another status."""
    return {
        line.operation
        for line in gate.calls()
        if line.key == gate.key_ids[who] and (200 <= line.status < 300 or line.status in {101, *more})
    }


def none(forgotten: Iterable[str]) -> None:
    names = " ".join(sorted(forgotten))
    assert not names, names


@pytest.fixture(params=[*HALVES, "node"])
def client(gate: Gate, request: pytest.FixtureRequest) -> str:
    if request.param == "node" and not called(gate, "node"):
        pytest.skip("the Node suite has not run")
    return str(request.param)


@pytest.fixture
async def seen(simulator_url: str, client: str) -> Arrived:
    async with aiohttp.ClientSession() as session:
        return arrived(await Simulation(simulator_url, session).records(), client, UPSTREAM_KEY)


@pytest.fixture
def methods(client: str, tags: dict[str, Tags]) -> dict[str, str]:
    """What a client can do: the name in Python's spelling → the name that its calls say."""
    if client != "node":
        return {path: path for path in tags[client].methods}
    node = shutil.which("node")
    assert node is not None
    listed = subprocess.run([node, "--no-warnings", "methods.mjs"], cwd=NODE, capture_output=True, check=True)
    found: dict[str, list[str]] = json.loads(listed.stdout)
    names = {re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", path): path for path in found["methods"]}
    return names | {name: name for name in found["sockets"] if OPENSSL is not None}  # they want TLS


def test_every_method_was_called(methods: dict[str, str], seen: Arrived) -> None:
    excused = NO_CALL.keys() | NOT_THERE.keys() | UNMARKED.keys()
    assert len(methods) > 250
    none(name for name, said in methods.items() if said not in seen.well and name not in excused)
    none(name for name, said in methods.items() if said not in seen.all and name in NOT_THERE)


def test_no_exception_is_out_of_date(methods: dict[str, str], seen: Arrived) -> None:
    excused = NO_CALL.keys() | NOT_THERE.keys() | UNMARKED.keys()
    none(name for name in excused if methods.get(name) in seen.well)
    none(name for name in NO_CALL if methods.get(name) in seen.all)


def test_every_exception_is_a_method(tags: dict[str, Tags]) -> None:
    for half in HALVES:
        assert set(tags[half].methods) >= NO_CALL.keys() | NOT_THERE.keys()


def test_the_description_is_whole() -> None:
    assert (len(proxied()), len(administrative(OLDEST))) == (69, 41)
    assert {one.source for one in described()} == {"2.3.0", "2026-08", "SDK 3.54"}


async def test_every_operation_was_called(gate: Gate, client: str) -> None:
    wanted = {operation.id for operation in proxied()}

    with contextlib.suppress(AssertionError):  # workers write their lines a few times a second
        await eventually(lambda: wanted <= called(gate, client), within_s=3.0)
    none(wanted - called(gate, client))


def test_newer_operations_were_called(gate: Gate, client: str) -> None:
    newer = {one.operation.id for one in described() if one.source != OLDEST and one.operation.plane == "proxied"}
    sockets = {"connectResponses", "connectLiveSession", "attachLiveSession", "connectLiveSessionFork"}
    excused = BY_ANOTHER_PATH | (sockets if client == "node" and OPENSSL is None else set())
    none(newer - excused - called(gate, client, 404))


def test_every_administrative_operation_was_called(gate: Gate) -> None:
    """Which half called is told by the suite itself: `test_admin` walks both."""
    matcher = Matcher(administrative())
    found = [
        matcher.match(line.method, line.path.removeprefix("/v1"))
        for line in gate.calls()
        if line.operation == "admin" and line.status != 401
    ]
    assert {one.id for one in found if one is not None} == {operation.id for operation in administrative()}


def test_every_administrative_operation_that_is_served_was_done(gate: Gate) -> None:
    """A call of each of OpenAI's that the gateway has was answered as asked for; other than by 404, which all can be."""
    refused = {(route.method, route.path) for route in not_served.routes()}
    served = [route for route in all_routes() if (route.method, route.path) not in refused]
    routes = Routes(served)
    theirs = Matcher(administrative())
    done = {
        match.route
        for line in gate.calls()
        if line.operation == "admin" and line.status == 200
        and (match := routes.match(line.method, line.path.removeprefix("/v1").partition("?")[0])) is not None
    }  # fmt: skip
    wanted = [route for route in served if theirs.match(route.method, route.path.translate(_PLAIN)) is not None]
    assert len(wanted) > 100
    none(f"{route.method} {route.path}" for route in wanted if route not in done)


def test_nothing_went_wrong_inside(gate: Gate) -> None:
    """No request met an error of the gateway's own, and none was cut by it."""
    assert [line for line in gate.calls() if line.error == "internal" or line.ended == "cut"] == []
    assert [line for line in gate.gateway.lines() if line.get("level") == "error"] == []
