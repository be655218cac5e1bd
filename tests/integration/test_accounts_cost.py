"""What the scripts cost their server: calls of commands, which are asserted, and microseconds, which are shown."""

from collections.abc import Callable, Iterator

import pytest

from gateway.accounts.plan import Plan
from gateway.accounts.usage_stream import Settlement, pack
from gateway.limits import CONCURRENT
from tests.fakes.events import ORG
from tests.fakes.redis_servers import Server
from tests.unit.accounts.stand import Accounts, done, plan_of, rate, spending

pytestmark = pytest.mark.alone  # it measures time

ROUNDS = 2000
PLENTY = 10**8
TAKING = {"tokens": 900, "nano_usd": 12_345}


@pytest.fixture
def accounts(valkey: Server) -> Iterator[Accounts]:
    found = Accounts(valkey)
    yield found
    found.redis.close()


def six_and_two(limit: int = PLENTY) -> Plan:
    return plan_of(
        rate("organization", ORG, "requests_per_minute", limit),
        rate("organization", ORG, "tokens_per_minute", limit),
        rate("project_model", "proj_1", "requests_per_minute", limit, model="gpt-6-astra"),
        rate("project_model", "proj_1", "tokens_per_minute", limit, model="gpt-6-astra"),
        rate("key", "key_1", "requests_per_day", limit),
        rate("key", "key_1", CONCURRENT, limit),
        spending("organization", ORG, "month", 10**15),
        spending("key", "key_1", "day", 10**14),
    )


def counted(server: Server, work: Callable[[], object]) -> dict[str, int]:
    """How many commands ran, by name, but for the script's own."""

    def calls() -> dict[str, int]:
        stats = server.info("commandstats").items()
        return {name.removeprefix("cmdstat_"): int(stat.split(",")[0].removeprefix("calls=")) for name, stat in stats}

    before = calls()
    work()
    found = {name: number - before.get(name, 0) for name, number in calls().items()}
    return {name: number for name, number in sorted(found.items()) if number and name not in {"evalsha", "info"}}


def microseconds(server: Server, rounds: int, work: Callable[[int], object]) -> float:
    """Of the server, for one script call."""
    server.command("CONFIG", "RESETSTAT")
    for number in range(rounds):
        work(number)
    stat = server.info("commandstats")["cmdstat_evalsha"]
    assert int(stat.split("calls=")[1].split(",")[0]) == rounds
    return float(stat.split("usec_per_call=")[1].split(",")[0])


def test_calls_of_a_reserve_and_what_ends_it(valkey: Server, accounts: Accounts) -> None:
    plan = six_and_two(10**6)
    accounts.now = 0
    at = accounts.admitted(plan, "first", **TAKING).at_us  # the scripts are loaded, and the windows are there
    accounts.settle(plan, "first", at, 1)
    accounts.cancel("none")
    reserve = counted(valkey, lambda: accounts.admitted(plan, "req_1", **TAKING))
    assert reserve == {"hmget": 3, "hset": 2, "set": 1, "time": 1, "zadd": 1}
    assert sum(counted(valkey, lambda: accounts.admitted(plan, "req_2", **TAKING)).values()) == 8
    accounts.admitted(plan, "req_3", tokens=10**6 // 2)  # or the buckets would be full when the others end
    settle = counted(valkey, lambda: accounts.settle(plan, "req_1", at, 12_000, tokens=100))
    assert settle == {
        "del": 1, "expire": 1, "get": 1, "hmget": 2, "hset": 2, "sadd": 1, "time": 1, "xadd": 1, "zrem": 1,
    }  # fmt: skip
    cancel = counted(valkey, lambda: accounts.cancel("req_2"))
    assert cancel == {"get": 1, "hmget": 2, "hset": 2, "set": 1, "time": 1, "zrem": 1}
    refused = counted(valkey, lambda: accounts.refused(plan, "req_4", tokens=10**6, nano_usd=1))
    assert refused == {"get": 1, "hmget": 3, "time": 1, "zrangebyscore": 1}
    alone = counted(valkey, lambda: accounts.settle(plan, "lost", at, 1))
    assert alone == {"expire": 1, "get": 1, "hmget": 1, "hset": 1, "sadd": 1, "set": 1, "time": 1, "xadd": 1}


def test_microseconds_of_each_script(valkey: Server, accounts: Accounts) -> None:
    plan, small = six_and_two(), six_and_two(1)
    accounts.now = 0
    found = {}
    found["reserve"] = microseconds(valkey, ROUNDS, lambda n: accounts.admitted(plan, f"req_{n}", **TAKING))
    at = accounts.admitted(plan, "now", **TAKING).at_us
    ids = [f"req_{n}" for n in range(200)]
    found["extend of 200"] = microseconds(
        valkey, 200, lambda n: done(accounts.reservations.extend(ORG, "worker", ids, 60.0))
    )
    half = ROUNDS // 2
    found["settle"] = microseconds(valkey, half, lambda n: accounts.settle(plan, f"req_{n}", at, 9_999, tokens=100))

    def settle_fifty(number: int) -> int:
        batch = [f"req_{n}" for n in range(half + 50 * number, half + 50 * number + 50)]
        events = [pack(accounts.event(plan, id, 9_999, at)) for id in batch]  # noqa: A001
        return done(accounts.reservations.settle([Settlement(event=event, tokens=100) for event in events]))

    found["settle, one of fifty"] = microseconds(valkey, half // 100, settle_fifty) / 50
    start = half + half // 2
    found["cancel"] = microseconds(valkey, half // 2, lambda n: accounts.cancel(f"req_{start + n}"))
    found["reserve that is refused"] = microseconds(
        valkey, ROUNDS, lambda n: accounts.refused(small, "req_x", **TAKING)
    )
    found["settle without a reservation"] = microseconds(
        valkey, ROUNDS, lambda n: accounts.settle(plan, f"lost_{n}", at, 9_999)
    )
    print("\nmicroseconds of the server:", ", ".join(f"{name} {us:.1f}" for name, us in found.items()))  # noqa: T201
    assert all(us < 400 for us in found.values()), found
