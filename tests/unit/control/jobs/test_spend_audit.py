"""The counters of spend against the ledger, over both databases and a real Valkey."""

import random
from collections.abc import AsyncIterator

import pytest
import structlog
from sqlalchemy import update
from structlog.testing import capture_logs

from gateway.accounts.plan import Plan
from gateway.accounts.spend import Spend
from gateway.accounts.spend_audit import Counters
from gateway.accounts.usage_stream import Packed, Settlement, UsageStream, append_script, pack
from gateway.control.jobs import spend_audit as module
from gateway.control.jobs.spend_audit import NotNowError, Reset, SpendAudit
from gateway.control.ledger.consumer import Consumer
from gateway.control.sql.tables import organizations
from gateway.redisdb.running import Running
from gateway.telemetry.metrics import Metrics
from tests.fakes.events import AT_US, KEYS, ORG
from tests.fakes.ledger import Ledger, ledger
from tests.fakes.redis_servers import Server
from tests.unit.accounts.stand import DAY, MINUTE, Accounts, done, plan_of, spending

SPEND = f"{KEYS.base(ORG)}:spend"
PLANS = [
    plan_of(spending("project", "proj_1", "day", 10**15)),
    plan_of(spending("key", "key_2", "month", 10**15), key_id="key_2"),
    plan_of(project_id="proj_2", user_id="svc_acct_1", key_id="key_3"),
]


class Stand:
    """Counters, a ledger, and what holds them against each other."""

    def __init__(self, book: Ledger, server: Server) -> None:
        self.book = book
        self.server = server
        self.accounts = Accounts(server)
        self.consumer = book.consumer(most=7)
        self.metrics = Metrics("control")
        self.uptime_s = 100
        self.audit = self.audit_of(self.consumer)

    def audit_of(self, consumer: Consumer) -> SpendAudit:
        def now() -> int:
            return self.accounts.now

        async def running() -> list[Running]:
            return [Running("a", self.uptime_s)]

        return SpendAudit(
            ORG,
            self.book.database,
            consumer,
            Counters(self.book.client, KEYS, now_us=now),
            Spend(self.book.client, KEYS, now_us=now),
            running,
            self.book.clock,
            self.metrics,
            structlog.get_logger(),
        )

    async def fold(self) -> None:
        while await self.consumer.step():
            pass

    async def opened_before(self) -> None:
        async with self.book.database.transaction() as connection:
            await connection.execute(update(organizations).values(spend_opened_at=1))

    def advance(self, us: int) -> None:
        self.accounts.now += us
        self.book.clock.advance(us / 1_000_000)

    def used(self, plan: Plan, id_: str, reserved: int, nano_usd: int) -> None:
        """A call, from its reserve to its end."""
        found = self.accounts.admitted(plan, id_, nano_usd=reserved)
        self.accounts.settle(plan, id_, found.at_us, nano_usd)

    def counters(self) -> dict[str, int]:
        return {name: value for name, value in self.accounts.fields("spend").items() if value}

    def drift(self, direction: str) -> float:
        found = self.metrics.registry.get_sample_value("gateway_spend_drift_usd", {"direction": direction})
        assert found is not None
        return found


