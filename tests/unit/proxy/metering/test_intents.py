"""Calls that only their worker knows of: on disk while they run, not any more when they are over, found when it dies."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.clock import ManualClock, SystemClock
from gateway.proxy.metering import intents as module
from gateway.proxy.metering.intents import Intents
from gateway.proxy.metering.spool import Spool, Spools
from gateway.telemetry.logging import make_logger
from tests.fakes.events import ids, packed
from tests.fakes.redis_servers import eventually

MIB = 1024 * 1024


def line(number: int) -> bytes:
    return packed(number)[0].json


class Stand:
    def __init__(self, folder: Path, *, most_bytes: int = MIB) -> None:
        self.folder = folder / "spool"
        self.said: list[bytes] = []
        self.spools = Spools(self.folder, most_bytes, SystemClock())
        self.intents = Intents(self.spools, make_logger("worker", "info", ManualClock(), write=self.said.append))

    async def note(self, *numbers: int) -> None:
        await asyncio.gather(*(self.intents.note(f"req_{number}", line(number)) for number in numbers))

    def on_disk(self) -> list[str]:
        """The ids in all files."""
        text = b"".join(path.read_bytes() for path in sorted(self.folder.glob("*/*.jsonl")))
        return [one for one in ids(*range(2000)) if b'"%b"' % one.encode() in text]

    def dies(self) -> None:
        """The system takes its locks away."""
        for pile in self.intents._piles:
            if pile.spool is not None:
                dies(pile.spool)


def dies(spool: Spool) -> None:
    spool._seal()
    os.close(spool._lock)


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Stand]:
    stand = Stand(tmp_path)
    yield stand
    await stand.intents.close()


def adopted(spools: Spools) -> list[str] | None:
    """The ids in the spool that a living worker takes, and has delivered; None if there is none for it."""
    spool = spools.adopt()
    if spool is None:
        return None
    found: list[str] = []
    while not spool.empty:
        batch = spool.read(100, MIB)
        found += [one.id for one in batch.events]
        spool.done(batch)
    spool.release()
    return found


async def test_they_are_on_disk_until_they_are_over(worker: Stand) -> None:
    await worker.note(1, 2)
    assert worker.on_disk() == ids(1, 2)
    worker.intents.over(ids(1))
    await worker.note(3)
    assert worker.on_disk() == ids(1, 2, 3), "a file is removed when all in it are over"
    assert adopted(worker.spools) is None, "their worker lives"
    worker.intents.over(ids(2, 3, 4))
    await eventually(lambda: not list(worker.folder.iterdir()))
    assert len(worker.intents) == 0
    await worker.note(5)
    assert worker.on_disk() == ids(5)


async def test_those_that_come_at_once_are_written_at_once(worker: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[int] = []
    write = Spool.write

    def counted(self: Spool, data: bytes) -> None:
        writes.append(data.count(b"\n"))
        write(self, data)

    monkeypatch.setattr(Spool, "write", counted)
    await worker.note(*range(200))
    assert writes == [200]
    assert worker.on_disk() == ids(*range(200))


async def test_a_client_that_leaves_does_not_take_others_along(worker: Stand) -> None:
    first = asyncio.ensure_future(worker.note(1))
    second = asyncio.ensure_future(worker.note(2))
    await asyncio.sleep(0)
    first.cancel()
    worker.intents.over(ids(1))
    await second
    assert worker.on_disk()[-1:] == ids(2)
    worker.intents.over(ids(2))
    await eventually(lambda: not list(worker.folder.iterdir()))


async def test_one_that_runs_long_keeps_its_file_only(worker: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PILE_BYTES", 10_000)
    for number in range(200):
        await worker.note(number)
        if number:
            worker.intents.over(ids(number))
    await eventually(lambda: len(list(worker.folder.iterdir())) == 1)
    assert worker.on_disk()[:2] == ids(0, 1)
    assert len(worker.on_disk()) < 50


async def test_of_a_dead_worker_they_are_taken_after_all_else_it_left(worker: Stand) -> None:
    """What is known of them is there; and while somebody delivers that, they wait."""
    await worker.note(1, 2)
    own = worker.spools.open()
    own.write(line(2) + b"\n")
    living = Spools(worker.folder, MIB, SystemClock())
    dies(own)
    worker.dies()
    delivering = living.adopt()
    assert delivering is not None
    assert adopted(living) is None
    delivering.done(delivering.read(10, MIB))
    delivering.release()
    assert adopted(living) == ids(1, 2)
    assert not list(worker.folder.iterdir())
    worker.intents._piles.clear()


async def test_of_a_killed_process(tmp_path: Path) -> None:
    code = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.unit.proxy.metering.test_intents import Stand
async def main():
    worker = Stand(Path(sys.argv[1]))
    await worker.note(1, 2, 3)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    ended = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code, str(tmp_path)], check=False)
    assert ended.returncode == -9
    assert adopted(Spools(tmp_path / "spool", MIB, SystemClock())) == ids(1, 2, 3)


async def test_the_end_leaves_those_that_are_not_over(tmp_path: Path) -> None:
    worker = Stand(tmp_path)
    await worker.note(1, 2)
    worker.intents.over(ids(1))
    await worker.intents.close()
    assert adopted(worker.spools) == ids(1, 2)
    await worker.note(3)
    worker.intents.over(ids(3))
    await worker.intents.close()
    assert not list(worker.folder.iterdir())


@pytest.mark.parametrize("trouble", ["no room", "no folder"])
async def test_a_disk_that_does_not_take_them_stops_nobody(tmp_path: Path, trouble: str) -> None:
    worker = Stand(tmp_path, most_bytes=1 if trouble == "no room" else MIB)
    if trouble == "no folder":
        worker.folder.touch()
    await worker.note(1, 2)
    await worker.note(3)
    assert len(worker.intents) == 0, "nobody needs to be told when they are over"
    (said,) = worker.said
    assert b'"event":"usage_intents_not_kept"' in said
    assert b'"level":"error"' in said
    worker.intents.over(ids(1, 2, 3))
    await worker.intents.close()
