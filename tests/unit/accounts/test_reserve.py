"""What a reserve lets pass, and what it says when it does not."""

from collections.abc import Iterator

import pytest

from gateway.accounts.answers import Admitted, Cancelled, Closed, Level, Stale
from gateway.accounts.plan import make_plan
from gateway.limits import CONCURRENT, Applied, RateLimit
from tests.fakes.events import ORG
from tests.fakes.redis_servers import Server
from tests.unit.accounts.stand import DAY, MINUTE, SECOND, Accounts, done, plan_of, rate, spending


@pytest.fixture
def accounts(valkey: Server) -> Iterator[Accounts]:
    found = Accounts(valkey)
    yield found
    found.redis.close()


@pytest.mark.parametrize("limit", [1, 3, 7, 13, 60, 97])
def test_a_limit_lets_exactly_so_many_pass_at_once(accounts: Accounts, limit: int) -> None:
    plan = plan_of(rate("key", "key_1", "requests_per_minute", limit))
    for number in range(limit):
        found = accounts.admitted(plan, f"req_{number}")
        assert found.requests is not None
        assert found.requests.remaining == limit - number - 1
        assert abs(found.requests.reset_us - (number + 1) * MINUTE / limit) <= 2
    no = accounts.refused(plan, "req_x")
    assert (no.entry, no.used) == (0, limit)
    assert no.requests is not None
    assert no.requests.remaining == 0
    assert abs(no.requests.reset_us - MINUTE) <= 2
    assert no.wait_us is not None
    assert abs(no.wait_us - MINUTE / limit) <= 2 + limit / 32
    accounts.now += no.wait_us - 5
    accounts.refused(plan, "req_y")
    accounts.now += 5
    accounts.admitted(plan, "req_z")
    accounts.refused(plan, "req_zz")


def test_ten_times_too_much_passes_in_no_window(accounts: Accounts) -> None:
    """600 per minute, asked for 100 times a second: in t seconds at most 600 + 10 t pass."""
    plan = plan_of(rate("project", "proj_1", "requests_per_minute", 600))
    start, passed = accounts.now, []
    for number in range(15_000):
        accounts.now = start + number * 10_000
        if isinstance(accounts.reserve(plan, f"req_{number}"), Admitted):
            passed.append((accounts.now - start) / SECOND)
    assert abs(len(passed) - (600 + 10 * 150)) <= 1
    for first in range(0, len(passed), 7):
        for last in range(first, len(passed), 13):
            assert last - first + 1 <= 600 + 10 * (passed[last] - passed[first]) + 1


def test_a_bucket_is_as_it_was_said_to_be(accounts: Accounts) -> None:
    plan = plan_of(
        rate("organization", ORG, "tokens_per_minute", 10_000),
        rate("project_model", "proj_1", "tokens_per_minute", 6_000, model="m"),
        rate("key", "key_1", "requests_per_day", 100),
        rate("user", "user_1", "requests_per_minute", 100),
        rate("user", "user_1", "images_per_minute", 5),
    )
    found = accounts.admitted(plan, "req_1", tokens=3_000, images=5)
    assert found.tokens == Level(1, 3_000, 30 * SECOND)
    assert found.requests == Level(2, 99, 864 * SECOND)
    accounts.now += 10 * SECOND
    found = accounts.admitted(plan, "req_2", tokens=0, images=0)
    assert found.tokens == Level(1, 4_000, 20 * SECOND)
    no = accounts.refused(plan, "req_3", tokens=1, images=2)
    assert (no.entry, no.used, no.wait_us) == (4, 5, 14 * SECOND - 1)
    assert accounts.admitted(plan_of(), "req_4", tokens=10**9).requests is None


