"""Vector stores through a whole gateway: what its workers see of them, and an hour of storage in its ledger."""

import time
from pathlib import Path

import structlog
from openai import OpenAI

from gateway.accounts.scripts import AccountScripts
from gateway.accounts.usage_stream import UsageStream
from gateway.clock import ManualClock
from gateway.control.jobs.storage import Storage
from gateway.control.jobs.store_sizes import StoreSizes
from gateway.control.ledger.vector_stores import HOUR_S, Stores
from gateway.control.sql.database import Database
from gateway.pricing.book import make_book
from gateway.redisdb.client import connect
from gateway.settings.model import Prices, Upstream
from gateway.values import Quantities, Secret, SeenStore
from tests.fakes.events import KEYS, ORG
from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import KEY, UPSTREAM_KEY, Gateway
from tests.fakes.kept_events import copy_of, events_so_far
from tests.fakes.redis_servers import VALKEY, Server, StartServer, eventually_blocking

DAY_S = 86_400


class Folds:
    holds = True


def seen(server: Server, gateway: Gateway) -> list[tuple[str, SeenStore]]:
    """What was told of stores, each once, in order."""
    events = sorted(events_so_far(server, gateway), key=lambda event: event.at_us)
    assert not any(event.lines for event in events if event.stores)
    return list(dict.fromkeys((event.operation, store) for event in events for store in event.stores))


def made(gateway: Gateway, simulator_url: str) -> str:
    """A store that 12 bytes were seen in, and 7 more were put into since."""
    with OpenAI(base_url=gateway.base_url, api_key=KEY) as client:
        files = [client.files.create(file=("a.txt", b"a" * size), purpose="assistants") for size in (12, 7)]
        store = client.vector_stores.create(file_ids=[files[0].id])
        eventually_blocking(lambda: client.vector_stores.retrieve(store.id).status == "completed")
        for _ in range(3):
            client.vector_stores.retrieve(store.id)
        client.vector_stores.files.create(store.id, file_id=files[1].id)
    with OpenAI(base_url=f"{simulator_url}/v1", api_key=UPSTREAM_KEY) as direct:
        eventually_blocking(lambda: direct.vector_stores.retrieve(store.id).usage_bytes == 19)
    return store.id


async def test_what_is_seen_and_what_an_hour_costs(
    start_gateway: StartGateway, start_server: StartServer, simulator_url: str, tmp_path: Path
) -> None:
    server = start_server(VALKEY, "--appendonly", "yes")
    gateway = start_gateway(redis={"url": server.url}, workers={"count": 1})
    store_id = made(gateway, simulator_url)

    def told() -> bool:
        found = seen(server, gateway)
        return any(operation == "createVectorStoreFile" for operation, _ in found) and not server.command(
            "XLEN", KEYS.usage(ORG)
        )

    eventually_blocking(told)
    ours = [(operation, store) for operation, store in seen(server, gateway) if store.id == store_id]
    upstream = next(iter(gateway.settings["upstreams"]))
    assert ours[0] == (
        "createVectorStore",
        SeenStore(id=store_id, upstream=upstream, bytes=0, changing=True),
    )
    assert ("getVectorStore", SeenStore(id=store_id, upstream=upstream, bytes=12)) in ours
    assert ("createVectorStoreFile", SeenStore(id=store_id, upstream=upstream, changing=True)) in ours

    clock = ManualClock(time.time() + HOUR_S)
    database = await Database.open(f"sqlite+aiosqlite:///{copy_of(gateway.data_dir, tmp_path)}")
    client = connect(server.settings())
    try:
        log = structlog.get_logger()
        upstreams = {upstream: Upstream(base_url=f"{simulator_url}/v1", api_key=Secret(UPSTREAM_KEY))}
        append = UsageStream(client, KEYS, AccountScripts.load().settle).append
        job = Storage(
            ORG,
            Stores(ORG, database),
            StoreSizes(upstreams, log),
            append,
            make_book(Prices()),
            Folds(),
            clock,
            log,
            keep_s=7 * DAY_S,
        )
        await job.look()
    finally:
        await client.aclose()
        await database.close()
    hour = int(clock.wall()) // HOUR_S - 1
    eventually_blocking(lambda: not server.command("XLEN", KEYS.usage(ORG)))
    charged = {event.id: event for event in events_so_far(server, gateway)}[f"{store_id}/{hour}"]
    (line,) = charged.lines
    assert (line.category, line.quantities) == ("vector_stores", Quantities(bytes=19))
    assert (charged.project_id, line.costs[0].unit) == ("proj_a", "bytes")
