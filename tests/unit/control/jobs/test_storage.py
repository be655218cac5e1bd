"""Storage is charged by the hour, each hour of each store once, by the size that was asked for where it is not known."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from gateway.accounts.scripts import AccountScripts
from gateway.accounts.spend import Spend
from gateway.accounts.usage_stream import Packed, UsageStream
from gateway.control.jobs.storage import Storage
from gateway.control.ledger.vector_stores import Stores
from gateway.control.sql.ledger_tables import cost_days, usage_days, usage_hours
from gateway.pricing.book import make_book
from gateway.redisdb.failures import RedisFailure, RedisLost
from gateway.settings.model import Prices
from gateway.values import SeenStore, UsageEvent
from tests.fakes.events import AT_US, KEYS, ORG
from tests.fakes.ledger import DAY_S, Ledger, ledger
from tests.fakes.redis_servers import Server

HOUR_S = 3600
AT = AT_US // 1_000_000
HOUR = AT // HOUR_S
GIB = 1 << 30
A_GIB_DAY = 100_000_000  # nano-dollars


@pytest.fixture
async def book(valkey: Server, registry_url: str) -> AsyncIterator[Ledger]:
    async with ledger(valkey, registry_url) as made:
        yield made


class Stand:
    """The job, its hands and what it has asked for."""

    holds = True

    def __init__(self, book: Ledger) -> None:
        self.book = book
        self.asked: list[Any] = []
        self.says: dict[str, SeenStore | None] = {}
        self.fails: Exception | None = None
        self.stream = UsageStream(book.client, KEYS, AccountScripts.load().settle)

    def job(self) -> Storage:
        stores = Stores(ORG, self.book.database)
        log, clock = structlog.get_logger(), self.book.clock
        prices = make_book(Prices())
        return Storage(ORG, stores, self, self.append, prices, self, clock, log, keep_s=7 * DAY_S)

    async def ask(self, wanted: Sequence[tuple[str, str]]) -> dict[str, SeenStore | None]:
        self.asked.append(list(wanted))
        return {id_: self.says.get(id_) for _, id_ in wanted}

    async def append(self, events: Sequence[Packed]) -> int:
        if self.fails is not None:
            raise self.fails
        return await self.stream.append(events)

    async def hours(self) -> dict[int, int]:
        """What is charged for, in bytes by hour since 1970."""
        await self.book.folded()
        found = await self.book.rows(usage_hours)
        return {key[0] // 60: sums[-4] for key, sums in found.items() if not key[4] and key[5] == "vector_stores"}


def told(number: int, *stores: SeenStore, at: int = AT, operation: str = "createVectorStore") -> UsageEvent:
    return UsageEvent(
        id=f"req_{number}", at_us=at * 1_000_000, organization_id=ORG, project_id="proj_1", user_id="user_1",
        key_id="key_1", operation=operation, status=200, stores=stores,
    )  # fmt: skip


def store(size: int = GIB, id_: str = "vs_1", **more: Any) -> SeenStore:
    return SeenStore(id=id_, upstream="openai", bytes=size, **more)


async def test_each_hour_once(book: Ledger) -> None:
    """Also by a job that does not know of the one before, and by two."""
    stand = Stand(book)
    await book.folded(told(1, store()))
    job = stand.job()
    await job.look()
    assert await stand.hours() == {}, "the hour is not over"
    for _ in range(2):
        book.clock.advance(HOUR_S)
        for one in (job, stand.job(), job):
            await one.look()
    assert await stand.hours() == {HOUR: GIB, HOUR + 1: GIB}
    costs = [sums for key, sums in (await book.rows(cost_days)).items() if not key[4]]
    assert costs == [(2 * round(GIB / 24), 2 * round(A_GIB_DAY / 24))]
    (use,) = [sums for key, sums in (await book.rows(usage_days)).items() if not key[4]]
    assert (use[0], use[-4]) == (0, 2 * GIB), "it is no request"
    spent = await Spend(book.client, KEYS, now_us=lambda: AT_US).read(ORG, ["o", "k:key_1"])
    assert {one.day for one in spent.by_subject.values()} == {costs[0][1]}, "spend limits know of it"
    assert stand.asked == []


async def test_a_day_costs_what_a_day_costs(book: Ledger) -> None:
    """Up to a nano-dollar an hour; hours that nobody charged are made up for, a day of them at most."""
    stand = Stand(book)
    await book.folded(told(1, store(3 * GIB)))
    book.clock.advance(20 * HOUR_S)
    await stand.job().look()
    assert await stand.hours() == {HOUR + number: 3 * GIB for number in range(20)}
    book.clock.advance(40 * HOUR_S)
    stand.says["vs_1"] = store(3 * GIB)
    await stand.job().look()
    assert stand.asked == [[("openai", "vs_1")]]
    charged = await stand.hours()
    assert sorted(charged) == [HOUR + number for number in (*range(20), *range(36, 60))]
    nano_usd = sum(sums[1] for key, sums in (await book.rows(cost_days)).items() if not key[4])
    assert nano_usd == pytest.approx(44 / 24 * 3 * A_GIB_DAY, abs=44)


async def test_what_is_not_known_is_asked_for_first(book: Ledger) -> None:
    stand = Stand(book)
    await book.folded(
        told(1, store(0, "vs_new", changing=True), store(0, "vs_bad", changing=True), store(0, "vs_empty")),
        told(2, SeenStore(id="vs_away", upstream="openai", changing=True)),
    )
    stand.says = {"vs_new": store(5, "vs_new"), "vs_bad": None, "vs_away": SeenStore(id="vs_away", gone=True)}
    book.clock.advance(HOUR_S)
    job = stand.job()
    await job.look()
    await job.look()
    assert stand.asked == [[("openai", name) for name in ("vs_away", "vs_bad", "vs_new")]]
    assert await stand.hours() == {HOUR: 5}


async def test_one_that_has_gone_is_charged_up_to_the_hour_before(book: Ledger) -> None:
    stand = Stand(book)
    await book.folded(told(1, store()))
    await book.folded(told(2, SeenStore(id="vs_1", gone=True), at=AT + 2 * HOUR_S + 5, operation="deleteVectorStore"))
    book.clock.advance(5 * HOUR_S)
    await stand.job().look()
    assert await stand.hours() == {HOUR: GIB, HOUR + 1: GIB}
    book.clock.advance(7 * DAY_S)
    await stand.job().look()
    assert await Stores(ORG, book.database).to_charge(HOUR + 10_000, 5) == [], "it is forgotten"


async def test_only_who_folds_charges(book: Ledger) -> None:
    stand = Stand(book)
    await book.folded(told(1, store()))
    book.clock.advance(HOUR_S)
    stand.holds = False
    job = stand.job()
    await job.look()
    assert await stand.hours() == {}
    stand.holds = True
    await job.look()
    assert await stand.hours() == {HOUR: GIB}


async def test_what_redis_does_not_take_is_charged_later(book: Ledger) -> None:
    stand = Stand(book)
    await book.folded(told(1, store()))
    book.clock.advance(HOUR_S)
    job, stand.fails = stand.job(), RedisLost("away")
    with pytest.raises(RedisFailure):
        await job.look()
    stand.fails = None
    with capture_logs() as logged:
        await job.look()
    assert logged == []
    assert await stand.hours() == {HOUR: GIB}