def test_two_scopes_are_taken_together_or_not_at_all(accounts: Accounts) -> None:
    narrow, wide = rate("key", "key_1", "requests_per_minute", 1), rate("organization", ORG, "requests_per_minute", 10)
    budget = spending("project", "proj_1", "day", 1_000)
    both = plan_of(wide, narrow, budget, rate("user", "user_1", CONCURRENT, 5))
    accounts.admitted(both, "req_1", nano_usd=10)
    for number in range(20):
        assert accounts.refused(both, f"req_x{number}", nano_usd=10).entry == 1
    assert accounts.spent().day == 10
    assert accounts.running() == {"c:u:user_1": 1}
    assert accounts.admitted(plan_of(wide), "req_2").requests == Level(0, 8, 12 * SECOND)


def test_which_limit_refuses(accounts: Accounts) -> None:
    """Spend before rates; of several rates the longest wait, and one that never lets it pass waits longest."""
    quick, slow = rate("key", "key_1", "tokens_per_minute", 600), rate("user", "user_1", "tokens_per_minute", 60)
    plan = plan_of(quick, slow, rate("project", "proj_1", CONCURRENT, 1), spending("key", "key_1", "total", 100))
    accounts.admitted(plan, "req_1", tokens=60, nano_usd=100)
    no = accounts.refused(plan, "req_2", tokens=60, nano_usd=1)
    assert (no.entry, no.used, no.wait_us) == (3, 100, None)
    no = accounts.refused(plan, "req_2", tokens=59)
    assert (no.entry, no.used, no.wait_us) == (1, 60, 59 * SECOND - 2)
    assert accounts.refused(plan, "req_2", tokens=61).wait_us is None, "too large for ever"
    no = accounts.refused(plan, "req_2")
    assert (no.entry, no.used, no.wait_us) == (2, 1, 0)
    assert accounts.refused(plan_of(rate("project", "proj_1", CONCURRENT, 0)), "req_2").wait_us is None
    assert accounts.refused(plan_of(rate("project", "proj_1", "requests_per_day", 0)), "req_2").wait_us is None


def test_burst_is_the_capacity(accounts: Accounts) -> None:
    plan = plan_of(rate("key", "key_1", "tokens_per_minute", 60, burst=10))
    assert accounts.refused(plan, "req_0", tokens=11).wait_us is None
    assert accounts.admitted(plan, "req_1", tokens=10).tokens == Level(0, 0, 10 * SECOND)
    assert accounts.refused(plan, "req_2", tokens=3).wait_us == 3 * SECOND - 1
    accounts.now += 3 * SECOND
    accounts.admitted(plan, "req_3", tokens=3)


def test_megabytes_are_counted_in_bytes(accounts: Accounts) -> None:
    plan = plan_of(rate("key", "key_1", "audio_megabytes_per_minute", 3))
    accounts.admitted(plan, "req_1", audio_bytes=2_999_999)
    no = accounts.refused(plan, "req_2", audio_bytes=2)
    assert (no.used, no.wait_us) == (2_999_999, 19)
    accounts.admitted(plan, "req_3", audio_bytes=1)


def test_a_shadow_counts_and_refuses_nothing(accounts: Accounts) -> None:
    shadows = (
        rate("key", "key_1", "requests_per_minute", 2, shadow=True),
        rate("key", "key_1", CONCURRENT, 3, shadow=True),
        spending("key", "key_1", "day", 40, shadow=True),
    )
    plan = plan_of(*shadows)
    found = [accounts.admitted(plan, f"req_{number}", nano_usd=10) for number in range(6)]
    assert [one.shadowed for one in found] == [(), (), (0,), (0, 1), (2, 0, 1), (2, 0, 1)]
    assert all(one.requests is None for one in found)
    accounts.now += 30 * SECOND
    found = [accounts.admitted(plan, f"req_1{number}") for number in range(2)]
    assert [0 in one.shadowed for one in found] == [False, True], "it is full to the brim, not above"
    real = plan_of(rate("key", "key_1", "requests_per_minute", 2))
    assert accounts.refused(real, "req_20").used == 2


def test_what_lifts_a_limit_limits_nothing(accounts: Accounts) -> None:
    none = Applied("key", "key_1", RateLimit("requests_per_minute", None))
    plan = plan_of(none, rate("project", "proj_1", "requests_per_minute", 1))
    assert accounts.admitted(plan, "req_1").requests == Level(1, 0, MINUTE)


