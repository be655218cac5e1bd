"""Which refusals are recorded."""

import msgspec
import pytest

from gateway.accounts.plan import Plan, make_plan
from gateway.accounts.refusals import MOST_TOLD, Refusal, more_of
from gateway.clock import ManualClock
from gateway.limits import Applied
from gateway.proxy.admission import told as module
from gateway.proxy.admission.told import Told
from gateway.telemetry.logging import make_logger
from gateway.values import Taking
from tests.unit.accounts.stand import plan_of, rate, spending
from tests.unit.proxy.admission.kit import Seen

RPM = rate("key", "key_1", "requests_per_minute", 1)
PLAN = plan_of(RPM)


class Telling:
    def __init__(self) -> None:
        self.clock = ManualClock(1_800_000_000.5)  # a minute begins with the half second before
        self.logged: list[bytes] = []
        self.told = Told(make_logger("worker", "info", self.clock, write=self.logged.append), self.clock)

    def refuse(
        self, number: int = 1, plan: Plan = PLAN, limit: Applied = RPM, *, model: str = "gpt-5", shadow: bool = False
    ) -> None:
        for n in range(number):
            self.told.add(plan, limit, Seen(model, request_id=f"req_{n}"), Taking(tokens=7), 1, shadow=shadow)


@pytest.fixture
def telling() -> Telling:
    return Telling()


def of_key(key_id: str) -> Plan:
    return make_plan(
        organization_id="org-gateway", project_id="proj_1", user_id="user_1", key_id=key_id, limits_version=1
    )


def test_all_of_it_is_told(telling: Telling) -> None:
    telling.refuse()
    assert telling.told.take() == [
        Refusal(
            at_us=1_800_000_000_500_000,
            organization_id="org-gateway",
            project_id="proj_1",
            user_id="user_1",
            key_id="key_1",
            limit="requests_per_minute",
            scope="key",
            subject="key_1",
            model="gpt-5",
            request_id="req_0",
            value=1,
            used=1,
            wanted=1,
        )
    ]
    assert telling.told.take() == []


def test_the_first_ten_of_a_minute_and_then_how_many_more(telling: Telling) -> None:
    telling.refuse(25)
    first = telling.told.take()
    assert [one.request_id for one in first] == [f"req_{n}" for n in range(MOST_TOLD)]
    telling.refuse(5)
    assert telling.told.take() == []
    telling.clock.advance(60)
    (rest,) = telling.told.take()
    assert rest == more_of(first[0], 20)
    telling.refuse(3)
    assert [one.count for one in telling.told.take()] == [1, 1, 1], "a new minute"
    telling.clock.advance(60)
    assert telling.told.take() == [], "all of them have been told"


def test_each_key_limit_and_shadow_has_ten(telling: Telling) -> None:
    spend = spending("project", "proj_1", "month", 5)
    telling.refuse(11)
    telling.refuse(11, shadow=True)
    telling.refuse(11, limit=spend)
    telling.refuse(11, of_key("key_2"))
    found = telling.told.take()
    assert len(found) == 4 * MOST_TOLD
    assert {(one.key_id, one.limit, one.shadow) for one in found} == {
        ("key_1", "requests_per_minute", False), ("key_1", "requests_per_minute", True), ("key_1", "spend.month", False),
        ("key_2", "requests_per_minute", False),
    }  # fmt: skip
    assert [one.count for one in telling.told.end()] == [1] * 4, "the end is told though the minute goes on"
    assert telling.told.end() == []


def test_the_log_says_each_once_a_minute(telling: Telling) -> None:
    telling.refuse(30)
    telling.refuse(2, shadow=True)
    said = [msgspec.json.decode(line) for line in telling.logged]
    assert [(line["event"], line["limit"], line["key_id"]) for line in said] == [
        ("limit_refuses", "requests_per_minute", "key_1"),
        ("limit_would_refuse", "requests_per_minute", "key_1"),
    ]


@pytest.mark.parametrize("model", ["x" * 1_000_000, "bad\udce4\ud800", 'a "quoted" \n \\ one', "sk-proj-" + "a" * 40])
def test_models_are_the_clients_words(model: str, telling: Telling) -> None:
    telling.refuse(model=model)
    (found,) = telling.told.take()
    assert len(found.model) <= 200
    assert msgspec.json.decode(msgspec.json.encode(found), type=Refusal) == found
    assert b"aaaaaaaaaa" not in telling.logged[0]
    assert len(telling.logged[0]) < 2000


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, telling: Telling) -> None:
    monkeypatch.setattr(module, "_MOST_KEPT", 50)
    monkeypatch.setattr(module, "_MOST_WAITING", 100)
    for minute in range(3):
        for number in range(100):
            telling.refuse(20, of_key(f"key_{minute}_{number}"))
        assert len(telling.told._kept) == 50
        telling.clock.advance(60)
    assert len(telling.told._waiting) == 100, "nobody took any"
    assert len(telling.told.take()) == 100
    telling.refuse()
    assert len(telling.told.take()) == 1
