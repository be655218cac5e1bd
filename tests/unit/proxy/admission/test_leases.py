"""Leases: kept alive while calls run, and ended for certain."""

import asyncio

import pytest

from gateway.clock import ManualClock
from gateway.proxy.admission import leases as module
from gateway.proxy.admission.leases import Leases
from gateway.redisdb.failures import HotTimeout, HotUnavailable, RedisFailure
from tests.fakes.wire import until
from tests.unit.proxy.admission.kit import LEASE_S, Scripted


class Holding:
    def __init__(self, *organizations: str, lease_s: float = LEASE_S) -> None:
        self.redis = Scripted()
        self.clock = ManualClock()
        self.leases = Leases(
            self.redis,  # type: ignore[arg-type]
            "worker",
            lambda: organizations,
            lease_s=lease_s,
            clock=self.clock,
        )

    def fail(self, failure: RedisFailure | None, *organizations: str) -> None:
        self.redis.failing = lambda one: failure if not organizations or one in organizations else None

    async def renewed(self) -> list[tuple[str, ...]]:
        self.redis.calls.clear()
        await self.leases.renew_now()
        return [ids for _, _, ids in self.redis.calls]


async def test_what_is_held_is_renewed_until_it_is_let_go() -> None:
    held = Holding("org-1")
    held.leases.hold("a", "org-1")
    held.clock.advance(10)
    held.leases.hold("b", "org-1")
    assert await held.renewed() == [("a",)], "the young ones can wait"
    held.clock.advance(10)
    assert await held.renewed() == [("a", "b")]
    held.leases.let_go("a")
    held.leases.let_go("a")
    held.clock.advance(10)
    assert await held.renewed() == [("b",)]
    assert len(held.leases) == 1


@pytest.mark.parametrize("begun_s", [0, 1, 4.9, 5, 5.1, 9.9])
async def test_a_lease_never_ends_while_every_second_round_fails(begun_s: float) -> None:
    held = Holding("org-1")
    held.clock.advance(begun_s)
    held.leases.hold("a", "org-1")
    ends = held.clock.monotonic() + LEASE_S
    held.clock.advance(10 - begun_s)
    for number in range(12):
        assert held.clock.monotonic() < ends
        held.fail(HotTimeout("slow") if number % 2 == 0 else None)
        done = await held.leases.renew_now()
        if ("extend", "org-1", ("a",)) in held.redis.calls:
            ends = held.clock.monotonic() + LEASE_S
        held.redis.calls.clear()
        held.clock.advance(10 if done else 1)


async def test_renewal_goes_by_organizations_and_in_batches() -> None:
    held = Holding("org-1", "org-3")
    for number in range(450):
        held.leases.hold(str(number), "org-1")
    held.leases.hold("x", "org-2")
    held.clock.advance(10)
    held.redis.workers = 6
    assert await held.leases.renew_now()
    found = [(organization, len(ids)) for _, organization, ids in held.redis.calls]
    assert found == [("org-1", 200), ("org-1", 200), ("org-1", 50), ("org-3", 0), ("org-2", 1)], (
        "it counts as alive without reservations too, and what is held is renewed wherever it is"
    )
    assert len({one for _, _, ids in held.redis.calls for one in ids}) == 451
    assert held.leases.workers == 6


async def test_one_organization_that_cannot_be_reached_does_not_hold_up_the_others() -> None:
    held = Holding("org-1", "org-2")
    held.leases.hold("a", "org-1")
    held.leases.hold("b", "org-2")
    held.clock.advance(10)
    held.fail(HotUnavailable("away"), "org-1")
    assert not await held.leases.renew_now()
    held.clock.advance(1)
    assert await held.renewed() == [("a",), ()], "what was not renewed is due at once, the other is not"


async def test_what_is_lost_is_held_no_more() -> None:
    held = Holding()
    for name in "abc":
        held.leases.hold(name, "org-1")
    held.clock.advance(10)
    held.redis.lost = {"b"}
    await held.renewed()
    held.clock.advance(10)
    assert await held.renewed() == [("a", "c")]


