"""Usage between the processes of a whole gateway: the workers' spool and the control process' trimming."""

import time
from pathlib import Path

from gateway.accounts.usage_stream import pack
from tests.fakes.events import KEYS, ORG, event, ids, streamed
from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import ADMIN_KEY
from tests.fakes.kept_events import events_so_far
from tests.fakes.redis_servers import VALKEY, StartServer, eventually_blocking


def test_what_an_earlier_gateway_spooled_is_delivered(
    start_gateway: StartGateway, start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server(VALKEY, "--appendonly", "yes")
    now_us = int(time.time() * 1_000_000)
    just_now = [pack(event(number, at_us=now_us)) for number in range(1000)]
    left = tmp_path / "spool" / "00000000000000001-1-dead"
    left.mkdir(parents=True)
    (left / "00000001.jsonl").write_bytes(b"".join(one.json + b"\n" for one in just_now))
    gateway = start_gateway(redis={"url": server.url}, usage={"spool_dir": str(tmp_path / "spool")})
    eventually_blocking(lambda: not left.exists())
    eventually_blocking(lambda: gateway.metric("gateway_usage_events_total", what="replayed") == 1000)
    eventually_blocking(lambda: gateway.metric("gateway_ledger_events_total", what="folded") == 1000)
    assert gateway.metric("gateway_usage_spool_bytes") == 0
    (line,) = gateway.events("usage_replayed")
    assert line["events"] == 1000
    assert [event.id for event in events_so_far(server, gateway)] == sorted(ids(*range(1000)))


def test_what_is_used_is_folded(start_gateway: StartGateway, start_server: StartServer) -> None:
    """Within a second or two; the stream is then empty, also when the process that folds was killed meanwhile."""
    server = start_server(VALKEY, "--appendonly", "yes")
    gateway = start_gateway(redis={"url": server.url}, workers={"count": 1})
    for round_ in range(2):
        assert {gateway.chat().status for _ in range(20)} == {200}
        eventually_blocking(lambda: streamed(server) == [])
        assert len(events_so_far(server, gateway)) == 20 * (round_ + 1)
        gateway.kill("control")
        eventually_blocking(lambda r=round_: len(gateway.events("ledger_taken")) == r + 2)  # type: ignore[misc]
    assert gateway.metric("gateway_ledger_events_total", what="folded") == 40
    eventually_blocking(lambda: gateway.metric("gateway_ledger_folding") == 1)
    assert gateway.metric("gateway_ledger_waiting_events") == 0
    assert gateway.metric("gateway_ledger_lag_seconds") == 0


def test_what_an_emptied_redis_has_lost_is_there_again_and_counts_once(
    start_gateway: StartGateway, start_server: StartServer
) -> None:
    """Also in what is spent. The ledger had folded it before."""
    server = start_server(VALKEY, "--appendonly", "yes")
    gateway = start_gateway(redis={"url": server.url}, workers={"count": 1}, limits={"lease_s": 1})
    assert {gateway.chat().status for _ in range(5)} == {200}
    eventually_blocking(lambda: gateway.metric("gateway_ledger_events_total", what="folded") == 5)
    eventually_blocking(lambda: server.command("ZCARD", f"{KEYS.base(ORG)}:workers") == 1)
    spent = server.command("HGET", f"{KEYS.base(ORG)}:spend", "t:o")
    assert int(spent) > 0
    server.command("FLUSHALL")
    eventually_blocking(lambda: gateway.events("usage_repeated"))
    eventually_blocking(lambda: server.command("HGET", f"{KEYS.base(ORG)}:spend", "t:o") == spent)
    assert gateway.events("usage_repeated")[0]["events"] == 5
    eventually_blocking(lambda: gateway.metric("gateway_usage_events_total", what="repeated") == 5)
    eventually_blocking(lambda: streamed(server) == [])
    assert len(events_so_far(server, gateway)) == 5


def test_usage_waits_on_disk_while_nobody_folds(start_gateway: StartGateway, start_server: StartServer) -> None:
    server = start_server(VALKEY, "--appendonly", "yes")
    redis = {"url": server.url}
    control = start_gateway(command="control", redis=redis)
    proxy = start_gateway(
        command="proxy",
        redis=redis,
        workers={"count": 1},
        usage={"stream_events": 3},
        projects=None,
        admin_keys=None,
        control_url="http://127.0.0.1:1",
    )
    assert control.stop() == 0
    for _ in range(8):
        assert proxy.chat().status == 200
    eventually_blocking(lambda: proxy.readyz()[1]["away"])
    status, body = proxy.readyz()
    assert (status, list(body["away"])) == (200, ["usage"])
    assert len(streamed(server)) == 3
    eventually_blocking(lambda: proxy.metric("gateway_usage_events_total", what="spooled") == 5)
    assert proxy.metric("gateway_usage_stream_full") == 1
    for some in (3, 5):
        server.command("XTRIM", KEYS.usage(ORG), "MAXLEN", 0)
        eventually_blocking(lambda some=some: proxy.metric("gateway_usage_events_total", what="replayed") >= some)  # type: ignore[misc]
    eventually_blocking(lambda: not proxy.readyz()[1]["away"])
    assert len(proxy.events("usage_stream_full")) == 1


def test_a_model_that_is_called_gets_rate_limits_of_its_own(start_gateway: StartGateway) -> None:
    """It has no price, and is charged at the ceiling."""
    gateway = start_gateway(workers={"count": 1})
    limits = "/v1/organization/projects/proj_a/rate_limits"
    named = f"{limits}/rl-gpt-of-our-own"

    def listed() -> bool:
        answer = gateway.ask(f"{limits}?limit=1000", key=ADMIN_KEY)
        assert answer.status == 200
        return "gpt-of-our-own" in {one["model"] for one in answer.json()["data"]}

    assert gateway.ask(named, {"max_requests_per_1_minute": 1}, key=ADMIN_KEY).status == 404
    assert not listed()
    assert gateway.chat(model="GPT-of-our-own").status == 404, "the simulator's names are lower case"
    assert gateway.chat(model="gpt-of-our-own").status == 200
    eventually_blocking(listed)
    assert gateway.ask(named, {"max_requests_per_1_minute": 1}, key=ADMIN_KEY).status == 200
    eventually_blocking(lambda: gateway.chat(model="gpt-of-our-own").status == 429)
