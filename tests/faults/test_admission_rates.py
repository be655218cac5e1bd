"""What a rate limit lets pass under ten times its load: over any time, and over each minute."""

import asyncio
import itertools
import random
import time
from collections.abc import Iterable, Iterator, Sequence

import pytest

from gateway.accounts.answers import Admitted
from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import Gateway
from tests.fakes.kept_events import events_so_far
from tests.fakes.measuring import Measured, Size
from tests.fakes.paid_calls import (
    BODY,
    DURABLE,
    MOST,
    Caller,
    Paid,
    all_ended,
    caller,
    limited,
    paid,
)
from tests.fakes.redis_servers import VALKEY, Server, StartServer
from tests.unit.accounts.stand import SECOND, Accounts, plan_of, rate

pytestmark = [pytest.mark.proof, pytest.mark.timeout(900)]
Passed = Sequence[tuple[float, int]]  # seconds, amounts; in order of time


@pytest.fixture
def accounts(valkey: Server) -> Iterator[Accounts]:
    found = Accounts(valkey)
    yield found
    found.redis.close()


def most_beyond(passed: Passed, each_s: float) -> float:
    """The largest of (what passed in a time) - each_s * (the time), over all times that begin and end with a call."""
    lowest, highest, total = float("inf"), float("-inf"), 0.0
    for at, amount in passed:
        lowest = min(lowest, total - each_s * at)
        total += amount
        highest = max(highest, total - each_s * at - lowest)
    return highest


def in_windows(passed: Passed, begin: float, end: float, window_s: float, step_s: float) -> Iterable[int]:
    """What passed in each whole window between two times."""
    first = last = 0
    total = 0
    for number in itertools.count():
        start = begin + number * step_s
        if start + window_s > end:
            return
        while last < len(passed) and passed[last][0] < start + window_s:
            total += passed[last][1]
            last += 1
        while first < len(passed) and passed[first][0] < start:
            total -= passed[first][1]
            first += 1
        yield total


def test_the_measures() -> None:
    passed = [(0.0, 5), (1.0, 1), (2.0, 1), (10.0, 3)]
    assert most_beyond(passed, 1.0) == 5
    assert most_beyond(passed, 0.1) == 9
    assert list(in_windows(passed, 0.0, 4.0, 2.0, 1.0)) == [6, 2, 1]


def arrivals(seconds: int, each_s: float) -> Iterable[float]:
    """Seconds at which calls come: as they like, so many a second."""
    dice = random.Random(600)
    now = 0.0
    while (now := now + dice.expovariate(each_s)) < seconds:
        yield now


@pytest.mark.parametrize("scope", ["key", "organization"])
def test_requests_a_minute(scope: str, accounts: Accounts, size: Size, measured: Measured) -> None:
    minutes = size(small=2, full=30)
    subject = {"key": "key_1", "organization": "org-gateway"}[scope]
    plan = plan_of(rate(scope, subject, "requests_per_minute", 600))  # type: ignore[arg-type]
    began = accounts.now
    passed: list[tuple[float, int]] = []
    empty_at = None
    for number, at in enumerate(arrivals(60 * minutes + 10, 100)):
        accounts.now = began + int(at * SECOND)
        found = accounts.reserve(plan, f"r{number}", requests=1)
        if isinstance(found, Admitted):
            passed.append((at, 1))
            accounts.settle(plan, f"r{number}", accounts.now, 0)
        elif empty_at is None:
            empty_at = at
    assert empty_at is not None
    check_requests(passed, empty_at, 60 * minutes + 10, measured, f"per {scope}, {minutes} minutes of given time")


def check_requests(passed: Passed, empty_at: float, end: float, measured: Measured, what: str) -> None:
    beyond = most_beyond(passed, 10.0)
    minutes = list(in_windows(passed, empty_at, end, 60.0, 1.0))
    measured(f"600 requests a minute, {what}: most in t seconds beyond 10 t", beyond, "calls", "<= 600 ± 1")
    measured(f"600 requests a minute, {what}: least in a full minute", min(minutes), "calls", "600 ± 1")
    measured(f"600 requests a minute, {what}: most in a full minute", max(minutes), "calls", "600 ± 1")
    assert 599 <= beyond <= 601
    assert min(minutes) >= 599
    assert max(minutes) <= 601


