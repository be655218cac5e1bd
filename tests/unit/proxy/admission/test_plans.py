"""Plans: made once for a key and a model, anew when limits change."""

from typing import Any

import msgspec
import pytest

from gateway.errors import LIMITS_UNAVAILABLE, GatewayError
from gateway.limits import LimitDocument, LimitSet, Permissions, RateLimit, SpendLimit
from gateway.proxy.admission import plans as module
from gateway.proxy.admission.plans import Plans
from gateway.settings.limits import WhenRedisIsAway
from gateway.values import Principal

PRINCIPAL = Principal("key_1", "proj_1", "user_1", "org-1", version=3)


def document(*rates: RateLimit, **more: Any) -> bytes:
    return msgspec.json.encode(LimitDocument(own=LimitSet(rates, more.pop("spend", ())), **more))


def rpm(limit: int, *, shadow: bool = False) -> RateLimit:
    return RateLimit("requests_per_minute", limit, shadow=shadow)


def limits_of(plans: Plans, principal: Principal = PRINCIPAL, model: str | None = "m") -> list[int | None]:
    return [
        entry.limit.limit for entry in plans.of(principal, model).plan.entries if isinstance(entry.limit, RateLimit)
    ]


def test_what_is_not_known_limits_nothing_and_says_so() -> None:
    plans = Plans()
    planned = plans.of(PRINCIPAL, None)
    assert (planned.known, planned.plan.entries, planned.plan.limits_version, planned.mode) == (
        False,
        (),
        0,
        "adaptive",
    )
    assert plans.organizations == ()


@pytest.mark.parametrize(
    "written",
    [
        b"{",
        b'{"own": {"rates": [{"kind": "requests_per_minute", "limit": "many"}]}}',
        b'{"own": {"spend": [{"window": "decade", "nano_usd": 1}]}}',
    ],
)
def test_documents_that_this_version_cannot_read_are_told_once_and_let_nothing_pass(written: bytes) -> None:
    told: list[dict[str, str]] = []

    class Log:
        def error(self, event: str, **more: str) -> None:
            assert event == "limits_unusable"
            told.append(more)

    log: Any = Log()
    plans = Plans(log=log)
    for _ in range(2):
        with pytest.raises(GatewayError) as raised:
            plans.update("org-1", 5, {"o": written}, since=0)
        assert raised.value.kind is LIMITS_UNAVAILABLE
    assert [one["organization"] for one in told] == ["org-1"]
    assert not plans.of(PRINCIPAL, "m").known


def test_made_once() -> None:
    plans = Plans()
    first = plans.of(PRINCIPAL, "gpt-5")
    assert plans.of(PRINCIPAL, "gpt-5") is first
    assert plans.of(PRINCIPAL, "gpt-6") is not first
    newer = plans.of(msgspec.structs.replace(PRINCIPAL, version=4), "gpt-5")
    assert (first.plan.key_version, newer.plan.key_version) == (3, 4)


def test_a_change_makes_them_anew() -> None:
    plans = Plans()
    plans.update("org-1", 5, {"o": document(rpm(10))}, since=0)
    assert (limits_of(plans), plans.of(PRINCIPAL, "m").known, plans.organizations) == ([10], True, ("org-1",))
    plans.update("org-1", 6, {"k:key_1": document(rpm(3)), "o": document(rpm(20), reserve="strict")}, since=5)
    planned = plans.of(PRINCIPAL, "m")
    assert (limits_of(plans), planned.plan.limits_version, planned.mode) == ([20, 3], 6, "strict")
    plans.update("org-1", 7, {"o": None}, since=6)
    assert limits_of(plans) == [3]
    other = Principal("key_2", "proj_1", "user_1", "org-2")
    assert limits_of(plans, other) == []


