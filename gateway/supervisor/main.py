"""The supervisor: starts the processes of a gateway in order, watches them, reloads and ends them."""

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType

import msgspec

from gateway import __version__
from gateway.process import Start, usable_cpus
from gateway.settings.load import SettingsError
from gateway.settings.model import Settings
from gateway.settings.places import control_socket
from gateway.settings.transfer import encode
from gateway.supervisor.child import Child
from gateway.supervisor.datastore import Datastore, Embedded, External
from gateway.supervisor.launch import execute
from gateway.supervisor.listeners import address_of, open_listeners
from gateway.supervisor.lock import DataFolderLock
from gateway.supervisor.ops import Operations
from gateway.supervisor.post import Post, StartError
from gateway.supervisor.slots import Lanes, Slots
from gateway.tasks import Tasks
from gateway.telemetry.logging import Logger
from gateway.telemetry.metrics import FOLDER_VARIABLE, Metrics

# Whatever is in these is built into sockets, folders and processes: a change of one takes a restart.
_FIXED = ("listeners", "workers.count", "data_dir", "redis", "database")


class Companion(msgspec.Struct, frozen=True):
    """A further process to run beside the gateway, started with its sockets, settings and environment of its own."""

    role: str
    sockets: list[socket.socket]
    extra: dict[str, str]
    environment: dict[str, str]


class Plan(msgspec.Struct, frozen=True):
    """Which processes this supervisor runs: the commands `serve`, `proxy`, `control` and `demo` differ in this."""

    workers: bool = True
    control: bool = True
    embedded_redis: bool = True
    companions: tuple[Companion, ...] = ()


