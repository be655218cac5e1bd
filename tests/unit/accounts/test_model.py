"""Reservations against a model: whatever happens in whatever order, the scripts do what the model says."""

from dataclasses import dataclass, field

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.accounts.answers import Admitted, Cancelled, Refused
from gateway.accounts.plan import Plan, bucket_name, subjects
from gateway.accounts.usage_stream import Settlement
from gateway.limits import CONCURRENT, RATES, Applied, RateLimit, SpendLimit
from tests.fakes.events import AT_US, KEYS, ORG
from tests.fakes.redis_servers import Server
from tests.unit.accounts.stand import DAY, LEASE_S, SECOND, Accounts, done, plan_of, rate, spending

LEASE_US = round(LEASE_S * SECOND)
SLOP_US = 400  # what buckets may be off by; the model decides nothing that is as close as this
SINCE_US = 1_767_225_600_000_000  # of the time in which buckets count
UNITS = ("requests", "tokens", "images")


def plans() -> list[Plan]:
    """Two keys of one project, one of another; two models; every scope and window; a shadow, a burst."""
    whole = (
        rate("organization", ORG, "requests_per_minute", 7),
        rate("organization", ORG, "tokens_per_minute", 600, shadow=True),
        spending("organization", ORG, "week", 4_000),
        spending("organization", ORG, "total", 12_000),
        rate("organization", ORG, CONCURRENT, 5),
    )

    def one(project: str, user: str, key: str, model: str) -> Plan:
        return plan_of(
            *whole,
            rate("project_model", project, "tokens_per_minute", 300, model=model),
            rate("project_model", project, "images_per_minute", 13, model=model, burst=9),
            rate("user", user, "requests_per_day", 40),
            rate("key", key, "tokens_per_minute", 250),
            rate("key", key, CONCURRENT, 2),
            spending("project", project, "month", 9_000),
            spending("user", user, "day", 1_500, shadow=True),
            spending("member", user, "week", 2_500),
            spending("key", key, "day", 1_000),
            project_id=project,
            user_id=user,
            key_id=key,
        )

    return [
        one("p1", "u1", "k1", "m1"),
        one("p1", "u1", "k1", "m2"),
        one("p1", "u2", "k2", "m1"),
        one("p2", "u1", "k3", "m1"),
    ]


Name = tuple[str, ...]


def name_of(entry: Applied) -> Name:
    kind = entry.limit.kind if isinstance(entry.limit, RateLimit) else "spend"
    return (kind, entry.scope, entry.subject, entry.model)


@dataclass
class Held:
    """A living reservation, or a swept one."""

    plan: Plan
    at_us: int
    taking: dict[str, int]
    till_us: int
    full_at: dict[Name, float]  # of buckets, as this reservation left them