def test_a_repeated_reserve_takes_nothing(accounts: Accounts) -> None:
    plan = plan_of(rate("key", "key_1", "requests_per_minute", 2), rate("key", "key_1", CONCURRENT, 1))
    first = accounts.admitted(plan, "req_1", nano_usd=5)
    accounts.now += SECOND
    again = accounts.admitted(plan, "req_1", nano_usd=5)
    assert again.at_us == first.at_us
    assert again.requests == Level(0, 1, 29 * SECOND)
    assert accounts.spent().day == 5
    assert accounts.refused(plan, "req_2").entry == 1


def test_a_reserve_after_its_cancel_does_nothing(accounts: Accounts) -> None:
    plan = plan_of(rate("key", "key_1", "requests_per_minute", 1))
    assert accounts.cancel("req_1") == 0
    assert accounts.reserve(plan, "req_1", nano_usd=5) == Cancelled(accounts.now)
    assert 115 < accounts.redis.command("TTL", "gateway:{org-gateway}:r:req_1") <= 120
    accounts.admitted(plan, "req_2")
    assert accounts.cancel("req_2", "req_2", "req_1") == 1
    assert accounts.reserve(plan, "req_2") == Cancelled(accounts.now)
    accounts.admitted(plan, "req_3")


def test_without_an_epoch_spend_limits_are_closed(valkey: Server) -> None:
    accounts = Accounts(valkey, epoch=False)
    plan = plan_of(spending("key", "key_1", "day", 100))
    assert accounts.reserve(plan, "req_1") == Closed(accounts.now)
    accounts.admitted(plan_of(spending("key", "key_1", "day", 100, shadow=True)), "req_2")
    accounts.admitted(plan_of(rate("key", "key_1", "requests_per_minute", 5)), "req_3")
    assert done(accounts.spend.open_epoch(ORG, "one"))
    assert not done(accounts.spend.open_epoch(ORG, "two"))
    assert done(accounts.spend.read(ORG, ["o"])).epoch == "one"
    accounts.admitted(plan, "req_1")
    accounts.redis.close()


def test_an_old_plan_is_told_what_is_new(accounts: Accounts) -> None:
    limits = accounts.limits
    assert done(limits.publish(ORG, 5, {"o": b'{"a":1}', "k:1": b"{}"})) == 2
    assert accounts.reserve(plan_of(), "req_1") == Stale(accounts.now, 5, False, {"o": b'{"a":1}', "k:1": b"{}"})
    accounts.admitted(plan_of(version=5), "req_1")
    assert done(limits.publish(ORG, 7, {"k:1": None, "p:1": b"[]"})) == 2
    assert done(limits.publish(ORG, 6, {"k:1": b"{}", "p:1": b"{}"})) == 0, "older than what is there"
    assert done(limits.publish(ORG, 7, {"p:1": b"[]"})) == 0
    assert accounts.reserve(plan_of(version=5), "req_2") == Stale(accounts.now, 7, False, {"k:1": None, "p:1": b"[]"})
    assert accounts.reserve(plan_of(version=9), "req_2") == Stale(
        accounts.now, 7, False, {"o": b'{"a":1}', "p:1": b"[]"}
    )
    found = done(limits.read_documents(ORG))
    assert (found.version, found.documents) == (7, {"o": b'{"a":1}', "p:1": b"[]"})


def test_a_changed_key_is_noticed(accounts: Accounts) -> None:
    limits = accounts.limits
    assert done(limits.publish_key_versions(ORG, {"key_1": 3, "key_3": 1})) == 2
    assert done(limits.publish_key_versions(ORG, {"key_1": 2})) == 0
    assert done(limits.publish_key_versions(ORG, {"key_3": 1, "key_1": 3, "key_4": 5})) == 1
    assert done(limits.publish_key_versions(ORG, {})) == 0
    assert accounts.reserve(plan_of(key_version=2), "req_1") == Stale(accounts.now, 0, True, {})
    for version in (0, 3, 4):
        accounts.admitted(plan_of(key_version=version), f"req_{version}")
    accounts.admitted(plan_of(key_version=2, key_id="key_2"), "req_x")


