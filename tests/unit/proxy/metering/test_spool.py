"""The files: what is in them comes out again, whatever happened to their writer."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.accounts.usage_stream import Packed, pack
from gateway.clock import ManualClock
from gateway.proxy.metering import spool as module
from gateway.proxy.metering.spool import Spool, Spools
from tests.fakes.events import event, ids, packed

MIB = 1024 * 1024


def spools_in(folder: Path, most_bytes: int = MIB) -> Spools:
    return Spools(folder / "spool", most_bytes, ManualClock())


def lines(events: list[Packed]) -> bytes:
    return b"".join(one.json + b"\n" for one in events)


def all_of(spool: Spool, most_events: int = 7) -> list[str]:
    found: list[str] = []
    while not spool.empty:
        batch = spool.read(most_events, MIB)
        assert batch == spool.read(most_events, MIB)  # until it is done
        found += [one.id for one in batch.events]
        spool.done(batch)
    return found


def dies(spool: Spool) -> None:
    """Its writer's end: the system takes its locks away."""
    spool._seal()
    os.close(spool._lock)


def test_what_is_written_is_read_in_order_and_then_gone(tmp_path: Path) -> None:
    spools = spools_in(tmp_path)
    assert spools.adopt() is None
    spool = spools.open()
    for first in range(0, 100, 10):
        spool.write(lines(packed(*range(first, first + 10))))
    assert spool.size == spool.unread > 10_000
    assert all_of(spool) == ids(*range(100))
    assert spool.size == spool.unread == 0
    spool.release()
    assert list((tmp_path / "spool").iterdir()) == []


def test_it_can_be_written_between_reads(tmp_path: Path) -> None:
    spool = spools_in(tmp_path).open()
    spool.write(lines(packed(1, 2, 3)))
    first = spool.read(2, MIB)
    spool.write(lines(packed(4)))
    spool.done(first)
    spool.write(lines(packed(5)))
    assert all_of(spool) == ids(3, 4, 5)
    spool.write(lines(packed(6)))
    assert all_of(spool) == ids(6)
    spool.release()


def test_files_end_at_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 2000)
    spool = spools_in(tmp_path).open()
    for number in range(30):
        spool.write(lines(packed(number)))
    assert len(list((tmp_path / "spool").glob("*/*.jsonl"))) > 5
    assert all_of(spool) == ids(*range(30))
    spool.release()


def test_batches_are_bounded_and_of_one_organization(tmp_path: Path) -> None:
    spool = spools_in(tmp_path).open()
    other = pack(event(3, organization_id="org-other"))
    spool.write(lines([*packed(1, 2), other, *packed(4)]))
    sizes = []
    while not spool.empty:
        batch = spool.read(10, MIB)
        sizes.append([one.id for one in batch.events])
        spool.done(batch)
    assert sizes == [ids(1, 2), ids(3), ids(4)]
    long = pack(event(1, end_user="x" * 5000))
    spool.write(lines([*packed(0), long, *packed(2)]))
    assert [one.id for one in spool.read(10, 2000).events] == ids(0)
    spool.done(spool.read(1, 2000))
    assert spool.read(10, 2000).events == [long]
    dies(spool)


def test_a_dead_writers_spool_is_adopted_by_one(tmp_path: Path) -> None:
    dead = spools_in(tmp_path).open()
    dead.write(lines(packed(1, 2)))
    assert spools_in(tmp_path).adopt() is None
    dies(dead)
    adopted = spools_in(tmp_path).adopt()
    assert adopted is not None
    assert spools_in(tmp_path).adopt() is None
    assert all_of(adopted) == ids(1, 2)
    adopted.release()
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_spool_that_was_let_go_of_begins_again(tmp_path: Path) -> None:
    spool = spools_in(tmp_path).open()
    spool.write(lines(packed(1, 2)))
    spool.done(spool.read(1, MIB))
    spool.release()
    again = spools_in(tmp_path).adopt()
    assert again is not None
    assert all_of(again) == ids(1, 2)
    again.release()


def test_what_a_killed_process_wrote_and_half_a_line(tmp_path: Path) -> None:
    """A process of its own, killed while it held its lock and had written half an event."""
    code = """
import os, signal, sys
from pathlib import Path
from gateway.clock import SystemClock
from gateway.proxy.metering.spool import Spools
from tests.fakes.events import packed
spool = Spools(Path(sys.argv[1]) / "spool", 1 << 20, SystemClock()).open()
spool.write(b"".join(one.json + b"\\n" for one in packed(1, 2)))
os.write(spool._writing, packed(3)[0].json[:50])
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -9
    spool = spools_in(tmp_path).adopt()
    assert spool is not None
    batch = spool.read(10, MIB)
    assert [one.id for one in batch.events] == ids(1, 2)
    assert (batch.torn, batch.unreadable) == (50, 0)
    spool.done(batch)
    assert spool.empty
    spool.release()


def test_lines_that_are_no_events_are_told(tmp_path: Path) -> None:
    spool = spools_in(tmp_path).open()
    spool.write(b"\xff\xfe\n{}\n" + lines(packed(1)) + b"\n")
    batch = spool.read(10, MIB)
    assert (batch.events, batch.unreadable, batch.torn) == (packed(1), 3, 0)
    spool.done(batch)
    spool.write(b"only this\n")
    batch = spool.read(10, MIB)
    assert (batch.events, batch.unreadable) == ([], 1)
    spool.done(batch)
    assert spool.empty
    spool.release()


def test_there_is_room_or_not(tmp_path: Path) -> None:
    spools = spools_in(tmp_path, 2000)
    spools.check_room(2000)
    spool = spools.open()
    spool.write(b"x" * 999 + b"\n")
    spools.check_room(1000)
    with pytest.raises(OSError, match=r"usage\.spool_mib") as caught:
        spools.check_room(1001)
    assert caught.value.errno == errno.EDQUOT
    dies(spool)


def test_half_a_write_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full in the middle of a batch."""
    spool = spools_in(tmp_path).open()
    spool.write(lines(packed(1)))

    def half(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(module, "_write_all", half)
        for _ in range(2):
            with pytest.raises(OSError, match="No space"):
                spool.write(lines(packed(2, 3)))
    assert len(list((tmp_path / "spool").glob("*/*.jsonl"))) == 1
    spool.write(lines(packed(4)))
    assert all_of(spool) == ids(1, 4)
    spool.release()


def test_files_that_somebody_deletes(tmp_path: Path) -> None:
    spool = spools_in(tmp_path).open()
    spool.write(lines(packed(1)))
    (file,) = (tmp_path / "spool").glob("*/*.jsonl")
    file.unlink()
    with pytest.raises(FileNotFoundError):
        spool.write(lines(packed(2)))
    spool.write(lines(packed(2)))
    assert all_of(spool) == ids(2)
    spool.release()


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "spool").touch()
    spools = spools_in(tmp_path)
    with pytest.raises(OSError):
        spools.open()
    with pytest.raises(OSError):
        spools.adopt()


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    strange = tmp_path / "spool" / "strange"
    strange.mkdir(parents=True)
    (strange / "notes.jsonl").write_text("mine")
    (tmp_path / "spool" / "file").touch()
    assert spools_in(tmp_path).adopt() is None
    assert (strange / "notes.jsonl").read_text() == "mine"