@pytest.fixture
async def stand(valkey: Server, registry_url: str) -> AsyncIterator[Stand]:
    async with ledger(valkey, registry_url) as book:
        made = Stand(book, valkey)
        yield made
        made.accounts.redis.close()


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_they_agree(stand: Stand, seed: int) -> None:
    """Reserved, settled, cancelled, swept, settled after that, charged without a reservation; folded as far as it may be:
    the sums are the same at any moment, and again when they are made from the ledger alone."""
    dice = random.Random(seed)
    living: dict[str, tuple[Plan, int]] = {}
    swept: dict[str, tuple[Plan, int]] = {}
    accounts = stand.accounts
    await stand.fold()
    for number in range(120):
        plan, id_, nano_usd = dice.choice(PLANS), f"req_{number}", dice.randrange(10**9)
        what = dice.choice(["reserve"] * 4 + ["settle", "settle", "cancel", "sweep", "late", "alone", "fold", "time"])
        if what == "reserve":
            living[id_] = plan, accounts.admitted(plan, id_, nano_usd=dice.randrange(10**9)).at_us
        elif what in {"settle", "late"} and (some := living if what == "settle" else swept):
            id_ = dice.choice(list(some))
            plan, at_us = some.pop(id_)
            accounts.settle(plan, id_, at_us, nano_usd)
        elif what == "cancel" and living:
            id_ = dice.choice(list(living))
            del living[id_]
            accounts.cancel(id_)
        elif what == "sweep":
            stand.advance(40 * 1_000_000)
            accounts.sweep(1000)
            swept |= living
            living.clear()
        elif what == "alone":
            done(accounts.reservations.settle([alone(accounts, plan, id_, nano_usd)]))
        elif what == "fold":
            await stand.consumer.step()
        elif what == "time":
            stand.advance(dice.choice([MINUTE, 3600 * 1_000_000]))
        assert await stand.audit.check() == {}, (seed, number, what)
    await stand.fold()
    assert await stand.audit.check() == {}


def alone(accounts: Accounts, plan: Plan, id_: str, nano_usd: int, at_us: int | None = None) -> Settlement:
    """Of a call that nobody reserved for."""
    return Settlement(event=pack(accounts.event(plan, id_, nano_usd, at_us)))


async def test_what_is_too_low_is_raised(stand: Stand) -> None:
    for number in range(3):
        stand.used(PLANS[0], f"req_{number}", 900, 700)
    await stand.fold()
    held = stand.accounts.admitted(PLANS[0], "req_held", nano_usd=50)
    before = stand.counters()
    stand.accounts.redis.command("HINCRBY", SPEND, "t:o", -1_000)
    stand.accounts.redis.command("HDEL", SPEND, "t:p:proj_1")
    with capture_logs() as logs:
        assert await stand.audit.check() == {"t:o": 1_000, "t:p:proj_1": 2_150 - 50 + 50}
    assert stand.counters() == before
    assert [(one["event"], one["counters"], one["most_nano_usd"]) for one in logs] == [("spend_raised", 2, 2_150)]
    assert (stand.drift("low"), stand.drift("high")) == (2_150 / 1e9, 0)
    assert await stand.audit.check() == {}
    assert stand.drift("low") == 0
    stand.accounts.settle(PLANS[0], "req_held", held.at_us, 50)


async def test_what_is_too_high_is_told(stand: Stand) -> None:
    stand.used(PLANS[0], "req_1", 900, 700)
    await stand.fold()
    before = stand.counters()
    stand.accounts.redis.command("HINCRBY", SPEND, "t:o", 1_000)
    with capture_logs() as logs:
        assert await stand.audit.check() == {"t:o": -1_000}
    assert [(one["event"], one["log_level"]) for one in logs] == [("spend_too_high", "warning")]
    assert (stand.drift("low"), stand.drift("high")) == (0, 1e-6)
    assert stand.counters()["t:o"] == before["t:o"] + 1_000
    assert await stand.audit.reset(zero=False) == Reset(opened=False, zeroed=False)
    assert stand.counters() == before