def test_an_answer_that_was_overtaken_changes_nothing() -> None:
    plans = Plans()
    plans.update("org-1", 5, {"o": document(rpm(10))}, since=0)
    kept = plans.of(PRINCIPAL, "m")
    plans.update("org-1", 4, {"o": document(rpm(99))}, since=0)
    plans.update("org-1", 5, {}, since=5)  # a key has changed, nothing else
    assert plans.of(PRINCIPAL, "m") is kept


def test_a_server_that_knows_nothing_makes_nothing_known() -> None:
    """As when a key's version is there and no document was ever published."""
    plans = Plans()
    plans.update("org-1", 0, {}, since=0)
    assert not plans.of(PRINCIPAL, "m").known
    assert plans.organizations == ()


def test_what_has_limits_that_refuse() -> None:
    def kinds(**of: Any) -> tuple[bool, bool, bool]:
        plans = Plans()
        plans.update("org-1", 1, {"o": document(*of.pop("rates", ()), **of)}, since=0)
        planned = plans.of(PRINCIPAL, "m")
        return planned.spend, planned.rates, planned.concurrency

    assert kinds() == (False, False, False)
    assert kinds(rates=(rpm(1),)) == (False, True, False)
    assert kinds(rates=(rpm(1, shadow=True),)) == (False, False, False)
    assert kinds(rates=(RateLimit("concurrent_requests", 1),)) == (False, False, True)
    assert kinds(spend=(SpendLimit("day", 1),)) == (True, False, False)
    assert kinds(spend=(SpendLimit("day", 1, shadow=True),)) == (False, False, False)


def test_what_a_worker_applies_by_itself() -> None:
    plans = Plans()
    entries = (rpm(1), RateLimit("concurrent_requests", 1))
    plans.update("org-1", 1, {"o": document(*entries, spend=(SpendLimit("day", 1),))}, since=0)
    planned = plans.of(PRINCIPAL, "m")
    for rates, concurrency, kinds in (
        ("local", "local", ["requests_per_minute", "concurrent_requests"]),
        ("open", "local", ["concurrent_requests"]),
        ("local", "closed", ["requests_per_minute"]),
        ("open", "open", []),
    ):
        local = planned.local(WhenRedisIsAway(rates=rates, concurrency=concurrency))  # type: ignore[arg-type]
        assert [entry.limit.kind for entry in local if isinstance(entry.limit, RateLimit)] == kinds


def test_large_and_small_letters_share_a_bucket_and_long_names_are_cut() -> None:
    plans = Plans()
    plans.update("org-1", 1, {"p:proj_1": document(models={"*": LimitSet((rpm(1),))})}, since=0)
    assert plans.of(PRINCIPAL, "GPT-5").plan.blob == plans.of(PRINCIPAL, "gpt-5").plan.blob
    long = plans.of(PRINCIPAL, "x" * 10_000_000)
    assert plans.of(PRINCIPAL, "x" * 200) is long
    assert len(long.plan.blob) < 1000
    assert plans.of(PRINCIPAL, "\udcff").plan.entries


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_PLANS", 50)
    plans = Plans()
    for number in range(500):
        plans.of(PRINCIPAL, str(number))
        assert len(plans._plans) <= 50


def test_what_a_project_may_use_is_made_once_for_all_its_plans() -> None:
    plans = Plans()
    assert plans.of(PRINCIPAL, "m").rules is None
    denied = Permissions(denied_tools=("mcp",))
    plans.update("org-1", 1, {"p:proj_1": document(permissions=denied), "p:proj_2": document()}, since=0)
    rules = plans.of(PRINCIPAL, "m").rules
    assert rules is not None
    assert plans.of(PRINCIPAL, "other").rules is rules
    assert plans.of(msgspec.structs.replace(PRINCIPAL, key_id="key_2"), "m").rules is rules
    assert plans.of(msgspec.structs.replace(PRINCIPAL, key_id="key_3", project_id="proj_2"), "m").rules is None
    plans.update("org-1", 2, {"p:proj_1": document()}, since=1)
    assert plans.of(PRINCIPAL, "m").rules is None
