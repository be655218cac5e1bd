"""The client for all that is not on the request path: one face for a server, a primary with sentinels, a cluster."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, cast

import redis.exceptions as raised
from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    Redis,
    RedisCluster,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from gateway.redisdb.address import SENTINEL_PORT, Access, Address, Target, ssl_context, target
from gateway.redisdb.command import Arg, Call, Script
from gateway.redisdb.failures import RedisFailure, RedisLost, RedisMisconfigured, RedisReplyError
from gateway.redisdb.subscription import Event, subscription
from gateway.settings import model

ANSWER_S = 5.0
CONNECT_S = 2.0
# LookupError is what it does not expect: a cluster, or a slot, that nobody serves.
_RAISED = (raised.RedisError, raised.RedisClusterException, OSError, LookupError)
POOL = 32  # connections of one process to one server
SLOTS: int = REDIS_CLUSTER_HASH_SLOTS


class Client:
    """Redis, wherever it is. Nothing is retried: RedisLost means that a command may or may not have run.

    Replies are redis-py's: bytes, with a few commands' replies in its own shapes (HGETALL a dict, SET True, ...).
    All methods raise RedisLost, RedisReplyError, RedisMisconfigured and nothing else of Redis.
    """

    def __init__(self, where: Target, connection: "Redis | RedisCluster", sentinel: Sentinel | None = None) -> None:
        self.target = where
        self._redis = connection
        self._sentinel = sentinel

    def __repr__(self) -> str:
        kind = "cluster at " if self.target.cluster else "sentinels' " if self.target.sentinel else ""
        where = self.target.sentinel.service if self.target.sentinel else self.target.address
        return f"<Client of {kind}{where}>"

    async def execute(self, *command: Arg, timeout_s: float | None = ANSWER_S) -> Any:
        """One command. `timeout_s` bounds all of it, connecting included: give one that blocks more than it blocks.

        In a cluster the keys' slot says where it goes; several keys must share it.
        """
        async with self._operation(timeout_s):
            return await self._redis.execute_command(*command)

    async def script(self, script: Script, keys: Sequence[str], args: Sequence[Arg] = ()) -> Any:
        """Runs a script by its hash; once more, with its source, if the server says that it does not know it."""
        try:
            return await self.execute("EVALSHA", script.sha1, len(keys), *keys, *args)
        except RedisReplyError as error:
            if error.code != "NOSCRIPT":
                raise
        return await self.execute("EVAL", script.source, len(keys), *keys, *args)

    async def run(self, call: Call, last: bytes) -> Any:
        """As `script`, with the last argument apart."""
        return await self.script(call.script, (call.key,), (*call.before, last))

    async def pipeline(self, commands: Sequence[Sequence[Arg]]) -> list[Any]:
        """Commands in one round trip (a server), in order for each server, not atomic. Raises the first error reply.

        Those after one that failed have run all the same.
        """
        async with self._operation(), cast("Any", self._redis).pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, raised.ResponseError):
                raise _reply_error(reply)
            if isinstance(reply, Exception):
                raise RedisLost(type(reply).__name__)
        return replies

    def subscribe(self, channel: str) -> AsyncGenerator[Event, None]:
        """What happens on a channel, for ever: Connected, Message, Disconnected, Connected, ...

        Close it (contextlib.aclosing) where the iteration may end early.
        """
        return subscription(self._redis, channel, self._look_around)

    async def on_each_primary(self, *command: Arg) -> list[Any]:
        """The replies of every primary: one, unless this is a cluster."""
        if not isinstance(self._redis, RedisCluster):
            return [await self.execute(*command)]
        async with self._operation():
            await self._redis.initialize()
            return [await node.execute_command(*command) for node in self._redis.get_primaries()]

    async def primary(self) -> Address:
        """Where the primary is now. Not for clusters.

        Sentinels are asked each time. If they name another one than before, idle connections to that are closed.
        """
        if self._sentinel is None:
            return self.target.address
        pool = cast("Redis", self._redis).connection_pool
        async with self._operation():
            host, port = await cast("Any", pool).get_master_address()
        return Address(str(host), int(port))

    async def slots(self) -> list[Address | None]:
        """Who serves each slot of the cluster, asked anew; None where nobody does."""
        assert isinstance(self._redis, RedisCluster)
        nodes = self._redis.nodes_manager
        async with self._operation():
            await self._look_around()
        known: dict[str, Address] = {}
        slots: list[Address | None] = []
        for slot in range(SLOTS):
            owners: list[ClusterNode] = nodes.slots_cache.get(slot, [])
            if not owners:
                slots.append(None)
                continue
            node = owners[0]
            slots.append(known.setdefault(node.name, Address(node.host, int(node.port))))
        return slots

    async def aclose(self) -> None:
        """Closes every connection; never fails."""
        with suppress(*_RAISED):
            await self._redis.aclose()
        if isinstance(self._redis, RedisCluster):
            # Its own aclose() does nothing between a failure and the next successful call.
            with suppress(*_RAISED):
                await self._redis.nodes_manager.aclose()
            with suppress(*_RAISED):
                await self._redis.nodes_manager.aclose("startup_nodes")
        if self._sentinel is not None:
            with suppress(*_RAISED):
                await self._sentinel.aclose()

    @asynccontextmanager
    async def _operation(self, timeout_s: float | None = ANSWER_S) -> AsyncGenerator[None, None]:
        with _our_errors():
            try:
                async with asyncio.timeout(timeout_s):
                    yield
            except _RAISED:
                self._remember_configured_node()
                raise

    async def _look_around(self) -> None:
        """In a cluster, asks anew who serves what. redis-py's errors."""
        if isinstance(self._redis, RedisCluster):
            self._remember_configured_node()
            await self._redis.initialize()
            await self._redis.nodes_manager.initialize()

    def _remember_configured_node(self) -> None:
        """redis-py forgets it when it has found others, and all of them when a cluster serves nothing for a moment.

        But when all others have new addresses, as after a restart in Kubernetes, it is the only way back.
        """
        if isinstance(self._redis, RedisCluster):
            nodes = self._redis.nodes_manager
            node = ClusterNode(self.target.address.host, self.target.address.port, **nodes.connection_kwargs)
            nodes.startup_nodes.setdefault(node.name, node)


