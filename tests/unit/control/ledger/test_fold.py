"""Events as sums."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.control.ledger.fold import CostDimension, Dimension, Folded, Money, Use, fold
from gateway.values import Cost, Quantities, UsageEvent, UsageLine

MINUTE = 60_000_000


def event_of(
    number: int, *lines: UsageLine, at_us: int = 5 * MINUTE, category: str | None = "completions"
) -> UsageEvent:
    return UsageEvent(
        id=f"req_{number}", at_us=at_us, organization_id="org", project_id="p", user_id="u", key_id="k",
        category=category, lines=lines,
    )  # fmt: skip


def test_one_call_with_a_search() -> None:
    """The call counts once in its own category, and once as one that searched; what only costs has no usage."""
    tokens = UsageLine(
        category="completions", request_model="asked", response_model="gpt-x", service_tier="flex",
        quantities=Quantities(input_tokens=7, output_tokens=3), nano_usd=30,
        costs=(Cost("gpt-x, input_tokens", "token", 7, 20), Cost("gpt-x, output_tokens", "token", 3, 10)),
    )  # fmt: skip
    again = UsageLine(category="completions", request_model="gpt-x", quantities=Quantities(input_tokens=1))
    search = UsageLine(category="web_search_calls", request_model="gpt-x", quantities=Quantities(web_searches=2))
    storage = UsageLine(category=None, nano_usd=5, costs=(Cost("storage", "gb_day", 1, 5),))
    folded = fold([event_of(1, tokens, again, search, storage, at_us=5 * MINUTE + 59_999_999)])
    assert folded.usage == {
        (5, Dimension("completions", "p", "u", "k", "gpt-x", service_tier="flex")): Use(
            1, Quantities(input_tokens=7, output_tokens=3)
        ),
        (5, Dimension("completions", "p", "u", "k", "gpt-x")): Use(0, Quantities(input_tokens=1)),
        (5, Dimension("web_search_calls", "p", "u", "k", "gpt-x")): Use(1, Quantities(web_searches=2)),
    }
    assert folded.costs == {
        (5, CostDimension("p", "u", "k", "gpt-x, input_tokens", "token")): Money(7, 20),
        (5, CostDimension("p", "u", "k", "gpt-x, output_tokens", "token")): Money(3, 10),
        (5, CostDimension("p", "u", "k", "storage", "gb_day")): Money(1, 5),
    }


def test_a_call_without_lines_is_nothing() -> None:
    assert fold([event_of(1)]) == Folded({}, {})


def test_what_was_reserved_has_no_items_and_is_a_cost_all_the_same() -> None:
    folded = fold([event_of(1, UsageLine(category="completions", request_model="gpt-x", nano_usd=50))])
    assert folded.costs == {(5, CostDimension("p", "u", "k", "gpt-x, reserved", "")): Money(0, 50)}


lines = st.builds(
    UsageLine,
    category=st.sampled_from([None, "completions", "images", "web_search_calls"]),
    request_model=st.sampled_from(["a", "b"]),
    batch=st.booleans(),
    quantities=st.builds(Quantities, input_tokens=st.integers(0, 9), images=st.integers(0, 9)),
    costs=st.lists(st.builds(Cost, st.sampled_from("xy"), st.just("token"), st.integers(0, 9), st.integers(0, 99)), max_size=2).map(tuple),
)  # fmt: skip
events = st.lists(
    st.builds(
        event_of,
        st.integers(0, 99),
        lines,
        lines,
        at_us=st.integers(0, 3 * MINUTE),
        category=st.sampled_from([None, "completions", "images"]),
    ),
    max_size=12,
)


def merged(*parts: Folded) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """What rows hold after these were added one after the other, without those that are all zero."""
    usage: dict[Any, Any] = {}
    costs: dict[Any, Any] = {}
    for part in parts:
        for held, new in ((usage, part.usage.items()), (costs, part.costs.items())):
            for place, value in new:
                held[place] = value if place not in held else held[place] + value
    nothing = (Use(0, Quantities()), Money(0, 0))
    whole = [{place: one for place, one in held.items() if one not in nothing} for held in (usage, costs)]
    return whole[0], whole[1]


@given(events, st.integers(0, 12))
def test_batches_are_as_good_as_one(some: list[UsageEvent], at: int) -> None:
    assert merged(fold(some[:at]), fold(some[at:])) == merged(fold(some))


@given(events, events)
def test_what_is_replaced_is_as_if_it_had_never_been(old: list[UsageEvent], new: list[UsageEvent]) -> None:
    assert merged(fold(old), fold(new, replaced=old)) == merged(fold(new))


@given(events)
def test_nothing_is_lost(some: list[UsageEvent]) -> None:
    folded = fold(some)
    every = [line for event in some for line in event.lines]
    counted = [line for line in every if line.category is not None]
    assert sum(use.quantities.input_tokens for use in folded.usage.values()) == sum(
        line.quantities.input_tokens for line in counted
    )
    assert sum(money.nano_usd for money in folded.costs.values()) == sum(
        cost.nano_usd for line in every for cost in line.costs
    )
    served = sum(any(line.category == event.category for line in event.lines if line.category) for event in some)
    searched = sum(any(line.category == "web_search_calls" for line in event.lines) for event in some)
    assert sum(use.requests for use in folded.usage.values()) == served + searched
