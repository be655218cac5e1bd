"""Workers replaced and killed while callers keep calling: "done when" lines of the Traffic issue."""

import asyncio
import random
import signal
import time
from pathlib import Path

import pytest

from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import Gateway
from tests.fakes.load import Load, clients_of, load
from tests.fakes.measuring import Measured, Size
from tests.fakes.redis_servers import eventually

pytestmark = [pytest.mark.proof, pytest.mark.timeout(1500)]


async def more_answers(seen: Load, number: int) -> None:
    before = seen.answers
    await eventually(lambda: seen.answers >= before + number, within_s=30)


@pytest.mark.parametrize("keep", [None, 1], ids=["kept connections", "a connection a call"])
async def test_rolling_restarts(start_gateway: StartGateway, size: Size, measured: Measured, keep: int | None) -> None:
    """Not one connection reset, not one failed request; and what was replaced is gone."""
    rounds = size(small=2, full=20)
    gateway = start_gateway()
    await asyncio.to_thread(gateway.chat)
    async with load(gateway.port, callers=16, keep=keep) as seen:
        await more_answers(seen, 100)
        workers = set(gateway.pids("worker"))
        for _ in range(rounds):
            line = await gateway.reload()
            assert line["event"] == "settings_reloaded", line
            now = set(gateway.pids("worker")) - workers
            assert len(now) == 2
            workers |= now
            await more_answers(seen, 100)
        await eventually(lambda: set(gateway.pids("worker")) == now, within_s=20)
    assert seen.failures == []
    assert not gateway.events("process_ended")
    assert not gateway.events("process_killed")
    measured(f"rolling restarts under load, keep={keep}", rounds, "restarts", "20, no failure")
    measured("calls answered meanwhile", seen.answers, "calls")
    measured("the slowest of them", seen.slowest_s, "s")


async def test_kills_of_random_workers(start_gateway: StartGateway, size: Size, measured: Measured) -> None:
    """Only the requests in the killed worker are hurt, each with an error, and it is serving again soon."""
    rounds = size(small=3, full=20)
    draw = random.Random(20)
    gateway = start_gateway()
    hurt: set[int] = set()
    back: list[float] = []
    async with load(gateway.port, callers=16, keep=50) as seen:  # so that they spread over the workers again
        await more_answers(seen, 200)
        for number in range(rounds):
            workers = await asyncio.to_thread(gateway.pids, "worker")
            # One that has just begun may have no client yet, and then its death proves nothing.
            victim = draw.choice([pid for pid in workers if clients_of(pid, gateway.port)])
            # Stopped first, so that its connections can be counted; those of before may be counted again.
            gateway.signal(signal.SIGSTOP, victim)
            clients = clients_of(victim, gateway.port)
            assert clients
            hurt |= clients
            seen.slowest_s = 0.0
            began = time.monotonic()
            gateway.signal(signal.SIGKILL, victim)
            back.append(await serving_again(gateway, number + 1) - began)
            await more_answers(seen, 200)
            assert seen.slowest_s < 2, "a call was served after more than two seconds"
    outside = [failure for failure in seen.failures if failure.port not in hurt]
    assert outside == [], "these were not in a killed worker"
    assert not [failure for failure in seen.failures if failure.error == "hang"]
    assert all(failure.ended - failure.began < 2 for failure in seen.failures)
    assert seen.failures, "there were calls in the killed workers"
    assert len(seen.failures) <= 16 * rounds
    assert max(back) < 2
    measured("kill -9 of random workers under load", rounds, "kills", "20")
    measured("calls hurt, all in a killed worker", len(seen.failures), "calls")
    measured("serving again, slowest", max(back), "s", "< 2 s")
    measured("serving again, mean", sum(back) / len(back), "s")


async def serving_again(gateway: Gateway, kills: int) -> float:
    """When as many workers were ready again as have been killed, and two are there."""
    ready = 2 + kills

    def is_back() -> bool:
        return len(gateway.events("process_ready", role="worker")) >= ready

    await eventually(is_back, within_s=20)
    return time.monotonic()


async def test_nothing_leaks_over_reloads(start_gateway: StartGateway, size: Size, measured: Measured) -> None:
    """Descriptors and threads of the supervisor, sockets of the workers, files of the metrics: as many as before."""
    rounds = size(small=3, full=20)
    gateway = start_gateway()

    async def reload() -> None:
        old = set(gateway.pids("worker")) | set(gateway.pids("control"))
        assert (await gateway.reload())["event"] == "settings_reloaded"
        await eventually(lambda: not old & {p.pid for p in gateway.processes()}, within_s=20)

    def open_now() -> dict[str, int]:
        places = {"supervisor": gateway.pid, "valkey": gateway.one("valkey")}
        counts = {name: len(list(Path(f"/proc/{pid}/fd").iterdir())) for name, pid in places.items()}
        counts["threads"] = len(list(Path(f"/proc/{gateway.pid}/task").iterdir()))
        counts["metrics"] = len(list((gateway.data_dir / "metrics").iterdir()))
        return counts

    await reload()
    await asyncio.to_thread(gateway.chat)
    await reload()
    before = open_now()
    memory = resident_kib(gateway.pid)
    for _ in range(rounds):
        await reload()
    await eventually(lambda: open_now() == before, within_s=10)
    measured("the supervisor's memory, growth over reloads", resident_kib(gateway.pid) - memory, "KiB")
    measured("reloads", rounds, "reloads", "20, no growth")


def resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
