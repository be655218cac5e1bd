"""Usage on its way to Redis while Redis stops, dies, refuses and comes back, and while the disk does too."""

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.proxy.metering import outbox as module
from gateway.proxy.metering.spool import Spools
from gateway.settings.model import Redis
from gateway.values import Secret
from tests.fakes.events import KEYS, ORG, PATIENT, event, ids, packed, streamed
from tests.fakes.redis_proxy import dropping_replies_to
from tests.fakes.redis_servers import VALKEY, Server, StartServer, eventually
from tests.fakes.usage_stand import Stand, stand

DURABLE = ("--appendonly", "yes", "--appendfsync", "no")  # what was acknowledged survives a kill of the process


def leave_spool(folder: Path, *numbers: int | str) -> None:
    """What a dead worker left behind."""
    dead = Spools(folder, 1 << 30, SystemClock()).open()
    dead.write(b"".join(one.json + b"\n" for one in packed(*numbers)))
    dead.release()


async def test_events_of_one_tick_go_in_one_call(valkey: Server, tmp_path: Path) -> None:
    async with stand(valkey.settings(deadline_ms=PATIENT), tmp_path) as worker:
        before = valkey.calls("evalsha")
        worker.add(*range(150))
        await worker.outbox.drain()
        assert valkey.calls("evalsha") == before + 1
        worker.add(*range(150, 1000))
        await worker.outbox.drain()
        assert valkey.calls("evalsha") == before + 1 + 5
        assert streamed(valkey) == ids(*range(1000))
        assert worker.count("delivered") == 1000
        assert not worker.folder.exists() or not list(worker.folder.iterdir())


async def test_batches_have_a_size(valkey: Server, tmp_path: Path) -> None:
    async with stand(valkey.settings(deadline_ms=PATIENT), tmp_path) as worker:
        before = valkey.calls("evalsha")
        for number in range(6):
            worker.outbox.add(event(number, end_user="x" * 200_000))
        worker.outbox.add(event(6, organization_id="org-other"))
        worker.outbox.add(event(7))
        await worker.outbox.drain()
        assert valkey.calls("evalsha") == before + 5
        assert streamed(valkey) == ids(*range(6), 7)
        assert streamed(valkey, "org-other") == ids(6)


async def test_an_event_that_json_cannot_say_harms_no_other(valkey: Server, tmp_path: Path) -> None:
    async with stand(valkey.settings(deadline_ms=PATIENT), tmp_path) as worker:
        worker.add(1)
        worker.outbox.add(event(2, end_user="\ud800"))
        worker.add(3)
        await worker.outbox.drain()
        assert streamed(valkey) == ids(1, 3)
        assert worker.count("dropped") == 1
        assert worker.said("usage_event_unusable")[0]["id"] == "req_2"


