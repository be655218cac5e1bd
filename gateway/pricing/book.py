"""The price book: what a line of usage costs, and why. Pure after it is made: no I/O, no clock.

How a price comes about, and every rule that is not arithmetic, is in docs/prices.md.
"""

import msgspec
from msgspec.structs import replace

from gateway.pricing.amounts import amounts
from gateway.pricing.names import Names
from gateway.pricing.own import OwnPrices, ceiling_in
from gateway.pricing.sheet import Asked, Card, Cell, Fallback, Rate, Sheet, make_sheet
from gateway.pricing.tables import STANDARD, Entry, Tables, load_tables
from gateway.pricing.units import UnitName, charge
from gateway.settings.model import Prices
from gateway.values import Cost, UsageLine

OTHER = "other"

# What responses say instead of `default`, and the one tier with two names.
_SAME_TIER = (("", STANDARD), ("auto", STANDARD), ("standard", STANDARD), ("fast", "priority"))
_DEFAULT_QUALITY = ("", "auto")
_MAX_SHEETS = 1024

_Key = tuple[str, str, str, str, bool, str | None]


class LineItem(msgspec.Struct, frozen=True):
    """A part of a price. name: as OpenAI's costs API has it, `gpt-6-astra, input_tokens`; UNITS says how that calls its
    unit. rate: nano-USD for `per` of the unit. source: where the rate is from.
    """

    name: str
    unit: UnitName
    quantity: int
    nano_usd: int
    rate: int
    source: str


class Price(msgspec.Struct, frozen=True):
    """nano_usd is the sum of the items, each rounded half up. known: False if any rate is a stand-in for one that the
    book does not have (an unknown model, tier or unit): to be counted and logged.
    """

    nano_usd: int
    items: tuple[LineItem, ...]
    rate: Rate
    known: bool


def make_book(prices: Prices) -> "Book":
    """The prices that come with the gateway, and those of the settings. Raises PricesError; some milliseconds."""
    return Book(load_tables(), prices)


class Book:
    """Made once; `price` may be called from one thread at a time, and remembers what it looked up."""

    def __init__(self, tables: Tables, prices: Prices) -> None:
        """Raises ValueError for settings that price_problems complains of."""
        self.source = tables.source
        self._refuse = prices.unknown_model == "refuse"
        self._own = OwnPrices(prices, Names(tables.models))
        source = f"{tables.source.name} {tables.source.version}"
        self._fallback = Fallback(tables.tools, ceiling_in(prices.ceiling, tables.ceiling), source)
        self._models = frozenset(entry.id for entry in tables.models) | frozenset(self._own.names)
        self._sheets: dict[_Key, Sheet] = {}
        self._tiers = dict(_SAME_TIER)

    def models(self) -> frozenset[str]:
        """All names that `label` may give, but OTHER: those of the book and of the settings."""
        return self._models

    def label(self, model: str) -> str:
        """A model's name for metrics: of its entry, or OTHER."""
        entry = self._own.entry(model)
        return entry.id if entry is not None else OTHER

    def knows(self, model: str) -> bool:
        return self._own.entry(model) is not None

    def refuses(self, model: str) -> bool:
        """Whether a call to this model is not to be made, because nobody knows what it costs."""
        return self._refuse and not self.knows(model)

    def price(self, line: UsageLine, at: float) -> Price:
        """What a line costs that was used at a time (seconds since 1970). Never raises, and never 0 for want of a rate.

        The response's model decides, else the one that the upstream was asked for, else the client's. Quantities are of
        one call: its input decides which context length's rates hold. They are not negative: whoever takes a price back
        negates the price.
        """
        card = self.card(line, at)
        items = []
        total, known = 0, True
        for unit, quantity in amounts(line, card):
            cell = card.cells[unit] if unit not in card.sized else _sized(card, unit, line)
            nano_usd = charge(quantity, cell.rate, cell.per)
            items.append(LineItem(cell.item, unit, quantity, nano_usd, cell.rate, cell.source))
            total += nano_usd
            known = known and cell.known
        return Price(total, tuple(items), card.rate, known)

    def priced(self, line: UsageLine, at: float) -> tuple[UsageLine, Rate | None]:
        """The line with what `price` says, and the rate if it is a stand-in. For every call: nothing else is made."""
        card = self.sheet(line).card(at, line.quantities.input_tokens)
        cells, sized = card.cells, card.sized
        costs = []
        total, known = 0, True
        for unit, quantity in amounts(line, card):
            cell = _sized(card, unit, line) if sized and unit in sized else cells[unit]
            nano_usd = charge(quantity, cell.rate, cell.per)
            costs.append(Cost(cell.item, unit, quantity, nano_usd))
            total += nano_usd
            if not cell.known:
                known = False
        return replace(line, nano_usd=total, costs=tuple(costs)), None if known else card.rate

    def card(self, line: UsageLine, at: float) -> Card:
        """The rates that `price` takes for a line."""
        return self.sheet(line).card(at, line.quantities.input_tokens)

    def context(self, model: str) -> tuple[int, int]:
        """How many tokens a model reads and writes in a call at most, and how many it writes; 0 if nobody knows."""
        entry = self._entry(model)
        return (entry.window, entry.output) if entry is not None else (0, 0)

    def sheet(self, line: UsageLine) -> Sheet:
        """The rates for a line of any time and length."""
        key = (
            line.response_model,
            line.upstream_model,
            line.request_model,
            line.service_tier,
            line.batch,
            line.category,
        )
        sheet = self._sheets.get(key)
        return sheet if sheet is not None else self._remember(key)

    def _remember(self, key: _Key) -> Sheet:
        sheet = make_sheet(self._asked(key), self._fallback)
        if len(self._sheets) >= _MAX_SHEETS:  # names may come from clients
            self._sheets.clear()
        self._sheets[key] = sheet
        return sheet

    def _asked(self, key: _Key) -> Asked:
        response_model, upstream_model, request_model, service_tier, batch, category = key
        tier = self._tiers.get(service_tier, service_tier)
        if batch:
            tier = "batch"
        elif category == "decisions" and tier == STANDARD:
            tier = "decisions"
        asked_for = upstream_model or request_model
        name = response_model or asked_for
        entry = self._entry(name)
        if entry is not None or not name:
            return Asked(name, tier, entry, "")
        instead = self._entry(asked_for)
        if instead is not None:
            return Asked(name, tier, instead, f"no prices for {name}: as {asked_for}, which was asked for")
        return Asked(name, tier, None, f"no prices for {name}: the ceiling")

    def _entry(self, name: str) -> Entry | None:
        return self._own.entry(name) if name else None


def _sized(card: Card, unit: UnitName, line: UsageLine) -> Cell:
    """The rate of a size and quality; the first of the table if the request names none; else the dearest."""
    sizes = card.sized[unit]
    first_size, _, first_quality = next(iter(sizes)).partition(" ")
    size = line.image_size if line.image_size not in _DEFAULT_QUALITY else first_size
    quality = line.image_quality if line.image_quality not in _DEFAULT_QUALITY else first_quality
    cell = sizes.get(f"{size} {quality}" if first_quality else size)
    if cell is not None:
        return cell
    dearest = max(sizes.values(), key=lambda one: one.rate)
    return replace(dearest, known=False, source=f"{dearest.source}; the dearest: no rate for {size} {quality}")
