"""Events that are sent again, and a stream without room: what that leaves in the counters."""

from collections.abc import Iterator
from pathlib import Path

import hiredis
import pytest

from gateway.accounts.answers import Cancelled, Level
from gateway.accounts.spend import Spent
from gateway.accounts.usage_stream import STREAM_FULL, Packed, Settlement, UsageStream, append_script, pack, settle_args
from gateway.limits import CONCURRENT
from tests.fakes.events import KEYS, ORG
from tests.fakes.redis_servers import Server, StartServer
from tests.unit.accounts.stand import SECOND, Accounts, done, plan_of, rate, spending

PLAN = plan_of(
    rate("key", "key_1", "tokens_per_minute", 6_000),
    rate("key", "key_1", CONCURRENT, 2),
    spending("key", "key_1", "day", 1_000),
)


@pytest.fixture(scope="module")
def server(redis_binary: Path, start_module_server: StartServer) -> Server:
    return start_module_server(redis_binary)


@pytest.fixture
def accounts(server: Server) -> Iterator[Accounts]:
    server.command("FLUSHALL")
    found = Accounts(server)
    yield found
    found.redis.close()


class Stream:
    """The way into the stream, in the test's time."""

    def __init__(self, accounts: Accounts, most_events: int = 0) -> None:
        self.accounts = accounts
        self.most_events = most_events

    def packed(self, id: str, nano_usd: int, tokens: int = 0) -> Packed:  # noqa: A002
        event = pack(self.accounts.event(PLAN, id, nano_usd))
        return Packed(event.id, ORG, event.minute, event.json, nano_usd, tokens, 0)

    def settle(self, *settlements: Settlement) -> int:
        keys, args = settle_args(KEYS, settlements, ORG, self.accounts.now, self.most_events)
        appended: int = self.accounts.redis.now(append_script(), keys, args)
        return appended

    def append(self, *events: Packed, epoch: str | None = None) -> int:
        return self.settle(*(Settlement(event=one, tokens=one.tokens, epoch=epoch) for one in events))

    def settle_ahead(self, *events: Packed) -> None:
        stream = UsageStream(self.accounts.redis, KEYS, append_script())
        done(stream.settle_ahead(events))


def ids(accounts: Accounts) -> list[str]:
    return [event.id for event in accounts.events()]


def restore(accounts: Accounts, saved: dict[str, bytes]) -> None:
    """As a server that begins again from a file that lacks the last second."""
    accounts.redis.command("FLUSHALL")
    for key, dump in saved.items():
        accounts.redis.command("RESTORE", f"{KEYS.base(ORG)}:{key}", 0, dump)


def saved(accounts: Accounts) -> dict[str, bytes]:
    return {key: accounts.redis.command("DUMP", f"{KEYS.base(ORG)}:{key}") for key in accounts.keys("*")}


@pytest.mark.parametrize("epoch", ["epoch-1", None, "another"])
def test_what_is_there_is_not_there_twice(accounts: Accounts, epoch: str | None) -> None:
    stream = Stream(accounts)
    accounts.admitted(PLAN, "req_1", tokens=100, nano_usd=90)
    one, two = stream.packed("req_1", 50, 30), stream.packed("req_2", 7)
    assert stream.append(one, two) == 2
    before = saved(accounts)
    assert stream.append(one, two, epoch=epoch) == 0
    assert ids(accounts) == ["req_1", "req_2"]
    assert saved(accounts) == before


@pytest.mark.parametrize("epoch", ["epoch-1", "another"])
def test_a_reservation_that_lives_again_ends_as_used(accounts: Accounts, epoch: str) -> None:
    """What was lost is the settlement alone."""
    stream = Stream(accounts)
    at = accounts.admitted(PLAN, "req_1", tokens=3_000, nano_usd=90).at_us
    before = saved(accounts)
    event = stream.packed("req_1", 50, 1_000)
    assert stream.append(event) == 1
    restore(accounts, before)
    assert ids(accounts) == []
    assert stream.append(event, epoch=epoch) == 1
    assert stream.append(event, epoch=epoch) == 0
    assert ids(accounts) == ["req_1"]
    assert accounts.spent("k:key_1").day == 50
    assert accounts.lasting() == []
    assert accounts.admitted(PLAN, "req_2").tokens == Level(0, 5_000, 10 * SECOND)
    assert at == accounts.now


@pytest.mark.parametrize(("epoch", "cost"), [("epoch-1", 50), ("another", 75)])
def test_one_that_was_swept_after_it_came_back_is_put_right(accounts: Accounts, epoch: str, cost: int) -> None:
    stream = Stream(accounts)
    accounts.admitted(PLAN, "req_1", tokens=3_000, nano_usd=90)
    event = stream.packed("req_1", cost, 1_000)
    accounts.now += 31 * SECOND
    assert accounts.sweep() == 1
    assert accounts.spent().day == 90
    assert stream.append(event, epoch=epoch) == 1
    assert accounts.spent().day == cost
    assert ids(accounts) == ["req_1", "req_1"], "the unconfirmed one, and what replaces it"


