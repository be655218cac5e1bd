"""From usage events to what the ledger adds to its rows: sums by minute and by what can be asked for. Pure."""

from collections.abc import Iterable, Sequence
from operator import add, neg
from typing import Self

import msgspec

from gateway.errors import without_keys
from gateway.usage.fields import consistent
from gateway.values import Cost, Quantities, UsageEvent, UsageLine

RESERVED = "reserved"  # the line item of what is charged as it was reserved
_MINUTE_US = 60_000_000
_NOTHING = 0, 0
SEARCHES = "web_search_calls"  # of these OpenAI tells how many calls made them
_values = msgspec.structs.astuple


class Dimension(msgspec.Struct, frozen=True, gc=False):
    """What usage can be grouped and filtered by. category: as in `/v1/organization/usage/{category}`."""

    category: str
    project_id: str
    user_id: str
    key_id: str
    model: str
    batch: bool = False
    service_tier: str = ""
    image_size: str = ""
    image_source: str = ""
    context_level: str = ""
    vector_store_id: str = ""


class CostDimension(msgspec.Struct, frozen=True, gc=False):
    """The same of costs. item, unit: as in `Cost`."""

    project_id: str
    user_id: str
    key_id: str
    item: str
    unit: str


class Use(msgspec.Struct, frozen=True, gc=False):
    """Sums of usage. requests: of calls, each counted once, where it was served; of web searches, the calls that
    searched."""

    requests: int
    quantities: Quantities

    def __add__(self, other: Self) -> "Use":
        quantities = map(add, _values(self.quantities), _values(other.quantities))
        return Use(self.requests + other.requests, Quantities(*quantities))


class Money(msgspec.Struct, frozen=True, gc=False):
    """Sums of costs. quantity: in the dimension's unit."""

    quantity: int
    nano_usd: int

    def __add__(self, other: Self) -> "Money":
        return Money(self.quantity + other.quantity, self.nano_usd + other.nano_usd)


class Folded(msgspec.Struct, frozen=True):
    """What is to be added, by minute since 1970 and dimension."""

    usage: dict[tuple[int, Dimension], Use]
    costs: dict[tuple[int, CostDimension], Money]


def fold(events: Iterable[UsageEvent], replaced: Iterable[UsageEvent] = ()) -> Folded:
    """The sums of events. replaced: those that others of them take the place of, which are subtracted."""
    usage: dict[tuple[int, Dimension], tuple[int, ...]] = {}
    costs: dict[tuple[int, CostDimension], tuple[int, int]] = {}
    for event in events:
        _add(usage, costs, event, sign=1)
    for event in replaced:
        _add(usage, costs, event, sign=-1)
    return Folded(
        {place: Use(requests, Quantities(*quantities)) for place, (requests, *quantities) in usage.items()},
        {place: Money(quantity, nano_usd) for place, (quantity, nano_usd) in costs.items()},
    )


def _add(
    usage: dict[tuple[int, Dimension], tuple[int, ...]],
    costs: dict[tuple[int, CostDimension], tuple[int, int]],
    event: UsageEvent,
    *,
    sign: int,
) -> None:
    minute = event.at_us // _MINUTE_US
    counted: set[str] = set()
    for line in event.lines:
        if line.category is not None:
            request = line.category not in counted and line.category in {event.category, SEARCHES}
            counted.add(line.category)
            sums = (int(request), *_values(consistent(line.quantities)))
            if sign < 0:
                sums = tuple(map(neg, sums))
            place = minute, _dimension(event, line, line.category)
            known = usage.get(place)
            usage[place] = sums if known is None else tuple(map(add, known, sums))
        for cost in costs_of(line):
            whose = minute, CostDimension(event.project_id, event.user_id, event.key_id, cost.item, cost.unit)
            quantity, nano_usd = costs.get(whose, _NOTHING)
            costs[whose] = quantity + sign * cost.quantity, nano_usd + sign * cost.nano_usd


def costs_of(line: UsageLine) -> Sequence[Cost]:
    """What makes up a line's price. That of a call of which nothing was heard any more is what was reserved for it."""
    if line.nano_usd is None:
        return line.costs
    rest = line.nano_usd - sum(cost.nano_usd for cost in line.costs)
    return (*line.costs, Cost(f"{model_of(line)}, {RESERVED}", "", 0, rest)) if rest else line.costs


def model_of(line: UsageLine) -> str:
    """The model that a line counts for: as the answer names it, else as it was asked for."""
    return without_keys(line.response_model or line.upstream_model or line.request_model)


def _dimension(event: UsageEvent, line: UsageLine, category: str) -> Dimension:
    return Dimension(
        category,
        event.project_id,
        event.user_id,
        event.key_id,
        model_of(line),
        line.batch,
        line.service_tier,
        line.image_size,
        line.image_source,
        line.context_level,
        line.vector_store_id,
    )
