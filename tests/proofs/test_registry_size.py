"""10,000 projects and 100,000 keys: lists and look-ups stay quick, a worker starts as before, and its memory is bounded."""

import asyncio
import re
import statistics
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import ADMIN_KEY, Gateway
from tests.fakes.many_rows import fill, key_of, project_of
from tests.fakes.measuring import Measured, Size
from tests.fakes.ports import free_port
from tests.fakes.redis_servers import VALKEY, StartServer, eventually_blocking
from tests.proofs.memory import resident_mib

pytestmark = [pytest.mark.proof, pytest.mark.timeout(1500)]

LIMIT_MS = 50.0
ROUNDS = 15
CALLERS = 32


def pages(projects: int, keys: int) -> dict[str, str]:
    """What is asked, by what it is called: every list and every look-up."""
    org, middle, half = "/v1/organization", project_of(projects // 2), projects // 2
    here, big = f"{org}/projects/{middle}", f"{org}/projects/{project_of(0)}"
    role_half = min(projects, 1_000) // 2
    lists = {
        "projects": (f"{org}/projects", middle),
        "projects, the last": (f"{org}/projects", project_of(projects - 2)),
        "keys of a large project": (f"{big}/api_keys", f"key_{keys // 20:08d}"),
        "keys of a project": (f"{here}/api_keys", ""),
        "admin keys": (f"{org}/admin_api_keys", f"key_admin_{half:08d}"),
        "service accounts": (f"{here}/service_accounts", ""),
        "users": (f"{org}/users", f"user-{half:08d}"),
        "users of a large project": (f"{big}/users", f"user-{half:08d}"),
        "invites": (f"{org}/invites", f"invite-{half:08d}"),
        "groups": (f"{org}/groups", f"group_{half:08d}"),
        "users of a large group": (f"{org}/groups/group_{0:08d}/users", f"user-{half:08d}"),
        "groups of a project": (f"{big}/groups", f"group_{half:08d}"),
        "roles": (f"{org}/roles", f"role_org_{role_half:08d}"),
        "roles of a project": (f"/v1/projects/{project_of(0)}/roles", f"role_{project_of(0)}_{role_half:08d}"),
        "roles of a user": (f"{org}/users/user-{0:08d}/roles", f"role_org_{role_half:08d}"),
        "roles of a group": (f"{org}/groups/group_{0:08d}/roles", f"role_org_{role_half:08d}"),
        "roles of a user in a project": (f"/v1/projects/{project_of(0)}/users/user-{0:08d}/roles", ""),
        "roles of a group in a project": (f"/v1/projects/{project_of(0)}/groups/group_{0:08d}/roles", ""),
        "alerts": (f"{org}/spend_alerts", f"alert_org_{role_half:08d}"),
        "alerts of a project": (f"{big}/spend_alerts", f"alert_{project_of(0)}_{role_half:08d}"),
        "rate limits of a project": (f"{here}/rate_limits", ""),
        "identity providers": (f"{org}/workload_identity_providers", ""),
        "audit log": (f"{org}/audit_logs", f"audit_log-{keys // 2:08d}"),
        "audit log of a project": (f"{org}/audit_logs?project_ids[]={middle}", ""),
        "audit log of a resource": (f"{org}/audit_logs?resource_ids[]=key_{keys // 2:08d}", ""),
        "audit log of an actor": (f"{org}/audit_logs?actor_ids[]=key_5", ""),
        "audit log of a type that is rare": (f"{org}/audit_logs?event_types[]=project.archived", ""),
    }
    asked = {"projects, newest first": f"{org}/projects?limit=100&order=desc"}
    for what, (path, after) in lists.items():
        with_limit = f"{path}{'&' if '?' in path else '?'}limit=100"
        asked[f"{what}, first page"] = with_limit
        if after:
            asked[f"{what}, further on"] = f"{with_limit}&after={after}"
    return asked | {
        "users by email": f"{org}/users?emails[]=u5@example.com",
        "a project": here,
        "a key": f"{big}/api_keys/key_{keys // 20:08d}",
        "an admin key": f"{org}/admin_api_keys/key_admin_{half:08d}",
        "a service account": f"{here}/service_accounts/svc_acct_{half:08d}",
        "a user": f"{org}/users/user-{0:08d}",
        "a user of a project": f"{big}/users/user-{half:08d}",
        "an invite": f"{org}/invites/invite-{half:08d}",
        "a group": f"{org}/groups/group_{half:08d}",
        "a user of a group": f"{org}/groups/group_{0:08d}/users/user-{half:08d}",
        "a group of a project": f"{big}/groups/group_{half:08d}",
        "a role": f"{org}/roles/role_org_{role_half:08d}",
        "a role of a user": f"{org}/users/user-{0:08d}/roles/role_org_{role_half:08d}",
        "an alert": f"{big}/spend_alerts/alert_{project_of(0)}_{role_half:08d}",
        "limits of a key": f"{big}/api_keys/key_{keys // 20:08d}/rate_limits",
    }


async def timed(session: aiohttp.ClientSession, url: str) -> list[float]:
    """Milliseconds of some rounds, after a first one."""
    took = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        async with session.get(url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}) as response:
            body = await response.read()
            assert response.status == 200, body[:300]
        took.append((time.perf_counter() - began) * 1000)
    return took[1:]