@pytest.mark.parametrize(
    ("now", "age_s", "charged"),
    [
        ("epoch-1", 3000, True),
        ("", 3000, True),
        ("epoch-2", 3000, False),
        ("epoch-2", 600, False),
        ("epoch-2", 1, True),
    ],
    ids=["the counters are the same", "closed since they were lost", "the ledger may have it", "just", "it has it not"],
)
def test_what_was_lost_with_its_reservation_is_charged_by_epoch_and_age(
    accounts: Accounts, now: str, age_s: int, charged: bool
) -> None:
    stream = Stream(accounts)
    event, free = stream.packed("req_1", 50), stream.packed("req_2", 0)
    accounts.now += age_s * SECOND
    accounts.redis.command("FLUSHALL")
    if now:
        accounts.redis.command("HSET", KEYS.versions(ORG), "epoch", now)
    assert stream.append(event, free, epoch="epoch-1") == 2
    assert stream.append(event, free, epoch="epoch-1") == 0
    assert ids(accounts) == ["req_1", "req_2"]
    assert accounts.spent() == (Spent(50, 50, 50, 50) if charged else Spent(0, 0, 0, 0))
    assert accounts.reserve(PLAN, "req_1", nano_usd=1) == Cancelled(accounts.now)


def test_events_sent_for_the_first_time_are_charged_whatever_the_epoch(accounts: Accounts) -> None:
    stream = Stream(accounts)
    stream.append(stream.packed("req_1", 50))
    accounts.redis.command("DEL", KEYS.versions(ORG))
    stream.append(stream.packed("req_2", 50))
    assert accounts.spent().day == 100


def test_a_full_stream_takes_nothing_and_nothing_changes(accounts: Accounts) -> None:
    stream = Stream(accounts, most_events=3)
    accounts.admitted(PLAN, "req_3", tokens=100, nano_usd=90)
    assert stream.append(stream.packed("req_0", 1), stream.packed("req_1", 1)) == 2
    assert stream.append(stream.packed("req_1", 1), stream.packed("req_2", 1)) == 1, "that was its last place"
    before = saved(accounts)
    for _ in range(2):
        with pytest.raises(hiredis.ReplyError, match=f"^{STREAM_FULL} "):
            stream.append(stream.packed("req_3", 50, 30), stream.packed("req_4", 1))
    assert saved(accounts) == before
    assert ids(accounts) == ["req_0", "req_1", "req_2"]
    accounts.redis.command("XTRIM", KEYS.usage(ORG), "MAXLEN", 2)
    assert stream.append(stream.packed("req_3", 50, 30), stream.packed("req_4", 1)) == 2, "a batch as a whole"
    assert accounts.spent().day == 54


def test_limits_go_on_while_the_stream_is_full(accounts: Accounts) -> None:
    stream = Stream(accounts, most_events=1)
    stream.append(stream.packed("req_0", 0))
    one, two = stream.packed("req_1", 400, 1_000), stream.packed("req_2", 300, 500)
    for event in (one, two):
        accounts.admitted(PLAN, event.id, tokens=2_000, nano_usd=500)
        with pytest.raises(hiredis.ReplyError):
            stream.append(event)
    accounts.refused(PLAN, "req_3", tokens=1, nano_usd=100)
    stream.settle_ahead(one, two)
    assert accounts.spent("k:key_1").day == 700
    assert accounts.running() == {}
    assert accounts.keys("leases") == []
    found = accounts.admitted(PLAN, "req_3", tokens=1, nano_usd=100)
    assert found.tokens == Level(0, 4_499, 15_010_000)
    stream.settle_ahead(one, two)
    assert accounts.spent("k:key_1").day == 800, "once, however often"
    assert accounts.reserve(PLAN, "req_1", nano_usd=1) == Cancelled(accounts.now), "they have ended"
    assert ids(accounts) == ["req_0"]

    accounts.redis.command("XTRIM", KEYS.usage(ORG), "MAXLEN", 0)
    assert stream.append(one, two) == 2
    assert ids(accounts) == ["req_1", "req_2"]
    assert accounts.spent("k:key_1").day == 800, "they were charged before"
    accounts.cancel("req_3")
    assert accounts.lasting() == ["r:req_0", "r:req_3"], "tombstones; of notes nothing is left"


def test_what_is_settled_ahead_and_has_no_reservation_is_charged_when_its_event_comes(accounts: Accounts) -> None:
    stream = Stream(accounts)
    event = stream.packed("req_1", 50)
    stream.settle_ahead(event)
    assert accounts.lasting() == []
    assert accounts.spent().day == 0
    assert stream.append(event) == 1
    assert accounts.spent().day == 50


def test_an_event_may_differ_from_what_was_settled_ahead(accounts: Accounts) -> None:
    stream = Stream(accounts)
    accounts.admitted(PLAN, "req_1", nano_usd=90)
    stream.settle_ahead(stream.packed("req_1", 50))
    assert 86_300 < accounts.redis.command("TTL", f"{KEYS.base(ORG)}:r:req_1") <= 86_400
    assert stream.append(stream.packed("req_1", 75)) == 1
    assert accounts.spent("p:proj_1") == Spent(75, 75, 75, 75)


def test_what_expired_while_the_stream_is_full_is_not_lost(accounts: Accounts) -> None:
    """Of workers that died: few, so they have room beyond the mark."""
    stream = Stream(accounts, most_events=1)
    stream.append(stream.packed("req_0", 0))
    accounts.admitted(PLAN, "req_1", nano_usd=90)
    accounts.now += 31 * SECOND
    assert accounts.sweep() == 1
    assert ids(accounts) == ["req_0", "req_1"]
