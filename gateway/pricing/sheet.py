"""What a model's rates come to for one tier: worked out once, then only looked up."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from gateway.pricing.tables import STANDARD, Entry, Layer, Steps, instant
from gateway.pricing.units import INSTEAD, UNITS, UnitName

Measure = Literal["tokens", "time", "characters", "images"]
CEILING = "the ceiling"
NEVER_DEARER = frozenset({"flex", "batch", "decisions"})  # than standard, on all of OpenAI's price lists

_TOKENS = frozenset(name for name, unit in UNITS.items() if unit.quantity_unit == "tokens") - {"trained_tokens"}


class Rate(msgspec.Struct, frozen=True):
    """Why a price is what it is.

    model: the name that decided. entry: whose rates these are, empty where no model's are. tier: whose rates.
    above: the context length above which they hold, 0 for any. since: the date, YYYY-MM-DD, empty for always.
    note: why the rates are not the right ones, for people; empty if they are.
    """

    model: str
    entry: str
    tier: str
    above: int
    since: str
    source: str
    note: str


class Cell(msgspec.Struct, frozen=True):
    """The rate of one unit. known: False for a stand-in."""

    item: str
    rate: int
    per: int
    known: bool
    source: str


class Card(msgspec.Struct, frozen=True):
    """All rates for one model, tier, date and context length. rated: which of the cells are the model's own.
    measures: what it is priced by.
    """

    rate: Rate
    cells: Mapping[UnitName, Cell]
    sized: Mapping[UnitName, Mapping[str, Cell]]
    rated: frozenset[UnitName]
    measures: frozenset[Measure]
    time_unit: UnitName | None


class Sheet(msgspec.Struct, frozen=True):
    """Cards by date, then by context length. starts, above: where each but the first begins."""

    starts: tuple[float, ...]
    above: tuple[int, ...]
    cards: tuple[tuple[Card, ...], ...]

    def card(self, at: float, context: int) -> Card:
        row = self.cards[bisect_right(self.starts, at) if self.starts else 0]
        # A step holds above its threshold, not at it.
        return row[bisect_right(self.above, context - 1) if self.above else 0]


class Asked(msgspec.Struct, frozen=True):
    """Which card is wanted. tier: as Layer has it. found: the model's entry, None for no such model, with a note."""

    model: str
    tier: str
    found: Entry | None
    note: str


class Fallback(msgspec.Struct, frozen=True):
    """What stands in: the rates of tools, and the ceiling. source: of entries that do not say their own."""

    tools: Layer
    ceiling: Mapping[UnitName, int]
    source: str


def make_sheet(asked: Asked, fallback: Fallback) -> Sheet:
    layers = asked.found.layers if asked.found else ()
    starts = sorted({layer.start for layer in layers} - {""})
    above = sorted({step for layer in layers for rate in layer.rates.values() for step in _thresholds(rate)})
    return Sheet(
        tuple(instant(start) for start in starts),
        tuple(above),
        tuple(tuple(_card(asked, fallback, day, context) for context in (0, *above)) for day in ("", *starts)),
    )


def _thresholds(rate: Steps) -> tuple[int, ...]:
    return () if isinstance(rate, int) else tuple(above for above, _ in rate[1:])


def _at(rate: Steps, above: int) -> int:
    """The rate for contexts just above a threshold."""
    return rate if isinstance(rate, int) else [step for start, step in rate if start <= above][-1]


def _card(asked: Asked, fallback: Fallback, day: str, above: int) -> Card:
    entry = asked.found
    layer, note = (Layer({}, asked.tier), "") if entry is None else _layer(entry, asked.tier, day, above)
    note = asked.note or note
    exact = not note
    source = CEILING if entry is None else entry.source or fallback.source
    prefix = f"{asked.model}, " if asked.model else ""

    def cell(unit: UnitName, rate: int, known: bool, source: str) -> Cell:
        return Cell(prefix + UNITS[unit].item, rate, UNITS[unit].per, known, source)

    cells: dict[UnitName, Cell] = {}
    for unit in UNITS:
        rated: UnitName | None = next((u for u in (unit, *INSTEAD.get(unit, ())) if u in layer.rates), None)
        if rated is not None:
            cells[unit] = cell(unit, _at(layer.rates[rated], above), exact, layer.sources.get(rated, source))
        elif unit in fallback.tools.rates:
            cells[unit] = cell(unit, _at(fallback.tools.rates[unit], above), True, fallback.tools.sources[unit])
        else:
            cells[unit] = cell(unit, fallback.ceiling[unit], False, CEILING)
    sized = {
        unit: {size: cell(unit, rate, exact, layer.sources.get(unit, source)) for size, rate in sizes.items()}
        for unit, sizes in layer.sized.items()
    }
    rated_units = layer.rates.keys() | layer.sized.keys()
    rate = Rate(asked.model, entry.id if entry else "", layer.tier, above, layer.start, source, note)
    time_unit: UnitName | None = next((unit for unit in ("audio_ms", "video_ms") if unit in rated_units), None)
    return Card(rate, cells, sized, frozenset(layer.rates), _measures(rated_units), time_unit)


def _measures(units: Iterable[UnitName]) -> frozenset[Measure]:
    found: set[Measure] = set()
    for unit in units:
        if unit in _TOKENS:
            found.add("tokens")
        elif unit in ("audio_ms", "video_ms"):
            found.add("time")
        elif unit == "characters":
            found.add("characters")
        elif unit == "images":
            found.add("images")
    return frozenset(found)


def _layer(entry: Entry, tier: str, day: str, above: int) -> tuple[Layer, str]:
    """The rates of a tier on a day as one layer, and what is wrong with them, if anything."""
    active = [layer for layer in entry.layers if layer.start <= day]
    standard = [layer for layer in active if layer.tier == STANDARD][-1]
    if tier == STANDARD or entry.flat:
        return standard, ""
    ours = [layer for layer in active if layer.tier == tier]
    if ours:
        return _merged(standard, ours), ""
    if any(layer.tier == tier for layer in entry.layers):
        return standard, f"no rates for {tier} yet at that date: the standard ones"
    if tier in NEVER_DEARER:
        note = "" if tier == "decisions" else f"no rates for {tier}: the standard ones, which are not below them"
        return standard, note
    tiers = {layer.tier for layer in active} - {STANDARD}
    every = [standard, *(_merged(standard, [x for x in active if x.tier == one]) for one in sorted(tiers))]
    rates: dict[UnitName, Steps] = {
        unit: max(_at(layer.rates[unit], above) for layer in every if unit in layer.rates)
        for unit in dict.fromkeys(unit for layer in every for unit in layer.rates)
    }
    note = f"no rates for {tier}: the dearest of the model's tiers for each unit"
    return Layer(rates, "dearest", standard.start, standard.sized, standard.sources), note


def _merged(standard: Layer, ours: list[Layer]) -> Layer:
    merged = standard
    for layer in sorted(ours, key=lambda one: one.start):
        merged = Layer(
            merged.rates | layer.rates,
            layer.tier,
            max(merged.start, layer.start),
            merged.sized | layer.sized,
            merged.sources | layer.sources,
        )
    return merged
