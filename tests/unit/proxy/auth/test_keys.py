"""The key cache: how long it believes what, and what it does when Redis is slow, away or has changed its mind."""

import asyncio

import pytest

from gateway.clock import ManualClock
from gateway.errors import KEYS_UNAVAILABLE, GatewayError
from gateway.proxy.auth.keys import GRACE_S, NEGATIVE_S, REFRESH_S, UNSURE_S, KeyCache, KeysAwayError
from gateway.values import Principal
from tests.fakes.wire import soon, until

VALID = Principal("key_1", "proj_1", "user_1", "org-1")
KEY, OTHER = b"k" * 32, b"o" * 32


class Registry:
    """The read model: what it knows, who asked, and whether it can be asked. gate: answers wait until it is set."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.known: dict[bytes, Principal] = {KEY: VALID}
        self.asked: list[bytes] = []
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.cache = KeyCache(self._fetch, self.clock, size=1000)
        self.cache.connected()

    async def _fetch(self, digest: bytes) -> Principal | None:
        self.asked.append(digest)
        found = self.known.get(digest)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return found


async def test_one_question_is_enough_while_changes_are_heard_of() -> None:
    registry = Registry()
    assert registry.cache.cached(KEY) is None
    for _ in range(3):
        assert await registry.cache.look_up(KEY) == VALID
        assert registry.cache.cached(KEY) == VALID
    registry.clock.advance(REFRESH_S)
    assert registry.cache.cached(KEY) == VALID
    assert registry.asked == [KEY]
    registry.clock.advance(0.01)
    assert registry.cache.cached(KEY) is None
    assert await registry.cache.look_up(KEY) == VALID
    assert registry.asked == [KEY, KEY]


async def test_while_changes_are_not_heard_of_an_entry_is_believed_for_less_than_a_second() -> None:
    registry = Registry()
    await registry.cache.look_up(KEY)
    registry.cache.disconnected()
    assert UNSURE_S < 1.0
    registry.clock.advance(UNSURE_S)
    assert registry.cache.cached(KEY) == VALID
    registry.known[KEY] = Principal("key_1", "proj_1", "user_1", "org-1", revoked=True)
    registry.clock.advance(0.01)
    assert registry.cache.cached(KEY) is None
    assert await registry.cache.look_up(KEY) is None


async def test_when_changes_are_heard_of_again_all_is_asked_for_anew() -> None:
    registry = Registry()
    await registry.cache.look_up(KEY)
    await registry.cache.look_up(OTHER)
    registry.cache.disconnected()
    registry.cache.connected()
    registry.known[OTHER] = VALID
    assert registry.cache.cached(KEY) is None
    assert await registry.cache.look_up(OTHER) == VALID  # and what was unknown is asked for again


async def test_a_known_key_is_served_when_redis_falters_just_after_it_came_back() -> None:
    registry = Registry()
    await registry.cache.look_up(KEY)
    registry.cache.disconnected()
    registry.cache.connected()
    registry.failure = KeysAwayError()
    assert await registry.cache.look_up(KEY) == VALID
    with pytest.raises(KeysAwayError):
        await registry.cache.confirm(KEY)  # who ends streams of revoked keys wants to know
    registry.failure = None
    registry.known.clear()
    assert await registry.cache.look_up(KEY) is None
    assert len(registry.cache) == 0


async def test_an_unknown_key_is_not_asked_for_again_for_some_seconds() -> None:
    registry = Registry()
    assert await registry.cache.look_up(OTHER) is None
    registry.known[OTHER] = VALID
    registry.clock.advance(NEGATIVE_S)
    assert await registry.cache.look_up(OTHER) is None
    assert registry.asked == [OTHER]
    registry.clock.advance(0.01)
    assert await registry.cache.look_up(OTHER) == VALID
    assert 1 <= NEGATIVE_S <= 5


async def test_a_key_that_is_made_works_at_once() -> None:
    registry = Registry()
    assert await registry.cache.look_up(OTHER) is None
    registry.known[OTHER] = VALID
    registry.cache.invalidate(OTHER)
    assert await registry.cache.look_up(OTHER) == VALID


async def test_an_expired_key_is_refused_from_that_second_on() -> None:
    registry = Registry()
    registry.known[KEY] = Principal("k", "p", "u", "o", expires_at=int(registry.clock.wall()) + 10)
    assert await registry.cache.look_up(KEY) is not None
    registry.clock.advance(9.9)
    assert registry.cache.cached(KEY) is not None
    registry.clock.advance(0.1)
    assert registry.cache.cached(KEY) is None
    assert await registry.cache.look_up(KEY) is None


async def test_a_revoked_key_is_not_kept_as_known() -> None:
    registry = Registry()
    registry.known[KEY] = Principal("k", "p", "u", "o", revoked=True)
    assert await registry.cache.look_up(KEY) is None
    assert registry.cache.cached(KEY) is None
    assert len(registry.cache) == 0


async def test_known_keys_outlive_redis_for_a_bounded_time_and_unknown_ones_do_not() -> None:
    registry = Registry()
    await registry.cache.look_up(KEY)
    registry.failure = KeysAwayError()
    registry.cache.disconnected()
    registry.clock.advance(GRACE_S)
    assert await registry.cache.look_up(KEY) == VALID
    with pytest.raises(GatewayError) as caught:
        await registry.cache.look_up(OTHER)
    assert caught.value.kind is KEYS_UNAVAILABLE
    registry.clock.advance(0.01)
    with pytest.raises(GatewayError):
        await registry.cache.look_up(KEY)
    registry.failure = None
    assert await registry.cache.look_up(OTHER) is None  # that nobody could tell was not kept as an answer


async def test_a_key_that_expires_while_redis_is_away_is_refused() -> None:
    registry = Registry()
    registry.known[KEY] = Principal("k", "p", "u", "o", expires_at=int(registry.clock.wall()) + 100)
    await registry.cache.look_up(KEY)
    registry.failure = KeysAwayError()
    registry.clock.advance(101)
    assert await registry.cache.look_up(KEY) is None


async def test_those_who_ask_at_once_share_one_answer_and_may_leave() -> None:
    registry = Registry()
    registry.gate.clear()
    asking = [asyncio.ensure_future(registry.cache.look_up(KEY)) for _ in range(5)]
    await until(lambda: registry.asked)
    asking[0].cancel()
    await asyncio.wait({asking[0]})
    registry.gate.set()
    assert await soon(asyncio.gather(*asking[1:])) == [VALID] * 4
    assert registry.asked == [KEY]


async def test_an_answer_older_than_a_change_is_dropped() -> None:
    """The revocation overtakes the answer: who waits for it must not be let in by it, nor anybody later."""
    registry = Registry()
    registry.gate.clear()
    asking = asyncio.ensure_future(registry.cache.look_up(KEY))
    await until(lambda: registry.asked)
    registry.known[KEY] = Principal("key_1", "proj_1", "user_1", "org-1", revoked=True)
    registry.cache.invalidate(KEY)
    registry.gate.set()
    assert await soon(asking) is None
    assert registry.cache.cached(KEY) is None
    assert len(registry.asked) == 2


async def test_a_change_of_another_key_drops_nothing() -> None:
    registry = Registry()
    registry.gate.clear()
    asking = asyncio.ensure_future(registry.cache.look_up(KEY))
    await until(lambda: registry.asked)
    registry.cache.invalidate(OTHER)
    registry.gate.set()
    assert await soon(asking) == VALID
    assert registry.asked == [KEY]


async def test_a_key_that_keeps_changing_is_not_guessed() -> None:
    registry = Registry()

    async def restless(digest: bytes) -> Principal | None:
        registry.asked.append(digest)
        registry.cache.invalidate(digest)
        return VALID

    registry.cache._fetch = restless
    with pytest.raises(GatewayError) as caught:
        await registry.cache.look_up(KEY)
    assert caught.value.kind is KEYS_UNAVAILABLE
    assert 1 < len(registry.asked) < 10
    assert registry.cache.cached(KEY) is None


async def test_the_cache_is_bounded_whoever_tries_keys() -> None:
    registry = Registry()
    registry.known = {bytes([n % 256, n // 256] * 16): VALID for n in range(1500)}
    for digest in registry.known:
        assert await registry.cache.look_up(digest) == VALID
    assert len(registry.cache) == 1000
    for n in range(1500):
        assert await registry.cache.look_up(b"unknown %024d" % n) is None
    assert len(registry.cache._unknown) == 100
    assert len(registry.cache) == 1000  # guesses push no good key out


async def test_an_unexpected_error_reaches_who_asks_and_leaves_nothing_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = Registry()
    registry.failure = RuntimeError("a mistake of ours")
    with pytest.raises(RuntimeError, match="a mistake"):
        await registry.cache.look_up(KEY)
    await until(lambda: "task_failed" in caplog.text)
    registry.failure = None
    assert await registry.cache.look_up(KEY) == VALID


async def test_closing_ends_who_still_asks() -> None:
    registry = Registry()
    registry.gate.clear()
    asking = asyncio.ensure_future(registry.cache.look_up(KEY))
    await until(lambda: registry.asked)
    await registry.cache.close()
    with pytest.raises((GatewayError, asyncio.CancelledError)):
        await soon(asking)
