"""How reservations end: settled, cancelled or swept, each once, and what that leaves in the counters."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from gateway.accounts.answers import Cancelled, Extended, Level
from gateway.accounts.spend import Spent
from gateway.accounts.usage_stream import Settlement, pack
from gateway.limits import CONCURRENT
from tests.fakes.events import KEYS, ORG
from tests.fakes.redis_servers import Server, StartServer
from tests.unit.accounts.stand import DAY, MINUTE, SECOND, Accounts, done, plan_of, rate, spending


@pytest.fixture
def accounts(valkey: Server) -> Iterator[Accounts]:
    found = Accounts(valkey)
    yield found
    found.redis.close()


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * SECOND)


TOKENS = plan_of(rate("key", "key_1", "tokens_per_minute", 6_000), rate("key", "key_1", "requests_per_minute", 10))


def level(accounts: Accounts) -> int:
    found = accounts.admitted(TOKENS, f"look-{accounts.now}", requests=0).tokens
    assert found is not None
    return found.remaining


def test_tokens_become_what_was_used(accounts: Accounts) -> None:
    one = accounts.admitted(TOKENS, "req_1", tokens=3_000, nano_usd=500)
    two = accounts.admitted(TOKENS, "req_2", tokens=1_000, nano_usd=500)
    assert accounts.settle(TOKENS, "req_1", one.at_us, 50, tokens=1_000) == 1
    assert level(accounts) == 4_000
    assert accounts.settle(TOKENS, "req_2", two.at_us, 70, tokens=8_000) == 1
    found = accounts.admitted(TOKENS, "req_3", requests=0)
    assert found.tokens == Level(0, 0, 90 * SECOND), "more than it holds"
    assert found.requests == Level(1, 8, 12 * SECOND), "requests are not given back"
    assert accounts.spent() == Spent(120, 120, 120, 120)
    assert accounts.settle(TOKENS, "req_1", one.at_us, 50, tokens=1_000) == 0
    assert accounts.spent("k:key_1").day == 120
    accounts.cancel("req_3")


def test_what_the_bucket_has_refilled_is_not_given_back(accounts: Accounts) -> None:
    one = accounts.admitted(TOKENS, "req_1", tokens=3_000)
    accounts.now += 20 * SECOND
    accounts.admitted(TOKENS, "req_2", tokens=5_000)  # the bucket is empty again
    accounts.settle(TOKENS, "req_1", one.at_us, 0, tokens=0)
    assert level(accounts) == 1_000, "2,000 had been refilled, and used by the other"


def test_as_reserved_where_nothing_is_said(accounts: Accounts) -> None:
    one = accounts.admitted(TOKENS, "req_1", tokens=3_000, nano_usd=500)
    assert done(accounts.reservations.settle([Settlement(event=None, id="req_1")], ORG)) == 0
    assert level(accounts) == 3_000
    assert accounts.spent().total == 500
    done(accounts.reservations.settle([Settlement(event=None, id="req_1", nano_usd=7, tokens=0)], ORG))
    assert accounts.spent().total == 500, "it had ended"
    assert accounts.events() == []
    assert one.at_us == accounts.now


def test_a_cancel_gives_everything_back(accounts: Accounts) -> None:
    plan = plan_of(*TOKENS.entries, rate("project", "proj_1", CONCURRENT, 1), spending("key", "key_1", "day", 100))
    accounts.admitted(plan, "req_1", tokens=6_000, nano_usd=100)
    accounts.refused(plan, "req_2", tokens=1, nano_usd=1)
    assert accounts.cancel("req_1") == 1
    assert accounts.cancel("req_1") == 0
    found = accounts.admitted(plan, "req_2", tokens=6_000, nano_usd=100)
    assert found.requests == Level(1, 9, 6 * SECOND)
    assert accounts.spent().day == 100


def test_a_call_that_nobody_reserved_is_charged_in_full_once(accounts: Accounts) -> None:
    then = accounts.now - 3 * DAY
    assert accounts.settle(TOKENS, "req_1", then, 75, tokens=500) == 1
    assert accounts.settle(TOKENS, "req_1", then, 75, tokens=500) == 0
    assert accounts.spent("p:proj_1") == Spent(0, 75, 75, 75)
    assert accounts.spent("u:user_1").total == accounts.spent("k:key_1").total == 75
    assert level(accounts) == 6_000, "buckets are about now"


def test_a_reservation_that_appeared_after_its_settlement_costs_nothing(accounts: Accounts) -> None:
    """A reserve without an answer, run late and never cancelled, of a call that went on without."""
    accounts.settle(TOKENS, "req_1", accounts.now, 75)
    accounts.redis.command("DEL", KEYS.base(ORG) + ":r:req_1")  # minutes later
    accounts.admitted(TOKENS, "req_1", tokens=10, nano_usd=100)
    assert accounts.spent().day == 175
    assert accounts.settle(TOKENS, "req_1", accounts.now, 75) == 0
    assert accounts.spent().day == 75
    assert accounts.keys("leases") == []


def test_a_reserve_that_comes_after_its_settlement_does_nothing(accounts: Accounts) -> None:
    plan = plan_of(*TOKENS.entries, rate("key", "key_1", CONCURRENT, 1))
    assert accounts.settle(plan, "req_1", accounts.now, 75) == 1
    assert 115 < accounts.redis.command("TTL", KEYS.base(ORG) + ":r:req_1") <= 120
    for _ in range(2):
        assert accounts.reserve(plan, "req_1", tokens=10, nano_usd=100) == Cancelled(accounts.now)
    accounts.admitted(plan, "req_2")
    assert accounts.reserve(plan, "req_1", tokens=10, nano_usd=100) == Cancelled(accounts.now), "nor is it refused"
    assert accounts.settle(plan, "req_1", accounts.now, 75) == 0
    accounts.now += 31 * SECOND
    assert accounts.sweep() == 1
    assert accounts.spent().day == 75
    assert [event.id for event in accounts.events()] == ["req_1", "req_2"]
    other = pack(accounts.event(plan, "event_3", 5))
    assert done(accounts.reservations.settle([Settlement(event=other, id="req_3")])) == 1
    assert accounts.reserve(plan, "req_3") == Cancelled(accounts.now)
    accounts.admitted(plan, "event_3")


def test_one_batch_with_the_same_call_twice(accounts: Accounts) -> None:
    plan = plan_of(*TOKENS.entries, rate("key", "key_1", CONCURRENT, 5))
    accounts.admitted(plan, "req_1", tokens=100, nano_usd=10)
    accounts.admitted(plan, "req_2", tokens=100, nano_usd=10)
    accounts.admitted(plan, "req_3", tokens=100, nano_usd=10)
    one, two = (Settlement(event=pack(accounts.event(plan, id, 4)), tokens=50) for id in ("req_1", "req_2"))  # noqa: A001
    none = Settlement(event=None, id="req_3", nano_usd=0, tokens=0)
    assert done(accounts.reservations.settle([one, two, one, none, none, two])) == 2
    assert accounts.spent().day == 8
    assert level(accounts) == 5_900
    accounts.cancel(f"look-{accounts.now}")
    assert accounts.lasting() == [f"r:look-{accounts.now}"]


def test_the_lease_runs_out(accounts: Accounts) -> None:
    plan = plan_of(*TOKENS.entries, rate("key", "key_1", CONCURRENT, 1))
    one = accounts.admitted(plan, "req_1", tokens=600, nano_usd=10)
    accounts.now += 30 * SECOND - 1
    assert accounts.sweep() == 0
    accounts.now += 1
    assert accounts.sweep() == 1
    assert accounts.sweep() == 0
    (event,) = accounts.events()
    assert (event.id, event.at_us, event.unconfirmed) == ("req_1", one.at_us, True)
    assert event.lines[0].nano_usd == accounts.spent().day == 10
    assert accounts.lasting() == ["r:req_1"]
    assert 86_300 < accounts.redis.command("TTL", KEYS.base(ORG) + ":r:req_1") <= 86_400
    accounts.cancel("req_1")
    assert accounts.spent().day == 10, "it is in the stream"
    accounts.now += DAY
    assert accounts.settle(plan, "req_1", one.at_us, 3) == 1
    assert accounts.settle(plan, "req_1", one.at_us, 3) == 0
    assert accounts.spent() == Spent(0, 3, 3, 3)
    assert [event.unconfirmed for event in accounts.events()] == [True, False]
    assert accounts.lasting() == []


def test_a_lease_is_extended(accounts: Accounts) -> None:
    extend = accounts.reservations.extend
    for number in range(1_200):
        accounts.admitted(plan_of(), f"req_{number}")
    ids = [f"req_{number}" for number in range(1_202)]
    accounts.now += 20 * SECOND
    assert done(extend(ORG, "one", ids, 30.0)) == Extended(["req_1200", "req_1201"], 1, "epoch-1")
    assert done(extend(ORG, "two", [], 10.0)) == Extended([], 2, "epoch-1")
    accounts.now += 20 * SECOND
    assert accounts.sweep() == 0
    assert done(extend(ORG, "two", [], 10.0)) == Extended([], 2, "epoch-1")
    accounts.now += 10 * SECOND
    assert accounts.sweep(1_000) == 1_000
    some = done(extend(ORG, "three", ids[998:1_002], 10.0))
    assert some.workers == 1
    assert accounts.sweep(1_000) == 200 - (4 - len(some.lost)), "those that were late, but not too late"


def test_windows_across_their_boundaries(accounts: Accounts) -> None:
    plan = plan_of(
        spending("organization", ORG, "day", 100),
        spending("project", "proj_1", "week", 250),
        spending("user", "user_1", "month", 400),
        spending("key", "key_1", "total", 1_000),
    )
    accounts.now = at("2027-01-24T12:00:00")  # a Sunday
    accounts.admitted(plan, "sunday", nano_usd=100)
    assert accounts.refused(plan, "x", nano_usd=1).entry == 0
    accounts.now = at("2027-01-24T23:59:59.999999")
    accounts.refused(plan, "x", nano_usd=1)
    for day, name in ((25, "monday"), (26, "tuesday"), (27, "wednesday")):
        accounts.now = at(f"2027-01-{day}T00:00:00")
        accounts.admitted(plan, name, nano_usd=100 if day < 27 else 50)
    assert accounts.spent() == Spent(50, 250, 350, 350)
    no = accounts.refused(plan, "x", nano_usd=1)
    assert (no.entry, no.used) == (1, 250)
    accounts.now = at("2027-01-31T23:00:00")
    accounts.refused(plan, "x", nano_usd=1)
    accounts.now = at("2027-02-01T00:00:00")  # a Monday
    accounts.admitted(plan, "february", nano_usd=100)
    assert accounts.spent() == Spent(100, 100, 100, 450)
    months = {name: nano for name, nano in accounts.fields("spend", "m").items() if name.endswith(":o")}
    assert months == {"m202701:o": 350, "m202702:o": 100}
    assert accounts.keys("spend*") == ["spend"]


def test_the_month_limit_refuses(accounts: Accounts) -> None:
    plan = plan_of(spending("user", "user_1", "month", 400), spending("key", "key_1", "total", 450))
    accounts.now = at("2028-02-29T23:59:59")
    accounts.admitted(plan, "leap", nano_usd=400)
    no = accounts.refused(plan, "x", nano_usd=1)
    assert (no.entry, no.used) == (0, 400)
    accounts.admitted(plan, "free", nano_usd=0)
    accounts.now = at("2028-03-01T00:00:00")
    assert accounts.refused(plan, "x", nano_usd=51).entry == 1
    accounts.admitted(plan, "march", nano_usd=50)


def test_a_call_belongs_to_the_day_of_its_reserve(accounts: Accounts) -> None:
    accounts.now = at("2026-12-31T23:59:59")
    plan = plan_of()
    one = accounts.admitted(plan, "req_1", nano_usd=100)
    two = accounts.admitted(plan, "req_2", nano_usd=100)
    accounts.now = at("2027-01-01T00:10:00")
    accounts.settle(plan, "req_1", one.at_us, 130)
    accounts.cancel("req_2")
    assert two.at_us == one.at_us
    assert accounts.spent() == Spent(0, 130, 0, 130)
    accounts.now = at("2026-12-31T23:59:59")
    assert accounts.spent() == Spent(130, 130, 130, 130)


def test_months_are_the_calendars(accounts: Accounts) -> None:
    day = datetime(2023, 12, 31, tzinfo=UTC)
    wanted = set()
    while day < datetime(2032, 3, 2, tzinfo=UTC):
        for one in (day, day + timedelta(seconds=86_399)):
            accounts.now = round(one.timestamp()) * SECOND
            accounts.admitted(plan_of(), "one", nano_usd=1)
            accounts.cancel("one")
            accounts.redis.command("DEL", KEYS.base(ORG) + ":r:one")
        wanted.add(f"m{day:%Y%m}:o")
        day = (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
        if f"m{day:%Y%m}:o" in wanted:
            day += timedelta(days=1)
    assert {name for name in accounts.fields("spend", "m") if name.endswith(":o")} == wanted


@pytest.mark.parametrize("big", [2**53 - 1, 10**15 + 1, 123_456_789_012_345])
def test_money_is_exact_however_much(redis_binary: object, start_server: StartServer, big: int) -> None:
    accounts = Accounts(start_server(redis_binary))
    plan = plan_of(spending("key", "key_1", "total", 2**53 - 1))
    accounts.admitted(plan, "req_1", nano_usd=big)
    assert accounts.spent().total == big
    if big == 2**53 - 1:
        assert accounts.refused(plan, "req_2", nano_usd=1).used == big
    accounts.settle(plan, "req_1", accounts.now, big - 7)
    assert accounts.spent("k:key_1") == Spent(big - 7, big - 7, big - 7, big - 7)
    accounts.admitted(plan, "req_3", nano_usd=1)
    accounts.now += 31 * SECOND
    accounts.sweep()
    accounts.settle(plan, "req_3", accounts.now, 3)
    accounts.settle(plan, "req_4", accounts.now, 2)
    assert accounts.spent().total == big - 2
    accounts.redis.close()


def test_a_reset_leaves_what_is_reserved(accounts: Accounts) -> None:
    plan = plan_of()
    accounts.settle(plan, "old", accounts.now - 35 * DAY, 1_000)
    one = accounts.admitted(plan, "req_1", nano_usd=10)
    accounts.settle(plan, "req_2", accounts.now, 100)
    assert accounts.spent().total == 1_110
    assert done(accounts.spend.reset_spend(ORG)) == 1
    assert accounts.spent() == Spent(10, 10, 10, 10)
    assert {name.partition(":")[2] for name in accounts.fields("spend")} == {
        "o", "p:proj_1", "u:user_1", "m:proj_1:user_1", "k:key_1",
    }  # fmt: skip
    assert len(accounts.fields("spend")) == 3 * 5
    accounts.settle(plan, "req_1", one.at_us, 4)
    assert accounts.spent("k:key_1") == Spent(4, 4, 4, 4)


def test_an_event_of_another_version_is_charged_to_whom_it_names(accounts: Accounts) -> None:
    def settle(id: str, json: bytes) -> None:  # noqa: A002
        event = pack(accounts.event(plan_of(), id, 5))
        strange = type(event)(id, ORG, event.minute, json, 5)
        assert done(accounts.reservations.settle([Settlement(event=strange)])) == 1

    settle("req_1", b'{"project_id":"proj_x","user_id":7,"key_id":null}')
    settle("req_2", b"no json")
    assert accounts.spent().day == 10
    assert accounts.spent("p:proj_x").day == 5
    assert accounts.fields("spend", "t:") == {"t:o": 10, "t:p:proj_x": 5}
    settle("req_3", b'{"project_id":"proj_y","user_id":"user-1"}')
    settle("req_4", b'{"project_id":"proj_y","user_id":"svc_acct_1"}')
    assert (accounts.spent("m:proj_y:user-1").day, accounts.spent("m:proj_y:svc_acct_1").day) == (5, 0)


def test_a_stream_that_takes_nothing_stops_a_settlement_and_a_sweep(accounts: Accounts) -> None:
    accounts.redis.command("SET", KEYS.usage(ORG), "no stream")
    one = accounts.admitted(TOKENS, "req_1", nano_usd=9)
    for _ in range(2):
        with pytest.raises(Exception, match="WRONGTYPE"):
            accounts.settle(TOKENS, "req_1", one.at_us, 3)
    accounts.now += MINUTE
    with pytest.raises(Exception, match="WRONGTYPE"):
        accounts.sweep()
    assert accounts.spent().day == 9
    accounts.redis.command("DEL", KEYS.usage(ORG))
    assert accounts.settle(TOKENS, "req_1", one.at_us, 3) == 1
    assert accounts.spent().day == 3
