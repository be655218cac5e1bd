"""kill -9 of each process of a gateway, one at a time: what it takes along, and how soon all is well again."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.gateway_fixtures import StartDemo, StartGateway
from tests.fakes.gateway_process import ADMIN_KEY, OTHER_KEY, Gateway, gateway_command, runs
from tests.fakes.load import clients_of, load
from tests.fakes.measuring import Measured
from tests.fakes.redis_servers import eventually, eventually_blocking


async def off_loop(work: Callable[[], Any]) -> Any:
    """Runs what blocks beside the callers."""
    return await asyncio.to_thread(work)


async def soon(check: Callable[[], Any], within_s: float = 20.0) -> None:
    """Polls a blocking check, beside the callers."""

    async def look() -> Any:
        return await off_loop(check)

    await eventually(look, within_s=within_s)


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "under load"])
async def test_the_supervisor(start_gateway: StartGateway, measured: Measured, busy: bool) -> None:
    """All end with it, what was written is there again, and nothing is in the way of the next one."""
    gateway = start_gateway()
    revoke(gateway, "proj_a/two")
    processes = await off_loop(gateway.processes)
    assert {p.role for p in processes} == {"supervisor", "nursery", "worker", "control", "valkey"}
    async with load(gateway.port, callers=4 if busy else 0) as seen:
        if busy:
            await eventually(lambda: seen.answers > 50)
        idle = await asyncio.open_connection("127.0.0.1", gateway.port)
        began = time.monotonic()
        gateway.signal(signal.SIGKILL)
        await soon(lambda: not any(runs(p.pid) for p in processes), within_s=10)
        took = time.monotonic() - began
        idle[1].close()
        seen.stop()
    measured(f"all processes gone after kill -9 of the supervisor ({'load' if busy else 'idle'})", took, "s", "~2 s")
    assert took < 2.5
    again = await off_loop(lambda: start_gateway(data_dir=str(gateway.data_dir)))
    assert (await off_loop(again.chat)).status == 200
    assert (await off_loop(lambda: again.chat(key=OTHER_KEY))).status == 401


def revoke(gateway: Gateway, key: str) -> None:
    done = gateway_command("keys", "revoke", key, "--data-dir", str(gateway.data_dir))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_demos_supervisor(start_demo: StartDemo) -> None:
    demo = start_demo("--workers", "1")
    processes = demo.processes()
    assert {p.role for p in processes} == {"supervisor", "nursery", "worker", "control", "valkey", "simulator"}
    demo.signal(signal.SIGKILL)
    eventually_blocking(lambda: not any(runs(p.pid) for p in processes), within_s=2.5)


@pytest.mark.parametrize("forks", [True, False], ids=["forked", "started anew"])
async def test_a_worker(
    start_gateway: StartGateway, measured: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forks: bool
) -> None:
    """Only its connections are hurt. What comes to its socket meanwhile is served by the one after it.

    Where the system has no descriptors of processes, each worker is started by itself.
    """
    if not forks:
        (tmp_path / "sitecustomize.py").write_text("import os\ndel os.pidfd_open\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    gateway = start_gateway(workers={"count": 1})
    assert len(await off_loop(lambda: gateway.pids("nursery"))) == forks
    async with load(gateway.port) as seen:
        await eventually(lambda: seen.answers > 50)
        victim = await off_loop(lambda: gateway.one("worker"))
        gateway.signal(signal.SIGSTOP, victim)
        its_clients = clients_of(victim, gateway.port)
        waiting = asyncio.get_running_loop().create_task(first_answer(gateway.port))
        began = time.monotonic()
        gateway.signal(signal.SIGKILL, victim)
        assert (await waiting).startswith(b"HTTP/1.1 401"), "it was queued while nobody accepted"
        took = time.monotonic() - began
        answers = seen.answers
        await eventually(lambda: seen.answers > answers + 50)
    measured(
        f"serving again after kill -9 of the only worker, {'forked' if forks else 'started anew'}", took, "s", "< 2 s"
    )
    assert took < 2
    assert seen.failures
    assert {failure.port for failure in seen.failures} <= its_clients
    assert not [failure for failure in seen.failures if failure.error == "hang"]
    assert len(seen.failures) <= 8, "each caller is hurt once"
    ended = gateway.events("process_ended", role="worker")
    assert [(line["child"], line["status"], line["restart_in_s"]) for line in ended] == [(victim, -9, 0)]
    assert gateway.metric("gateway_restarts_total", role="worker") == 1


async def first_answer(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return answer


async def test_the_nursery(start_gateway: StartGateway, measured: Measured) -> None:
    """Its workers work on, and their successors come from the one after it."""
    gateway = start_gateway(workers={"count": 2})
    async with load(gateway.port, callers=4, keep=20) as seen:
        await eventually(lambda: seen.answers > 50)
        before = await off_loop(lambda: gateway.pids("worker"))
        victim = await off_loop(lambda: gateway.kill("nursery"))
        await soon(lambda: gateway.events("process_ended", role="nursery", status=-9))
        answers = seen.answers
        await eventually(lambda: seen.answers > answers + 50)
        assert seen.failures == []
        assert await off_loop(lambda: gateway.pids("worker")) == before
        began = time.monotonic()
        gateway.signal(signal.SIGKILL, before[0])
        await soon(lambda: len(gateway.pids("worker")) == 2)
        took = time.monotonic() - began
        answers = seen.answers
        await eventually(lambda: seen.answers > answers + 50)
    measured("a worker killed after its nursery: the next one is there after", took, "s", "< 2 s")
    assert took < 2
    assert await off_loop(lambda: gateway.one("nursery")) != victim
    ended = gateway.events("process_ended", role="worker")
    assert [(line["child"], line["status"]) for line in ended] == [(before[0], 255)], "nobody knows what ended it"
    assert gateway.metric("gateway_restarts_total", role="nursery") == 1
    gateway.signal(signal.SIGHUP)
    await soon(lambda: gateway.events("settings_reloaded"))
    assert not set(before) & set(await off_loop(lambda: gateway.pids("worker")))


async def test_the_control_process(start_gateway: StartGateway, measured: Measured) -> None:
    """The data plane does not notice; the admin API says that it is away, and is back soon."""
    gateway = start_gateway()

    def admin() -> int:
        return gateway.ask("/v1/organization/projects", key=ADMIN_KEY).status

    assert await off_loop(admin) == 200
    async with load(gateway.port, callers=4) as seen:
        await eventually(lambda: seen.answers > 50)
        victim = await off_loop(lambda: gateway.one("control"))
        gateway.signal(signal.SIGSTOP, victim)  # so that the successor cannot be quicker than the look at its absence
        began = time.monotonic()
        gateway.signal(signal.SIGKILL, victim)
        await soon(lambda: admin() == 503 and "control" in gateway.readyz()[1]["away"])
        assert gateway.readyz()[0] == 200
        await soon(lambda: admin() == 200 and not gateway.readyz()[1]["away"])
        took = time.monotonic() - began
        answers = seen.answers
        await eventually(lambda: seen.answers > answers + 50)
    measured("admin API back after kill -9 of the control process", took, "s")
    assert seen.failures == []
    assert gateway.metric("gateway_restarts_total", role="control") == 1


async def test_valkey(start_gateway: StartGateway, measured: Measured) -> None:
    """It is started again with all it had; workers serve the keys that they know meanwhile, and come back to it."""
    gateway = start_gateway()
    revoke(gateway, "proj_a/two")
    async with load(gateway.port, callers=4) as seen:
        await eventually(lambda: seen.answers > 50)
        victim = await off_loop(lambda: gateway.one("valkey"))
        connected = len(gateway.events("redis_hot_connected", process="worker"))
        began = time.monotonic()
        gateway.signal(signal.SIGKILL, victim)
        await soon(lambda: gateway.events("process_ended", role="valkey"))
        # /readyz alone may not have heard yet that Valkey is away.
        await soon(lambda: len(gateway.events("redis_hot_connected", process="worker")) == connected + 2)
        await soon(lambda: gateway.readyz()[1]["away"] == {} and len(gateway.pids("valkey")) == 1)
        took = time.monotonic() - began
        answers = seen.answers
        await eventually(lambda: seen.answers > answers + 50)
    measured("workers back with Valkey after its kill -9", took, "s")
    assert seen.failures == [], "a known key is served from the worker's memory"
    answers_to_revoked: list[int] = []

    def refused() -> bool:
        """A Valkey that has just come back may be slow for a moment: then nobody can tell, and says so."""
        answers_to_revoked.append(gateway.chat(key=OTHER_KEY).status)
        return answers_to_revoked[-1] == 401

    await soon(refused)
    assert set(answers_to_revoked) <= {401, 503}
    assert gateway.metric("gateway_restarts_total", role="valkey") == 1


def test_a_process_that_keeps_ending_is_started_less_and_less_often(start_gateway: StartGateway) -> None:
    gateway = start_gateway(workers={"count": 1})
    for role in ("worker", "control"):
        killed: set[int] = set()

        def another(of: str = role, before: set[int] = killed) -> bool:
            pids = set(gateway.pids(of)) - before
            for pid in pids:
                before.add(pid)
                gateway.signal(signal.SIGKILL, pid)
            return len(before) == 6

        eventually_blocking(another, within_s=30)
        eventually_blocking(lambda of=role: len(gateway.events("process_ended", role=of)) == 6, within_s=30)  # type: ignore[misc]
        delays = [line["restart_in_s"] for line in gateway.events("process_ended", role=role)]
        assert delays == sorted(delays)
        assert delays[-1] >= 0.4
    eventually_blocking(lambda: gateway.readyz() == (200, READY), within_s=20)
    assert gateway.chat().status == 200
    assert gateway.ask("/v1/organization/projects", key=ADMIN_KEY).status == 200


READY = {"status": "ready", "workers": {"ready": 1, "starting": 0, "draining": 0}, "away": {}}