@pytest.mark.parametrize("used", [60, 100, 150], ids=["less", "the same", "more"])
def test_tokens_a_minute_by_what_was_used(used: int, accounts: Accounts, size: Size, measured: Measured) -> None:
    """Calls reserve 100 tokens, end after two seconds, and have used something else: what was really used is limited.

    Of calls in flight it is what they reserved that counts, so by what these are off the bounds are wider.
    """
    minutes, limit, reserved, lasts_s = size(small=2, full=15), 60_000, 100, 2.0
    plan = plan_of(rate("project", "proj_1", "tokens_per_minute", limit))
    began = accounts.now
    passed: list[tuple[float, int]] = []
    running: list[tuple[float, str, int]] = []
    empty_at, end = None, 60 * minutes + 30
    for number, at in enumerate(arrivals(end, 10 * limit / 60 / reserved)):
        while running and running[0][0] <= at:
            ends, name, reserved_at = running.pop(0)
            accounts.now = began + int(ends * SECOND)
            accounts.settle(plan, name, reserved_at, 0, tokens=used)
        accounts.now = began + int(at * SECOND)
        found = accounts.reserve(plan, f"r{number}", requests=1, tokens=reserved)
        if isinstance(found, Admitted):
            passed.append((at, used))
            running.append((at + lasts_s, f"r{number}", accounts.now))
        elif empty_at is None:
            empty_at = at
    assert empty_at is not None
    # What calls in flight will have used is known only later. Most are when the first full bucket is used up at once.
    off = abs(reserved - used)
    wide = most_running(passed, 0, lasts_s) * off + used
    narrow = most_running(passed, empty_at + 5 * lasts_s, lasts_s) * off + reserved + used
    beyond = most_beyond(passed, limit / 60)
    settled = list(in_windows(passed, empty_at + 5 * lasts_s, end, 60.0, 1.0))
    what = f"60,000 tokens a minute, {used} used of {reserved}"
    measured(f"{what}: most in t seconds beyond 1,000 t", beyond, "tokens", f"<= 60,000 + {wide}")
    measured(f"{what}: least in a full minute", min(settled), "tokens", f"60,000 ± {narrow}")
    measured(f"{what}: most in a full minute", max(settled), "tokens", f"60,000 ± {narrow}")
    assert beyond <= limit + wide
    assert limit - narrow <= min(settled)
    assert max(settled) <= limit + narrow


def most_running(passed: Passed, begin: float, lasts_s: float) -> int:
    """How many calls, which take so long, ran at once."""
    return max(in_windows([(at, 1) for at, _ in passed], begin, passed[-1][0], lasts_s, 0.01))


async def test_requests_in_real_time(
    start_gateway: StartGateway, start_server: StartServer, size: Size, measured: Measured
) -> None:
    """Through a whole gateway. The small size has 20 a second, of which 20 at once, in place of 10 and 600."""
    full = size(small=0, full=1)
    each_s, at_once, seconds, window_s = (10, 600, 260, 60.0) if full else (20, 20, 4, 1.0)
    limit = {"requests_per_minute": {"limit": 60 * each_s, "burst": at_once}}
    server = start_server(VALKEY, *DURABLE)
    async with paid(held=False) as upstream:
        gateway = start_gateway(workers={"count": 4}, **limited(server, upstream, limit))
        async with caller(gateway) as calls:
            empty_at, end = await overload(calls, 10 * each_s, seconds)
        await all_ended(server)
        assert calls.statuses().keys() == {200, 429}
        check_refusals(calls, each_s)
        passed = admitted_at(server, gateway, upstream)
        beyond = most_beyond(passed, each_s)
        windows = list(in_windows(passed, empty_at, end, window_s, window_s / 20))
        what = f"{60 * each_s} a minute in {seconds} s of real time at {len(calls.said) / seconds:.0f} a second"
        measured(f"{what}: most in t seconds beyond {each_s} t", beyond, "calls", f"<= {at_once} ± 1")
        measured(f"{what}: least in {window_s:g} s", min(windows), "calls", f"{each_s * window_s:g} ± 1")
        measured(f"{what}: most in {window_s:g} s", max(windows), "calls", f"{each_s * window_s:g} ± 1")
        paused = longest_pause(calls)
        measured(f"{what}: longest pause of the load", paused, "s")
        assert beyond <= at_once + 1
        slack = 1 + each_s * paused  # what nobody asked for meanwhile passes right after
        assert each_s * window_s - slack <= min(windows)
        assert max(windows) <= each_s * window_s + slack


