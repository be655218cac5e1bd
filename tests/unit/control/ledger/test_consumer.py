"""The consumer over both databases and a real Valkey: each event once, whatever happens to whom."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from gateway.control.ledger import consumer as module
from gateway.control.ledger.fold import CostDimension, Dimension, Money, Use, fold
from gateway.control.ledger.progress import LEASE_S
from gateway.control.sql.ledger_tables import (
    cost_days,
    cost_hours,
    usage_days,
    usage_dimensions,
    usage_hours,
    usage_minutes,
)
from gateway.values import Cost, Quantities, UsageEvent, UsageLine
from tests.fakes.events import AT_US, KEYS, MINUTE, ORG
from tests.fakes.events import event as plain
from tests.fakes.ledger import DAY_S, Ledger, Rows, ledger
from tests.fakes.redis_servers import Server

MINUTE_US = 60_000_000


@pytest.fixture
async def book(valkey: Server, registry_url: str) -> AsyncIterator[Ledger]:
    async with ledger(valkey, registry_url) as made:
        yield made


def event(number: int | str, *, nano_usd: int = 100, at_us: int = AT_US, **more: Any) -> UsageEvent:
    """One that costs something."""
    line = plain(number).lines[0]
    costs = (Cost("gpt-4o-mini, input_tokens", "token", 321, nano_usd),)
    priced = msgspec.structs.replace(line, nano_usd=nano_usd, costs=costs)
    return msgspec.structs.replace(plain(number, at_us=at_us), lines=(priced,), **more)


def expected(events: list[UsageEvent], *, start: int = 1, whole: bool = False, costs: bool = False) -> Rows:
    """What a grain holds of events. start: how many minutes it has."""
    folded = fold(events)
    rows: Rows = {}
    for (minute, dimension), sums in (folded.costs if costs else folded.usage).items():
        for one in (False, True) if whole else (False,):
            said = msgspec.structs.asdict(dimension)
            if one:
                said |= {"user_id": "", "key_id": ""}
            place = (minute - minute % start, *_ordered(said, one, costs=costs))
            values = _values(sums)
            rows[place] = tuple(map(sum, zip(rows.get(place, (0,) * len(values)), values, strict=True)))
    return {place: values for place, values in rows.items() if any(values)}


def _values(sums: Use | Money) -> tuple[int, ...]:
    if isinstance(sums, Money):
        return msgspec.structs.astuple(sums)
    return (sums.requests, *msgspec.structs.astuple(sums.quantities))


def _ordered(said: dict[str, Any], whole: bool, *, costs: bool) -> tuple[Any, ...]:
    """In the order of the columns."""
    ids = said.pop("project_id"), said.pop("user_id"), said.pop("key_id")
    fields = (CostDimension if costs else Dimension).__struct_fields__
    return (*ids, whole, *(said[name] for name in fields if name in said))


async def holds(book: Ledger, events: list[UsageEvent]) -> None:
    """All grains have these events, each once."""
    assert await book.rows(usage_minutes) == expected(events)
    assert await book.rows(usage_hours) == expected(events, start=60, whole=True)
    assert await book.rows(usage_days) == expected(events, start=1440, whole=True)
    assert await book.rows(cost_hours) == expected(events, start=60, whole=True, costs=True)
    assert await book.rows(cost_days) == expected(events, start=1440, whole=True, costs=True)


async def test_what_came_is_in_all_grains_and_not_in_the_stream(book: Ledger) -> None:
    later = [event(number, at_us=AT_US - number * 13 * MINUTE_US) for number in range(1, 8)]
    events = [event(0), *later, event(8, category="images"), msgspec.structs.replace(event(9), lines=())]
    await book.came(*events)
    consumer = book.consumer(most=4)
    assert [await consumer.step() for _ in range(4)] == [4, 4, 2, 0]
    await holds(book, events)
    assert await book.events() == sorted(one.id for one in events) == sorted(book.told)
    assert await book.stream.waiting() == 0
    assert book.counted.counts == {"folded": 10}


async def test_an_event_that_comes_again_is_known(book: Ledger) -> None:
    consumer = book.consumer()
    await book.came(event(1), event(1), event(2))
    await consumer.step()
    await book.came(event(2), event(3))
    await consumer.step()
    await book.came(event(1))
    book.clock.advance(LEASE_S + 1)
    await book.consumer().step()
    await holds(book, [event(1), event(2), event(3)])
    assert book.counted.counts == {"folded": 3, "known": 3}


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_confirmed_event_takes_the_place_of_an_unconfirmed_one(book: Ledger, at_once: bool) -> None:
    reserved = event(1, nano_usd=900, unconfirmed=True, at_us=AT_US - 5 * MINUTE_US)
    consumer = book.consumer()
    await book.came(reserved)
    if not at_once:
        await consumer.step()
        await holds(book, [reserved])
    await book.came(event(1), event(2))
    await consumer.step()
    await holds(book, [event(1), event(2)])
    await book.came(reserved, event(1), msgspec.structs.replace(event(2), unconfirmed=True))
    await consumer.step()
    await holds(book, [event(1), event(2)])
    assert book.counted.counts["known"] == (4 if at_once else 3)


async def test_another_epoch_is_another_stream(book: Ledger) -> None:
    """Redis was emptied, and what workers still have comes again: positions may be anything."""
    consumer = book.consumer()
    await book.came(event(1), event(2))
    await consumer.step()
    await book.client.execute("FLUSHALL")
    await book.client.execute("HSET", KEYS.versions(ORG), "epoch", "another")
    for id_, one in (("1-0", event(2)), ("2-0", event(3))):
        await book.client.execute("XADD", KEYS.usage(ORG), id_, "id", one.id, "e", msgspec.json.encode(one))
    assert await consumer.step() == 2
    await holds(book, [event(1), event(2), event(3)])


async def test_a_stream_whose_time_went_back_is_read_from_its_beginning(book: Ledger) -> None:
    """Of the same epoch: an append-only file that lost its end on a machine whose clock was set back."""
    consumer = book.consumer()
    await book.came(event(1))
    await consumer.step()
    await book.client.execute("DEL", KEYS.usage(ORG))
    await book.client.execute("XADD", KEYS.usage(ORG), "5-0", "id", "req_2", "e", msgspec.json.encode(event(2)))
    assert await consumer.step() == 1
    assert await consumer.step() == 0
    await holds(book, [event(1), event(2)])


async def test_what_cannot_be_folded_is_kept_apart(book: Ledger) -> None:
    absurd = msgspec.structs.replace(event(4), lines=(UsageLine(quantities=Quantities(input_tokens=2**70)),))
    late = event(5, at_us=AT_US - 8 * DAY_S * 1_000_000)
    ahead = event(6, at_us=AT_US + 2 * DAY_S * 1_000_000)
    bodies = [b"{}", b"\xff", msgspec.json.encode(absurd), msgspec.json.encode(late), msgspec.json.encode(ahead)]
    await book.came(event(1), *bodies, event(2))
    assert await book.consumer().step() == 7
    await holds(book, [event(1), event(2)])
    reasons = ["unreadable", "unreadable", "unreadable", "late", "ahead"]
    assert await book.aside() == list(zip(reasons, bodies, strict=True))
    assert book.counted.counts == {"folded": 2, "unreadable": 3, "late": 1, "ahead": 1}
    assert await book.stream.waiting() == 0


async def test_any_text_has_a_place(book: Ledger) -> None:
    """Models are named by clients and upstreams: NUL, which PostgreSQL has no place for, half a kilobyte, a key."""
    names = ["a\0b", "m" * 600, "m" * 601, "sk-proj-" + "A" * 40]
    events = [
        msgspec.structs.replace(
            event(number), lines=(UsageLine(category="completions", response_model=name, quantities=Quantities(1)),)
        )
        for number, name in enumerate(names)
    ]
    await book.folded(*events)
    query = select(usage_dimensions.c.model).where(~usage_dimensions.c.whole)
    async with book.database.transaction() as connection:
        models = sorted(await connection.scalars(query))
    assert models == ["a\ufffdb", "m" * 256, "m" * 256, "sk-***"]


async def test_a_transaction_that_fails_leaves_nothing(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = book.consumer()
    await book.came(event(1))
    with monkeypatch.context() as patched:

        async def fails(*_: object) -> None:
            raise OSError("the disk is full")

        patched.setattr(module, "add_rows", fails)
        with pytest.raises(OSError, match="disk"):
            await consumer.step()
    assert (await book.events(), await book.stream.waiting(), book.told) == ([], 1, [])
    await consumer.step()
    await holds(book, [event(1)])


async def test_only_one_folds(book: Ledger) -> None:
    """On PostgreSQL: the other one waits until the lease is over; what the first one still does is refused."""
    if book.database.url.get_backend_name() == "sqlite":
        pytest.skip("a SQLite file is one process's alone")
    first, second = book.consumer(), book.consumer()
    await book.came(event(1))
    assert (await first.step(), await second.step()) == (1, 0)
    assert (first.holds, second.holds) == (True, False)
    await book.came(event(2))
    book.clock.advance(LEASE_S - 1)
    assert (await second.step(), await first.step()) == (0, 1)  # which renews it
    await book.came(event(3))
    book.clock.advance(LEASE_S + 1)
    assert await second.step() == 1
    await book.came(event(4))
    assert (await first.step(), first.holds, await second.step()) == (0, False, 1)
    await holds(book, [event(number) for number in range(1, 5)])
    assert book.told == [f"req_{number}" for number in range(1, 5)]


async def test_only_one_ledger_has_a_stream(book: Ledger, valkey: Server, tmp_path: Path) -> None:
    """Gateways that share a Redis and have a database each: one has all, and the other takes over when that has gone."""
    async with ledger(valkey, f"sqlite+aiosqlite:///{tmp_path / 'other.sqlite'}") as other:
        first, second = book.consumer(), other.consumer()
        await book.came(event(1))
        assert (await second.step(), await first.step()) == (1, 0)
        await book.came(event(2))
        assert (await first.step(), first.holds, await second.step()) == (0, False, 1)
        await book.client.execute("DEL", f"{KEYS.base(ORG)}:usage:ledger")  # as after a minute
        await book.came(event(3))
        assert (await first.step(), first.holds, await second.step(), second.holds) == (1, True, 0, False)
        await holds(other, [event(1), event(2)])
    await holds(book, [event(3)])


async def test_an_idle_consumer_keeps_its_lease(book: Ledger) -> None:
    consumer, other = book.consumer(), book.consumer()
    await consumer.step()
    for _ in range(4):
        book.clock.advance(LEASE_S - 5)
        assert await consumer.step() == 0
    if book.database.url.get_backend_name() != "sqlite":
        assert (await other.step(), other.holds) == (0, False)
    await consumer.release()
    await other.step()
    assert (consumer.holds, other.holds) == (False, True)


async def test_events_of_two_months(book: Ledger) -> None:
    """Partitions are made as they are needed, also by a consumer that does not know of those that are there."""
    month_s = 40 * DAY_S
    consumer = book.consumer(keep_s=100 * DAY_S)
    old = event(1, at_us=AT_US - month_s * 1_000_000)
    await book.came(old, event(2))
    await consumer.step()
    await book.came(event(3, at_us=old.at_us))
    await consumer.release()
    await book.consumer(keep_s=100 * DAY_S).step()
    await holds(book, [old, event(2), event(3, at_us=old.at_us)])
    assert MINUTE - old.at_us // MINUTE_US == month_s // 60
