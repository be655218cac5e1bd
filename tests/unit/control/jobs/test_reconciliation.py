"""Days of the ledger beside those of an upstream, over both databases and real sockets."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import pytest
import structlog
from structlog.testing import capture_logs

from gateway.control.jobs.reconciliation import Reconciliation, ReconciliationError, Report
from gateway.control.ledger.comparison import Difference
from gateway.control.ledger.reconciliations import kept, newest_day
from gateway.settings import model
from gateway.settings.model import Settings, Upstream, UpstreamReconciliation
from gateway.telemetry.metrics import Metrics
from gateway.values import Cost, Quantities, Secret, UsageEvent, UsageLine
from tests.fakes.events import AT_US, ORG
from tests.fakes.events import event as plain
from tests.fakes.ledger import DAY_S, Ledger, ledger
from tests.fakes.organization import ADMIN_KEY, Organization, Refusal, organization
from tests.fakes.redis_servers import Server

DAY = "2027-01-15"
BEGIN = AT_US // 1_000_000 // DAY_S * DAY_S
AT = BEGIN // 60
MODEL = "gpt-4o-mini-2024-07-18"
USED: Mapping[str, Any] = {
    "model": MODEL,
    "num_model_requests": 3,
    "input_tokens": 3 * 321,
    "input_cached_tokens": 3 * 128,
    "output_tokens": 3 * 45,
}


class Stand:
    """A ledger with calls in it, and an upstream that says what was used of it."""

    def __init__(self, book: Ledger, theirs: Organization) -> None:
        self.book = book
        self.theirs = theirs
        self.metrics = Metrics("control")

    def made(self, *others: str, **more: Any) -> Reconciliation:
        """others: further upstreams, which are not asked."""
        asked = UpstreamReconciliation(Secret(ADMIN_KEY))
        upstreams = {"openai": Upstream(self.theirs.url, reconciliation=asked)}
        upstreams |= {name: Upstream("http://127.0.0.1:1/v1") for name in others}
        settings = Settings(upstreams=upstreams, organization_id=ORG, **more)
        log = structlog.get_logger()
        return Reconciliation(settings, self.book.database, self.book.clock, self.metrics, log, self.theirs.pause)

    def day_passes(self) -> None:
        """The day is over, for so long that it is compared."""
        self.book.clock.advance(BEGIN + DAY_S + 21_600 - self.book.clock.wall())

    async def kept(self) -> list[Difference]:
        return await kept(self.book.database, ORG, "openai", AT)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    def drift(self, field: str, category: str = "completions") -> float | None:
        return self.metric("gateway_reconciliation_drift_ratio", upstream="openai", category=category, field=field)


@pytest.fixture
async def stand(valkey: Server, registry_url: str) -> AsyncIterator[Stand]:
    async with ledger(valkey, registry_url) as book, organization() as theirs:
        theirs.results["usage/completions"] = [USED]
        await book.folded(*(plain(number) for number in range(3)))
        yield Stand(book, theirs)


def apart(report: Report) -> list[tuple[str, str, int, int]]:
    (one,) = report.upstreams
    return [
        (found.model, found.field, found.ours, found.theirs) for found in one.differences if found.ours != found.theirs
    ]


def line(**more: Any) -> UsageLine:
    return msgspec.structs.replace(plain(0).lines[0], **more)


def with_lines(number: int, *lines: UsageLine, **more: Any) -> UsageEvent:
    return msgspec.structs.replace(plain(number), lines=lines, **more)


async def test_a_day_that_is_the_same(stand: Stand) -> None:
    stand.day_passes()
    report = await stand.made().reconcile(DAY)
    assert (report.day, report.over, report.passed, apart(report)) == (DAY, True, True, [])
    (one,) = report.upstreams
    assert (one.of, one.error, {drift.ratio for drift in one.drifts}) == ("days", "", {0.0})
    assert [(found.field, found.ours) for found in one.differences] == [
        ("input_cached_tokens", 384), ("input_tokens", 963), ("num_model_requests", 3), ("output_tokens", 135)
    ]  # fmt: skip
    assert await stand.kept() == list(one.differences)
    assert stand.drift("input_tokens") == 0.0
    assert stand.metric("gateway_reconciliation_day_timestamp_seconds", upstream="openai") == BEGIN


async def test_a_day_that_is_not(stand: Stand) -> None:
    stand.theirs.results["usage/completions"] = [
        dict(USED) | {"output_tokens": 150},
        {"model": "other", "num_model_requests": 1, "input_tokens": 7},
    ]
    stand.day_passes()
    report = await stand.made().reconcile(DAY)
    assert not report.passed
    assert apart(report) == [
        (MODEL, "output_tokens", 135, 150),
        ("other", "input_tokens", 0, 7),
        ("other", "num_model_requests", 0, 1),
    ]
    assert stand.drift("output_tokens") == pytest.approx(15 / 150)
    assert stand.drift("num_model_requests") == pytest.approx(1 / 4)
    assert stand.drift("input_cached_tokens") == 0.0


async def test_a_tolerance_is_a_setting(stand: Stand) -> None:
    stand.theirs.results["usage/completions"] = [dict(USED) | {"output_tokens": 150}]
    for tolerance, passes in ((0.09, False), (0.11, True)):
        made = stand.made(reconciliation=model.Reconciliation(tolerance=tolerance))
        assert (await made.reconcile(DAY)).passed is passes


async def test_costs(stand: Stand) -> None:
    costs = Cost(f"{MODEL}, input_tokens", "input_tokens", 321, 48_150), Cost("web_searches", "web_searches", 1, 10_000)
    await stand.book.folded(with_lines(9, line(costs=costs, nano_usd=58_150)))
    stand.theirs.results["costs"] = [{"line_item": f"{MODEL}, input", "amount": {"value": 0.000_273_6}}]
    for others in ((), ("vllm",)):
        report = await stand.made(*others).reconcile(DAY)
        money = [found for found in apart(report) if found[1] == "nano_usd"]
        assert money == [("web_searches", "nano_usd", 10_000, 0)], others


async def test_other_days_do_not_count(stand: Stand) -> None:
    await stand.book.folded(
        plain("before", at_us=BEGIN * 1_000_000 - 1),
        plain("first", at_us=BEGIN * 1_000_000),
        plain("last", at_us=(BEGIN + DAY_S) * 1_000_000 - 1),
        plain("after", at_us=(BEGIN + DAY_S) * 1_000_000),
    )
    for others in ((), ("vllm",)):
        report = await stand.made(*others).reconcile(DAY)
        assert (MODEL, "num_model_requests", 5, 3) in apart(report), others


async def test_one_of_several_upstreams_is_told_from_the_others(stand: Stand) -> None:
    """A call that was tried at two has a request at both."""
    await stand.book.folded(
        with_lines(10, line(upstream="vllm", response_model="llama")),
        with_lines(11, line(upstream="vllm", attempt=1), line(attempt=2)),
        with_lines(12, line(), line(category="web_search_calls", quantities=Quantities(web_searches=2))),
    )
    stand.theirs.results["usage/web_search_calls"] = [{"model": MODEL, "num_requests": 2}]
    assert ("llama", "num_model_requests", 1, 0) in apart(await stand.made().reconcile(DAY)), "all that there is"
    report = await stand.made("vllm").reconcile(DAY)
    assert report.upstreams[0].of == "calls"
    assert apart(report) == [
        (MODEL, "input_cached_tokens", 5 * 128, 3 * 128),
        (MODEL, "input_tokens", 5 * 321, 3 * 321),
        (MODEL, "num_model_requests", 5, 3),
        (MODEL, "output_tokens", 5 * 45, 3 * 45),
    ]


async def test_single_calls_are_read_to_the_last(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.control.ledger.day_sums._PER_PAGE", 4)
    await stand.book.folded(*(plain(f"{number:03}", at_us=AT_US + number % 3 * 60_000_000) for number in range(40)))
    report = await stand.made("vllm").reconcile(DAY)
    assert (MODEL, "num_model_requests", 43, 3) in apart(report)


async def test_single_calls_that_are_gone_are_no_answer(stand: Stand) -> None:
    stand.book.clock.advance(8 * DAY_S)
    report = await stand.made("vllm").reconcile(DAY)
    assert not report.passed
    assert "single calls are kept no longer" in report.upstreams[0].error
    assert (await stand.made().reconcile(DAY)).passed, "of one alone days are enough"


async def test_a_day_that_is_not_over_is_not_kept(stand: Stand) -> None:
    report = await stand.made().reconcile(DAY)
    assert (report.over, report.passed) == (False, True)
    assert await newest_day(stand.book.database, ORG, "openai") is None
    assert stand.drift("input_tokens") is None


async def test_a_second_look_takes_the_place_of_the_first(stand: Stand) -> None:
    stand.day_passes()
    made = stand.made()
    stand.theirs.results["usage/completions"] = [dict(USED) | {"model": "late"}]
    await made.reconcile(DAY)
    assert {one.model for one in await stand.kept()} == {MODEL, "late"}
    assert stand.drift("input_tokens") == 1.0
    stand.theirs.results["usage/completions"] = [USED]
    stand.book.clock.advance(1)
    await made.reconcile(DAY)
    assert {one.model for one in await stand.kept()} == {MODEL}
    assert stand.drift("input_tokens") == 0.0


async def test_each_day_is_compared_once_some_hours_after_its_end(stand: Stand) -> None:
    made, other = stand.made(), stand.made()
    stand.book.clock.advance(BEGIN + DAY_S + 21_599 - stand.book.clock.wall())
    await made.reconcile_due()
    assert [query["start_time"] for _, query in stand.theirs.asked[:1]] == [str(BEGIN - DAY_S)], "the day before"
    stand.theirs.asked.clear()
    stand.book.clock.advance(1)
    await made.reconcile_due()
    assert {query["start_time"] for _, query in stand.theirs.asked} == {str(BEGIN)}
    stand.theirs.asked.clear()
    await made.reconcile_due()
    await other.reconcile_due()
    assert stand.theirs.asked == [], "neither this process nor another does it again"
    assert stand.drift("input_tokens") == 0.0


async def test_a_failure_is_counted_and_tried_again_later(stand: Stand) -> None:
    stand.day_passes()
    made = stand.made()
    stand.theirs.refusals["usage/completions"] = [Refusal(401)]
    with capture_logs() as logs:
        await made.reconcile_due()
        await made.reconcile_due()
    assert [(one["event"], one["day"]) for one in logs] == [("day_not_reconciled", DAY)]
    assert stand.metric("gateway_reconciliation_failures_total", upstream="openai") == 1
    assert await newest_day(stand.book.database, ORG, "openai") is None
    stand.book.clock.advance(901)
    await made.reconcile_due()
    assert len(await stand.kept()) == 4


async def test_what_cannot_be_asked_is_said(stand: Stand) -> None:
    none = Settings(upstreams={"openai": Upstream(stand.theirs.url)}, organization_id=ORG)
    log, book = structlog.get_logger(), stand.book
    made = Reconciliation(none, book.database, book.clock, Metrics("control"), log)
    for one, day, words in (
        (made, DAY, "no upstream has settings of reconciliation"),
        (stand.made(), "2027-01-16", "2027-01-16 has not begun"),
        (stand.made(), "soon", "expected a day as 2026-11-22"),
    ):
        with pytest.raises(ReconciliationError, match=words):
            await one.reconcile(day)
    await made.keep_reconciled()  # there is nothing to keep