async def test_redis_away_from_the_start(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(start=False)
    async with stand(server.settings(), tmp_path, connected=False) as worker:
        for first in range(0, 1000, 100):
            worker.add(*range(first, first + 100))
            await worker.outbox.drain()
        assert worker.count("spooled") == 1000
        assert len(worker.said("usage_spooled")) == 1
        assert worker.spool_bytes == sum(path.stat().st_size for path in worker.files) > 100_000
        server.start()
        await eventually(lambda: worker.said("usage_replayed"))
        assert streamed(server) == ids(*range(1000))
        assert worker.said("usage_replayed")[0]["events"] == 1000
        assert (worker.count("replayed"), worker.count("dropped"), worker.spool_bytes) == (1000, 0, 0)
        assert list(worker.folder.iterdir()) == []
        worker.add(1000)
        await worker.outbox.drain()
        assert worker.count("delivered") == 1
        assert streamed(server) == ids(*range(1001))


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_redis_goes_away_under_load_and_comes_back(start_server: StartServer, tmp_path: Path, how: str) -> None:
    server = start_server(VALKEY, *DURABLE)
    async with stand(server.settings(), tmp_path) as worker:
        added = 0

        async def load(steps: int) -> None:
            nonlocal added
            for _ in range(steps):
                worker.add(*range(added, added + 10))
                added += 10
                await asyncio.sleep(0.002)

        for _ in range(3):
            before, replays = worker.count("spooled"), len(worker.said("usage_replayed"))
            await load(20)
            server.pause() if how == "stopped" else server.kill()
            while worker.count("spooled") < before + 200:
                await load(1)
            server.resume() if how == "stopped" else await asyncio.to_thread(server.start)
            while len(worker.said("usage_replayed")) == replays:
                await load(1)
        await worker.outbox.drain()
        assert streamed(server) == ids(*range(added))
        assert worker.count("delivered") > 0
        assert worker.count("spooled") == worker.count("replayed") > 0


async def test_a_batch_that_ran_without_saying_so(start_server: StartServer, tmp_path: Path) -> None:
    """The connection breaks after the script has run and before its reply comes."""
    server = start_server()
    async with (
        dropping_replies_to(b"EVALSHA", server, tmp_path) as path,
        stand(Redis(url=Secret(f"unix://{path}")), tmp_path / "spool", connected=False) as worker,
    ):
        worker.add(1, 2, 3)
        await eventually(lambda: worker.count("spooled") == 3)
        await eventually(lambda: server.calls("evalsha") > 4)
        assert streamed(server) == ids(1, 2, 3), "however often they were sent"


async def test_a_server_that_refuses_gets_it_later(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    server.command("SET", KEYS.usage(ORG), "no stream")
    async with stand(server.settings(deadline_ms=PATIENT), tmp_path) as worker:
        worker.add(1, 2)
        await eventually(lambda: worker.count("spooled") == 2)
        worker.add(3)
        await eventually(lambda: worker.count("spooled") == 3)
        (line,) = worker.said("usage_refused_by_redis")
        assert line["level"] == "error"
        assert "WRONGTYPE" in line["reason"]
        server.command("DEL", KEYS.usage(ORG))
        await eventually(lambda: streamed(server) == ids(1, 2, 3))


async def test_a_full_spool_keeps_in_memory_and_then_drops_the_oldest(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DISK_AGAIN_S", 0.02)
    server = start_server(start=False)
    size = len(packed(10)[0].json) + 1
    async with stand(server.settings(), tmp_path, connected=False, spool_bytes=30 * size, most_waiting=20) as worker:
        worker.add(*range(10, 30))
        await worker.outbox.drain()
        worker.add(*range(30, 50))
        await eventually(lambda: worker.said("usage_not_spooled"))
        assert worker.count("dropped") == 0
        worker.add(*range(50, 60))
        assert worker.count("dropped") == 10
        assert worker.said("usage_lost")[0]["level"] == "error"
        server.start()
        await eventually(lambda: streamed(server) == ids(*range(10, 30), *range(40, 60)))
        assert len(worker.said("usage_not_spooled")) == 1
        await worker.outbox.drain()
        assert sum(line["events"] for line in worker.said("usage_lost")) == 10


async def test_no_disk_at_all(start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DISK_AGAIN_S", 0.02)
    server = start_server(start=False)
    spool = tmp_path / "spool"
    spool.touch()
    async with stand(server.settings(), spool, connected=False) as worker:
        worker.add(1, 2)
        await eventually(lambda: worker.said("usage_not_spooled"))
        worker.add(3)
        server.start()
        await worker.outbox.drain()
        assert streamed(server) == ids(1, 2, 3)
        server.pause()
        worker.add(4)
        await eventually(lambda: len(worker.said("usage_not_spooled")) == 2)
        spool.unlink()
        await worker.outbox.drain()
        assert worker.count("spooled") == 1
        server.resume()
        await eventually(lambda: streamed(server) == ids(1, 2, 3, 4))


async def test_the_end_leaves_nothing_in_memory(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    async with stand(server.settings(deadline_ms=PATIENT), tmp_path) as worker:
        worker.add(*range(1000))
    assert streamed(server) == ids(*range(1000))
    async with stand(server.settings(), tmp_path) as worker:
        server.pause()
        worker.add(*range(1000, 7000))
    assert sum(path.read_bytes().count(b"\n") for path in worker.files) == 6000
    assert worker.count("dropped") == 0
    server.resume()
    async with stand(server.settings(deadline_ms=PATIENT), tmp_path) as worker:
        await eventually(lambda: worker.said("usage_replayed"))
    assert streamed(server) == ids(*range(7000))


async def test_the_end_without_redis_and_disk_says_what_is_lost(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(start=False)
    (tmp_path / "spool").touch()
    async with stand(server.settings(), tmp_path / "spool", connected=False) as worker:
        worker.add(*range(30))
    assert worker.count("dropped") == 30
    assert sum(line["events"] for line in worker.said("usage_lost")) == 30


async def test_spools_of_dead_workers_are_delivered_once(valkey: Server, tmp_path: Path) -> None:
    for number in range(5):
        leave_spool(tmp_path, *(f"{number}/{n}" for n in range(500)))
    (tmp_path / "0-empty").mkdir()
    settings = valkey.settings(deadline_ms=PATIENT)
    async with stand(settings, tmp_path) as one, stand(settings, tmp_path) as other:
        await eventually(lambda: not list(tmp_path.iterdir()))
        assert one.count("replayed") + other.count("replayed") == 2500
    found = streamed(valkey)
    assert len(found) == 2500
    for number in range(5):
        assert [one for one in found if one.startswith(f"req_{number}/")] == ids(*(f"{number}/{n}" for n in range(500)))


async def test_a_dead_workers_spool_waits_for_redis(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(start=False)
    leave_spool(tmp_path, *range(500))
    async with stand(server.settings(), tmp_path, connected=False) as worker:
        await eventually(lambda: worker.said("usage_spool_adopted"))
        server.start()
        await eventually(lambda: worker.said("usage_replayed"))
        assert streamed(server) == ids(*range(500))
        assert worker.spool_bytes == 0


async def test_a_worker_that_is_killed_while_redis_is_away(start_server: StartServer, tmp_path: Path) -> None:
    """What it said to be on disk is delivered by another one; of the rest, what it had in memory is lost."""
    server = start_server(start=False)
    code = """
import asyncio, os, signal, sys
from pathlib import Path
from gateway.settings.model import Redis
from gateway.values import Secret
from tests.fakes.usage_stand import stand

async def main():
    async with stand(Redis(url=Secret(sys.argv[1])), Path(sys.argv[2]), connected=False) as worker:
        worker.add(*range(100))
        await worker.outbox.drain()
        worker.add("lost")
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
    spool = tmp_path / "spool"
    killed = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code, server.url, str(spool)], cwd=Path.cwd(), env={**os.environ}
    )
    assert killed.returncode == -9
    server.start()
    async with stand(server.settings(deadline_ms=PATIENT), spool) as worker:
        await eventually(lambda: worker.said("usage_replayed"))
    assert streamed(server) == ids(*range(100))


@pytest.mark.parametrize("seed", range(4))
async def test_random_failures(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Two workers, their Redis and their disk: every event arrives exactly once, and each worker's in order."""
    monkeypatch.setattr(module, "_DISK_AGAIN_S", 0.02)
    draw = random.Random(seed)
    server = start_server(VALKEY, *DURABLE)
    spool = tmp_path / "spool"
    settings = server.settings(breaker_open_s=0.02, deadline_ms=20)
    added = {"a": 0, "b": 0}

    def burst(name: str, worker: Stand) -> None:
        number = draw.choice([1, 3, 50, 400])
        worker.add(*(f"{name}/{n}" for n in range(added[name], added[name] + number)))
        added[name] += number

    async with stand(settings, spool, most_waiting=10**6) as one, stand(settings, spool, most_waiting=10**6) as two:
        for _ in range(120):
            burst(*draw.choice([("a", one), ("b", two)]))
            match draw.choice(["", "", "", "stop", "stop", "go", "go", "go", "kill", "disk", "drop clients"]):
                case "stop" if server.process:
                    server.pause()
                case "go":
                    if server.process:
                        server.resume()
                    else:
                        await asyncio.to_thread(server.start)
                case "kill":
                    server.kill()
                case "disk":
                    limit = draw.choice([0, 1 << 30])
                    one.outbox._spools._most_bytes = two.outbox._spools._most_bytes = limit
                case "drop clients" if server.process:
                    server.resume()
                    server.command("CLIENT", "KILL", "TYPE", "normal")
            await asyncio.sleep(draw.choice([0, 0.001, 0.01, 0.05]))
        one.outbox._spools._most_bytes = two.outbox._spools._most_bytes = 1 << 30
        server.resume() if server.process else await asyncio.to_thread(server.start)
        await one.outbox.drain()
        await two.outbox.drain()
        await eventually(lambda: not spool.exists() or not list(spool.iterdir()))
        assert one.count("dropped") == two.count("dropped") == 0
    found = streamed(server)
    for name, number in added.items():
        assert [each for each in found if each.startswith(f"req_{name}/")] == ids(
            *(f"{name}/{n}" for n in range(number))
        )
