"""Log lines: JSON, whole, without secrets; and access lines that never hold their writer up."""

import json
import logging
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import ManualClock
from gateway.telemetry.logging import LineWriter, Logger, batches, make_logger
from gateway.values import Secret
from tests.fakes.redis_servers import eventually_blocking


@pytest.fixture
def written() -> Iterator[list[bytes]]:
    """Puts the standard library's logging back afterwards."""
    root = logging.getLogger()
    before = root.handlers, root.level
    yield []
    root.handlers, root.level = list(before[0]), before[1]


def logger(written: list[bytes], level: str = "info") -> Logger:
    return make_logger("worker", level, ManualClock(1000.1234), written.append, slot="3")


def lines(written: list[bytes]) -> list[dict[str, Any]]:
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in written)
    return [json.loads(line) for line in written]


def test_an_event(written: list[bytes]) -> None:
    logger(written).warning("it_happened", what="a\nb", secret=Secret("hidden"), path=os)
    (line,) = lines(written)
    assert list(line)[:3] == ["ts", "level", "event"]
    expected = {"ts": 1000.123, "level": "warning", "event": "it_happened", "process": "worker", "slot": "3"}
    assert {**line, **expected} == line
    assert (line["what"], line["secret"]) == ("a\nb", "***")


def test_levels(written: list[bytes]) -> None:
    log = logger(written, "warning")
    log.info("quiet")
    logging.getLogger("some.library").info("quiet")
    log.error("loud")
    assert [line["event"] for line in lines(written)] == ["loud"]


def test_an_exception_has_its_place_but_no_variables(written: list[bytes]) -> None:
    hidden = Secret("hidden")
    try:
        raise ValueError("wrong")
    except ValueError:
        logger(written).exception("it_failed", key=hidden)
    (line,) = lines(written)
    assert "ValueError: wrong" in line["error"]
    assert "test_logging.py" in line["error"]
    assert "hidden" not in json.dumps({**line, "error": ""})


def test_what_libraries_say_has_the_same_form(written: list[bytes]) -> None:
    logger(written)
    logging.getLogger("some.library").warning("of %d things", 3)
    logging.captureWarnings(capture=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", DeprecationWarning, stacklevel=1)
    finally:
        logging.captureWarnings(capture=False)
    first, second = lines(written)
    assert (first["event"], first["logger"], first["process"]) == ("of 3 things", "some.library", "worker")
    assert second["logger"] == "py.warnings"


@pytest.mark.parametrize("sizes", [[], [10], [4000, 96], [4000, 97], [5000, 10, 10], [10] * 1000])
def test_batches_fit_into_a_pipe_and_lines_stay_whole(sizes: list[int]) -> None:
    given = [b"x" * (size - 1) + b"\n" for size in sizes]
    pieces = batches(given, 4096)
    assert b"".join(pieces) == b"".join(given)
    assert all(len(piece) <= 4096 or piece.count(b"\n") == 1 for piece in pieces)
    assert all(piece.endswith(b"\n") for piece in pieces)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for end in (reading, writing):
        os.close(end)


def test_access_lines_arrive_in_order(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = LineWriter(writing)
    expected = b""
    for number in range(1000):
        expected += b"%d\n" % number
        writer.add(b"%d\n" % number)
    writer.close()
    os.set_blocking(reading, False)
    assert os.read(reading, len(expected) + 1) == expected
    assert writer.take_dropped() == 0


def test_writes_to_what_processes_share_are_never_longer_than_a_pipe_takes_at_once() -> None:
    """A socket of whole messages, so that each write can be seen; the journal's is one, too."""
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with reading, writing:
        writer = LineWriter(writing.fileno())
        for _ in range(100):
            writer.add(b"x" * 999 + b"\n")
        writer.flush()
        left = 100_000
        while left:
            size = len(reading.recv(1 << 20))
            assert 0 < size <= 4096
            left -= size
        writer.close()


def test_files_are_written_in_large_pieces(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        writer = LineWriter(file.fileno())
        lines = [b"x" * 999 + b"\n"] * 60
        for line in lines:
            writer.add(line)
        writer.close()
        assert len(batches(lines, writer._piece)) == 1
    assert (tmp_path / "log").stat().st_size == 60_000


def test_a_closed_output_is_no_reason_not_to_work(pipe: tuple[int, int]) -> None:
    closed = os.dup(pipe[1])
    os.close(closed)
    writer = LineWriter(closed)
    writer.add(b"nobody hears it\n")
    writer.close()
    assert writer.take_dropped() == 0


def test_nobody_reads(pipe: tuple[int, int]) -> None:
    """What is too much is dropped and counted; the writer of lines does not wait for it. Later lines arrive again."""
    reading, writing = pipe
    writer = LineWriter(writing)
    line = b"x" * 1023 + b"\n"
    for _ in range(12 * 1024):
        writer.add(line)
    writer.flush()
    dropped = writer.take_dropped()
    assert 3 * 1024 < dropped < 5 * 1024
    assert writer.take_dropped() == 0
    left = (12 * 1024 - dropped) * len(line)
    while left:
        left -= len(os.read(reading, min(left, 1 << 20)))
    writer.add(b"again\n")
    writer.flush()
    os.set_blocking(reading, False)
    assert eventually_blocking(lambda: read_now(reading)) == b"again\n"
    writer.close()


def read_now(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 100)
    except BlockingIOError:
        return b""
