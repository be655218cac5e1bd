"""Budgets under concurrency: what is admitted, what is spent, and by how much a limit is passed, to the nano-dollar."""

import asyncio
import random
import signal
from collections.abc import Collection, Mapping
from typing import Any

import msgspec
import pytest

from gateway.limits import LimitDocument, LimitSet, SpendLimit
from gateway.values import UsageEvent
from tests.fakes.events import ORG
from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import Gateway
from tests.fakes.kept_events import events_so_far
from tests.fakes.load import clients_of
from tests.fakes.measuring import Measured, Size
from tests.fakes.paid_calls import (
    BODY,
    DURABLE,
    MOST,
    NANO,
    RESERVED,
    Caller,
    Paid,
    all_ended,
    caller,
    cost,
    dollars,
    folded,
    limited,
    paid,
    spent,
)
from tests.fakes.redis_servers import VALKEY, Server, StartServer, eventually
from tests.unit.accounts.stand import Accounts, done

pytestmark = [pytest.mark.proof, pytest.mark.timeout(300)]
FOUR = {"count": 4}
SPENT = "project_spend_limit_exceeded"
LEASE_S = 5
CALLERS = 24


def budget(nano_usd: int, reserve: str = "strict") -> dict[str, object]:
    return {"spend": {"total": dollars(nano_usd)}, "reserve": reserve}


def start_some(start: StartGateway, number: int, **settings: Any) -> list[Gateway]:
    return [start(**settings) for _ in range(number)]


@pytest.mark.parametrize("gateways", [1, 2], ids=["one gateway", "two gateways"])
async def test_strict_admits_what_fits(
    gateways: int, start_gateway: StartGateway, start_server: StartServer, size: Size, measured: Measured
) -> None:
    """Each call costs exactly what it reserved, so the budget is spent exactly, and nothing beyond it."""
    number, fit = size(small=200, full=1000), size(small=20, full=100)
    server = start_server(VALKEY, *DURABLE)
    async with paid() as upstream:
        started = start_some(start_gateway, gateways, workers=FOUR, **limited(server, upstream, budget(fit * RESERVED)))
        async with caller(*started) as calls:
            said = await calls.round(number, upstream)
        await all_ended(server)
        assert {one.status for one in said} == {200, 429}
        assert {one.code for one in said if one.status == 429} == {SPENT}
        admitted = sum(one.status == 200 for one in said)
        measured(f"strict, {gateways} gateway(s): admitted of {number}", admitted, "calls", f"{fit}")
        measured(f"strict, {gateways} gateway(s): overspent", spent(server) - fit * RESERVED, "nano-USD", "0")
        assert admitted == len(upstream.book) == fit
        assert spent(server) == fit * RESERVED == upstream.nano_usd
        check_events(server, started, upstream.book.keys())


