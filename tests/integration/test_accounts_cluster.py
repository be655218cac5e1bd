"""Admission in a real cluster, through the client of the request path: all that a script touches is in one slot."""

from pathlib import Path

import structlog

from gateway.accounts.answers import Admitted, Cancelled, Closed, Refused, Stale
from gateway.accounts.limits_store import LimitsStore
from gateway.accounts.prune import Prune
from gateway.accounts.reservations import Reservations, provisional
from gateway.accounts.scripts import AccountScripts
from gateway.accounts.spend import Spend
from gateway.accounts.usage_stream import Outlet, Settlement, pack
from gateway.clock import SystemClock
from gateway.limits import CONCURRENT
from gateway.redisdb.client import connect, slot_of
from gateway.redisdb.hot import HotRedis
from gateway.values import Taking, UsageEvent, UsageLine
from tests.fakes.events import KEYS
from tests.fakes.redis_cluster import Cluster
from tests.fakes.redis_servers import StartServer, eventually
from tests.unit.accounts.stand import plan_of, rate, spending

ORGANIZATIONS = ("org-a", "org-b", "org-c", "org-d")
LEASE_S = 600.0


def event(organization: str, id: str, at_us: int = 0) -> UsageEvent:  # noqa: A002
    return UsageEvent(
        id=id,
        at_us=at_us,
        organization_id=organization,
        project_id="proj_1",
        user_id="user_1",
        key_id="key_1",
        lines=(UsageLine(nano_usd=70),),
    )


async def a_day(reservations: Reservations, spend: Spend, limits: LimitsStore, prune: Prune, organization: str) -> None:
    """Each script once at least."""

    async def reserve(number: int, version: int = 3, lease_s: float = LEASE_S) -> object:
        plan = plan_of(
            rate("organization", organization, "requests_per_day", 4),
            rate("key", "key_1", CONCURRENT, 10),
            spending("project", "proj_1", "week", 10_000),
            version=version,
            organization_id=organization,
        )
        id = f"req_{number}"  # noqa: A001
        taking = Taking(tokens=10, nano_usd=100)
        return await reservations.reserve(plan, id, taking, provisional(event(organization, id)), lease_s)

    assert await limits.publish(organization, 3, {"o": b"{}"}) == 1
    assert isinstance(await reserve(1, version=2), Stale)
    assert isinstance(await reserve(1), Closed)
    assert await spend.open_epoch(organization, "one")
    found = [await reserve(number) for number in range(4)]
    assert all(isinstance(one, Admitted) for one in found), found
    assert isinstance(await reserve(4), Refused)
    assert await reservations.cancel(organization, ["req_3"]) == 1
    assert isinstance(await reserve(3), Cancelled)
    assert isinstance(await reserve(5, lease_s=0.0), Admitted)
    assert (await reservations.extend(organization, "worker", ["req_0", "req_x"], LEASE_S)).lost == ["req_x"]
    assert await reservations.sweep(organization) == 1
    first, second = found[0], found[1]
    assert isinstance(first, Admitted)
    assert isinstance(second, Admitted)
    settlements = [
        Settlement(event=pack(event(organization, "req_0", first.at_us)), tokens=5),
        Settlement(event=pack(event(organization, "req_1", second.at_us)), tokens=5),
    ]
    assert await reservations.settle(settlements) == 2
    assert (await spend.read(organization, ["o"])).by_subject["o"].total == 70 + 70 + 100 + 100
    assert await spend.reset_spend(organization) == 1
    assert await limits.publish_key_versions(organization, {"key_1": 2}) == 1
    assert await prune.prune(organization) == 0  # there is nothing old
    assert (await limits.read_documents(organization)).documents == {"o": b"{}"}


async def test_admission_in_a_cluster(redis_binary: Path, start_server: StartServer) -> None:
    cluster = Cluster(redis_binary, start_server)
    settings = cluster.nodes[0].settings(cluster=True, deadline_ms=5000)
    client, scripts = connect(settings), AccountScripts.load()
    hot = HotRedis(client, settings, clock=SystemClock(), log=structlog.get_logger(), scripts=scripts.all)
    await hot.start()
    try:
        await eventually(lambda: hot.trouble is None)
        reservations = Reservations(hot, KEYS, scripts)
        spend, limits = Spend(hot, KEYS), LimitsStore(client, KEYS)
        for organization in ORGANIZATIONS:
            await a_day(reservations, spend, limits, Prune(client, KEYS), organization)
            found = [one.event() async for one in Outlet(client, KEYS, organization).entries()]
            assert [(one.id, one.unconfirmed) for one in found] == [("req_5", True), ("req_0", False), ("req_1", False)]
        for node in cluster.primaries:
            for key in node.command("KEYS", "*"):
                organization = key.decode().partition("{")[2].partition("}")[0]
                assert organization in ORGANIZATIONS
                assert slot_of(key.decode()) == slot_of(KEYS.base(organization))
    finally:
        await hot.aclose()
        await client.aclose()