async def test_what_ends_while_it_is_being_renewed_stays_ended() -> None:
    held = Holding()
    held.leases.hold("a", "org-1")
    held.clock.advance(10)
    held.redis.failing = lambda _: held.leases.let_go("a")
    await held.leases.renew_now()
    assert len(held.leases) == 0


async def test_cancel_and_release_are_repeated_until_redis_takes_them() -> None:
    held = Holding()
    held.leases.hold("a", "org-1")
    held.leases.cancel("a", "org-1")
    held.leases.release("b", "org-1")
    held.leases.cancel("c", "org-2")
    assert len(held.leases) == 0
    held.fail(HotTimeout("slow"), "org-1")
    assert not await held.leases.end_now()
    held.redis.calls.clear()
    held.fail(None)
    assert await held.leases.end_now()
    assert held.redis.calls == [("cancel", "org-1", ("a",)), ("settle", "org-1", ("b",))]
    held.redis.calls.clear()
    assert await held.leases.end_now()
    assert held.redis.calls == []


async def test_what_has_ended_lately_is_ended_again_where_redis_may_have_lost_that() -> None:
    held = Holding()
    held.leases.cancel("old", "org-1")
    await held.leases.end_now()
    held.clock.advance(30)
    held.leases.cancel("a", "org-1")
    held.leases.release("b", "org-2")
    await held.leases.end_now()
    held.clock.advance(31)
    held.fail(HotUnavailable("away"))
    held.leases.linked(False)
    held.clock.advance(1000)
    held.leases.cancel("c", "org-1")
    assert not await held.leases.end_now()
    held.fail(None)
    for _ in range(2):
        held.redis.calls.clear()
        held.leases.linked(True)
        assert await held.leases.end_now()
        assert held.redis.calls == [("cancel", "org-1", ("a", "c")), ("settle", "org-2", ("b",))]
    held.redis.calls.clear()
    assert await held.leases.end_now()
    assert held.redis.calls == []


async def test_the_epoch_of_counters_is_passed_on() -> None:
    held = Holding("org-1", "org-2")
    told: list[tuple[str, str | None]] = []
    held.leases.listen(lambda *one: told.append(one))
    held.redis.epoch = "one"
    await held.leases.renew_now()
    held.redis.epoch = None
    held.fail(HotTimeout("slow"), "org-1")
    await held.leases.renew_now()
    assert told == [("org-1", "one"), ("org-2", "one"), ("org-2", None)]


async def test_ends_go_in_batches_and_none_is_forgotten_at_the_close() -> None:
    held = Holding()
    held.leases.start()
    for number in range(1000):
        held.leases.cancel(str(number), "org-1")
    await held.leases.close()
    assert [len(ids) for _, _, ids in held.redis.calls] == [200] * 5
    assert len({one for _, _, ids in held.redis.calls for one in ids}) == 1000


async def test_it_runs_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "backoff_s", lambda failures: 0.001 * failures)
    held = Holding("org-1", lease_s=LEASE_S)
    failures = iter([HotTimeout("slow"), HotUnavailable("away"), None])
    held.redis.failing = lambda _: next(failures, None)
    held.leases.start()
    held.leases.cancel("a", "org-1")
    await until(lambda: ("cancel", "org-1", ("a",)) in held.redis.calls)
    assert [what for what, _, _ in held.redis.calls] == ["cancel failed", "cancel failed", "cancel"]
    held.leases.release("b", "org-1")
    await until(lambda: ("settle", "org-1", ("b",)) in held.redis.calls)
    await held.leases.close()
    assert held.leases._ends == {}


async def test_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of a lease; after a failure, sooner."""
    pauses: list[float] = []
    end = asyncio.Event()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 5:
            end.set()
            await asyncio.Event().wait()

    held = Holding("org-1")
    failures = iter([None, HotTimeout("slow"), HotUnavailable("away"), None])
    held.redis.failing = lambda _: next(failures)
    monkeypatch.setattr("asyncio.sleep", sleep)
    held.leases.start()
    await end.wait()
    await held.leases.close()
    assert pauses == [10, 10, 1, 1, 10]
