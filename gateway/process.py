"""What a child process and its supervisor say to each other, and the child's side of it.

They speak over a socket pair that the child inherits: length-prefixed JSON messages. It is also a leash: when it ends,
the supervisor has died, and the child ends too. Settings come over it as a value, so that all processes of one gateway
have the same ones whatever happens to the file, and no secret stands in a command line or an environment.
"""

import asyncio
import contextlib
import ctypes
import os
import platform
import select
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from types import MappingProxyType
from typing import Any

import msgspec

from gateway.tasks import Tasks

CHANNEL_VARIABLE = "GATEWAY_CHANNEL"
LAST_S = 1.8  # no child lives longer than this after its supervisor
TURN_S = 0.005
_MAX_MESSAGE = 64 * 1024 * 1024
_SCHED_SETATTR = MappingProxyType({"x86_64": 314, "aarch64": 274})  # the system call's number


class OrphanError(Exception):
    """There is no supervisor; the message is for people."""


class Start(msgspec.Struct, frozen=True, tag=True):
    """To the child, first: what to be.

    settings: as `settings.load.encode` gives them. sockets: descriptors to listen on, inherited; a forked process has
    been given its own. slot: a worker's number, for its log lines. lane: where it counts (see telemetry/metrics.py).
    redis_url: of the embedded server. extra: for single roles.
    """

    settings: msgspec.Raw
    sockets: list[int]
    slot: str = ""
    lane: str = ""
    redis_url: str | None = None
    extra: dict[str, str] = {}


class Go(msgspec.Struct, frozen=True, tag=True):
    """To the child, after it has said that it is ready: serve. So all workers of a reload begin at once, or none."""


class Drain(msgspec.Struct, frozen=True, tag=True):
    """To the child: take nothing new, end what is in flight within the deadline, then exit."""

    deadline_s: float


