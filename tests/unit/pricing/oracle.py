"""What genai-prices says that a line costs: the other opinion."""

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

from genai_prices import Usage
from genai_prices.data import providers
from genai_prices.types import (
    ClauseContains,
    ClauseEquals,
    ClauseOr,
    ClauseRegex,
    ClauseStartsWith,
    ModelInfo,
    StartDateConstraint,
)

from gateway.pricing.book import LineItem
from gateway.pricing.units import UNITS
from gateway.values import Quantities, UsageLine

(OPENAI,) = (provider for provider in providers if provider.id == "openai")


def usage(quantities: Quantities) -> Usage:
    seconds = Decimal(quantities.duration_ms) / 1000
    return Usage(
        input_tokens=quantities.input_tokens,
        cache_read_tokens=quantities.cached_tokens,
        cache_write_tokens=quantities.cache_write_tokens,
        output_tokens=quantities.output_tokens,
        input_audio_tokens=quantities.input_audio_tokens,
        cache_audio_read_tokens=quantities.cached_audio_tokens,
        output_audio_tokens=quantities.output_audio_tokens,
        input_image_tokens=quantities.input_image_tokens,
        cache_image_read_tokens=quantities.cached_image_tokens,
        output_image_tokens=quantities.output_image_tokens,
        input_characters=quantities.characters,
        audio_seconds=seconds,
        input_audio_seconds=seconds,
        web_searches=quantities.web_searches,
        storage_searches=quantities.file_searches,
    )


def context(line: UsageLine) -> dict[str, str]:
    """How genai-prices is told of a tier."""
    if line.batch:
        return {"processing": "batch", "service_tier": "default"}
    return {"service_tier": line.service_tier} if line.service_tier else {}


def nano_usd(model: ModelInfo, line: UsageLine, at: float) -> Fraction:
    """Exact, not rounded."""
    price = model.calc_price(
        usage(line.quantities),
        OPENAI,
        genai_request_timestamp=dt.datetime.fromtimestamp(at, dt.UTC),
        price_context=context(line),
    )
    return Fraction(price.total_price) * 1_000_000_000


def exact(items: tuple[LineItem, ...]) -> Fraction:
    """What items would sum up to without rounding."""
    return sum((Fraction(item.quantity * item.rate, UNITS[item.unit].per) for item in items), Fraction(0))


def names_of(model: ModelInfo) -> Iterator[str]:
    """Names that genai-prices takes for a model: all that it lists, and one for each pattern."""
    for clause in model.match.or_ if isinstance(model.match, ClauseOr) else [model.match]:
        match clause:
            case ClauseEquals(equals=name):
                yield name
            case ClauseStartsWith(starts_with=start):
                yield from (start, f"{start}-2027-01-02", f"{start.upper()}x:org::id")
            case ClauseContains(contains=part):
                yield from (part, f"omni-{part}-latest")
            case ClauseRegex(regex=pattern):
                name = pattern.removeprefix("^").partition(r"-\d")[0].replace("\\", "")
                yield from (f"{name}-2027-01-02", f"{name}-20270102", f"{name}-2027-01-02-x")
            case _:
                raise AssertionError(clause)


def starts_of(model: ModelInfo) -> set[dt.date]:
    conditional = model.prices if isinstance(model.prices, list) else []
    constraints = [c.constraint for c in conditional] + [v.constraint for v in model.price_variants or ()]
    return {constraint.start_date for constraint in constraints if isinstance(constraint, StartDateConstraint)}


def price_keys(model: ModelInfo) -> set[str]:
    now = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
    return {key for key, value in vars(model.get_prices(now)).items() if value is not None}
