"""Hot calls in a cluster: who serves a slot, and what to do when it is somebody else."""

import asyncio
from collections.abc import Callable
from typing import Any

from structlog.typing import FilteringBoundLogger

from gateway.redisdb.address import Address
from gateway.redisdb.client import SLOTS, Client, slot_of
from gateway.redisdb.command import Script
from gateway.redisdb.failures import HotReplyError, HotUnavailable, RedisFailure
from gateway.redisdb.hot_connection import HotConnection, Resolve
from gateway.tasks import Tasks

_REFRESH_S = 0.2  # at least, between two looks at the topology
_ASKING = b"*1\r\n$6\r\nASKING\r\n"
_REDIRECTS = frozenset({"MOVED", "ASK"})


class HotCluster:
    """A connection to each primary.

    The topology is asked anew when a server says MOVED, when one cannot be reached, and when a slot has no server;
    calls for a slot without a server fail with HotUnavailable meanwhile.
    """

    def __init__(
        self, client: Client, connect: Callable[[str, Resolve], HotConnection], log: FilteringBoundLogger
    ) -> None:
        self.nodes: dict[Address, HotConnection] = {}
        self._client = client
        self._connect = connect
        self._log = log
        self._tasks = Tasks()
        self._slots: list[Address | None] = [None] * SLOTS
        self._refreshing = False

    async def aclose(self) -> None:
        await self._tasks.cancel()
        self._refreshing = True  # never again
        for node in self.nodes.values():
            await node.aclose()

    async def exchange(self, key: str, packed: bytes, due: float, script: Script | None) -> Any:
        """A call to the server of the key's slot; where that names another one, to this, once."""
        slot = slot_of(key)
        owner = self._slots[slot]
        if owner is None:
            self._refresh_soon()
            raise HotUnavailable("no server is known for the slot")
        try:
            return await self._node(owner).send(packed, due, script)
        except HotReplyError as error:
            if error.code not in _REDIRECTS:
                raise
            redirect = error
        address = redirected_to(redirect, owner)
        asking = redirect.code == "ASK"
        if not asking:
            self._slots[slot] = address
            self._refresh_soon()
        try:
            return await self._node(address).send(packed, due, script, _ASKING if asking else None)
        except HotReplyError as error:
            if error.code in _REDIRECTS:
                raise HotUnavailable("the slot is on the move") from None
            raise

    async def refresh(self) -> None:
        """Learns who serves what; connects to new primaries and leaves those that serve nothing any more."""
        try:
            slots = await self._client.slots()
        except RedisFailure as error:
            self._log.warning("redis_topology_unknown", why=str(error))
            return
        self._slots = slots
        serving = {address for address in slots if address is not None}
        for address in serving:
            self._node(address)
        for address in self.nodes.keys() - serving:
            node = self.nodes.pop(address)
            self._tasks.spawn(self._leave(node), "redis hot connection: leave")

    async def _leave(self, node: HotConnection) -> None:
        await node.aclose()
        node.breaker.reset()  # else it would be shown as open for ever

    def _node(self, address: Address) -> HotConnection:
        node = self.nodes.get(address)
        if node is None:
            attempts = 0

            async def resolve() -> Address:
                nonlocal attempts
                attempts += 1
                if attempts > 1:  # it went away, or never was there: who serves its slots now?
                    self._refresh_soon()
                return address

            node = self.nodes[address] = self._connect(str(address), resolve)
            node.start()
        return node

    def _refresh_soon(self) -> None:
        if not self._refreshing:
            self._refreshing = True
            self._tasks.spawn(self._refresh_once(), "redis topology")

    async def _refresh_once(self) -> None:
        try:
            await self.refresh()
            await asyncio.sleep(_REFRESH_S)
        finally:
            self._refreshing = False


def redirected_to(error: HotReplyError, owner: Address) -> Address:
    """From `MOVED 3999 10.0.0.7:6379`. An empty host is that of the server that says so."""
    address = Address.parse(error.text.partition(" ")[2])
    return address if address.host else Address(owner.host, address.port)
