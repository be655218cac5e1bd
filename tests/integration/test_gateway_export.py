"""`gateway usage export`: what it writes is what the admin API says."""

import csv
import datetime as dt
import io
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.__main__ import main
from gateway.clock import SystemClock
from gateway.commands.progress import Progress
from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import ADMIN_KEY, Gateway
from tests.fakes.redis_servers import eventually_blocking

DAY_S = 86_400
TODAY = int(SystemClock.wall()) // DAY_S * DAY_S
FROM = TODAY - 40 * DAY_S  # more days than a page has


def date(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).date().isoformat()


def told(gateway: Gateway, path: str) -> list[Any]:
    """The results of the last days, with their times."""
    answer = gateway.ask(f"/v1/organization/{path}start_time={TODAY - 2 * DAY_S}", key=ADMIN_KEY).json()
    return [
        {"start_time": one["start_time"], "end_time": one["end_time"], **result}
        for one in answer["data"]
        for result in one["results"]
    ]


@pytest.fixture(scope="module")
def gateway(start_module_gateway: StartGateway) -> Gateway:
    """One with three calls in its ledger."""
    gateway = start_module_gateway(workers={"count": 1})
    for _ in range(3):
        assert gateway.chat().status == 200
    path = "usage/completions?"
    eventually_blocking(lambda: [one["num_model_requests"] for one in told(gateway, path)] == [3], within_s=20)
    return gateway


def exported(gateway: Gateway, capsys: pytest.CaptureFixture[str], *more: str, status: int = 0) -> str:
    where = ("--data-dir", str(gateway.data_dir))
    try:
        found = main(["usage", "export", "--from", date(FROM), *more, *where])
    except SystemExit as error:
        found = int(error.code or 0)
    said = capsys.readouterr()
    assert found == status, said
    return said.err if status else said.out


def test_json_lines(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    lines = exported(gateway, capsys, "--format", "jsonl", "--group-by", "model,batch", "--group-by", "project_id")
    wanted = told(gateway, "usage/completions?group_by=model,batch,project_id&")
    assert [json.loads(line) for line in lines.splitlines()] == wanted
    assert wanted[0]["project_id"] == "proj_a"
    costs = exported(gateway, capsys, "--format", "jsonl", "--costs", "--group-by", "line_item")
    assert [json.loads(line) for line in costs.splitlines()] == told(gateway, "costs?group_by=line_item&")
    assert exported(gateway, capsys, "--format", "jsonl", "--to", date(TODAY)) == ""


def test_a_table(gateway: Gateway, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "usage.csv"
    more = ("--category", "completions", "--width", "1h", "--group-by", "model,batch", "--output", str(file))
    assert exported(gateway, capsys, "--format", "csv", "--to", date(TODAY + DAY_S), *more) == f"written to {file}\n"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    (row, *others) = csv.DictReader(io.StringIO(file.read_text()))
    assert [*row][:5] == ["start_time", "end_time", "object", "model", "batch"]
    assert "project_id" not in row
    assert sum(int(one["num_model_requests"]) for one in (row, *others)) == 3
    (same, *_) = told(gateway, "usage/completions?bucket_width=1h&limit=168&group_by=model,batch&")
    wanted = {name: "false" if value is False else str(value) for name, value in same.items() if name in row}
    assert row == wanted
    (total,) = csv.DictReader(io.StringIO(exported(gateway, capsys, "--format", "csv", "--costs")))
    (amount,) = [one["amount"] for one in told(gateway, "costs?")]
    assert (float(total["amount_value"]), total["amount_currency"], total["quantity"]) == (amount["value"], "usd", "")


def test_mistakes(gateway: Gateway, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    form = ("--format", "csv")
    for more, status, said in (
        ((*form, "--to", date(FROM)), 2, "gateway: --to: it has to be after --from\n"),
        ((*form, "--costs", "--width", "1h"), 2, "gateway: --costs: there are costs of days only"),
        ((*form, "--group-by", "line_item"), 2, "gateway: --group-by: expected api_key_id, "),
        ((*form, "--category", "chat"), 2, "gateway: --category: expected completions, "),
        ((*form, "--output", str(tmp_path / "none" / "x")), 1, f"gateway: {tmp_path}/none/x: No such file"),
        ((*form, "--to", "soon"), 2, "usage: "),
        ((), 2, "usage: "),
    ):
        assert exported(gateway, capsys, *more, status=status).startswith(said), more
    assert [*tmp_path.iterdir()] == []


def test_people_see_how_far_it_is(
    gateway: Gateway, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    exported_to = main(
        ["usage", "export", "--from", date(FROM), "--format", "csv", "--data-dir", str(gateway.data_dir)]
    )
    said = capsys.readouterr().err.split("\r")
    assert exported_to == 0
    assert said[1] == f"exporting [{'.' * 40}]   0%"
    assert said[-2:] == [f"exporting [{'#' * 40}] 100%", "\033[K"]
    assert [int(one.rpartition("]")[2][:-1]) for one in said[1:-1]] == sorted(
        int(one.rpartition("]")[2][:-1]) for one in said[1:-1]
    )
    Progress("x", quiet=True).show(0.5)
    assert capsys.readouterr().err == ""
