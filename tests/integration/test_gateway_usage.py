"""Usage between the processes of a whole gateway: the workers' spool and the control process' trimming."""

from pathlib import Path

from tests.fakes.events import KEYS, ORG, ids, packed, streamed
from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.redis_servers import VALKEY, StartServer, eventually_blocking

HOUR_AGO_MS = 3_600_000


def test_what_an_earlier_gateway_spooled_is_delivered(
    start_gateway: StartGateway, start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server(VALKEY, "--appendonly", "yes")
    left = tmp_path / "spool" / "00000000000000001-1-dead"
    left.mkdir(parents=True)
    (left / "00000001.jsonl").write_bytes(b"".join(one.json + b"\n" for one in packed(*range(1000))))
    gateway = start_gateway(redis={"url": server.url}, usage={"spool_dir": str(tmp_path / "spool")})
    eventually_blocking(lambda: streamed(server) == ids(*range(1000)))
    eventually_blocking(lambda: not left.exists())
    eventually_blocking(lambda: gateway.metric("gateway_usage_events_total", what="replayed") == 1000)
    assert gateway.metric("gateway_usage_spool_bytes") == 0
    (line,) = gateway.events("usage_replayed")
    assert line["events"] == 1000


def test_the_stream_is_trimmed(start_gateway: StartGateway, start_server: StartServer) -> None:
    server = start_server(VALKEY, "--appendonly", "yes")
    now_ms = int(server.command("TIME")[0]) * 1000
    for number in range(300):
        server.command(
            "XADD", KEYS.usage(ORG), f"{now_ms - HOUR_AGO_MS}-{number + 1}", "id", "old", "e", '{"id":"old"}'
        )
    server.command("XADD", KEYS.usage(ORG), "*", "id", "req_1", "e", '{"id":"req_1"}')
    start_gateway(redis={"url": server.url}, workers={"count": 1})
    eventually_blocking(lambda: streamed(server) == ids(1))
