"""Prices from the settings, laid over those that come with the gateway."""

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import ROUND_HALF_UP, Decimal

import msgspec

from gateway.pricing.names import Names
from gateway.pricing.tables import STANDARD, Entry, Layer, Match, Steps
from gateway.pricing.units import INSTEAD, QUOTED, UnitName, rate_of
from gateway.settings.model import ModelPrice, Prices, Rates
from gateway.settings.tree import Place

SOURCE = "settings"
_TIERS = ("flex", "priority", "batch")


def rates_in(rates: Rates) -> dict[UnitName, int]:
    """Rates as integers. Raises ValueError; price_problems tells where."""
    return dict(rate_of(name, _exactly(usd)) for name in QUOTED if (usd := getattr(rates, name)) is not None)


def ceiling_in(rates: Rates, known: Mapping[UnitName, int]) -> dict[UnitName, int]:
    """The ceiling: what is written, where that says nothing what it implies, else the dearest known rate."""
    own = rates_in(rates)
    return {
        unit: next((own[one] for one in (unit, *INSTEAD.get(unit, ())) if one in own), rate)
        for unit, rate in known.items()
    }


def price_problems(prices: Prices, known: Names) -> Iterator[tuple[Place, str]]:
    """What is wrong with the section `prices` that its form does not tell."""
    yield from _inexact(prices.ceiling, ("prices", "ceiling"))
    for name, usd in _written(prices.ceiling):
        if usd == 0:
            yield ("prices", "ceiling", name), "expected more than 0: what has no known price is never free"
    for name, price in prices.models.items():
        place: Place = ("prices", "models", name)
        yield from _inexact(price, place)
        for tier in _TIERS:
            if (rates := getattr(price, tier)) is not None:
                yield from _inexact(rates, (*place, tier))
        if price.like is not None and known.find(price.like) is None:
            yield (*place, "like"), f"expected the name of a model that the gateway has prices for, got {price.like!r}"
        elif price.like is None and not any(_written(price)) and "*" not in name and known.find(name) is None:
            yield place, "expected rates, or like: the gateway has no prices for a model of this name"


def _written(rates: Rates) -> Iterator[tuple[str, Decimal]]:
    for name in QUOTED:
        if (usd := getattr(rates, name)) is not None:
            yield name, _exactly(usd)


def _inexact(rates: Rates, place: Place) -> Iterator[tuple[Place, str]]:
    for name, usd in _written(rates):
        try:
            rate_of(name, usd)
        except ValueError as error:
            yield (*place, name), str(error)


def _exactly(usd: float | str) -> Decimal:
    """A number as people wrote it: 0.1 is a tenth."""
    return Decimal(str(usd))


class OwnPrices:
    """The models of the settings: `entry` says what a name costs, given what it costs without them."""

    def __init__(self, prices: Prices, book: Names) -> None:
        self._book = book
        self._whole = {name.lower(): (name, price) for name, price in prices.models.items() if "*" not in name}
        self._patterns = [
            (re.compile(".*".join(re.escape(part) for part in name.lower().split("*")), re.DOTALL), name, price)
            for name, price in prices.models.items()
            if "*" in name
        ]
        self.names = tuple(prices.models)

    def entry(self, model: str) -> Entry | None:
        """The entry for a name; None for a model without prices. A model's own name goes before the book's name for it
        (`gpt-4o` for `gpt-4o-2024-11-20`), and a whole name before one with `*`.
        """
        base = self._book.find(model)
        own = self._own((model, *((base.id,) if base else ())))
        if own is None:
            return base
        name, price = own
        if price.like is not None:
            base = self._book.find(price.like)
        return _laid_over(base, name, price)

    def _own(self, names: Iterable[str]) -> tuple[str, ModelPrice] | None:
        lower = [name.lower() for name in names]
        for name in lower:
            if name in self._whole:
                return self._whole[name]
        found = (
            (key, price) for pattern, key, price in self._patterns if any(pattern.fullmatch(name) for name in lower)
        )
        return next(found, None)


def _laid_over(base: Entry | None, name: str, price: ModelPrice) -> Entry | None:
    standard = rates_in(price)
    tiers = {tier: rates_in(own) for tier in _TIERS if (own := getattr(price, tier)) is not None}
    if base is None:
        if not standard:
            return None
        layers = [Layer(dict(standard)), *(Layer(dict(own), tier) for tier, own in tiers.items())]
        return Entry(name, Match(), tuple(layers), flat=not tiers, source=SOURCE)
    factor = _exactly(price.factor)
    layers = []
    for layer in base.layers:
        ours: dict[UnitName, Steps] = dict(standard) if layer.tier == STANDARD else {}
        dropped = tiers.get(layer.tier, {}).keys()
        rates: dict[UnitName, Steps] = {
            unit: _times(rate, factor) for unit, rate in layer.rates.items() if unit not in dropped
        }
        sized = {
            unit: {size: _scaled(rate, factor) for size, rate in sizes.items()}
            for unit, sizes in layer.sized.items()
            if unit not in ours and unit not in dropped
        }
        sources = layer.sources
        if factor != 1:
            sources = {unit: f"{sources.get(unit, 'the list price')}, times {factor}" for unit in [*rates, *sized]}
        sources = sources | dict.fromkeys(ours, SOURCE)
        layers.append(Layer(rates | ours, layer.tier, layer.start, sized, sources))
    layers += [Layer(dict(own), tier, sources=dict.fromkeys(own, SOURCE)) for tier, own in tiers.items()]
    return msgspec.structs.replace(
        base, id=name if price.like else base.id, layers=tuple(layers), flat=base.flat and not tiers
    )


def _times(steps: Steps, factor: Decimal) -> Steps:
    if isinstance(steps, int):
        return _scaled(steps, factor)
    return tuple((above, _scaled(rate, factor)) for above, rate in steps)


def _scaled(rate: int, factor: Decimal) -> int:
    return int((rate * factor).to_integral_value(ROUND_HALF_UP))
