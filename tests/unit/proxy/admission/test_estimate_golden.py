"""What the golden calls used is never more than what `strict` reserves for them, and that never less than `adaptive`."""

import msgspec
import pytest

from gateway.proxy.admission.estimate import FREE, Estimate, Unbounded
from gateway.values import UsageLine
from tests.fakes.estimates import Estimating, form_request, json_request
from tests.fakes.golden_calls import Case, cases, operations

ALL = [case for operation in operations() for case in cases(operation)]
# What strict refuses, and why: everything else must have a bound.
REFUSED = {
    "only when it has ended": {
        "accept-realtime-call", "acceptLiveSession", "create-realtime-call", "createAgentAutomation",
        "createAgentAutomationInvocation", "createAgentSession", "createAgentSessionEvent", "createBatch",
        "createEvalRun", "createFineTuningJob", "createLiveSession", "forkLiveSession",
    },
    "does not name the model": {"createRun", "createThreadAndRun", "submitToolOuputsToRun", "runGrader"},
    "does not know what its path does": {"unknown"},
}  # fmt: skip


@pytest.fixture(scope="module")
def estimating() -> Estimating:
    return Estimating()


@pytest.mark.parametrize("case", ALL, ids=lambda case: f"{case.operation}-{case.name}")
def test_strict_is_never_less_than_what_a_golden_call_used(case: Case, estimating: Estimating) -> None:
    raw = case.request()
    body = raw[raw.index(b"\r\n\r\n") + 4 :]
    request = json_request(body) if case.form is None else form_request(len(body), case.form.get("model"))
    most = estimating.ask("strict", case.operation, request)
    usual = estimating.ask("adaptive", case.operation, request)
    assert isinstance(usual, Estimate)
    if isinstance(most, Unbounded):
        assert any(case.operation in named for reason, named in REFUSED.items() if reason in most.reason)
        assert usual.taking.nano_usd == 10_000_000
        return
    assert most is not FREE
    lines = [msgspec.convert(line, UsageLine) for line in case.lines]
    used = [line.quantities for line in lines]
    assert sum(map(estimating.price, lines)) <= most.taking.nano_usd
    assert sum(one.input_tokens + one.output_tokens for one in used) <= most.taking.tokens
    assert usual.taking.nano_usd <= most.taking.nano_usd
    assert usual.taking.tokens <= most.taking.tokens