@pytest.fixture
def sizes(size: Size) -> tuple[int, int]:
    return size(small=500, full=10_000), size(small=5_000, full=100_000)


def test_lists_and_look_ups(
    start_gateway: StartGateway, database_url: str, sizes: tuple[int, int], measured: Measured
) -> None:
    projects, keys = sizes
    asyncio.run(fill(database_url, project_count=projects, keys=keys))
    began = time.monotonic()
    gateway = start_gateway(database={"url": database_url}, workers={"count": 1})
    eventually_blocking(lambda: gateway.events("read_model_published"), within_s=60.0)
    measured(f"start of a gateway until {keys} keys are published", time.monotonic() - began, "s")
    worst = {}

    async def ask() -> None:
        async with aiohttp.ClientSession() as session:
            for what, path in pages(projects, keys).items():
                took = await timed(session, f"http://127.0.0.1:{gateway.port}{path}")
                worst[what] = statistics.median(took)
                measured(what, worst[what], "ms", f"{LIMIT_MS:g} ms")

    asyncio.run(ask())
    assert {what: took for what, took in worst.items() if took >= LIMIT_MS} == {}


def serves(gateway: Gateway) -> bool:
    try:
        return gateway.ask("/v1/nothing", key=key_of(0)).status == 404
    except OSError:
        return False


async def each_key_calls(gateway: Gateway, keys: int) -> None:
    """Every key once, for a path that is refused once its key is accepted."""

    async def some(numbers: range) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        for number in numbers:
            writer.write(
                b"GET /v1/nothing HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer %s\r\n\r\n" % key_of(number).encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 404"), head
            length = re.search(rb"content-length: (\d+)", head.lower())
            assert length is not None
            await reader.readexactly(int(length[1]))
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(some(range(first, keys, CALLERS)) for first in range(CALLERS)))


def test_a_worker_among_many_keys(
    start_gateway: StartGateway, start_server: StartServer, sizes: tuple[int, int], measured: Measured, tmp_path: Path
) -> None:
    """It loads none of them at its start; each that calls costs a bounded piece of memory, and the cache is bounded."""
    projects, keys = sizes
    url = f"sqlite+aiosqlite:///{tmp_path / 'registry.sqlite'}"
    asyncio.run(fill(url, project_count=projects, keys=keys))
    redis: dict[str, Any] = {"url": start_server(VALKEY, "--appendonly", "yes", port=free_port()).url}
    admin = free_port()
    control = start_gateway(command="control", database={"url": url}, redis=redis, listeners={"admin": {"port": admin}})
    eventually_blocking(lambda: control.events("read_model_published"), within_s=60.0)
    nothing: dict[str, Any] = {"projects": None, "admin_keys": None}  # what the keys are it learns from Redis
    plane = {"control_url": f"http://127.0.0.1:{admin}", "unknown_paths": "deny", "workers": {"count": 1}, **nothing}
    began = time.monotonic()
    gateway = start_gateway(command="proxy", redis=redis, **plane)
    eventually_blocking(lambda: serves(gateway), within_s=10.0)
    took = time.monotonic() - began
    measured("cold start of a data plane, from nothing to a worker's answer", took, "s", "3 s")
    assert took < 3
    began = time.monotonic()
    gateway.kill("worker")
    eventually_blocking(lambda: serves(gateway), within_s=10.0)
    took = time.monotonic() - began
    measured("a worker in the place of a killed one, to its first answer", took, "s", "3 s")
    assert took < 3
    worker = gateway.one("worker")
    before = resident_mib(worker)
    asyncio.run(each_key_calls(gateway, keys))
    grown = (resident_mib(worker) - before) * 1024 / keys
    measured(f"memory of a worker for each of {keys} keys that have called", grown, "KiB")
    assert grown < 4
