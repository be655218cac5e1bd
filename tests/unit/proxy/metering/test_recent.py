"""What is kept of acknowledged events, and for how long."""

import pytest

from gateway.accounts.usage_stream import MARKER_S, Packed, pack
from gateway.proxy.metering.recent import RECENT_S, Recent, Sent
from tests.fakes.events import ORG, event, ids, packed


def of(taken: list[Sent]) -> list[str]:
    return [one.id for sent in taken for one in sent.events]


def elsewhere(number: int) -> list[Packed]:
    return [pack(event(number, organization_id="org-other"))]


def test_what_was_taken_is_kept_for_a_minute() -> None:
    recent = Recent()
    recent.keep(packed(1, 2), 100.0)
    recent.keep(packed(3), 130.0)
    recent.keep(packed(4), 100.0 + RECENT_S)
    assert len(recent) == 4
    recent.keep(packed(5), 100.0 + RECENT_S + 0.001)
    assert len(recent) == 3
    recent.forget_before(131.0)
    assert of(recent.take()) == ids(4, 5)
    assert (len(recent), recent.take()) == (0, [])


def test_there_is_a_bound_in_events_and_one_in_bytes() -> None:
    recent = Recent(most_events=10)
    for first in range(0, 12, 4):
        recent.keep(packed(*range(first, first + 4)), 0.0)
    assert of(recent.take()) == ids(*range(4, 12)), "whole batches, the oldest first"
    size = len(packed(10)[0].json)
    recent = Recent(most_bytes=10 * size)
    for number in range(10, 40):
        recent.keep(packed(number), 0.0)
    assert of(recent.take()) == ids(*range(30, 40))
    recent.keep(packed(*range(10, 30)), 0.0)
    assert recent.take() == []
    for number in range(10, 15):
        recent.keep(packed(number), 0.0)
    assert len(recent) == 5, "what was taken counts no more"


def test_organizations_are_told_apart() -> None:
    recent = Recent()
    recent.keep(packed(1), 0.0)
    recent.keep(elsewhere(2), 0.0)
    recent.keep(packed(3), 0.0)
    assert of(recent.take(ORG)) == ids(1, 3)
    assert len(recent) == 1
    assert of(recent.take()) == ids(2)


def test_a_new_epoch_takes_out_what_is_of_an_earlier_one() -> None:
    recent = Recent()
    recent.keep(packed(1), 0.0)
    assert recent.epoch_is(ORG, "one") == [], "the first that is heard of it"
    recent.keep(elsewhere(2), 0.0)
    assert recent.epoch_is("org-other", "other") == []
    recent.keep(packed(3), 0.0)
    assert recent.epoch_is(ORG, "one") == []
    lost = recent.epoch_is(ORG, None)
    assert of(lost) == ids(1, 3)
    assert {sent.epoch for sent in lost} == {"one"}
    recent.keep(packed(4), 0.0)
    assert recent.epoch_is(ORG, None) == []
    assert recent.epoch_is(ORG, "two") == [], "what came since they were lost is there"
    assert [sent.epoch for sent in recent.take()] == ["other", "two"]
    recent.keep(packed(5), 0.0)
    assert of(recent.epoch_is(ORG, "three")) == ids(5), "also if nobody saw them closed"


@pytest.mark.parametrize("epoch", ["one", None])
def test_what_redis_may_have_forgotten_is_charged_only_by_one_that_forgot_all(epoch: str | None) -> None:
    sent = Sent(1000.0, packed(1), 1, epoch)
    assert sent.epoch_to_say(1000.0 + MARKER_S - 61) == epoch
    assert sent.epoch_to_say(1000.0 + MARKER_S - 60) == "-"