@pytest.mark.parametrize("gateways", [1, 2], ids=["one gateway", "two gateways"])
async def test_strict_admits_what_fits_while_workers_are_killed(
    gateways: int, start_gateway: StartGateway, start_server: StartServer, size: Size, measured: Measured
) -> None:
    """Workers die while calls are decided, and when all are. What they had reserved is charged as reserved, which is what
    each call costs."""
    number, fit, kills = size(small=200, full=1000), size(small=20, full=100), size(small=1, full=2)
    server, dead = start_server(VALKEY, *DURABLE), set[int]()
    async with paid() as upstream:
        settings = limited(server, upstream, budget(fit * RESERVED)) | {"limits": {"lease_s": LEASE_S}}
        started = start_some(start_gateway, gateways, workers=FOUR, **settings)
        async with caller(*started) as calls:
            running = asyncio.gather(*(calls.call() for _ in range(number)))
            for part in range(1, kills):
                await eventually(lambda p=part: len(upstream.came) > p * fit // 6)  # type: ignore[misc]
                await kill_one_of(started, dead)
            assert upstream.upstream is not None
            holding = upstream.upstream
            await eventually(lambda: number - len(calls.said) <= holding.open, within_s=60)
            await kill_one_of(started, dead)
            upstream.gate.set()
            await running
            while not calls.statuses()[429]:  # the killed took so many callers with them that some of it is left
                await calls.call()
        await all_ended(server)
        found = folded(events_so_far(server, *started))
        hurt = sum(event.unconfirmed for event in found.values())
        about = f"strict, {gateways} gateway(s), {kills} kills among the calls"
        measured(f"{about}: admitted of {number}", len(found), "calls", f"{fit}")
        measured(f"{about}: of these charged because their worker died", hurt, "calls")
        measured(f"{about}: overspent", spent(server) - fit * RESERVED, "nano-USD", "0")
        assert calls.statuses().keys() <= {0, 200, 429}, "a few workers may have reserved all, and be dead"
        assert len(found) == fit
        assert spent(server) == fit * RESERVED == cost(found) == spent(server, "o")
        assert set(upstream.came) <= found.keys()
        assert 0 < hurt <= calls.statuses()[0]


async def kill_one_of(gateways: list[Gateway], dead: set[int]) -> None:
    """Kills the worker that has most calls. dead: whom that befell before; some may not have been missed yet."""

    async def living() -> list[tuple[int, int, Gateway]]:
        return [
            (len(clients_of(pid, gateway.port)), pid, gateway)
            for gateway in gateways
            for pid in await asyncio.to_thread(gateway.pids, "worker")
            if pid not in dead
        ]

    _, victim, gateway = max(await eventually(living), key=lambda one: one[:2])
    dead.add(victim)
    gateway.signal(signal.SIGKILL, victim)


@pytest.mark.parametrize("gateways", [1, 2], ids=["one gateway", "two gateways"])
async def test_strict_fills_what_is_given_back(
    gateways: int, start_gateway: StartGateway, start_server: StartServer, size: Size, measured: Measured
) -> None:
    """Answers cost half of what was reserved: each round fills what the one before has left, and never more."""
    number, fit = size(small=60, full=1000), size(small=20, full=100)
    limit = fit * RESERVED
    server = start_server(VALKEY, *DURABLE)
    async with paid() as upstream:
        started = start_some(start_gateway, gateways, workers=FOUR, **limited(server, upstream, budget(limit)))
        upstream.used = (BODY // 2, (MOST + 1) // 2)
        rounds = 0
        async with caller(*started) as calls:
            while room := (limit - spent(server)) // RESERVED:
                said = await calls.round(min(number, 10 * room), upstream)
                await all_ended(server)
                rounds += 1
                assert sum(one.status == 200 for one in said) == room
                assert spent(server) == upstream.nano_usd <= limit
            left = limit - spent(server)
            assert left == RESERVED // 2, "half a call is what cannot be halved again"
        about = f"strict, {gateways} gateway(s), answers at half"
        measured(f"{about}: calls that a budget of {fit} held", len(upstream.book), "calls")
        measured(f"{about}: overspent", max(0, spent(server) - limit), "nano-USD", "0")
        check_events(server, started, upstream.book.keys())


@pytest.mark.parametrize("gateways", [1, 2], ids=["one gateway", "two gateways"])
async def test_strict_while_answers_come(
    gateways: int, start_gateway: StartGateway, start_server: StartServer, size: Size, measured: Measured
) -> None:
    """The same with nobody waiting for anybody: at no moment is more spent and reserved than the limit."""
    fit = size(small=50, full=500)
    limit = fit * RESERVED
    server = start_server(VALKEY, *DURABLE)
    async with paid(held=False) as upstream:
        upstream.used = (BODY // 2, (MOST + 1) // 2)
        started = start_some(start_gateway, gateways, workers=FOUR, **limited(server, upstream, budget(limit)))
        highest = 0

        async def until_refused(calls: Caller) -> None:
            nonlocal highest
            refused = 0
            while refused < 3:  # of which one may have met another's reservation
                refused += (await calls.call()).status == 429
                highest = max(highest, spent(server))

        async with caller(*started) as calls:
            await asyncio.gather(*(until_refused(calls) for _ in range(20)))
        await all_ended(server)
        assert calls.statuses().keys() == {200, 429}
        assert highest <= limit
        assert limit - RESERVED < spent(server) == upstream.nano_usd <= limit
        about = f"strict, {gateways} gateway(s), answers at half at once"
        measured(f"{about}: calls that a budget of {fit} held", len(upstream.book), "calls")
        check_events(server, started, upstream.book.keys())


@pytest.mark.parametrize("killed", [False, True], ids=["all live", "some killed"])
@pytest.mark.parametrize("gateways", [1, 2], ids=["one gateway", "two gateways"])
async def test_adaptive_overshoots_by_a_known_bound(  # noqa: PLR0917 - fixtures
    gateways: int, killed: bool, start_gateway: StartGateway, start_server: StartServer, size: Size, measured: Measured
) -> None:
    """Answers three times as long as 95 of 100 were. The limit is passed by what the calls in flight used beyond their
    reservations, which is at most what they could use beyond them. Those of killed workers are charged as reserved."""
    number, in_flight = size(small=200, full=1000), size(small=40, full=200)
    warm, usual, read = 240 * gateways, MOST // 3, BODY // 4
    before = warm * NANO * (read + usual)
    limit = before + in_flight * NANO * (read + usual + 8)  # a reservation is some tokens more, by what was learned
    server = start_server(VALKEY, *DURABLE)
    reserved = 0
    async with paid() as upstream:
        settings = limited(server, upstream, budget(limit * 10, "adaptive")) | {"limits": {"lease_s": LEASE_S}}
        started = start_some(start_gateway, gateways, workers=FOUR, **settings)
        async with caller(*started) as calls:
            upstream.used = (read, usual)
            for _ in range(2):
                assert {one.status for one in await calls.round(warm // 2, upstream)} == {200}
                await all_ended(server)
            assert spent(server) == before
            lower(server, limit)
            upstream.used = (read, 3 * usual)

            async def held() -> None:
                nonlocal reserved
                reserved = spent(server) - before
                for gateway in started if killed else []:
                    await kill_one_of([gateway], set())

            said = await calls.round(number, upstream, held=held)
            await all_ended(server)
            found = folded(events_so_far(server, *started))
            hurt = sum(event.unconfirmed for event in found.values())
            admitted = sum(one.status == 200 for one in said) + hurt
            assert {one.code for one in said if one.status == 429} == {SPENT}
            assert admitted == len(found) - warm >= in_flight
            assert sum(one.status == 0 for one in said) == hurt
            assert bool(hurt) == killed
            assert reserved < admitted * NANO * (read + 2 * usual), "it has learned"
            most = admitted * RESERVED
            over = spent(server) - limit
            about = f"adaptive, {gateways} gateway(s), {admitted} in flight" + f", of which {hurt} killed" * killed
            measured(f"{about}: overshot by", over, "nano-USD", f"<= {most - reserved}")
            assert over <= most - reserved
            assert over > 0 or killed, "answers were longer than was learned"
            assert {one.status for one in await calls.round(20, upstream)} == {429}, "it is not passed twice"
        if not killed:
            check_events(server, started, upstream.book.keys())
        assert cost(folded(events_so_far(server, *started))) == spent(server)


def lower(server: Server, nano_usd: int) -> None:
    """Another limit for the project, as control would publish it; workers are not told."""
    document = LimitDocument(own=LimitSet(spend=(SpendLimit("total", nano_usd),)), reserve="adaptive")
    accounts = Accounts(server, epoch=False)
    version = done(accounts.limits.read_documents(ORG)).version
    done(accounts.limits.publish(ORG, version + 1, {"p:proj_a": msgspec.json.encode(document)}))
    accounts.redis.close()


@pytest.mark.parametrize("gateways", [1, 2], ids=["one gateway", "two gateways"])
async def test_strict_while_workers_are_killed(
    gateways: int, start_gateway: StartGateway, start_server: StartServer, size: Size, measured: Measured
) -> None:
    """kill -9 under load. What a killed worker had reserved is charged as reserved; all else as it was used."""
    kills, fit = size(small=4, full=40), size(small=400, full=6000)
    limit = fit * RESERVED
    server = start_server(VALKEY, *DURABLE)
    async with paid(held=False) as upstream:
        upstream.used = (BODY // 2, (MOST + 1) // 2)
        settings = limited(server, upstream, budget(limit))
        settings["limits"] = {"lease_s": 1}
        started = start_some(start_gateway, gateways, workers=FOUR, **settings)
        highest, ended = 0, False

        async def load(calls: Caller) -> None:
            nonlocal highest
            while not ended:
                await calls.call()
                highest = max(highest, spent(server))

        async with caller(*started) as calls:
            running = asyncio.gather(*(load(calls) for _ in range(CALLERS)))
            dice = random.Random(4)
            for kill in range(kills):
                answered = calls.statuses()[200] + calls.statuses()[429]
                gateway = started[kill % gateways]
                await eventually(lambda a=answered: calls.statuses()[200] + calls.statuses()[429] > a + 30)  # type: ignore[misc]
                workers = await asyncio.to_thread(gateway.pids, "worker")
                gateway.signal(signal.SIGKILL, dice.choice(workers))
            await eventually(lambda: calls.statuses()[429] > 50, within_s=120)
            ended = True
            await running
        await all_ended(server)
        found = folded(events_so_far(server, *started))
        lost = [one for one in found.values() if one.unconfirmed]
        measured(
            f"strict, {gateways} gateway(s), {kills} kills: calls that were charged as reserved", len(lost), "calls"
        )
        measured(f"strict, {gateways} gateway(s), {kills} kills: overspent", max(0, highest - limit), "nano-USD", "0")
        assert calls.statuses().keys() <= {0, 200, 429, 503}
        assert max(highest, spent(server)) <= limit
        assert upstream.book.keys() <= found.keys()
        assert {one.id for one in found.values() if not one.unconfirmed} <= upstream.book.keys()
        check_lost([one.id for one in lost], found, kills)
        assert cost(found) == spent(server) == spent(server, "o")
        check_costs(found, upstream)


def check_lost(lost: Collection[str], found: Collection[str], kills: int) -> None:
    """Only calls that a killed worker had in hand, some of which it may have answered already. Ids are numbered, behind
    what is the worker's own."""
    newest: dict[str, int] = {}
    for one in found:
        newest[one[:20]] = max(newest.get(one[:20], 0), int(one[20:], 16))
    assert len({one[:20] for one in lost}) <= kills
    assert all(newest[one[:20]] - int(one[20:], 16) < CALLERS for one in lost)


def check_costs(found: Mapping[str, UsageEvent], upstream: Paid) -> None:
    """What each call was charged: what it used, or as reserved."""
    for event in found.values():
        used = RESERVED if event.unconfirmed else NANO * sum(upstream.book[event.id])
        assert sum(line.nano_usd or 0 for line in event.lines) == used, event


async def test_what_was_swept_is_put_right(start_gateway: StartGateway, start_server: StartServer) -> None:
    """A worker that stands still for longer than its leases live: its calls are charged as reserved, and when it goes
    on and they end, as used."""
    server = start_server(VALKEY, *DURABLE)
    async with paid() as upstream:
        upstream.used = (BODY // 2, (MOST + 1) // 2)
        settings = limited(server, upstream, budget(100 * RESERVED))
        settings["limits"] = {"lease_s": 1}
        gateway, *_ = started = [start_gateway(workers={"count": 1}, **settings)]
        async with caller(gateway) as calls:

            async def held() -> None:
                worker = await asyncio.to_thread(gateway.one, "worker")
                gateway.signal(signal.SIGSTOP, worker)
                await all_ended(server)
                assert spent(server) == 20 * RESERVED == cost(folded(events_so_far(server, *started)))
                gateway.signal(signal.SIGCONT, worker)

            said = await calls.round(20, upstream, held=held)
            assert {one.status for one in said} == {200}
        await eventually(lambda: spent(server) == upstream.nano_usd)
        check_events(server, started, upstream.book.keys())


def check_events(server: Server, started: Collection[Gateway], ids: Collection[str]) -> None:
    found = folded(events_so_far(server, *started))
    assert found.keys() == ids
    assert not [event for event in found.values() if event.unconfirmed]
    assert cost(found) == spent(server)
