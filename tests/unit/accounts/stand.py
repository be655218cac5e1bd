"""The accounts on a real server, in a time that the test moves, without an event loop."""

import socket
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, TypeVar

import hiredis
import msgspec

from gateway.accounts.answers import Admitted, Answer, Refused
from gateway.accounts.limits_store import LimitsStore
from gateway.accounts.plan import Plan, make_plan
from gateway.accounts.reservations import Reservations, provisional
from gateway.accounts.scripts import AccountScripts
from gateway.accounts.spend import Spend, Spent
from gateway.accounts.usage_stream import Settlement, pack
from gateway.limits import Applied, RateLimit, Scope, SpendLimit, Window
from gateway.redisdb.command import Arg, Call, Script
from gateway.redisdb.command import pack as pack_command
from gateway.values import Taking, UsageEvent, UsageLine
from tests.fakes.events import AT_US, KEYS, ORG
from tests.fakes.redis_servers import Server

T = TypeVar("T")
SECOND, MINUTE, DAY = 1_000_000, 60_000_000, 86_400_000_000
LEASE_S = 30.0


def done(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it waits")


class Direct:
    """Runs scripts on one connection, one after the other, blocking."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(server.socket))
        self._known: set[str] = set()
        self._reader = hiredis.Reader()

    def command(self, *args: Arg) -> Any:
        self._socket.sendall(pack_command(args))
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(65536))
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def script(self, script: Script, keys: Sequence[str], args: Sequence[Arg] = ()) -> Awaitable[Any]:
        return _ready(self.now(script, keys, args))

    def now(self, script: Script, keys: Sequence[str], args: Sequence[Arg] = ()) -> Any:
        """What the script answers."""
        if script.sha1 not in self._known:
            self.command("SCRIPT", "LOAD", script.source)
            self._known.add(script.sha1)
        return self.command("EVALSHA", script.sha1, len(keys), *keys, *args)

    def run(self, call: Call, last: bytes) -> Awaitable[Any]:
        return self.script(call.script, (call.key,), (*call.before, last))

    def close(self) -> None:
        self._socket.close()


async def _ready(reply: Any) -> Any:
    return reply


def rate(
    scope: Scope,
    subject: str,
    kind: str,
    limit: int,
    *,
    model: str = "",
    burst: int | None = None,
    shadow: bool = False,
) -> Applied:
    return Applied(scope, subject, RateLimit(kind, limit, burst, shadow), model)


def spending(scope: Scope, subject: str, window: Window, nano_usd: int, *, shadow: bool = False) -> Applied:
    return Applied(scope, subject, SpendLimit(window, nano_usd, shadow))


def plan_of(*applied: Applied, version: int = 0, key_version: int = 0, **who: str) -> Plan:
    ids: dict[str, Any] = {"organization_id": ORG, "project_id": "proj_1", "user_id": "user_1", "key_id": "key_1"} | who
    return make_plan(**ids, limits_version=version, key_version=key_version, applied=applied)


class Accounts:
    """One organization's accounts. now: µs since 1970, moved by the test."""

    def __init__(self, server: Server, *, epoch: bool = True) -> None:
        self.redis = Direct(server)
        self.now = AT_US
        self.reservations = Reservations(self.redis, KEYS, AccountScripts.load(), now_us=lambda: self.now)
        self.spend = Spend(self.redis, KEYS, now_us=lambda: self.now)
        self.limits = LimitsStore(self.redis, KEYS)
        if epoch:
            done(self.spend.open_epoch(ORG, "epoch-1"))

    def event(self, plan: Plan, id: str, nano_usd: int, at_us: int | None = None) -> UsageEvent:  # noqa: A002
        return UsageEvent(
            id=id,
            at_us=self.now if at_us is None else at_us,
            organization_id=plan.organization_id,
            project_id=plan.project_id,
            user_id=plan.user_id,
            key_id=plan.key_id,
            lines=(UsageLine(nano_usd=nano_usd),),
        )

    def reserve(self, plan: Plan, id: str, *, lease_s: float = LEASE_S, **taking: int) -> Answer:  # noqa: A002
        event = provisional(self.event(plan, id, taking.get("nano_usd", 0)))
        return done(self.reservations.reserve(plan, id, Taking(**taking), event, lease_s))

    def admitted(self, plan: Plan, id: str, **taking: int) -> Admitted:  # noqa: A002
        found = self.reserve(plan, id, **taking)
        assert isinstance(found, Admitted), found
        return found

    def refused(self, plan: Plan, id: str, **taking: int) -> Refused:  # noqa: A002
        found = self.reserve(plan, id, **taking)
        assert isinstance(found, Refused), found
        return found

    def settle(self, plan: Plan, id: str, at_us: int, nano_usd: int, **used: Any) -> int:  # noqa: A002
        event = pack(self.event(plan, id, nano_usd, at_us))
        settlement = msgspec.structs.replace(Settlement(event=event), **used)
        return done(self.reservations.settle([settlement]))

    def cancel(self, *ids: str) -> int:
        return done(self.reservations.cancel(ORG, ids))

    def sweep(self, most: int = 100) -> int:
        return done(self.reservations.sweep(ORG, most))

    def spent(self, subject: str = "o") -> Spent:
        return done(self.spend.read(ORG, [subject])).by_subject[subject]

    def events(self) -> list[UsageEvent]:
        entries = self.redis.command("XRANGE", KEYS.usage(ORG), "-", "+")
        return [msgspec.json.decode(fields[3], type=UsageEvent) for _, fields in entries]

    def keys(self, pattern: str) -> list[str]:
        """Without the base."""
        base = KEYS.base(ORG) + ":"
        return sorted(key.decode().removeprefix(base) for key in self.redis.command("KEYS", base + pattern))

    def fields(self, key: str, begin: str = "") -> dict[str, int]:
        """Of the hash `buckets` or `spend`."""
        flat = self.redis.command("HGETALL", f"{KEYS.base(ORG)}:{key}")
        found = {name.decode(): int(value) for name, value in zip(flat[::2], flat[1::2], strict=True) if name}
        return {name: value for name, value in sorted(found.items()) if name.startswith(begin)}

    def running(self) -> dict[str, int]:
        """Counts of what runs, but for those that are 0."""
        return {name: count for name, count in self.fields("buckets", "c:").items() if count}

    def lasting(self) -> list[str]:
        """What should not be there when nothing lives."""
        return self.keys("r:*") + list(self.running()) + self.keys("leases")
