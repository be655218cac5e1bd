"""Limits and budgets: a call takes what it may use before it goes upstream, and gives back what it has not used."""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec
from msgspec.structs import replace

from gateway.accounts.answers import Admitted, Cancelled, Closed, Refused, Stale
from gateway.accounts.plan import Plan
from gateway.accounts.reservations import Reservations, provisional
from gateway.clock import Clock
from gateway.errors import KEYS_UNAVAILABLE, LIMITS_UNAVAILABLE, UNBOUNDED, GatewayError
from gateway.limits import Reserve
from gateway.operations.table import Operation
from gateway.proxy.admission.estimate import FREE, Estimate, Estimator, Request, Unbounded
from gateway.proxy.admission.leases import Leases
from gateway.proxy.admission.levels import level_lines
from gateway.proxy.admission.local import Bucket, Hit, LocalLimits
from gateway.proxy.admission.permissions import Rules
from gateway.proxy.admission.plans import LONGEST_MODEL, Planned, Plans, checked_of
from gateway.proxy.admission.provisional import as_text, begun_at, event_of, head_of, of_tokens
from gateway.proxy.admission.refusal import refusal
from gateway.proxy.admission.tallies import Tallies
from gateway.redisdb.failures import HotUnavailable, RedisFailure
from gateway.settings.limits import WhenRedisIsAway
from gateway.values import Checked, Principal, Taking, UsageLine, Used

_TRIES = 3  # of a reserve: limits, or the key, may change again while it is repeated


class Notes(Protocol):
    """What is noted of a request: see `http.visit.Observation`. rare: its limits are those of this worker alone."""

    request_id: str
    method: str
    wall: float
    model: str
    upstream_model: str
    admitted_us: int
    taking: Taking | None
    checked: tuple[Checked, ...]
    rare: bool


class Answering(Protocol):
    """What is answered on: see `http.downstream.Downstream`. levels: header lines."""

    levels: bytes


class Admits(Protocol):
    """What admits calls: `Admission`, or `Open`."""

    async def reserve(self, principal: Principal, wanted: "Wanted", /) -> "Grant | None": ...
    def end(self, grant: "Grant", used: Used | None, sent: bool, /) -> None: ...
    def abandon(self, grant: "Grant", /) -> None: ...


class Intents(Protocol):
    """What keeps, on disk, calls that Redis does not know of: see `metering.intents.Intents`."""

    async def note(self, call_id: str, event: bytes, /) -> None: ...
    def over(self, call_ids: Sequence[str], /) -> None: ...


class Open:
    """Admits everything: for a worker by itself, without Redis."""

    async def reserve(self, *_: object) -> None:
        return None

    def end(self, *_: object) -> None:
        return None

    def abandon(self, *_: object) -> None:
        return None


class Wanted(msgspec.Struct, frozen=True):
    """A call that wants to be admitted. models: as the route's upstreams call the one that is asked for; empty if none
    is. more: it has been admitted, and wants more; that is no request of its own. takes: False for what only wants to
    hear whether it may use what it names."""

    operation: Operation | None
    request: Request
    seen: Notes
    down: Answering
    models: Sequence[str]
    more: bool = False
    takes: bool = True


class Grant:
    """What a call was admitted with. reserved: whether Redis has the reservation; maybe: or may have it yet. counted:
    what it holds of local limits. noted: whether it is among the intents. tier: the service tier to send in the
    client's place, empty for none.
    """

    __slots__ = ("counted", "estimate", "id", "noted", "organization_id", "planned", "reserved", "tier")

    def __init__(self, call_id: str, organization_id: str, planned: Planned, estimate: Estimate, tier: str) -> None:
        self.id = call_id
        self.organization_id = organization_id
        self.planned = planned
        self.estimate = estimate
        self.tier = tier
        self.reserved: Literal["yes", "maybe", "no"] = "no"
        self.counted: tuple[Bucket, ...] = ()
        self.noted = False