def test_an_emptied_server_knows_no_better(accounts: Accounts) -> None:
    accounts.admitted(plan_of(version=5), "req_1")


def test_an_expired_reservation_makes_room(accounts: Accounts) -> None:
    plan = plan_of(rate("key", "key_1", CONCURRENT, 2))
    accounts.admitted(plan, "req_1")
    accounts.admitted(plan, "req_2")
    accounts.refused(plan, "req_3")
    accounts.now += 31 * SECOND
    accounts.admitted(plan, "req_3")
    assert [event.id for event in accounts.events()] == ["req_1", "req_2"]
    assert accounts.keys("leases") == ["leases"]
    assert accounts.running() == {"c:k:key_1": 1}


def test_names_of_models_are_bounded(accounts: Accounts) -> None:
    def entry(model: str) -> Applied:
        return rate("project_model", "proj_1", "requests_per_minute", 1, model=model)

    names = ["m", "M", "m" * 64, "m" * 65, "m" * 66, "ä", "a b", "#", "}", "{x}", "\ud800", ""]
    for number, name in enumerate(names):
        accounts.admitted(plan_of(entry(name)), f"req_{number}")
    found = accounts.fields("buckets")
    assert len(found) == len(names)
    assert max(map(len, found)) < 120
    assert "b:requests_per_minute:m:proj_1:m" in found


def test_spend_is_not_limited_for_models_and_for_nobody() -> None:
    with pytest.raises(ValueError):
        plan_of(spending("project_model", "proj_1", "day", 1))
    with pytest.raises(ValueError):
        plan_of(spending("key", "", "day", 1), key_id="")


def test_a_call_without_a_key_is_not_counted_for_one(accounts: Accounts) -> None:
    plan = make_plan(organization_id=ORG, project_id="p", user_id="u", key_id="", limits_version=0)
    accounts.admitted(plan, "req_1", nano_usd=3)
    assert accounts.fields("spend", "t:") == {"t:o": 3, "t:p:p": 3, "t:u:u": 3, "t:m:p:u": 3}


def test_a_service_account_is_counted_once(accounts: Accounts) -> None:
    plan = make_plan(organization_id=ORG, project_id="p", user_id="svc_acct_1", key_id="k", limits_version=0)
    accounts.admitted(plan, "req_1", nano_usd=3)
    assert accounts.fields("spend", "t:") == {"t:o": 3, "t:p:p": 3, "t:u:svc_acct_1": 3, "t:k:k": 3}


def test_a_limit_of_a_user_in_one_project(accounts: Accounts) -> None:
    """What the user spends elsewhere is not counted."""
    limit = spending("member", "user_1", "month", 10)
    here, there = plan_of(limit), plan_of(project_id="proj_2")
    accounts.admitted(there, "req_1", nano_usd=100)
    accounts.admitted(here, "req_2", nano_usd=6)
    refused = accounts.refused(here, "req_3", nano_usd=5)
    assert (refused.used, here.entries[refused.entry]) == (6, limit)
    accounts.admitted(here, "req_4", nano_usd=4)
    with pytest.raises(ValueError):
        plan_of(limit, user_id="svc_acct_1")


def test_a_daily_bucket_refills_all_day(accounts: Accounts) -> None:
    plan = plan_of(rate("key", "key_1", "batch_input_tokens_per_day", 86_400_000))
    accounts.admitted(plan, "req_1", batch_tokens=86_400_000)
    assert accounts.refused(plan, "req_2", batch_tokens=1000).wait_us == SECOND - 313
    accounts.now += DAY // 2
    assert accounts.refused(plan, "req_3", batch_tokens=43_200_001).wait_us == 1000 - 313
    accounts.admitted(plan, "req_3", batch_tokens=43_200_000)
