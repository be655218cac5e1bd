"""Reservations: what a call may use is taken before it goes upstream, and put right when it is over.

Every call to Redis is one script on one organization's slot. All methods raise RedisFailure as `redis` does; after one
that says that nobody knows whether it ran, a reserve is cancelled by its id until that is acknowledged, and everything
else is repeated.
"""

from collections.abc import Callable, Sequence

import msgspec

from gateway.accounts.answers import Answer, Extended, answer
from gateway.accounts.plan import Plan
from gateway.accounts.scripts import AccountScripts, Scripts
from gateway.accounts.usage_stream import Settlement, settle_args
from gateway.keyspace import Keyspace
from gateway.redisdb.command import Arg, Call
from gateway.values import Taking, UsageEvent

_PER_CALL = 500  # ids in one script call, which holds Redis up
_MOST_CALLS = 20_000  # that are kept packed, by plan
_AT_US = b',"at_us":0,'
_encode = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode  # arguments of a script in one: each costs as much to send


def provisional(event: UsageEvent) -> bytes:
    """An event to be reserved with, in case that it is never settled: flagged, and without the instant, which the
    script puts in. Raises as `pack` does."""
    return _encode(msgspec.structs.replace(event, at_us=0, unconfirmed=True)).replace(_AT_US, b",", 1)


def server_time() -> int:
    """Scripts that are told 0 use the time of their server."""
    return 0


class Reservations:
    """Reserving and settling, for all organizations. Amounts and money are integers, exact up to 2^53."""

    def __init__(
        self, redis: Scripts, keyspace: Keyspace, scripts: AccountScripts, *, now_us: Callable[[], int] = server_time
    ) -> None:
        """now_us: tests pass a time of their own."""
        self._redis = redis
        self._keyspace = keyspace
        self._scripts = scripts
        self._now_us = now_us
        self._calls: dict[tuple[str, bytes, int], Call] = {}

    async def reserve(self, plan: Plan, id: str, taking: Taking, provisional: bytes, lease_s: float) -> Answer:  # noqa: A002
        """Takes everything or nothing. Safe to repeat with the same id as long as that has not ended: it is Admitted,
        at the instant of the first time, and nothing is taken again. provisional: see `provisional`; empty: no event.
        """
        wanted = _pack((
            id, int(lease_s * 1e6), provisional.decode(),  # the server's MessagePack has no bytes
            taking.requests, taking.tokens, taking.images, taking.audio_bytes, taking.batch_tokens, taking.nano_usd,
        ))  # fmt: skip
        now_us = self._now_us()
        call = self._calls.get((plan.organization_id, plan.blob, now_us))
        return answer(plan, await self._redis.run(call or self._prepared(plan, now_us), wanted))

    def _prepared(self, plan: Plan, now_us: int) -> Call:
        """The script for a plan, but for what a call wants."""
        call = Call.of(self._scripts.reserve, self._keyspace.base(plan.organization_id), now_us, plan.blob)
        if len(self._calls) >= _MOST_CALLS:
            self._calls.clear()
        self._calls[plan.organization_id, plan.blob, now_us] = call
        return call

    async def settle(self, settlements: Sequence[Settlement], organization_id: str = "") -> int:
        """Settles calls of one organization in order, each once; returns how many events were appended.

        organization_id may be left out if the first has an event. Safe to repeat for `MARKER_S`. For two
        minutes after an event that nobody reserved for, a reserve of its id does nothing.
        """
        keys, args = settle_args(self._keyspace, settlements, organization_id, self._now_us())
        appended: int = await self._redis.script(self._scripts.settle, keys, args)
        return appended

    async def cancel(self, organization_id: str, ids: Sequence[str]) -> int:
        """Gives everything back, requests too; returns how many were living. For two minutes a reserve of these ids
        does nothing. Safe to repeat. What was swept or settled stays as it is."""
        undone = 0
        for some in _parts(ids):
            undone += await self._redis.script(
                self._scripts.cancel, (self._keyspace.base(organization_id),), (self._now_us(), *some)
            )
        return undone

    async def extend(self, organization_id: str, worker_id: str, ids: Sequence[str], lease_s: float) -> Extended:
        """Makes leases end `lease_s` from now, the worker's own too. A lease that is over but not swept lives on."""
        lost: list[str] = []
        workers, epoch = 0, None
        for some in _parts(ids) or [()]:
            args: list[Arg] = [self._now_us(), worker_id, int(lease_s * 1e6), *some]
            reply = await self._redis.script(self._scripts.extend, (self._keyspace.base(organization_id),), args)
            workers, epoch = reply[0], reply[1]
            lost += (id.decode() for id in reply[2:])  # noqa: A001
        return Extended(lost, workers, epoch.decode() if epoch is not None else None)

    async def sweep(self, organization_id: str, most: int = 100) -> int:
        """Ends reservations whose lease is over, at most so many; returns how many. What they took stays taken, their
        provisional event goes into the stream, and for a day a settle may still put it right."""
        keys = (self._keyspace.base(organization_id),)
        swept: int = await self._redis.script(self._scripts.sweep, keys, (self._now_us(), most))
        return swept


def _parts(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + _PER_CALL] for start in range(0, len(ids), _PER_CALL)]