class Here(msgspec.Struct, frozen=True, tag=True):
    """To the supervisor, first: the process runs, and waits to be told what to be."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """To the supervisor: everything is prepared, it can serve."""


class Health(msgspec.Struct, frozen=True, tag=True):
    """To the supervisor, when it changes: which dependencies are away, and what is said about each."""

    away: dict[str, str]


class Failed(msgspec.Struct, frozen=True, tag=True):
    """To the supervisor, before exiting: this cannot work, and starting again will not help."""

    reason: str


ToChild = Start | Go | Drain
ToSupervisor = Here | Ready | Health | Failed


class Channel:
    """One end of the leash. `kind` is the union of messages that come in at this end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: Any) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = msgspec.json.Decoder(kind)

    @classmethod
    async def over(cls, end: socket.socket, kind: Any) -> "Channel":
        end.setblocking(False)
        try:
            reader, writer = await asyncio.open_connection(sock=end)
        except BaseException:
            end.close()
            raise
        return cls(reader, writer, kind)

    def send(self, message: ToChild | ToSupervisor) -> None:
        """Sends a message, without waiting for the other side to read it; nothing happens if that has gone."""
        data = msgspec.json.encode(message)
        with contextlib.suppress(ConnectionError, RuntimeError):
            self._writer.write(len(data).to_bytes(4, "big") + data)

    async def receive(self) -> Any:
        """The next message; None when the other side has gone."""
        try:
            size = int.from_bytes(await self._reader.readexactly(4), "big")
            if size > _MAX_MESSAGE:
                return None
            return self._decoder.decode(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def close(self) -> None:
        self._writer.close()


class Child:
    """The child's side: what it was started with, and what it is told later."""

    def __init__(self, channel: Channel, start: Start, sockets: list[socket.socket] | None) -> None:
        self._channel = channel
        self.start = start
        self._sockets = sockets
        self._health: dict[str, str] | None = None
        self._untold: list[Drain | None] = []

    @classmethod
    async def connect(cls) -> "Child":
        """Takes up the leash named in the environment. Raises OrphanError if there is none, or nobody at its end."""
        return await cls.hold(inherited_leash())

    @classmethod
    async def hold(cls, end: socket.socket, sockets: list[socket.socket] | None = None) -> "Child":
        """Takes up a leash that is at hand: this process ends with its other end. sockets: the listening ones, if they
        are at hand too. Raises OrphanError."""
        end_with_supervisor(end.dup(), LAST_S)
        return await cls.over(end, sockets)

    @classmethod
    async def over(cls, end: socket.socket, sockets: list[socket.socket] | None = None) -> "Child":
        """The same, but the process may live on."""
        channel = await Channel.over(end, ToChild)
        channel.send(Here())
        start = await channel.receive()
        if not isinstance(start, Start):
            channel.close()
            raise OrphanError("the supervisor has gone")
        return cls(channel, start, sockets)

    def sockets(self) -> list[socket.socket]:
        """The listening sockets, in the supervisor's order. To be called once."""
        sockets = self._sockets
        if sockets is None:
            sockets = [socket.socket(fileno=number) for number in self.start.sockets]
        for each in sockets:
            each.setblocking(False)
        return sockets

    async def ready(self) -> bool:
        """Reports that all is prepared, and waits for the word to serve. False: another word came, for `until_told`."""
        self._channel.send(Ready())
        message = await self._channel.receive()
        if not isinstance(message, Go):
            self._untold.append(message)
            return False
        return True

    def failed(self, reason: str) -> None:
        """Reports that this process cannot do its work, and why, in words for people."""
        self._channel.send(Failed(reason))

    async def health(self, away: dict[str, str]) -> None:
        """Reports which dependencies are away, if that has changed."""
        if away != self._health:
            self._health = dict(away)
            self._channel.send(Health(self._health))

    async def until_told(self) -> Drain | None:
        """Waits for the order to drain; None if the supervisor has died, and with it the order of things."""
        while not self._untold:
            message = await self._channel.receive()
            if message is None or isinstance(message, Drain):
                return message
        return self._untold.pop()

    def close(self) -> None:
        self._channel.close()


def inherited_leash() -> socket.socket:
    """The leash that the environment names. Raises OrphanError if it names none."""
    number = os.environ.pop(CHANNEL_VARIABLE, None)
    if number is None:
        raise OrphanError("this command is for the supervisor: run `gateway serve` or `gateway demo`")
    return socket.socket(fileno=int(number))


def end_with_supervisor(end: socket.socket, last_s: float) -> None:
    """Ends this process `last_s` after the other end of the leash has closed, whatever its event loop is doing then.

    The loop notices too, and has that long to end what is in flight. This thread is for a loop that hangs, or that is
    still starting up: no child must outlive its supervisor, or two gateways would serve at once.
    """

    def wait() -> None:
        poll = select.poll()
        poll.register(end, 0)  # hang-ups are reported always
        poll.poll()
        threading.Event().wait(last_s)
        os._exit(1)

    threading.Thread(target=wait, name="leash", daemon=True).start()


async def serve_until_told(child: Child, drain: Callable[[float], Coroutine[Any, Any, None]], orphan_s: float) -> None:
    """Serves until the supervisor says drain, then drains. If it dies, drains within `orphan_s`.

    `drain` may be cancelled and called again: that is how a later order shortens an earlier one.
    """
    tasks = Tasks()
    told = await child.until_told()
    while True:
        draining = tasks.spawn(drain(told.deadline_s if told is not None else orphan_s), "drain")
        if told is None:
            await draining
            return
        listening = tasks.spawn(child.until_told(), "listen")
        await asyncio.wait({draining, listening}, return_when=asyncio.FIRST_COMPLETED)
        if draining.done():
            await tasks.cancel()
            return
        draining.cancel()
        await asyncio.wait({draining})
        told = listening.result()


def usable_cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def take_turns(workers: int) -> None:
    """Lets workers that share a CPU interrupt each other less: where there are more of them than CPUs, each works on
    until it has nothing to do or its turn of `TURN_S` is up. It saves the caches that each switch spoils
    (docs/performance.md)."""
    if workers > usable_cpus() and hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # some containers forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
            _ask_for_turns(os.SCHED_BATCH, TURN_S)


def _ask_for_turns(policy: int, length_s: float) -> None:
    """How long this thread, and those that it starts, would like to have the CPU at a time: sched_setattr(2), which
    Python has not. Linux looks at it from 6.12 on, and takes 3 ms where nobody asks."""
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None:
        return
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = struct.pack("=IIQiIQQQ", 48, policy, 0, nice, 0, int(length_s * 1e9), 0, 0)
    ctypes.CDLL(None).syscall(number, 0, attributes, 0)