class Supervisor:
    """One gateway. load: reads the settings anew, for a reload; None: there are none, and SIGHUP ends it too."""

    def __init__(self, settings: Settings, plan: Plan, *, log: Logger, load: Callable[[], Settings] | None) -> None:
        self._settings = settings
        self._plan = plan
        self._log = log
        self._load = load
        self._tasks = Tasks()
        self._starting: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._hurried = asyncio.Event()
        self._hung_up = asyncio.Event()
        self._stop_reason: str | None = None
        self._metrics = Metrics("supervisor")
        self._restarts = self._metrics.counter("gateway_restarts_total")
        self._folder = Path(settings.data_dir)
        self._metrics_folder = self._folder / "metrics"
        self._lock: DataFolderLock | None = None
        self._opened: dict[str, list[socket.socket]] = {}
        self._datastore: Datastore | None = None
        self._control: Post | None = None
        self._companions: list[Post] = []
        self._slots = self._make_slots([])
        self._operations = Operations(self, self._metrics, self._metrics_folder, self._gauges)
        self.addresses: dict[str, str] = {}

    async def run(self, started: Callable[["Supervisor"], None] = lambda _: None) -> int:
        """Runs a gateway from its start to its end; returns the exit status. started: called when it serves.

        Ends on a signal, or with status 1 when something that it cannot do without turns out to be missing.
        Raises StartError, ListenError, DataFolderError or PlaceTakenError if it cannot start; then nothing is left.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up.set if self._load is not None else self._signalled)
        try:
            self._starting = asyncio.current_task()
            try:
                await self._start()
                self._starting = None
                started(self)
                self._tasks.spawn(self._reload_when_told(), "reload")
            except asyncio.CancelledError:
                if not self._stop.is_set():
                    raise
            await self._stop.wait()
        finally:
            await self._end()
        if self._stop_reason is not None:
            self._log.error("ended", reason=self._stop_reason)
        return 0 if self._stop_reason is None else 1

    def _signalled(self) -> None:
        """The first signal lets everything end in peace, a second one at once."""
        if self._stop.is_set():
            self._hurried.set()
        self._stop.set()
        if self._starting is not None:
            self._starting.cancel()
            self._starting = None

    def _unfit(self, reason: str) -> None:
        self._stop_reason = reason
        self._stop.set()

    # Starting

    async def _start(self) -> None:
        """Starts everything and returns when the gateway serves."""
        self._lock = DataFolderLock(self._folder)
        _raise_file_limit()
        proxy, admin, operations = self._open_sockets()
        shutil.rmtree(self._metrics_folder, ignore_errors=True)
        self._metrics_folder.mkdir(mode=0o700, exist_ok=True)
        if self._plan.control:
            control_socket(self._settings)  # if it has no place, that is better said here than by a process
        await self._operations.start(operations)
        self._make_posts(proxy, admin)
        self._datastore = self._make_datastore()
        try:
            await self._slots.prepare()
            for post in self._single:  # they need most of their time before they need to know anything
                await post.prepare()
        except OSError as error:
            raise StartError(f"no process can be started: {error.strerror}") from None
        await self._datastore.start()
        for post in self._single:
            await post.open()
        problem = await self._slots.roll(self._settings, 0)
        if problem is not None:
            raise StartError(f"the workers cannot start: {problem}")
        self._log.info("serving", version=__version__, pid=os.getpid(), **self.addresses)

    def _open_sockets(self) -> tuple[list[socket.socket], list[socket.socket], socket.socket]:
        """The listening sockets: one for each worker, those of the admin API, and the operations listener's."""
        settings = self._settings

        def opened(name: str, count: int = 1) -> list[socket.socket]:
            sockets = open_listeners(getattr(settings.listeners, name), count)
            self._opened[name] = sockets
            self.addresses[name] = address_of(sockets[0])
            return sockets

        count = usable_cpus() if settings.workers.count == "auto" else settings.workers.count
        return (
            opened("proxy", count) if self._plan.workers else [],
            opened("admin") if self._plan.control and settings.listeners.admin is not None else [],
            opened("operations")[0],
        )

    def _make_posts(self, proxy: list[socket.socket], admin: list[socket.socket]) -> None:
        if self._plan.control:
            environment = {FOLDER_VARIABLE: str(self._metrics_folder)}
            lanes = Lanes("control", self._metrics_folder)
            self._control = self._single_post("control", admin, environment=environment, lanes=lanes)
        for one in self._plan.companions:
            self._companions.append(self._single_post(one.role, one.sockets, one.extra, one.environment))
        self._slots = self._make_slots(proxy)

    def _make_slots(self, sockets: list[socket.socket]) -> Slots:
        return Slots(
            sockets,
            self._settings,
            metrics_folder=self._metrics_folder,
            metrics=self._metrics,
            redis_url=self._redis_url,
            log=self._log,
        )

    @property
    def _single(self) -> list[Post]:
        """The places of single processes, in the order of their start."""
        return [*([self._control] if self._control is not None else []), *self._companions]

    @property
    def _posts(self) -> list[Post]:
        return [*self._single, *self._slots]

    def _redis_url(self) -> str | None:
        return self._datastore.url if self._datastore is not None else None

    def _make_datastore(self) -> Datastore:
        redis = self._settings.redis
        if redis.url is not None or redis.sentinel is not None:
            return External(redis, self._unfit, self._log)
        if not self._plan.embedded_redis:
            raise StartError("expected redis.url or redis.sentinel in the settings: one plane alone has no Valkey")
        return Embedded(self._folder, redis, self._restarts, self._log)

    def _single_post(
        self,
        role: str,
        sockets: Sequence[socket.socket],
        extra: Mapping[str, str] = MappingProxyType({}),
        environment: Mapping[str, str] = MappingProxyType({}),
        lanes: Lanes | None = None,
    ) -> Post:
        def start(child: Child) -> Start:
            return Start(
                settings=msgspec.Raw(encode(self._settings)),
                sockets=[s.fileno() for s in sockets],
                lane=lanes.take(child) if lanes is not None else "",
                redis_url=self._redis_url(),
                extra=dict(extra),
            )

        return Post(
            role,
            "0",
            sockets,
            execute(role, environment),
            start,
            log=self._log,
            restarts=self._restarts,
            gone=lanes.give_back if lanes is not None else lambda _: None,
        )

    # Reloading

    async def _reload_when_told(self) -> None:
        """Reloads after each SIGHUP, one reload after the other."""
        while True:
            await self._hung_up.wait()
            self._hung_up.clear()
            problem = await self._reload()
            result = "kept" if problem is not None else "reloaded"
            self._metrics.counter("gateway_reloads_total").add((result,))
            if problem is not None:
                self._log.error("reload_failed_old_settings_stay", reason=problem)
            else:
                self._log.info("settings_reloaded")

    async def _reload(self) -> str | None:
        """Takes up the settings as they are now, all of them; or returns why not, and nothing has changed."""
        assert self._load is not None
        try:
            settings = self._load()
        except SettingsError as error:
            return str(error)
        changed = [name for name in _FIXED if attrgetter(name)(settings) != attrgetter(name)(self._settings)]
        if changed:
            return f"a change of {', '.join(changed)} takes a restart"
        problem = await self._slots.roll(settings, settings.timeouts.reload_drain_s)
        if problem is not None:
            return f"the workers cannot start: {problem}"
        self._settings = settings
        if self._control is not None and not await self._control.replace(settings.timeouts.drain_s):
            self._log.error("control_not_ready_after_reload")
        return None

    # What the operations listener asks

    def ready(self) -> bool:
        if self._stop.is_set() or self._datastore is None or not self._datastore.accepted:
            return False
        if self._plan.workers:
            return self.counts()["ready"] > 0
        return self._control is not None and self._control.is_ready

    def counts(self) -> dict[str, int]:
        return self._slots.counts()

    def away(self) -> dict[str, str]:
        """What is away, by the supervisor's own knowledge and the processes' reports."""
        away: dict[str, str] = {}
        for post in self._posts:
            if post.child is not None:
                away.update(post.child.away)
        if self._datastore is None:
            away["redis"] = "it has not been looked at yet"
        elif self._datastore.away is not None:
            away["redis"] = self._datastore.away
        if self._plan.control and (self._control is None or not self._control.is_ready):
            away["control"] = "the control process is not running"
        return away

    def _gauges(self) -> None:
        self._metrics.set("gateway_info", 1, (__version__,))
        for state, count in self.counts().items():
            self._metrics.set("gateway_workers", count, (state,))

    # Ending

    async def _end(self) -> None:
        """Ends everything in order: first what serves clients, last what keeps data."""
        self._stop.set()
        await self._tasks.cancel()
        if self._lock is None:
            return
        drain_s = self._settings.timeouts.drain_s
        self._log.info("stopping", drain_s=drain_s)
        # Whoever calls from now on is refused at once, rather than kept waiting for a worker that does not come.
        self._close_sockets("proxy", "admin")
        self._tasks.spawn(self._hurry(), "hurry")
        await self._slots.stop(drain_s)
        for post in reversed(self._single):
            await post.stop(0 if self._hurried.is_set() else drain_s)
        await self._operations.stop()
        self._close_sockets("operations")
        if self._datastore is not None:
            await self._datastore.stop()
        await self._tasks.cancel()
        self._lock.release()
        self._log.info("stopped")

    def _close_sockets(self, *names: str) -> None:
        for name in names:
            for opened in self._opened.pop(name, ()):
                opened.close()

    async def _hurry(self) -> None:
        await self._hurried.wait()
        self._log.warning("stopping_at_once")
        await asyncio.gather(*(post.hurry() for post in self._posts))


def _raise_file_limit() -> None:
    """As many open files as the system lets this user have: a connection is one, on each side."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
