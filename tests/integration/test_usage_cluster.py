"""Usage in a real cluster: the keys of an organization are in one slot, and what goes in comes out."""

from pathlib import Path

from gateway.accounts.usage_stream import Outlet
from gateway.redisdb.client import connect, slot_of
from tests.fakes.events import KEYS, MINUTE, event, ids
from tests.fakes.redis_cluster import Cluster
from tests.fakes.redis_servers import StartServer
from tests.fakes.usage_stand import stand

ORGANIZATIONS = ("org-a", "org-b", "org-c", "org-d")


async def test_usage_in_a_cluster(redis_binary: Path, start_server: StartServer, tmp_path: Path) -> None:
    cluster = Cluster(redis_binary, start_server)
    settings = cluster.nodes[0].settings(cluster=True, deadline_ms=5000)
    async with stand(settings, tmp_path) as worker:
        for number in range(400):
            worker.outbox.add(event(number, organization_id=ORGANIZATIONS[number % 4]))
        await worker.outbox.drain()
        assert worker.count("delivered") == 400
    client = connect(settings)
    try:
        for number, organization in enumerate(ORGANIZATIONS):
            assert slot_of(KEYS.usage(organization)) == slot_of(KEYS.usage_ids(organization, MINUTE))
            outlet = Outlet(client, KEYS, organization)
            found = [entry async for entry in outlet.entries()]
            assert [entry.id for entry in found] == ids(*range(number, 400, 4))
            assert await outlet.newest() == found[-1].position
            await outlet.trim(found[-2].position)
            assert (await outlet.waiting(), await outlet.claim("a")) == (1, "")
    finally:
        await client.aclose()