def connect(settings: model.Redis, *, embedded_url: str | None = None) -> Client:
    """A client for what the settings name. Connects on first use. Needs a running loop. RedisMisconfigured."""
    where = target(settings, embedded_url)
    if where.sentinel is not None:
        sentinel = _sentinel(where.sentinel, where.access)
        pool: BlockingConnectionPool = cast("Any", _SentinelPool)(
            where.sentinel.service,
            sentinel,
            connection_class=_with_tls(SentinelManagedSSLConnection, where.access, SentinelManagedConnection),
            max_connections=POOL,
            timeout=ANSWER_S,
            **_options(where.access),
        )
        return Client(where, Redis.from_pool(pool), sentinel)
    if where.cluster:
        return Client(where, _cluster(where))
    place: dict[str, Any] = (
        {"path": where.address.path, "connection_class": UnixDomainSocketConnection}
        if where.address.path
        else {
            "host": where.address.host,
            "port": where.address.port,
            "connection_class": _with_tls(SSLConnection, where.access, Connection),
        }
    )
    pool = BlockingConnectionPool(max_connections=POOL, timeout=ANSWER_S, **place, **_options(where.access))
    return Client(where, Redis.from_pool(pool))


def slot_of(key: str) -> int:
    """Which of a cluster's slots a key is in."""
    return key_slot(key.encode())


class _SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Waits for a free connection, where SentinelConnectionPool alone would raise."""


def _options(access: Access) -> dict[str, Any]:
    """What all connections have in common.

    No retries: redis-py's default would run a command up to eleven times. No read timeout either, for it would break
    subscriptions and blocking reads: the calls above have their own. RESP2: nothing comes that was not asked for.
    """
    return {
        "username": access.username,
        "password": access.password.reveal() if access.password else None,
        "db": access.db,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_S,
    }


def _with_tls(secure: type[SSLConnection], access: Access, plain: type[Connection]) -> type[Connection]:
    """The class of connections. redis-py would trust the system's certificates beside `ca_file`; we do not."""
    if access.tls is None:
        return plain
    context = ssl_context(access.tls)

    class Secure(secure):  # type: ignore[valid-type, misc]
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.ssl_context.context = context

    return Secure


def _sentinel(settings: model.Sentinel, access: Access) -> Sentinel:
    """The sentinels, over TLS if the primary is. A dead one must not hold up the question to the next."""
    own = Access(settings.username, settings.password, tls=access.tls)
    options = _options(own) | {"socket_timeout": 1.0, "socket_connect_timeout": 1.0}
    sentinel: Sentinel = cast("Any", Sentinel)([])
    for text in settings.nodes:
        node = Address.parse(text, default_port=SENTINEL_PORT)
        pool = BlockingConnectionPool(
            max_connections=4,
            connection_class=_with_tls(SSLConnection, own, Connection),
            host=node.host,
            port=node.port,
            **options,
        )
        sentinel.sentinels.append(Redis.from_pool(pool))
    return sentinel


def _cluster(where: Target) -> RedisCluster:
    access = where.access
    options = _options(access) | {"ssl": access.tls is not None}
    cluster = RedisCluster(
        host=where.address.host,
        port=where.address.port,
        max_connections=POOL,
        require_full_coverage=False,
        **options,
    )
    if access.tls is not None:
        secure = _with_tls(SSLConnection, access, Connection)
        cluster.nodes_manager.connection_kwargs["connection_class"] = secure
        for node in cluster.nodes_manager.startup_nodes.values():
            node.connection_class = secure
    return cluster


@contextmanager
def _our_errors() -> Iterator[None]:
    """Turns redis-py's errors into this room's."""
    try:
        yield
    except _RAISED as error:
        failure = _failure(error)
    else:
        return
    raise failure from None


def _failure(error: Exception) -> RedisFailure:
    """redis-py's texts may quote commands and options: only what is safe is kept."""
    if isinstance(error, raised.ResponseError | raised.AuthenticationError | raised.AuthorizationError):
        return _reply_error(error)
    if isinstance(error, raised.CrossSlotTransactionError):
        return RedisMisconfigured("the keys of a command are in different slots")
    if isinstance(error, MasterNotFoundError):
        return RedisLost("no sentinel that answers and lets us in knows a primary of that name")
    if isinstance(error, TimeoutError):
        return RedisLost("no answer in time")
    if isinstance(error, LookupError):
        return RedisLost("no server of the cluster serves that")
    if isinstance(error, raised.ConnectionError | raised.TimeoutError | OSError):
        return RedisLost(str(error))  # an address and the system's words
    return RedisLost(type(error).__name__)


def _reply_error(error: Exception) -> RedisReplyError:
    code = getattr(error, "status_code", None)
    return RedisReplyError.parse(f"{code} {error}" if code else str(error))
