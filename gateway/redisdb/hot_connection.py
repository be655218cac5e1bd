"""A connection to one Redis server that pipelines by itself, keeps deadlines, and comes back when it breaks."""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from structlog.typing import FilteringBoundLogger

from gateway.clock import Clock
from gateway.redisdb.address import Access, Address
from gateway.redisdb.breaker import Breaker
from gateway.redisdb.command import Arg, Script, pack
from gateway.redisdb.failures import HotUnavailable, RedisFailure
from gateway.redisdb.hot_wire import Entry, Wire
from gateway.tasks import Tasks

Resolve = Callable[[], Awaitable[Address]]
"""Says where the server is just now. RedisFailure."""
Dial = Callable[[Address], Awaitable[Wire]]
"""Opens a socket. OSError, RedisFailure."""

MAX_WAITING = 4096  # calls that may wait while nothing can be written
_NAME = b"*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$11\r\ngateway-hot\r\n"  # for CLIENT LIST; not all may
_BACKOFF_S = 0.01
_MAX_BACKOFF_S = 0.5
_LASTED_S = 1.0  # a connection that lived this long is followed by another at once
_ANSWER_S = 0.01  # the least time, or the deadline if that is shorter, that a server has from the sending
_SOONEST_S = 0.001
_MOST_PUT_OFF = 10  # looks, a millisecond after the other, that are put off for the same call


class Greeting(msgspec.Struct, frozen=True):
    """What is said on a new connection before any call."""

    access: Access = Access()
    scripts: Sequence[Script] = ()  # loaded
    primary: bool = False  # the server's role is asked for, and what is no primary is refused

    def commands(self) -> list[Sequence[Arg]]:
        """Each must be answered without an error. There is a password in them."""
        access = self.access
        commands: list[Sequence[Arg]] = []
        if access.password is not None:
            commands.append(("AUTH", *([access.username] if access.username else []), access.password.reveal()))
        commands.append(("PING",))  # if nothing else: a server that hangs accepts connections too
        if access.db:
            commands.append(("SELECT", access.db))
        commands += [("SCRIPT", "LOAD", script.source) for script in self.scripts]
        if self.primary:
            commands.append(("ROLE",))
        return commands


