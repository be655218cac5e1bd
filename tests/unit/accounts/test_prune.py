"""What is taken away of the counters, and what stays."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from gateway.accounts.prune import Prune
from gateway.limits import CONCURRENT
from tests.fakes.events import KEYS, ORG
from tests.fakes.redis_servers import Server, StartServer
from tests.unit.accounts.stand import DAY, MINUTE, SECOND, Accounts, done, plan_of, rate, spending


@pytest.fixture
def accounts(valkey: Server) -> Iterator[Accounts]:
    found = Accounts(valkey)
    yield found
    found.redis.close()


def prune(accounts: Accounts, per_step: int = 500) -> int:
    return done(Prune(accounts.redis, KEYS, now_us=lambda: accounts.now, per_step=per_step).prune(ORG))


def test_what_is_full_and_what_runs_no_more_goes(accounts: Accounts) -> None:
    plan = plan_of(
        rate("key", "key_1", "requests_per_minute", 60),
        rate("user", "user_1", "requests_per_minute", 1),
        rate("key", "key_1", CONCURRENT, 5),
        rate("project", "proj_1", CONCURRENT, 5),
    )
    other = plan_of(rate("project", "proj_1", CONCURRENT, 5))
    accounts.admitted(plan, "req_1")
    accounts.admitted(other, "req_2")
    assert prune(accounts) == 0
    accounts.cancel("req_1")
    assert accounts.running() == {"c:p:proj_1": 1}
    assert prune(accounts) == 1
    assert accounts.fields("buckets").keys() == {
        "b:requests_per_minute:k:key_1", "b:requests_per_minute:u:user_1", "c:p:proj_1",
    }  # fmt: skip
    accounts.now += 10 * SECOND
    assert prune(accounts) == 0, "clocks of servers differ"
    accounts.now += 1
    assert prune(accounts) == 2
    accounts.admitted(plan, "req_3")
    assert accounts.refused(plan, "req_4").entry == 1
    accounts.now += MINUTE + 10 * SECOND
    assert prune(accounts) == 1, "the one of a minute is as full as it was said to be, and not yet forgotten"
    accounts.now += SECOND
    assert prune(accounts) == 1
    accounts.sweep()
    assert prune(accounts) == 2
    assert accounts.fields("buckets") == {}


@pytest.mark.parametrize(
    ("now", "months"),
    [("2028-02-15", 13), ("2028-01-01", 13), ("2027-12-31", 13), ("2027-03-01", 13)],
)
def test_windows_of_long_ago_go(accounts: Accounts, now: str, months: int) -> None:
    today = round(datetime.fromisoformat(now).replace(tzinfo=UTC).timestamp()) * SECOND
    days = range(500, -1, -1)
    for day in days:
        accounts.now = today - day * DAY
        accounts.admitted(plan_of(), f"req_{day}", nano_usd=1)
    every = accounts.fields("spend")
    prune(accounts)
    kept = accounts.fields("spend")
    assert {name: every[name] for name in kept} == kept
    wanted = {f"d{today // DAY - day}:o" for day in range(41)}
    assert {name for name in kept if name[0] == "d" and name.endswith(":o")} == wanted
    year, month = int(now[:4]), int(now[5:7])
    first = year * 12 + month - 1 - months
    wanted = {f"m{number // 12}{number % 12 + 1:02}:o" for number in range(first, first + months + 1)}
    assert {name for name in kept if name[0] == "m" and name.endswith(":o")} == wanted
    assert accounts.spent().total == len(days)


def test_many_fields_go_in_steps(redis_binary: object, start_server: StartServer) -> None:
    accounts = Accounts(start_server(redis_binary))
    plans = [plan_of(rate("key", f"k{n}", "requests_per_minute", 60 if n % 2 else 1)) for n in range(2_500)]
    for number, plan in enumerate(plans):
        accounts.admitted(plan, f"req_{number}")
    accounts.now += 20 * SECOND
    assert prune(accounts, 100) == 1_250
    assert len(accounts.fields("buckets")) == 1_250
    for number in (0, 2_498):
        accounts.refused(plans[number], "req_x")
    accounts.redis.close()


def test_the_hashes_are_tables(redis_binary: object, start_server: StartServer) -> None:
    accounts = Accounts(start_server(redis_binary))
    plan = plan_of(rate("key", "key_1", "requests_per_minute", 1), spending("key", "key_1", "day", 10))
    assert prune(accounts) == 0
    assert accounts.keys("*") == ["buckets", "spend", "versions"]
    accounts.admitted(plan, "req_1", nano_usd=7)
    assert prune(accounts) == prune(accounts) == 0
    for name in ("buckets", "spend"):
        assert accounts.redis.command("OBJECT", "ENCODING", f"{KEYS.base(ORG)}:{name}") == b"hashtable"
    assert accounts.spent() == done(accounts.spend.read(ORG, ["k:key_1"])).by_subject["k:key_1"]
    accounts.redis.close()


def test_nobody_has_spent_nothing(accounts: Accounts) -> None:
    found = done(accounts.spend.read(ORG, []))
    assert (found.epoch, found.by_subject) == ("epoch-1", {})


def test_spend_of_many(accounts: Accounts) -> None:
    for number in range(400):
        accounts.admitted(plan_of(key_id=f"k{number}"), f"req_{number}", nano_usd=number)
    found = done(accounts.spend.read(ORG, [f"k:k{number}" for number in range(400)])).by_subject
    assert [found[f"k:k{number}"].week for number in range(400)] == list(range(400))
