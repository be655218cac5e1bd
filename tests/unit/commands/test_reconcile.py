"""What `gateway reconcile` says of a report, and what it ends with."""

import json
from typing import Any

import pytest

from gateway.__main__ import main
from gateway.commands import reconcile as module
from gateway.commands.reconcile import Compared, Difference, Drift, Report

SAME = Compared(
    "openai",
    "days",
    left_out=("costs: the upstream shows none",),
    drifts=(Drift("embeddings", "input_tokens", 0.0),),
    differences=(Difference("embeddings", "m", "input_tokens", 1_234_567, 1_234_567),),
)
APART = Compared(
    "azure",
    "calls",
    drifts=(Drift("costs", "nano_usd", 0.25), Drift("embeddings", "input_tokens", 0.001)),
    differences=(
        Difference("costs", "m", "nano_usd", 1_500_000_000, 2_000_000_000),
        Difference("embeddings", "m", "input_tokens", 999, 1_000),
    ),
)
FAILED = Compared("groq", "calls", error="it refuses the admin key (401)")


def said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, report: Report | int, *more: str
) -> tuple[int, str, str]:
    asked: list[Any] = []

    def tell(_options: object, target: str, body: object, *_: object, **__: object) -> Report | int:
        asked.append((target, body))
        return report

    monkeypatch.setattr(module, "tell", tell)
    status = main(["reconcile", "--day", "2026-11-22", "--data-dir", "data", *more])
    assert asked == [("/reconcile", {"day": "2026-11-22"})]
    return status, *capsys.readouterr()


def report(*upstreams: Compared, over: bool = True, passed: bool = True) -> Report:
    return Report("2026-11-22", over, 0.01, passed, upstreams)


def test_no_difference(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, err = said(capsys, monkeypatch, report(SAME))
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "openai, 2026-11-22: no difference",
        "left out: costs: the upstream shows none",
        "category    model  field         ours       theirs     difference",
        "embeddings  m      input_tokens  1,234,567  1,234,567  0",
    ]


def test_drift_and_failure(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, err = said(capsys, monkeypatch, report(APART, FAILED, over=False, passed=False))
    assert (status, err) == (1, "gateway: groq: it refuses the admin key (401)\n")
    assert out.splitlines() == [
        "2026-11-22 is not over (UTC): both sides are still growing, and nothing of this is kept.",
        "azure, 2026-11-22: further apart than 1.00%: costs dollars 25.00%",
        "category    model  field         ours  theirs  difference",
        "costs       m      dollars       1.5   2       -0.5",
        "embeddings  m      input_tokens  999   1,000   -1",
        "groq: not compared",
    ]


def test_small_drift_and_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    near = Compared("openai", "days", drifts=(Drift("embeddings", "input_tokens", 0.001),))
    _, out, _ = said(capsys, monkeypatch, report(near))
    assert out.splitlines() == [
        "openai, 2026-11-22: no further apart than 1.00%", "nothing was used, on both sides"
    ]  # fmt: skip


def test_for_programs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, err = said(capsys, monkeypatch, report(APART, FAILED, passed=False), "--json")
    assert (status, err) == (1, "")
    found = json.loads(out)
    assert [one.get("error") for one in found["upstreams"]] == [None, "it refuses the admin key (401)"]
    assert found["upstreams"][0]["differences"][0] == {
        "category": "costs", "model": "m", "field": "nano_usd", "ours": 1_500_000_000, "theirs": 2_000_000_000
    }  # fmt: skip


def test_a_refusal_is_its_end(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(capsys, monkeypatch, 1) == (1, "", "")


@pytest.mark.parametrize("day", ["2026-13-01", "today", ""])
def test_a_day_is_a_date(capsys: pytest.CaptureFixture[str], day: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["reconcile", "--day", day, "--data-dir", "data"])
    assert ended.value.code == 2
    assert "expected a date as 2026-11-22" in capsys.readouterr().err