class Admission:
    """Admits calls before they reach an upstream, and ends what they took afterwards. One per worker."""

    def __init__(
        self,
        reservations: Reservations,
        leases: Leases,
        *,
        plans: Plans,
        estimator: Estimator,
        tallies: Tallies,
        away: WhenRedisIsAway,
        clock: Clock,
        intents: Intents | None = None,
    ) -> None:
        self._reservations = reservations
        self._leases = leases
        self._plans = plans
        self._estimator = estimator
        self._tallies = tallies
        self._away = away
        self._clock = clock
        self._local = LocalLimits(clock)
        self._intents = intents

    async def reserve(self, principal: Principal, wanted: Wanted) -> Grant | None:
        """Takes what the call may use of all limits that it has; None if it is free.

        Raises GatewayError: what the project may not use (403, 400), a refusal (429), UNBOUNDED (400),
        LIMITS_UNAVAILABLE (503); and KeyChangedError if the principal is not what it was, nothing being taken.
        """
        operation, seen = wanted.operation, wanted.seen
        tier: str | None
        for _ in range(_TRIES):
            planned, tier = self._plans.of(principal, seen.model), ""
            if planned.rules is not None and (tier := await self._permitted(planned, planned.rules, wanted)) is None:
                continue
            if wanted.more:
                planned = planned.more()
            estimate = self._estimated(planned.mode, principal, wanted, tier) if wanted.takes else FREE
            if estimate is FREE and (operation is not None or not wanted.takes):
                if _says_nothing(wanted) or await self._is_newest(planned, seen):
                    return None
                continue
            event = self._provisional(planned, principal, operation, seen, estimate)
            grant = Grant(seen.request_id, principal.organization_id, planned, estimate, tier)
            began = self._clock.monotonic()
            try:
                answer = await self._reservations.reserve(
                    planned.plan, grant.id, estimate.taking, event, self._leases.lease_s
                )
            except RedisFailure as failure:
                self._tallies.took(self._clock.monotonic() - began)
                self._without_redis(grant, seen, run=not isinstance(failure, HotUnavailable))
                await self._note(grant, event, seen)
                return grant
            except BaseException:  # the client has left; or a mistake, after which nobody would end it either
                self._leases.cancel(grant.id, grant.organization_id)
                raise
            self._tallies.took(self._clock.monotonic() - began)
            if isinstance(answer, Admitted):
                self._admitted(grant, answer, seen, wanted.down)
                return grant
            if self._otherwise(grant, answer, seen, wanted.down):
                await self._note(grant, event, seen)
                return grant
        raise GatewayError(LIMITS_UNAVAILABLE)

    def end(self, grant: Grant, used: Used | None, sent: bool) -> None:
        """The call has ended. used: what its event says, which settles it and is on its way to Redis. sent: an upstream
        may have seen it."""
        if grant.counted:
            self._local.give_back(grant.counted)
        if grant.noted and self._intents is not None and used is None:
            self._intents.over((grant.id,))  # else when its event has arrived
        self._end_lease(grant, settles=used is not None, sent=sent)
        if used is not None:
            self._tallies.settled(used)
            if used.model:
                self._estimator.settled(grant.planned.plan.key_id, grant.estimate, used)

    def abandon(self, grant: Grant) -> None:
        """The call has ended, and nobody can say what it used: it is charged as reserved when its lease is over, or
        when the worker is if it has none."""
        if grant.counted:
            self._local.give_back(grant.counted)
        self._leases.let_go(grant.id)

    def _end_lease(self, grant: Grant, *, settles: bool, sent: bool) -> None:
        leases = self._leases
        if grant.reserved == "no":
            return  # its event, if it has one, is charged in full
        if settles:
            leases.let_go(grant.id)
        # Redis may take a reserve that timed out after the event, and nobody would end it: hence the tombstone. If the
        # event comes second, it is charged in full.
        if grant.reserved == "maybe" or not (settles or sent):
            leases.cancel(grant.id, grant.organization_id)
        elif not settles:
            leases.release(grant.id, grant.organization_id)

    async def _permitted(self, planned: Planned, rules: Rules, wanted: Wanted) -> str | None:
        """The service tier to send in the client's place, for a call that keeps to what its project may use; None if
        that has changed, and is known now. Raises GatewayError, which goes by the newest permissions only, and
        KeyChangedError."""
        operation, request = wanted.operation, wanted.request
        error = rules.refusal(operation, wanted.seen.model, wanted.models, request)
        if error is None:
            return rules.tier(operation, request.head)
        if await self._is_newest(planned, wanted.seen):
            raise error
        return None

    async def _is_newest(self, planned: Planned, seen: Notes) -> bool:
        """Whether nothing has changed since a plan was made, as far as Redis can tell; what has is known then. A call
        that takes something hears that when it reserves. Raises KeyChangedError."""
        try:
            answer = await self._reservations.reserve(
                planned.question(), seen.request_id, FREE.taking, b"", self._leases.lease_s
            )
        except RedisFailure:
            return True
        if not isinstance(answer, Stale):
            return True
        self._changed(planned.plan, answer)
        return False

    def _changed(self, plan: Plan, stale: Stale) -> None:
        self._plans.update(plan.organization_id, stale.limits_version, stale.documents, since=plan.limits_version)
        if stale.key_changed:
            raise KeyChangedError

    def _estimated(self, mode: Reserve, principal: Principal, wanted: Wanted, tier: str) -> Estimate:
        """What the call takes. Raises GatewayError UNBOUNDED."""
        seen = wanted.seen
        estimate = self._estimator.estimate(
            mode,
            wanted.operation,
            wanted.request,
            method=seen.method,
            key_id=principal.key_id,
            models=wanted.models,
            at=seen.wall,
            tier=tier,
        )
        if isinstance(estimate, Unbounded):
            raise GatewayError(UNBOUNDED, reason=estimate.reason)
        if wanted.more:
            return replace(estimate, taking=replace(estimate.taking, requests=0))
        return estimate

    def _otherwise(
        self, grant: Grant, answer: Refused | Stale | Closed | Cancelled, seen: Notes, down: Answering
    ) -> bool:
        """Whether a call is admitted all the same; False if its limits have changed, and are known now. Raises as
        `reserve`."""
        plan, taking = grant.planned.plan, grant.estimate.taking
        match answer:
            case Refused(_, entry, used, wait_us, requests, tokens):
                down.levels = level_lines(plan.entries, requests, tokens)
                self._tallies.refused(plan, plan.entries[entry], seen, taking, used)
                raise refusal(plan.entries[entry], grant.organization_id, seen.model, taking, used, wait_us)
            case Stale():
                self._changed(plan, answer)
                return False
            case Closed():
                self._without_redis(grant, seen, run=False)
            case Cancelled():
                raise GatewayError(LIMITS_UNAVAILABLE)
        return True

    def _admitted(self, grant: Grant, answer: Admitted, seen: Notes, down: Answering) -> None:
        plan, tallies = grant.planned.plan, self._tallies
        seen.admitted_us = answer.at_us
        seen.taking, seen.checked = grant.estimate.taking, grant.planned.checked
        down.levels = level_lines(plan.entries, answer.requests, answer.tokens)
        tallies.reserved(grant.estimate.taking)
        for level in (answer.requests, answer.tokens):
            if level is not None:
                tallies.used(plan.entries[level.entry], level.remaining)
        for entry in answer.shadowed:
            tallies.shadowed(plan, plan.entries[entry], seen, grant.estimate.taking)
        grant.reserved = "yes"
        self._leases.hold(grant.id, grant.organization_id)  # at the end: what is held is renewed until it is ended

    def _without_redis(self, grant: Grant, seen: Notes, *, run: bool) -> None:
        """Admits a call as the settings say for when Redis is away. run: the reserve may have been made, or may be yet.

        Raises GatewayError.
        """
        planned, away = grant.planned, self._away
        try:
            if (
                (away.spend == "closed" and (planned.spend or not planned.known))
                or (away.rates == "closed" and (planned.rates or not planned.known))
                or (away.concurrency == "closed" and (planned.concurrency or not planned.known))
            ):
                self._tallies.without_redis("refused")
                raise GatewayError(LIMITS_UNAVAILABLE)
            taking = grant.estimate.taking
            applied = planned.local(away)
            taken = self._local.take(applied, taking, self._leases.workers)
            if isinstance(taken, Hit):
                self._tallies.refused(planned.plan, taken.applied, seen, taking, taken.used)
                raise refusal(taken.applied, grant.organization_id, seen.model, taking, taken.used, taken.wait_us)
        except GatewayError:
            if run:
                self._leases.cancel(grant.id, grant.organization_id)
            raise
        grant.counted = taken
        seen.taking, seen.checked, seen.rare = taking, tuple(map(checked_of, applied)), True
        self._tallies.without_redis("admitted")
        self._tallies.reserved(taking)
        if run:
            grant.reserved = "maybe"
            self._leases.hold(grant.id, grant.organization_id)

    async def _note(self, grant: Grant, event: bytes, seen: Notes) -> None:
        """What is known of a call that Redis may not know of outlives the worker."""
        if not event or self._intents is None:
            return
        grant.noted = True
        try:
            await self._intents.note(grant.id, begun_at(event, int(seen.wall * 1e6)))
        except BaseException:  # the client has left
            self.end(grant, None, False)
            raise

    def _provisional(
        self, planned: Planned, principal: Principal, operation: Operation | None, seen: Notes, estimate: Estimate
    ) -> bytes:
        if operation is None:
            return b""  # it is not known to cost anything
        if estimate.line is not None:
            model = as_text(seen.model[:LONGEST_MODEL])
            line = _plain(self._estimator.provisional(estimate, operation, model), model)
            return provisional(event_of(principal, operation, seen.request_id, line))
        head = planned.heads.get(operation.id)
        if head is None:
            head = planned.heads[operation.id] = head_of(principal, operation, seen.model[:LONGEST_MODEL])
        return of_tokens(head, seen.request_id, estimate)


