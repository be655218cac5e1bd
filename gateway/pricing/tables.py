"""The form of prices.json, and its strict reader.

A model has layers of rates: a standard one that holds from its date on until the next standard one, and layers for
tiers, which replace single units of it from their date on.
"""

import datetime as dt
import re
from collections.abc import Iterator
from importlib import resources

import msgspec

from gateway.pricing.units import UnitName

FILE = "prices.json"
FORM = 1
STANDARD = "default"

Steps = int | tuple[tuple[int, int], ...]
"""A rate: nano-USD for `per` of its unit; or pairs (above so many input tokens, rate), the first one above 0, where the
context length decides. The last that the input exceeds holds for all of the call's tokens."""


class PricesError(ValueError):
    """A price file is wrong; the message names the file and the place in it."""


class _Form(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class Match(_Form, frozen=True):
    """Which model names, in lower case: any of these."""

    equals: tuple[str, ...] = ()
    starts_with: tuple[str, ...] = ()
    contains: tuple[str, ...] = ()
    regex: tuple[str, ...] = ()


class Layer(_Form, frozen=True):
    """Rates of one tier from a date on.

    tier: `default`, what a response calls it, `batch`, or `decisions`. start: YYYY-MM-DD in UTC, empty for always.
    sized: units whose rate depends on `SIZE` or `SIZE QUALITY`; the first is that of a request that names none.
    sources: where the rates are from that are not the file's own source's, by unit.
    """

    rates: dict[UnitName, Steps]
    tier: str = STANDARD
    start: str = ""
    sized: dict[UnitName, dict[str, int]] = {}
    sources: dict[UnitName, str] = {}


class Entry(_Form, frozen=True):
    """A model. flat: its rates hold for every tier. source: where it is from, if not from the file's own source.
    window: how many tokens it reads and writes in a call at most; output: how many of these in one answer; 0: unknown.
    """

    id: str
    match: Match
    layers: tuple[Layer, ...]
    flat: bool = False
    source: str = ""
    window: int = 0
    output: int = 0


class Source(_Form, frozen=True):
    name: str
    version: str
    url: str
    notice: str  # of its licence
    generated: str  # YYYY-MM-DD


class Tables(_Form, frozen=True):
    """The whole file. tools: rates that hold with every model that has none of its own, and without any model.
    ceiling: the dearest known rate of each unit.
    """

    form: int
    source: Source
    tools: Layer
    ceiling: dict[UnitName, int]
    models: tuple[Entry, ...]


def load_tables() -> Tables:
    """The prices that come with the gateway. Raises PricesError; some milliseconds, for a start."""
    return parse_tables(resources.files(__package__).joinpath(FILE).read_bytes(), FILE)


def parse_tables(data: bytes, name: str) -> Tables:
    """Reads and checks a price file; `name` is what errors call it. Raises PricesError."""
    try:
        tables = msgspec.json.decode(data, type=Tables)
    except msgspec.DecodeError as error:
        raise PricesError(f"{name}: {error}") from error
    for complaint in _complaints(tables):
        raise PricesError(f"{name}: {complaint}")
    return tables


def instant(start: str) -> float:
    """A date's first second, since 1970; 0 for always. Raises ValueError."""
    if not start:
        return 0.0
    return dt.datetime.combine(dt.date.fromisoformat(start), dt.time(), dt.UTC).timestamp()


def _complaints(tables: Tables) -> Iterator[str]:
    if tables.form != FORM:
        yield f"expected a file of form {FORM}, got {tables.form} - at `$.form`"
    yield from _wrong_rates(tables.tools, "$.tools")
    for unit, rate in tables.ceiling.items():
        if rate <= 0:
            yield f"expected a rate above 0, got {rate} - at `$.ceiling.{unit}`"
    seen: set[str] = set()
    for number, entry in enumerate(tables.models):
        place = f"$.models[{number}]"
        if entry.id in seen:
            yield f"{entry.id} stands twice - at `{place}.id`"
        seen.add(entry.id)
        if not any(layer.tier == STANDARD and not layer.start for layer in entry.layers):
            yield f"{entry.id} has no layer of tier {STANDARD} that always holds - at `{place}.layers`"
        for pattern in entry.match.regex:
            try:
                re.compile(pattern)
            except re.error as error:
                yield f"{pattern!r} is not a regular expression: {error} - at `{place}.match.regex`"
        for position, layer in enumerate(entry.layers):
            yield from _wrong_rates(layer, f"{place}.layers[{position}]")


def _wrong_rates(layer: Layer, place: str) -> Iterator[str]:
    try:
        instant(layer.start)
    except ValueError as error:
        yield f"{error} - at `{place}.start`"
    for unit, steps in layer.rates.items():
        pairs = ((0, steps),) if isinstance(steps, int) else steps
        above = [step for step, _ in pairs]
        if not pairs or above[0] != 0 or above != sorted(set(above)) or any(rate < 0 for _, rate in pairs):
            yield f"expected rates of 0 or more, for contexts above 0 and then more - at `{place}.rates.{unit}`"
    for unit, sizes in layer.sized.items():
        if not sizes or any(rate < 0 for rate in sizes.values()):
            yield f"expected rates of 0 or more by size - at `{place}.sized.{unit}`"