@dataclass
class Model:
    """What should be. Money by instant and subject; buckets by when they are full."""

    full_at: dict[Name, float] = field(default_factory=dict)
    running: dict[Name, int] = field(default_factory=dict)
    spent: dict[tuple[int, str], int] = field(default_factory=dict)  # by day and subject
    living: dict[str, Held] = field(default_factory=dict)
    swept: dict[str, Held] = field(default_factory=dict)
    stream: list[tuple[str, bool]] = field(default_factory=list)
    settled: set[str] = field(default_factory=set)
    tombs: set[str] = field(default_factory=set)
    close: bool = False  # a bucket is so near to its limit that fractions decide

    def charge(self, plan: Plan, at_us: int, nano_usd: int) -> None:
        for subject in subjects(plan.project_id, plan.user_id, plan.key_id).values():
            at = (at_us // DAY, subject)
            self.spent[at] = self.spent.get(at, 0) + nano_usd

    def sum(self, window: str, now: int, subject: str) -> int:
        today = now // DAY
        first = {"day": today, "week": today - (today + 3) % 7, "month": month_begins(today), "total": 0}[window]
        return sum(nano for (day, who), nano in self.spent.items() if who == subject and first <= day <= today)

    def refusing(self, plan: Plan, now: int, taking: dict[str, int]) -> set[int]:
        """All limits, shadows too, that would refuse."""
        found = set()
        self.close = False
        for number, entry in enumerate(plan.entries):
            match entry.limit:
                case SpendLimit(window=window, nano_usd=int(limit)):
                    subject = subjects(plan.project_id, plan.user_id, plan.key_id)[entry.scope]
                    nano = taking["nano_usd"]
                    refuses = nano > 0 and self.sum(window, now, subject) + nano > limit
                case RateLimit(kind=kind, limit=int(limit)) if kind == CONCURRENT:
                    refuses = self.running.get(name_of(entry), 0) + 1 > limit
                case _:
                    per_us, capacity_us, unit = shape(entry)
                    amount = taking.get(unit, 0) * per_us
                    over = max(self.full_at.get(name_of(entry), 0), now) + amount - now - capacity_us
                    refuses = amount > 0 and over > SLOP_US
                    self.close |= amount > 0 and abs(over) <= SLOP_US and over != 0
            if refuses:
                found.add(number)
        return found

    def take(self, plan: Plan, id: str, now: int, taking: dict[str, int]) -> None:  # noqa: A002
        held = Held(plan, now, taking, now + LEASE_US, {})
        for entry in plan.entries:
            if not isinstance(entry.limit, RateLimit):
                continue
            name = name_of(entry)
            if entry.limit.kind == CONCURRENT:
                self.running[name] = self.running.get(name, 0) + 1
            else:
                per_us, capacity_us, unit = shape(entry)
                before = max(self.full_at.get(name, 0), now)
                after = before + taking.get(unit, 0) * per_us
                if entry.limit.shadow and after > now + capacity_us + SLOP_US:
                    self.full_at[name] = max(before, now + capacity_us)
                else:
                    self.full_at[name] = after
                    held.full_at[name] = after
        self.charge(plan, now, taking["nano_usd"])
        self.living[id] = held

    def end(self, id: str, now: int, used: dict[str, int]) -> Held:  # noqa: A002
        """Buckets and running counts; the money is the caller's."""
        held = self.living.pop(id)
        for entry in held.plan.entries:
            if not isinstance(entry.limit, RateLimit):
                continue
            name = name_of(entry)
            if entry.limit.kind == CONCURRENT:
                self.running[name] -= 1
                continue
            per_us, capacity_us, unit = shape(entry)
            more = (used.get(unit, held.taking.get(unit, 0)) - held.taking.get(unit, 0)) * per_us
            full = max(self.full_at.get(name, 0), now)
            if more < 0:
                full -= max(0, min(-more, held.full_at.get(name, 0) - now))
            elif more > 0:
                full = max(full, min(full + more, now + capacity_us)) if entry.limit.shadow else full + more
            self.full_at[name] = full
        return held


def month_begins(day: int) -> int:
    """The only two months of this test: January and February of 2027."""
    february = (AT_US // DAY) - 14 + 31
    return february if day >= february else february - 31


def shape(entry: Applied) -> tuple[float, float, str]:
    limit = entry.limit
    assert isinstance(limit, RateLimit)
    assert limit.limit is not None
    per_us = RATES[limit.kind].period_us / limit.limit
    return per_us, per_us * (limit.burst or limit.limit), RATES[limit.kind].unit


class Machine(RuleBasedStateMachine):
    server: Server
    ids = Bundle("ids")

    @initialize()
    def begin(self) -> None:
        self.server.command("FLUSHALL")
        self.accounts = Accounts(self.server)
        self.model = Model()
        self.plans = plans()
        self.count = 0
        self.instants: dict[str, int] = {}  # of calls, by id

    @property
    def now(self) -> int:
        return self.accounts.now

    def teardown(self) -> None:
        if not hasattr(self, "accounts"):
            return
        self.accounts.now += 2 * LEASE_US
        self.sweep()
        self.agrees()
        assert self.accounts.keys("leases") == []
        assert self.accounts.running() == {}
        assert set(self.accounts.keys("r:*")) == {f"r:{id}" for id in {*self.model.swept, *self.model.tombs}}  # noqa: A001
        charged = {}
        for event in self.accounts.events():
            charged[event.id] = sum(line.nano_usd or 0 for line in event.lines)  # the last one counts
        assert self.accounts.spent().total == sum(charged.values())
        self.accounts.redis.close()

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.3, 1, 5, 10, 29.999, 30, 61, 3_600, 86_400, 4 * 86_400]))
    def time_passes(self, seconds: float) -> None:
        self.accounts.now += round(seconds * SECOND)

    @rule(
        target=ids,
        which=st.integers(0, 3),
        tokens=st.integers(0, 160),
        images=st.sampled_from([0, 0, 1, 5, 10]),
        nano_usd=st.sampled_from([0, 1, 99, 300, 700]),
    )
    def reserve(self, which: int, tokens: int, images: int, nano_usd: int) -> str:
        self.count += 1
        id = f"req_{self.count}"  # noqa: A001
        self.reserve_as(id, which, {"requests": 1, "tokens": tokens, "images": images, "nano_usd": nano_usd})
        return id

    def reserve_as(self, id: str, which: int, taking: dict[str, int]) -> None:  # noqa: A002
        plan, model = self.plans[which], self.model
        would = model.refusing(plan, self.now, taking)
        refusing = {number for number in would if not plan.entries[number].limit.shadow}
        close = model.close
        found = self.accounts.reserve(plan, id, **taking)
        if refusing or isinstance(found, Refused):  # it has swept before it refused
            self.swept(20)
            would = model.refusing(plan, self.now, taking)
            refusing = {number for number in would if not plan.entries[number].limit.shadow}
            close |= model.close
        if isinstance(found, Refused):
            assert found.entry in refusing or close
            spend = [number for number in sorted(refusing) if isinstance(plan.entries[number].limit, SpendLimit)]
            assert not spend or found.entry == spend[0]
        else:
            assert isinstance(found, Admitted), found
            assert not refusing
            assert found.at_us == self.now
            assert set(found.shadowed) == would - refusing or close
            model.take(plan, id, self.now, taking)
            self.instants[id] = self.now

    def swept(self, most: int) -> None:
        model = self.model
        late = sorted((held.till_us, id) for id, held in model.living.items() if held.till_us <= self.now)  # noqa: A001
        for _, id in late[:most]:  # noqa: A001
            model.swept[id] = model.end(id, self.now, {})
            model.stream.append((id, True))

    @rule(id=ids)
    def reserve_again(self, id: str) -> None:  # noqa: A002
        held = self.model.living.get(id)
        if held is not None:
            found = self.accounts.reserve(held.plan, id, **held.taking)
            assert isinstance(found, Admitted)
            assert found.at_us == held.at_us
        elif id in self.model.tombs or id in self.model.swept:
            assert isinstance(self.accounts.reserve(self.plans[0], id), Cancelled)

    @rule(
        id=ids,
        tokens=st.one_of(st.none(), st.integers(0, 400)),
        images=st.one_of(st.none(), st.integers(0, 12)),
        nano_usd=st.integers(0, 900),
    )
    def settle(self, id: str, tokens: int | None, images: int | None, nano_usd: int) -> None:  # noqa: A002
        model = self.model
        used = {"tokens": tokens, "images": images}
        held = model.living.get(id) or model.swept.get(id)
        plan = held.plan if held else self.plans[0]
        at_us = self.instants.setdefault(id, self.now)  # an event has the same each time
        done_ = self.accounts.settle(plan, id, at_us, nano_usd, **{u: n for u, n in used.items() if n is not None})
        fresh = id not in model.settled
        assert done_ == int(fresh) or held is None
        if id in model.living:
            ended = model.end(id, self.now, {unit: amount for unit, amount in used.items() if amount is not None})
            model.charge(plan, at_us, nano_usd - ended.taking["nano_usd"])
        elif id in model.swept:
            model.charge(plan, at_us, nano_usd - model.swept.pop(id).taking["nano_usd"])
        elif done_:
            model.charge(plan, at_us, nano_usd)
            model.tombs.add(id)
        if done_:
            model.settled.add(id)
            model.stream.append((id, False))

    @rule(id=ids)
    def settle_without_event(self, id: str) -> None:  # noqa: A002
        """Its money is given back: the stream says nothing of it."""
        held = self.model.living.get(id)
        done(self.accounts.reservations.settle([Settlement(event=None, id=id, nano_usd=0)], ORG))
        if held is not None:
            self.model.end(id, self.now, {})
            self.model.charge(held.plan, held.at_us, -held.taking["nano_usd"])

    @rule(id=ids, twice=st.booleans())
    def cancel(self, id: str, twice: bool) -> None:  # noqa: A002
        held = self.model.living.get(id)
        assert self.accounts.cancel(*[id] * (1 + twice)) == int(held is not None)
        if held is not None:
            self.model.end(id, self.now, dict.fromkeys(UNITS, 0))
            self.model.charge(held.plan, held.at_us, -held.taking["nano_usd"])
        if id not in self.model.swept:
            self.model.tombs.add(id)

    @rule(target=ids, which=st.integers(0, 3))
    def cancel_first(self, which: int) -> str:
        self.count += 1
        id = f"req_{self.count}"  # noqa: A001
        assert self.accounts.cancel(id) == 0
        assert isinstance(self.accounts.reserve(self.plans[which], id, nano_usd=5), Cancelled)
        self.model.tombs.add(id)
        return id

    @rule()
    def sweep(self) -> None:
        before = len(self.model.living)
        self.swept(100)
        assert self.accounts.sweep() == before - len(self.model.living)

    @rule(some=st.lists(ids, max_size=4, unique=True))
    def extend(self, some: list[str]) -> None:
        found = done(self.accounts.reservations.extend(ORG, "worker", some, LEASE_S))
        assert found.workers == 1
        assert found.lost == [id for id in some if id not in self.model.living]  # noqa: A001
        for id in set(some) & self.model.living.keys():  # noqa: A001
            self.model.living[id].till_us = self.now + LEASE_US

    @invariant()
    @precondition(lambda self: hasattr(self, "accounts"))
    def agrees(self) -> None:
        accounts, model = self.accounts, self.model
        leases = accounts.redis.command("ZRANGE", KEYS.base(ORG) + ":leases", 0, -1)
        assert {id.decode() for id in leases} == model.living.keys()  # noqa: A001
        for subject in ("o", "p:p1", "p:p2", "u:u1", "u:u2", "m:p1:u1", "m:p2:u1", "k:k1", "k:k2", "k:k3"):
            found = accounts.spent(subject)
            for window in ("day", "week", "month", "total"):
                assert getattr(found, window) == model.sum(window, self.now, subject), (subject, window)
        assert [(event.id, event.unconfirmed) for event in accounts.events()] == model.stream
        buckets = accounts.fields("buckets", "b:")
        for entry in {name_of(entry): entry for plan in self.plans for entry in plan.entries}.values():
            if isinstance(entry.limit, RateLimit) and entry.limit.kind != CONCURRENT:
                name = bucket_name(entry, entry.limit.kind)
                full_at = buckets.get(name, 0) / 16 + SINCE_US
                wanted = max(model.full_at.get(name_of(entry), 0), self.now)
                assert abs(max(full_at, self.now) - wanted) <= SLOP_US, name
        running = {name[2]: count for name, count in model.running.items() if count}
        counts = accounts.running()
        assert {name.split(":")[-1] for name in counts} == running.keys()
        for name, count in counts.items():
            assert count == running[name.split(":")[-1]] <= (5 if name == f"c:o:{ORG}" else 2)


@pytest.fixture
def server(valkey: Server) -> Server:
    Machine.server = valkey
    return valkey


def test_the_scripts_do_what_the_model_says(server: Server) -> None:
    small = settings(
        max_examples=60, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    run_state_machine_as_test(Machine, settings=small)
