"""The ledger's numbers beside those of an upstream: what differs, and how far both are apart. Pure."""

from collections.abc import Container, Iterable, Mapping
from typing import NamedTuple

import msgspec

from gateway.control.ledger.day_sums import DaySums
from gateway.control.sql.ledger_tables import stored
from gateway.usage.fields import COUNTED, FIELDS, REQUESTS

COSTS = "costs"
NANO_USD = "nano_usd"
# Those of which the others are differences: a drift there would be told twice.
_DERIVED = frozenset(
    {
        "input_uncached_tokens",
        "input_text_tokens",
        "output_text_tokens",
        "input_cached_text_tokens",
        "input_cache_write_30m_tokens",
    }
)
# Which OpenAI does not group by model.
WITHOUT_MODELS = frozenset({"code_interpreter_sessions", "file_search_calls"})


class Place(NamedTuple):
    """What a number is of. category: of the usage API, or `COSTS`; model: of costs what a line item names first; field:
    as OpenAI's results name it, of costs `NANO_USD`."""

    category: str
    model: str
    field: str


class Difference(msgspec.Struct, frozen=True):
    """Both numbers of a place; they may be the same."""

    category: str
    model: str
    field: str
    ours: int
    theirs: int


class Drift(msgspec.Struct, frozen=True):
    """How far apart all models' numbers of a field are: 0 for the same, 1 for nothing in common."""

    category: str
    field: str
    ratio: float


class Theirs(msgspec.Struct, frozen=True):
    """What an upstream says of a day. fields: by category, those that its results have; of a category without results
    all that there are. What is not in it cannot be compared."""

    numbers: Mapping[Place, int]
    fields: Mapping[str, Container[str]]


def fields_of(category: str) -> frozenset[str]:
    """Those that are compared."""
    if category == COSTS:
        return frozenset({NANO_USD})
    own = frozenset(FIELDS[category]) - _DERIVED
    return own | {REQUESTS} if category in COUNTED else own


def compare(ours: DaySums, theirs: Theirs) -> list[Difference]:
    """In order of category, model and field, without those where both are 0."""
    numbers = _numbers(ours)
    places = sorted(
        place for place in {*numbers, *theirs.numbers} if place.field in theirs.fields.get(place.category, ())
    )
    both = ((place, numbers.get(place, 0), theirs.numbers.get(place, 0)) for place in places)
    return [Difference(*place, own, other) for place, own, other in both if own or other]


def drifts(differences: Iterable[Difference]) -> list[Drift]:
    """By category and field."""
    apart: dict[tuple[str, str], int] = {}
    most: dict[tuple[str, str], int] = {}
    for one in differences:
        place = one.category, one.field
        apart[place] = apart.get(place, 0) + abs(one.ours - one.theirs)
        most[place] = most.get(place, 0) + max(abs(one.ours), abs(one.theirs))
    return [Drift(*place, min(1.0, apart[place] / most[place])) for place in sorted(apart)]


def place_of(category: str, model: str, field: str) -> Place:
    """With the name as the database takes it."""
    return Place(category, stored(model), field)


def subject_of(item: str) -> str:
    """What a line item is of: how it goes on differs, `gpt-6-astra, input_tokens` and `gpt-6-astra, input`."""
    return item.partition(",")[0].strip()


def _numbers(sums: DaySums) -> dict[Place, int]:
    found: dict[Place, int] = {}
    for (category, model), use in sums.usage.items():
        if category not in FIELDS:
            continue
        values = {name: round(field(use.quantities)) for name, field in FIELDS[category].items()}
        for name, value in (values | {REQUESTS: use.requests}).items():
            place = place_of(category, "" if category in WITHOUT_MODELS else model, name)
            found[place] = found.get(place, 0) + value
    for item, nano_usd in sums.costs.items():
        place = place_of(COSTS, subject_of(item), NANO_USD)
        found[place] = found.get(place, 0) + nano_usd
    return found
