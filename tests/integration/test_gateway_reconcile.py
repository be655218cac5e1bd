"""`gateway reconcile`: the ledger of a whole gateway beside what the simulator says that it served."""

import datetime as dt
import json
import urllib.request
from typing import Any

import pytest

from gateway.__main__ import main
from gateway.simulator.world import fingerprint
from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import HELLO, Gateway
from tests.fakes.organization import ADMIN_KEY
from tests.fakes.redis_servers import eventually_blocking

OUR_KEY = "sk-upstream-KEYFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF6"  # of this gateway alone, at a simulator that many share


def asked_with(key: str) -> dict[str, Any]:
    reconciliation = {"admin_key": ADMIN_KEY, "api_key_ids": [f"key_{fingerprint(key)}"]}
    return {"simulator": {"api_key": key, "reconciliation": reconciliation}}


def today() -> str:
    return dt.datetime.now(dt.UTC).date().isoformat()


def run(capsys: pytest.CaptureFixture[str], gateway: Gateway, *more: str, day: str | None = None) -> tuple[int, str]:
    status = main(["reconcile", "--day", day or today(), "--data-dir", str(gateway.data_dir), *more])
    said = capsys.readouterr()
    return status, said.out + said.err


def report_of(capsys: pytest.CaptureFixture[str], gateway: Gateway) -> tuple[int, Any]:
    status, said = run(capsys, gateway, "--json")
    return status, json.loads(said)


def differing(report: Any) -> dict[tuple[str, str, str], int]:
    return {
        (one["category"], one["model"], one["field"]): one["theirs"] - one["ours"]
        for one in report["upstreams"][0]["differences"]
        if one["ours"] != one["theirs"]
    }


def call_mixed(gateway: Gateway) -> None:
    tools = {"tools": [{"type": "web_search"}], "tool_choice": "required"}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("chat/completions", {"model": "gpt-4o-mini", "messages": HELLO}),
        ("chat/completions", {"model": "gpt-4o", "messages": HELLO, "stream": True}),
        ("responses", {"model": "gpt-4o-mini", "input": "Hi", **tools}),
        ("embeddings", {"model": "text-embedding-3-small", "input": "Hi"}),
        ("moderations", {"model": "omni-moderation-latest", "input": "Hi"}),
        ("images/generations", {"model": "dall-e-3", "prompt": "A kite"}),
        ("audio/speech", {"model": "tts-1", "voice": "alloy", "input": "Hello there"}),
        ("chat/completions", {"model": "gpt-4o-mini+status=500", "messages": HELLO}),
    ]
    statuses = [gateway.ask(f"/v1/{path}", body).status for path, body in calls]
    assert statuses == [200] * 7 + [500]


def test_drift_is_found_and_named(
    start_gateway: StartGateway, simulator_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway = start_gateway(workers={"count": 1}, upstreams=asked_with(OUR_KEY))
    gateway.secrets |= {OUR_KEY, ADMIN_KEY}
    status, said = run(capsys, gateway)
    assert (status, "nothing was used, on both sides" in said) == (0, True)
    call_mixed(gateway)
    eventually_blocking(lambda: report_of(capsys, gateway)[0] == 0)
    status, report = report_of(capsys, gateway)
    (one,) = report["upstreams"]
    assert (status, report["over"], report["passed"], differing(report)) == (0, False, True, {})
    assert {found["category"] for found in one["differences"]} == {
        "completions", "embeddings", "moderations", "images", "audio_speeches", "web_search_calls"
    }  # fmt: skip
    assert one["left_out"] == [
        "code_interpreter_sessions: cannot be asked for by key", "costs: the upstream shows none"
    ]  # fmt: skip

    beside = urllib.request.Request(
        f"{simulator_url}/v1/chat/completions",
        json.dumps({"model": "gpt-4o-mini", "messages": HELLO}).encode(),
        {"Authorization": f"Bearer {OUR_KEY}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(beside, timeout=10) as answer:
        usage = json.load(answer)["usage"]
    status, report = report_of(capsys, gateway)
    place = "completions", "gpt-4o-mini-2024-07-18"
    assert (status, report["passed"]) == (1, False)
    assert differing(report) == {
        (*place, "num_model_requests"): 1,
        (*place, "input_tokens"): usage["prompt_tokens"],
        (*place, "output_tokens"): usage["completion_tokens"],
    }
    status, said = run(capsys, gateway)
    rows = [line.split() for line in said.splitlines()]
    assert (status, ["completions", "gpt-4o-mini-2024-07-18", "num_model_requests", "2", "3", "-1"] in rows) == (
        1,
        True,
    )
    assert "is not over (UTC)" in said
    assert "further apart than 1.00%: completions" in said

    yesterday = (dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)).isoformat()
    assert run(capsys, gateway, day=yesterday)[0] == 0
    labels = {"upstream": "simulator", "category": "completions", "field": "input_tokens"}
    assert gateway.metric("gateway_reconciliation_day_timestamp_seconds") > 0, "a day that is over is kept"
    assert gateway.metric("gateway_reconciliation_drift_ratio", **labels) == 0

    later = (dt.datetime.now(dt.UTC).date() + dt.timedelta(days=2)).isoformat()
    assert run(capsys, gateway, day=later) == (1, f"gateway: {later} has not begun, in UTC\n")
