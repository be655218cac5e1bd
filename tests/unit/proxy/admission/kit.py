"""Admission with a Redis that answers as a test says."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from gateway.accounts.answers import Admitted, Answer, Extended, Level
from gateway.accounts.plan import Plan
from gateway.accounts.usage_stream import Settlement
from gateway.clock import ManualClock
from gateway.limits import LimitDocument, LimitSet
from gateway.operations.table import load_operations
from gateway.pricing.book import make_book
from gateway.proxy.admission.bounds import Assumed
from gateway.proxy.admission.estimate import Estimator, Request
from gateway.proxy.admission.leases import Leases
from gateway.proxy.admission.plans import Plans
from gateway.proxy.admission.reserve import Admission, Grant, Wanted
from gateway.proxy.admission.tallies import Tallies
from gateway.proxy.admission.told import Told
from gateway.redisdb.failures import RedisFailure
from gateway.settings.limits import WhenRedisIsAway
from gateway.settings.model import Prices
from gateway.telemetry.logging import make_logger
from gateway.telemetry.metrics import Metrics
from gateway.values import Checked, Principal, Taking, UsageEvent
from tests.fakes.estimates import json_request

ORG = "org-1"
PRINCIPAL = Principal("key_1", "proj_1", "user_1", ORG, version=3)
LEASE_S = 30.0
Reply = Answer | RedisFailure | asyncio.Future[Any] | Callable[[Plan], Answer]


class Scripted:
    """In the place of Reservations. replies: what reserves are answered, the last one for ever. failing: of the other
    calls. calls: what was asked, without reserves."""

    def __init__(self, *replies: Reply) -> None:
        self.replies: list[Reply] = list(replies) or [Admitted(7, None, None)]
        self.reserved: list[tuple[Plan, str, Taking, bytes, float]] = []
        self.calls: list[tuple[str, str, tuple[str, ...]]] = []
        self.failing: Callable[[str], RedisFailure | None] = lambda _: None
        self.lost: set[str] = set()
        self.workers = 1
        self.epoch: str | None = None

    async def reserve(self, plan: Plan, id: str, taking: Taking, provisional: bytes, lease_s: float) -> Answer:  # noqa: A002
        self.reserved.append((plan, id, taking, provisional, lease_s))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, asyncio.Future):
            reply = await reply
        if isinstance(reply, RedisFailure):
            raise reply
        return reply(plan) if callable(reply) else reply

    def _called(self, what: str, organization_id: str, ids: Sequence[str]) -> None:
        failure = self.failing(organization_id)
        if failure is not None:
            self.calls.append((f"{what} failed", organization_id, tuple(ids)))
            raise failure
        self.calls.append((what, organization_id, tuple(ids)))

    async def extend(self, organization_id: str, worker_id: str, ids: Sequence[str], lease_s: float) -> Extended:
        assert (worker_id, lease_s) == ("worker", LEASE_S)
        self._called("extend", organization_id, ids)
        return Extended([one for one in ids if one in self.lost], self.workers, self.epoch)

    async def cancel(self, organization_id: str, ids: Sequence[str]) -> int:
        self._called("cancel", organization_id, ids)
        return len(ids)

    async def settle(self, settlements: Sequence[Settlement], organization_id: str = "") -> int:
        for one in settlements:
            nothing = (one.event, one.tokens, one.images, one.audio_bytes, one.batch_tokens, one.nano_usd)
            assert nothing == (None, 0, 0, 0, 0, 0)
        self._called("settle", organization_id, [one.id for one in settlements])
        return 0


class Seen:
    """Notes on a request."""

    def __init__(self, model: str = "gpt-5-mini", method: str = "POST", request_id: str = "req_1") -> None:
        self.request_id = request_id
        self.method = method
        self.wall = 1_800_000_000.0
        self.model = model
        self.upstream_model = ""
        self.admitted_us = 0
        self.taking: Taking | None = None
        self.checked: tuple[Checked, ...] = ()
        self.rare = False


class Noted:
    """Intents that are kept in memory. block: notes wait for it."""

    def __init__(self) -> None:
        self.kept: dict[str, UsageEvent] = {}
        self.block: asyncio.Future[None] | None = None

    async def note(self, call_id: str, event: bytes, /) -> None:
        self.kept[call_id] = msgspec.json.decode(event, type=UsageEvent)
        if self.block is not None:
            await self.block

    def over(self, call_ids: Sequence[str], /) -> None:
        for call_id in call_ids:
            del self.kept[call_id]


class Down:
    def __init__(self) -> None:
        self.levels = b""


class Stand:
    """An admission and what can be seen of it. Its leases do not run by themselves."""

    def __init__(self, *replies: Reply, **away: Any) -> None:
        self.redis = Scripted(*replies)
        self.clock = ManualClock()
        self.logged: list[bytes] = []
        self.metrics = Metrics()
        self.plans = Plans()
        told = Told(make_logger("worker", "info", self.clock, write=self.logged.append), self.clock)
        self.told = told
        self.tallies = Tallies(self.metrics, told)
        self.leases = Leases(
            self.redis,  # type: ignore[arg-type]
            "worker",
            lambda: self.plans.organizations,
            lease_s=LEASE_S,
            clock=self.clock,
        )
        self.operations = {one.id: one for one in load_operations()}
        self.intents = Noted()
        self.admission = Admission(
            self.redis,  # type: ignore[arg-type]
            self.leases,
            plans=self.plans,
            estimator=Estimator(make_book(Prices()), load_operations(), Assumed()),
            tallies=self.tallies,
            away=WhenRedisIsAway(**away),
            clock=self.clock,
            intents=self.intents,
        )
        self.down = Down()
        self.seen = Seen()

    def limit(self, *limits: Any, version: int = 1, **document: Any) -> None:
        """What the worker knows of the organization's limits."""
        rates = tuple(one for one in limits if hasattr(one, "kind"))
        spend = tuple(one for one in limits if hasattr(one, "window"))
        self.plans.update(ORG, version, {"o": self.document(LimitSet(rates, spend), **document)}, since=0)

    @staticmethod
    def document(own: LimitSet = LimitSet(), **more: Any) -> bytes:  # noqa: B008 - it is frozen
        return msgspec.json.encode(LimitDocument(own=own, **more))

    async def reserve(
        self,
        operation: str = "createChatCompletion",
        body: dict[str, Any] | None = None,
        *,
        request: Request | None = None,
        principal: Principal = PRINCIPAL,
    ) -> Grant | None:
        made = request or json_request(body or {"model": self.seen.model, "messages": [], "max_tokens": 10})
        models = [made.model] if made.model else []
        wanted = Wanted(self.operations.get(operation), made, self.seen, self.down, models)
        return await self.admission.reserve(principal, wanted)

    def metric(self, name: str, **labels: str) -> float:
        self.tallies.flush()
        self.metrics.flush()
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    async def ends(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """What is ended in Redis, as far as it has not been yet."""
        self.redis.calls.clear()
        await self.leases.end_now()
        return self.redis.calls

    @property
    def holds(self) -> set[str]:
        return set(self.leases._held)


def level(entry: int, remaining: int) -> Level:
    return Level(entry, remaining, 20_000)