def _says_nothing(wanted: Wanted) -> bool:
    """Whether a call names nothing that its project might not be allowed to use."""
    operation, request = wanted.operation, wanted.request
    return not request.whole and (request.model is None or (operation is not None and "path" in operation.model))


class KeyChangedError(Exception):
    """The key's record is another than the principal that was asked for."""


class Caller(Protocol):
    """Whoever calls: see `auth.identify.Caller`."""

    async def anew(self, old: Principal, /) -> Principal: ...


async def reserve_anew(
    caller: Caller, principal: Principal, admission: Admits, wanted: Wanted
) -> tuple[Principal, Grant | None]:
    """Reserves after a KeyChangedError: for the caller as it is now, and says who that is. Raises GatewayError as
    `Admission.reserve` and the caller do, and KEYS_UNAVAILABLE (503) if the record stays older than it should be.
    """
    for _ in range(1, _TRIES):
        principal = await caller.anew(principal)
        try:
            return principal, await admission.reserve(principal, wanted)
        except KeyChangedError:
            continue
    raise GatewayError(KEYS_UNAVAILABLE)


def _plain(line: UsageLine, model: str) -> UsageLine:
    """A line whose models, which may be a client's words, are as text and not too long."""
    return msgspec.structs.replace(
        line, request_model=model, upstream_model=as_text(line.upstream_model[:LONGEST_MODEL])
    )