@pytest.mark.parametrize("folded", [True, False], ids=["folded", "waiting"])
async def test_counters_that_are_lost_are_made_anew(stand: Stand, folded: bool) -> None:
    """With what happened since: a call that was charged to the new Redis, one that is there because it was sent again, and
    one that runs."""
    await stand.opened_before()
    for number in range(6):
        stand.used(PLANS[number % 3], f"req_{number}", 900, 700 + number)
        stand.advance(DAY // 2)
    await stand.fold()
    before, last_us = stand.counters(), stand.accounts.now - DAY // 2
    stand.accounts.redis.command("FLUSHALL")
    await stand.audit.look()
    assert stand.counters() == {}, "the ledger has to see first what stream there is now"
    assert done(stand.accounts.reservations.settle([alone(stand.accounts, PLANS[2], "req_5", 705, last_us)])) == 1
    stand.used(PLANS[2], "req_new", 900, 31)
    stand.accounts.admitted(PLANS[2], "req_held", nano_usd=50)
    if folded:
        await stand.fold()
    else:
        await stand.consumer.step()
        stand.used(PLANS[2], "req_waits", 900, 7)
    with capture_logs() as logs:
        await stand.audit.look()
    assert [one["event"] for one in logs] == ["spend_rebuilt"]
    new = 31 + 50 + (0 if folded else 7)
    assert stand.counters()["t:o"] == before["t:o"] + new
    assert stand.counters()["t:k:key_3"] == before["t:k:key_3"] + new
    assert stand.counters()["t:k:key_2"] == before["t:k:key_2"]
    assert done(stand.accounts.spend.read(ORG, ())).epoch is not None
    await stand.fold()
    assert await stand.audit.check() == {}


async def test_a_call_that_is_sent_again_after_that_is_not_charged_again(stand: Stand) -> None:
    await stand.opened_before()
    stand.used(PLANS[0], "req_1", 900, 700)
    await stand.fold()
    before = stand.counters()
    stand.accounts.redis.command("FLUSHALL")
    await stand.fold()
    await stand.audit.look()
    assert stand.counters() == before
    stream = UsageStream(stand.accounts.redis, KEYS, append_script())
    events: list[Packed] = [pack(stand.accounts.event(PLANS[0], "req_1", 700))]
    assert done(stream.append(events)) == 0
    assert stand.counters() == before


async def test_windows_can_begin_anew(stand: Stand) -> None:
    await stand.opened_before()
    stand.used(PLANS[0], "req_1", 900, 700)
    await stand.fold()
    stand.used(PLANS[1], "req_2", 900, 70)  # waits to be folded
    stand.accounts.admitted(PLANS[0], "req_held", nano_usd=50)
    assert await stand.audit.reset(zero=True) == Reset(opened=False, zeroed=True)
    assert stand.counters()["t:o"] == 50
    assert await stand.audit.check() == {}
    await stand.fold()
    assert await stand.audit.check() == {}
    stand.used(PLANS[0], "req_3", 900, 7)
    await stand.fold()
    assert await stand.audit.check() == {}
    stand.accounts.redis.command("FLUSHALL")
    await stand.fold()
    await stand.audit.look()
    assert (stand.counters()["t:o"], stand.counters().get("t:k:key_2", 0)) == (7, 0)


async def test_when_it_looks(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every few minutes, not while Redis has just come back, and only where the ledger is folded."""
    looked: list[bool] = []

    async def check(_: SpendAudit) -> None:
        looked.append(True)

    monkeypatch.setattr(SpendAudit, "check", check)
    await stand.audit.look()
    assert not looked, "nobody folds yet"
    await stand.fold()
    stand.uptime_s = 5
    await stand.audit.look()
    assert not looked
    stand.uptime_s = 100
    for _ in range(3):
        await stand.audit.look()
    assert len(looked) == 1
    stand.book.clock.advance(module._CHECK_S)
    await stand.audit.look()
    assert len(looked) == 2


async def test_a_ledger_that_is_behind_says_nothing(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotNowError, match="another"):
        await stand.audit.reset(zero=False)
    await stand.fold()
    monkeypatch.setattr(module, "_MOST", 1)
    for number in range(2):
        stand.used(PLANS[0], f"req_{number}", 900, 700)
    stand.accounts.redis.command("DEL", SPEND)
    assert await stand.audit.check() == {}
    with pytest.raises(NotNowError, match="folded"):
        await stand.audit.reset(zero=False)
    assert stand.accounts.now == AT_US
