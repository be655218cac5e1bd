"""Several workers share the connections of one port evenly."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import AUTH
from tests.fakes.measuring import Size
from tests.fakes.redis_servers import eventually
from tests.proofs.upstreams import upstream

pytestmark = [pytest.mark.proof, pytest.mark.timeout(600)]
Measured = Callable[..., None]
WORKERS = 4
REQUEST = f"GET /v1/models HTTP/1.1\r\nHost: gateway\r\nAuthorization: {AUTH['Authorization']}\r\n\r\n".encode()


async def test_no_worker_gets_far_more_than_its_share(
    start_gateway: StartGateway, size: Size, measured: Measured
) -> None:
    count = size(small=400, full=2000)
    async with upstream() as url:
        changes: dict[str, Any] = {
            "workers": {"count": WORKERS},
            "upstreams": {"simulator": {"base_url": f"{url}/v1"}},
            "timeouts": {"client_keepalive_s": 600},
        }
        gateway = start_gateway(**changes)
        writers = []
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(REQUEST)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            writers.append(writer)
        await eventually(lambda: len(gateway.events("request", status=200)) == count)
        assert gateway.metric("gateway_client_connections") == count, "all are open at once"
        shares = Counter(line["slot"] for line in gateway.events("request", status=200))
        for writer in writers:
            writer.close()
    assert len(shares) == WORKERS
    largest = max(shares.values()) / (count / WORKERS)
    measured(f"largest share of {count} connections over {WORKERS} workers", largest, "x", "<= 1.5 x")
    assert largest <= 1.5