class HotConnection:
    """Calls to one server, in order, over one socket.

    All calls of one tick of the event loop go out in one write. A cancelled call drops only its future.
    Each call comes with the time by which it wants its answer (`due`, which never goes back from call to call, but for
    one that is repeated). Then it fails with HotTimeout if it was sent, with HotUnavailable if it was not. One timer,
    which exists only while calls are outstanding, sees to that. If a reply stays away for `stall_s` longer, the
    connection is dropped. Where this process was held up, and not the server, a call that was sent late gets a little
    longer, and replies that wait to be read are read first.
    When the connection breaks, what was sent fails with HotLost and is never repeated; what was not sent waits for the
    next connection, up to its deadline. It is opened in the background, from `start` until `aclose`.
    Not for a call whose reply is not one (SUBSCRIBE), nor for blocking ones.
    """

    def __init__(
        self,
        name: str,
        resolve: Resolve,
        dial: Dial,
        greeting: Greeting,
        breaker: Breaker,
        *,
        stall_s: float,
        deadline_s: float,
        clock: Clock,
        log: FilteringBoundLogger,
        on_link: Callable[[bool], None] | None = None,
    ) -> None:
        """deadline_s: of calls, as a rule. on_link: is told of each connection that is made (True) or lost (False)."""
        self.breaker = breaker
        self.address: Address | None = None  # of the server that it is, or last was, connected to
        self._resolve = resolve
        self._dial = dial
        self._greeting = greeting
        self._stall_s = stall_s
        self._answer_s = min(deadline_s, _ANSWER_S)
        self._clock = clock
        self._log = log.bind(redis=name)
        self._on_link = on_link
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        self._waiting: deque[Entry] = deque()
        self._wire: Wire | None = None
        self._blocked = True  # nothing can be written: no wire, or its buffer is full
        self._closed = False
        self._flushing = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._put_off: tuple[float | None, int] = (None, 0)  # of which due time a look was put off, and how often

    @property
    def connected(self) -> bool:
        return self._wire is not None

    def start(self) -> None:
        self._tasks.spawn(self._stay_connected(), "redis hot connection")

    def reconnect(self) -> None:
        """Breaks the connection, for it leads to the wrong server."""
        if self._wire is not None:
            self._wire.abort()

    async def aclose(self) -> None:
        self._closed = self._blocked = True
        if (wire := self._wire) is not None:
            wire.abort()
        await self._tasks.cancel()
        if wire is not None:
            await wire.closed.wait()
        self._drop_waiting(float("inf"), "the connection is closed")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def send(
        self, packed: bytes, due: float, script: Script | None = None, after: bytes | None = None
    ) -> "asyncio.Future[Any]":
        """Sends a packed command. The future has its reply, or a Hot* error; nothing is raised here.

        `script` is what the command runs by its hash: if the server does not know it, the server is told, and asked
        once more. `after` is a packed command to send right before this one, whose reply nobody wants.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if self.breaker.state != "closed" and not self.breaker.admits():
            future.set_exception(HotUnavailable("the breaker is open"))
        elif self._blocked and (self._closed or len(self._waiting) >= MAX_WAITING):
            future.set_exception(HotUnavailable("the connection is closed" if self._closed else "too many calls wait"))
        else:
            if after is not None:
                self._waiting.append((after, None, due, None))
            self._waiting.append((packed, future, due, script))
            if not self._flushing:
                self._flushing = True
                self._loop.call_soon(self._flush)
            if self._timer is None:
                self._arm(due)
            elif due < self._timer_due:  # it waits for the end of the connection, which is far
                self._timer.cancel()
                self._arm(due)
        return future

    def _unknown_script(self, entry: Entry) -> None:
        packed, future, due, script = entry
        assert script is not None
        self._waiting.append((pack(("SCRIPT", "LOAD", script.source)), None, due, None))
        self._waiting.append((packed, future, due, None))
        self._flush()

    def _flush(self) -> None:
        self._flushing = False
        if self._wire is not None and self._waiting and not self._blocked:
            soonest = self._clock.monotonic() + self._answer_s
            if self._waiting[0][2] < soonest:
                later = [(packed, future, max(due, soonest), script) for packed, future, due, script in self._waiting]
                self._waiting = deque(later)
            self._wire.send(self._waiting)
            self._waiting.clear()

    # Deadlines

    def _arm(self, due: float) -> None:
        self._timer_due = due
        self._timer = self._loop.call_later(max(due - self._clock.monotonic(), _SOONEST_S), self._look)

    def _look(self) -> None:
        """Fails what is past its deadline, and comes again when the next one passes."""
        self._timer = None
        now = self._clock.monotonic()
        if self._wire is not None and self._wire.unread and self._may_put_off():
            self._arm(now + _SOONEST_S)  # what has come, perhaps long ago while this process was held up, is read first
            return
        wake: list[float] = []
        if self._wire is not None:
            for _ in range(self._wire.expire(now)):
                self.breaker.failed()
            if (due := self._wire.next_due()) is not None:
                wake.append(due)
            if (oldest := self._wire.oldest_due()) is not None:
                wake.append(oldest + self._stall_s)
                if oldest + self._stall_s <= now:
                    self._log.warning("redis_hot_stalled", unanswered=len(self._wire))
                    self._wire.abort()
        self._drop_waiting(now, "not sent within the deadline")
        if self._waiting:
            wake.append(self._waiting[0][2])
        if wake:
            self._arm(min(wake))

    def _may_put_off(self) -> bool:
        """Not again and again for the same call: a slow server's replies to others come all the time."""
        due = self._wire.next_due() if self._wire is not None else None
        number = self._put_off[1] + 1 if self._put_off[0] == due else 1
        self._put_off = (due, number)
        return number <= _MOST_PUT_OFF

    def _drop_waiting(self, now: float, why: str) -> None:
        while self._waiting and self._waiting[0][2] <= now:
            _, future, _, _ = self._waiting.popleft()
            if future is None:
                continue
            if not self._closed:
                self.breaker.failed()
            if not future.done():
                future.set_exception(HotUnavailable(why))

    # Connecting

    async def _stay_connected(self) -> None:
        failures = 0
        said = ""
        while True:
            since = self._clock.monotonic()
            try:
                wire = await self._connect()
            except (OSError, RedisFailure) as error:
                why = f"{type(error).__name__}: {str(error) or 'no answer in time'}"
                if why != said:  # once a reason, not once an attempt
                    self._log.warning("redis_hot_unreachable", why=why)
                    said = why
            else:
                self._adopt(wire)
                self._log.info("redis_hot_connected")
                await wire.closed.wait()
                said = ""
                self._log.warning("redis_hot_disconnected")
                if self._clock.monotonic() - since > _LASTED_S:
                    failures = 0
                    continue
            failures += 1
            await asyncio.sleep(backoff_s(failures))

    async def _connect(self) -> Wire:
        """A new socket on which the greeting has been answered. OSError (TimeoutError is one), RedisFailure."""
        address = await self._resolve()
        wire: Wire | None = None
        try:
            async with asyncio.timeout(self._stall_s):
                wire = await self._dial(address)
                await self._greet(wire)
            self.address = address
            return wire
        except BaseException:
            if wire is not None:
                wire.abort()
            raise

    async def _greet(self, wire: Wire) -> None:
        commands = self._greeting.commands()
        futures: list[asyncio.Future[Any]] = [self._loop.create_future() for _ in commands]
        packed = [pack(tuple(command)) for command in commands]
        never = float("inf")  # the timeout around all of it sees to that
        wire.send([(_NAME, None, never, None), *((p, f, never, None) for p, f in zip(packed, futures, strict=True))])
        try:
            replies = [await future for future in futures]
        finally:
            for future in futures:  # when one fails, the others' errors are of no interest
                if not future.cancel() and not future.cancelled():
                    future.exception()
        if self._greeting.primary and replies[-1][0] != b"master":
            raise HotUnavailable("the server that was said to be the primary is none")

    def _adopt(self, wire: Wire) -> None:
        if wire.closed.is_set():
            return
        wire.judge = self._judge
        wire.flows = self._flows
        wire.unknown_script = self._unknown_script
        wire.lost = self._lost
        self._wire = wire
        self._blocked = wire.paused
        self._flush()
        if self._on_link is not None:
            self._on_link(True)

    def _judge(self, ok: bool) -> None:
        if ok:
            self.breaker.succeeded()
        else:
            self.breaker.failed()

    def _flows(self, yes: bool) -> None:
        self._blocked = not yes
        if yes:
            self._flush()

    def _lost(self) -> None:
        self._wire = None
        self._blocked = True
        if not self._closed:
            self.breaker.failed()  # one for the connection, not one for each call that it took along
            if self._on_link is not None:
                self._on_link(False)


def backoff_s(failures: int) -> float:
    """How long to wait after so many failures in a row: doubling, with a random part so that workers spread out."""
    longest = min(_BACKOFF_S * 2.0 ** min(failures - 1, 16), _MAX_BACKOFF_S)
    return longest * (0.5 + random.random() / 2)  # noqa: S311 - not a secret
