"""Redis calls of the request path: ten times cheaper than a pool, with a deadline, a breaker and no retries."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from structlog.typing import FilteringBoundLogger

from gateway.clock import Clock
from gateway.redisdb.address import Address, ssl_context
from gateway.redisdb.breaker import Breaker, State
from gateway.redisdb.client import Client
from gateway.redisdb.command import Arg, Call, Script, pack
from gateway.redisdb.failures import RedisFailure, RedisMisconfigured
from gateway.redisdb.hot_cluster import HotCluster
from gateway.redisdb.hot_connection import Greeting, HotConnection, Resolve
from gateway.redisdb.hot_wire import Wire
from gateway.settings import model
from gateway.tasks import Tasks

_STALL_S = 1.0  # how long a reply may stay away before the connection is given up, or ten deadlines if that is more
_WATCH_S = 1.0  # between two questions to the sentinels
_PING = b"*1\r\n$4\r\nPING\r\n"
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))  # an idle connection's death is noticed
_BY_BADNESS: tuple[State, ...] = ("open", "half_open", "closed")


class HotRedis:
    """Calls with a deadline: `settings.deadline_ms` after the call it has its reply or has failed.

    Failures are the Hot* errors of `failures.py`, which say whether the call may have run. Nothing is repeated, with
    three exceptions that are safe because the server said that it did not run the call: NOSCRIPT (the script is loaded
    first), MOVED and ASK of a cluster; each once, within the same deadline. (A repeated call that waits behind newer
    ones may notice its deadline late, by less than a second deadline.)

    `breaker_failures` failures in a row open a server's breaker; each server of a cluster has its own. An open one is
    tried by itself every `breaker_open_s`, for where nobody calls it would stay open though the server is back.
    `on_state(server, state)` is called at every change of one. Without sentinels or a cluster the server is "primary".
    Replies are RESP2's: bytes, int, None, lists of these.
    With sentinels, a connection is left within about a second after they have named another primary: the old one goes
    on taking writes, which will be lost, until somebody tells it (ten seconds in a planned failover).
    """

    def __init__(
        self,
        client: Client,
        settings: model.Redis,
        *,
        clock: Clock,
        log: FilteringBoundLogger,
        scripts: Sequence[Script] = (),
        on_state: Callable[[str, State], None] | None = None,
    ) -> None:
        """`client` says where Redis is. `scripts` are loaded on every new connection."""
        target = client.target
        self._client = client
        self._settings = settings
        self._tasks = Tasks()
        self._clock = clock
        self._log = log
        self._on_state = on_state
        self._listeners: list[Callable[[bool], None]] = []
        self._deadline_s = settings.deadline_ms / 1000
        self._greeting = Greeting(target.access, scripts, primary=target.sentinel is not None)
        self._tls = ssl_context(target.access.tls) if target.access.tls else None
        self._cluster: HotCluster | None = None
        self._only: HotConnection | None = None
        if target.cluster:
            self._cluster = HotCluster(client, self._connection, log)
        else:
            self._only = self._connection("primary", client.primary)

    async def start(self) -> None:
        """Begins to connect, and does not fail when Redis is away, for that passes."""
        if self._only is not None:
            self._only.start()
            if self._client.target.sentinel is not None:
                self._tasks.spawn(self._watch(self._only), "redis sentinels")
        if self._cluster is not None:
            await self._cluster.refresh()
        self._tasks.spawn(self._probe(), "redis probe")

    async def aclose(self) -> None:
        """Ends everything; calls in flight fail with HotLost."""
        await self._tasks.cancel()
        if self._only is not None:
            await self._only.aclose()
        if self._cluster is not None:
            await self._cluster.aclose()

    def listen(self, listener: Callable[[bool], None]) -> None:
        """From now on `listener` is told of each connection that is made (True) or lost (False): behind a new one there
        may be another server, or one that has lost what it said it had."""
        self._listeners.append(listener)

    def _linked(self, made: bool) -> None:
        for listener in self._listeners:
            listener(made)

    @property
    def states(self) -> dict[str, State]:
        """The breaker of each server."""
        if self._cluster is not None:
            return {str(address): node.breaker.state for address, node in self._cluster.nodes.items()}
        assert self._only is not None
        return {"primary": self._only.breaker.state}

    @property
    def state(self) -> State:
        """The worst of them."""
        present = set(self.states.values())
        return next((state for state in _BY_BADNESS if state in present), "closed")

    @property
    def trouble(self) -> str | None:
        """Why calls fail at the moment, or would: in words, for people. None if nothing is known to be wrong."""
        if self.state != "closed":
            return f"its breaker is {self.state}"
        if not all(node.connected for node in self._connections()):
            return "it is not connected"
        return None

    def call(self, key: str, *command: Arg) -> Awaitable[Any]:
        """A whole command, for example `call(k, "HGET", k, "v")`. `key` says which server of a cluster to ask."""
        due = self._clock.monotonic() + self._deadline_s
        if self._only is not None:
            return self._only.send(pack(command), due)
        assert self._cluster is not None
        return self._cluster.exchange(key, pack(command), due, None)

    def script(self, script: Script, keys: Sequence[str], args: Sequence[Arg] = ()) -> Awaitable[Any]:
        """Runs a script. There is at least one key; in a cluster all are in one slot."""
        due = self._clock.monotonic() + self._deadline_s
        packed = pack(("EVALSHA", script.sha1, len(keys), *keys, *args))
        if self._only is not None:
            return self._only.send(packed, due, script)
        assert self._cluster is not None
        return self._cluster.exchange(keys[0], packed, due, script)

    def run(self, call: Call, last: bytes) -> Awaitable[Any]:
        """Runs a script that is packed but for its last argument."""
        due = self._clock.monotonic() + self._deadline_s
        if self._only is not None:
            return self._only.send(call.packed(last), due, call.script)
        assert self._cluster is not None
        return self._cluster.exchange(call.key, call.packed(last), due, call.script)

    async def _probe(self) -> None:
        """Calls each server whose breaker is not closed, again and again."""
        while True:
            await asyncio.sleep(self._settings.breaker_open_s)
            due = self._clock.monotonic() + self._deadline_s
            away = [node for node in self._connections() if node.breaker.state != "closed"]
            await asyncio.gather(*(node.send(_PING, due) for node in away), return_exceptions=True)

    def _connections(self) -> list[HotConnection]:
        if self._cluster is not None:
            return list(self._cluster.nodes.values())
        return [self._only] if self._only is not None else []

    async def _watch(self, connection: HotConnection) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            with contextlib.suppress(RedisFailure):  # no news is not bad news: calls still go to the primary we know
                primary = await self._client.primary()
                if connection.address is not None and connection.address != primary:
                    self._log.warning("redis_primary_changed", primary=str(primary))
                    connection.reconnect()

    def _connection(self, name: str, resolve: Resolve) -> HotConnection:
        failing = False

        def changed(state: State) -> None:
            nonlocal failing
            if failing != (state != "closed"):  # not each probe of a long outage
                failing = not failing
                self._log.warning("redis_hot_breaker", redis=name, state=state)
            if self._on_state is not None:
                self._on_state(name, state)

        return HotConnection(
            name,
            resolve,
            self._dial,
            self._greeting,
            Breaker(self._settings.breaker_failures, self._settings.breaker_open_s, self._clock, changed),
            stall_s=max(_STALL_S, 10 * self._deadline_s),
            deadline_s=self._deadline_s,
            clock=self._clock,
            log=self._log,
            on_link=self._linked,
        )

    async def _dial(self, address: Address) -> Wire:
        return await dial(address, self._tls)


async def dial(address: Address, tls: ssl.SSLContext | None) -> Wire:
    """A socket to a server. OSError, RedisMisconfigured."""
    loop = asyncio.get_running_loop()
    if address.path:
        return (await loop.create_unix_connection(Wire, address.path))[1]
    try:
        transport, wire = await loop.create_connection(Wire, address.host, address.port, ssl=tls)
    except UnicodeError:
        raise RedisMisconfigured(f"{address.host!r} is not a host's name") from None
    sock: socket.socket = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return wire