async def overload(calls: Caller, each_s: float, seconds: float) -> tuple[float, float]:
    """Calls at their times, whatever becomes of those before. Returns when the first was refused and when it ended, in
    seconds since 1970."""
    loop = asyncio.get_running_loop()
    began, wall = loop.time(), time.time() - loop.time()
    running = []
    for at in arrivals(int(seconds), each_s):
        if (wait := began + at - loop.time()) > 0:
            await asyncio.sleep(wait)  # calls come when they come: this is their clock
        running.append(asyncio.gather(calls.call()))
    ended = loop.time()
    await asyncio.gather(*running)
    return wall + min(one.ended for one in calls.said if one.status == 429), wall + ended


def longest_pause(calls: Caller) -> float:
    """Between two answers, while the machine had something else to do."""
    ends = sorted(one.ended for one in calls.said)
    return max(later - before for before, later in itertools.pairwise(ends))


def check_refusals(calls: Caller, each_s: float) -> None:
    for one in calls.said:
        assert one.headers["x-ratelimit-limit-requests"] == f"{60 * each_s}"
        if one.status == 429:
            assert one.code == "rate_limit_exceeded"
            assert 1 <= int(one.headers["retry-after-ms"]) <= 1000 / each_s + 1
            assert one.headers["retry-after"] == "1"


def admitted_at(server: Server, gateway: Gateway, upstream: Paid) -> Passed:
    """When the calls of the stream were admitted, as Redis has it: all that the upstream saw."""
    found = events_so_far(server, gateway)
    assert {event.id for event in found} == upstream.book.keys()
    return sorted((event.at_us / 1e6, 1) for event in found)


async def test_tokens_in_real_time(start_gateway: StartGateway, start_server: StartServer, measured: Measured) -> None:
    """Calls that reserve twice what they use: it is the use that is limited."""
    each_s, seconds = 4000, 4
    use = (BODY + MOST + 1) // 2
    limits = {"tokens_per_minute": {"limit": 60 * each_s, "burst": each_s}, "reserve": "strict"}
    server = start_server(VALKEY, *DURABLE)
    async with paid(held=False) as upstream:
        upstream.used = (BODY // 2, use - BODY // 2)
        gateway = start_gateway(workers={"count": 4}, **limited(server, upstream, limits))
        async with caller(gateway) as calls:
            empty_at, end = await overload(calls, 10 * each_s / use, seconds)
        await all_ended(server)
        assert calls.statuses().keys() == {200, 429}
        passed = [(at, use) for at, _ in admitted_at(server, gateway, upstream)]
        beyond = most_beyond(passed, each_s)
        total = sum(amount for at, amount in passed if empty_at <= at < end)
        measured(f"{each_s} tokens a second: most in t seconds beyond {each_s} t", beyond, "tokens", f"<= {each_s}")
        measured(f"{each_s} tokens a second, share used under load", 100 * total / (each_s * (end - empty_at)), "%")
        assert beyond <= each_s + use
        assert 0.8 <= total / (each_s * (end - empty_at)) <= 1.2
