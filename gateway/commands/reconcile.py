"""`gateway reconcile`: a day of a running gateway's ledger beside what its upstreams say of it."""

import argparse
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec

from gateway.commands.console import FAILED, complain, say, say_json, table
from gateway.commands.telling import tell

_READ_S = 1_800.0
_NANO_USD, _NANO = "nano_usd", 1_000_000_000


class Difference(msgspec.Struct, frozen=True):
    category: str
    model: str
    field: str
    ours: int
    theirs: int


class Drift(msgspec.Struct, frozen=True):
    category: str
    field: str
    ratio: float


class Compared(msgspec.Struct, frozen=True, omit_defaults=True):
    upstream: str
    of: str
    error: str = ""
    left_out: tuple[str, ...] = ()
    drifts: tuple[Drift, ...] = ()
    differences: tuple[Difference, ...] = ()


class Report(msgspec.Struct, frozen=True):
    """The control process's answer: `control.jobs.reconciliation.Report`."""

    day: str
    over: bool
    tolerance: float
    passed: bool
    upstreams: tuple[Compared, ...]


def reconcile(options: argparse.Namespace) -> int:
    answer = tell(options, "/reconcile", {"day": options.day}, Report, within_s=_READ_S)
    if isinstance(answer, int):
        return answer
    if options.json:
        say_json(answer)
    else:
        say("\n".join(_lines(answer)))
        for one in answer.upstreams:
            if one.error:
                complain(f"{one.upstream}: {one.error}")
    return 0 if answer.passed else FAILED


def _lines(report: Report) -> Iterator[str]:
    if not report.over:
        yield f"{report.day} is not over (UTC): both sides are still growing, and nothing of this is kept."
    for one in report.upstreams:
        if one.error:
            yield f"{one.upstream}: not compared"
            continue
        yield f"{one.upstream}, {report.day}: {_verdict(one, report.tolerance)}"
        yield from (f"left out: {reason}" for reason in one.left_out)
        if one.differences:
            yield from table(
                ("category", "model", "field", "ours", "theirs", "difference"), [*map(_row, one.differences)]
            )
        else:
            yield "nothing was used, on both sides"


def _verdict(one: Compared, tolerance: float) -> str:
    """In words; names what is too far apart."""
    apart = [
        f"{drift.category} {_name(drift.field)} {drift.ratio:.2%}" for drift in one.drifts if drift.ratio > tolerance
    ]
    if apart:
        return f"further apart than {tolerance:.2%}: {', '.join(apart)}"
    largest = max((drift.ratio for drift in one.drifts), default=0.0)
    return f"no further apart than {tolerance:.2%}" if largest else "no difference"


def _row(one: Difference) -> tuple[str, ...]:
    numbers: tuple[Any, ...] = one.ours, one.theirs, one.ours - one.theirs
    return one.category, one.model, _name(one.field), *(_shown(number, one.field) for number in numbers)


def _name(field: str) -> str:
    return "dollars" if field == _NANO_USD else field


def _shown(number: int, field: str) -> str:
    return f"{(Decimal(number) / _NANO).normalize():,f}" if field == _NANO_USD else f"{number:,}"
