"""The units that have prices, and how people quote them."""

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Literal, cast

import msgspec

UnitName = Literal[
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "cache_write_12h_tokens",
    "output_tokens",
    "input_audio_tokens",
    "cached_audio_tokens",
    "output_audio_tokens",
    "input_image_tokens",
    "cached_image_tokens",
    "output_image_tokens",
    "trained_tokens",
    "characters",
    "images",
    "audio_ms",
    "video_ms",
    "web_searches",
    "file_searches",
    "sessions",
    "bytes",
]

_NANO = 1_000_000_000
_MILLION = 1_000_000
_HOUR_MS = 3_600_000
_SECOND = Fraction(1000)


class Unit(msgspec.Struct, frozen=True):
    """per: how many of it a rate is for, so that all rates are integers. item: its name in a line item, after
    `model, `: OpenAI's `gpt-…, input_tokens`, the others by analogy. quantity_unit: what OpenAI's costs API counts in;
    quantity_per: how many of it are one of those. quoted, quoted_per: what settings call it, and how many times a rate
    holds a quoted one: a rate of audio is for an hour, a quoted one for a minute.
    """

    per: int
    item: str
    quantity_unit: str | None
    quoted: str
    quoted_per: int = 1
    quantity_per: Fraction = Fraction(1)


# The parts into which the tokens of a call fall: each token is in one of them.
UNITS: Mapping[UnitName, Unit] = MappingProxyType(
    {
        "input_tokens": Unit(_MILLION, "input_tokens", "tokens", "input_tokens"),
        "cached_tokens": Unit(_MILLION, "cached_input_tokens", "tokens", "cached_tokens"),
        "cache_write_tokens": Unit(_MILLION, "cache_write_input_tokens", "tokens", "cache_write_tokens"),
        "cache_write_12h_tokens": Unit(_MILLION, "cache_write_12h_input_tokens", "tokens", "cache_write_12h_tokens"),
        "output_tokens": Unit(_MILLION, "output_tokens", "tokens", "output_tokens"),
        "input_audio_tokens": Unit(_MILLION, "audio_input_tokens", "tokens", "input_audio_tokens"),
        "cached_audio_tokens": Unit(_MILLION, "cached_audio_input_tokens", "tokens", "cached_audio_tokens"),
        "output_audio_tokens": Unit(_MILLION, "audio_output_tokens", "tokens", "output_audio_tokens"),
        "input_image_tokens": Unit(_MILLION, "image_input_tokens", "tokens", "input_image_tokens"),
        "cached_image_tokens": Unit(_MILLION, "cached_image_input_tokens", "tokens", "cached_image_tokens"),
        "output_image_tokens": Unit(_MILLION, "image_output_tokens", "tokens", "output_image_tokens"),
        "trained_tokens": Unit(_MILLION, "training_tokens", "tokens", "trained_tokens"),
        "characters": Unit(_MILLION, "characters", "characters", "characters"),
        "images": Unit(1, "images", "images", "images"),
        "audio_ms": Unit(_HOUR_MS, "audio_seconds", "duration_seconds", "audio_minutes", 60, _SECOND),
        "video_ms": Unit(_HOUR_MS, "video_seconds", "duration_seconds", "video_seconds", 3600, _SECOND),
        "web_searches": Unit(1000, "web_searches", None, "web_searches"),
        "file_searches": Unit(1000, "file_searches", None, "file_searches"),
        "sessions": Unit(1, "sessions", None, "sessions"),
        "bytes": Unit(1 << 30, "storage", "gibibyte_hours", "storage_gib_days", quantity_per=Fraction(1 << 30, 24)),
    }
)

QUOTED: Mapping[str, UnitName] = MappingProxyType({unit.quoted: name for name, unit in UNITS.items()})

# Where a rate is missing, the first of these that is there: the rate that OpenAI's lists mean where they give no other
# (a model without a rate for cached tokens charges them as input), and the dearer one where there is a choice.
INSTEAD: Mapping[UnitName, tuple[UnitName, ...]] = MappingProxyType(
    {
        "input_tokens": ("input_audio_tokens", "input_image_tokens"),
        "cached_tokens": ("input_tokens",),
        "cache_write_tokens": ("input_tokens",),
        "cache_write_12h_tokens": ("cache_write_tokens", "input_tokens"),
        "output_tokens": ("output_image_tokens", "output_audio_tokens"),
        "input_audio_tokens": ("input_tokens",),
        "cached_audio_tokens": ("input_audio_tokens", "cached_tokens", "input_tokens"),
        "output_audio_tokens": ("output_tokens",),
        "input_image_tokens": ("input_tokens",),
        "cached_image_tokens": ("input_image_tokens", "cached_tokens", "input_tokens"),
        "output_image_tokens": ("output_tokens",),
    }
)


def rate_of(name: str, usd: Decimal) -> tuple[UnitName, int]:
    """A rate from a quoted one, `audio_minutes` and 0.006. Raises ValueError for what is not exact in nano-dollars."""
    unit = QUOTED[name]
    nano = usd * UNITS[unit].quoted_per * _NANO
    if not nano.is_finite() or nano < 0 or nano != nano.to_integral_value():
        raise ValueError(f"expected dollars with at most 9 decimals, got {usd}")
    return unit, int(nano)


def quoted(unit: UnitName, rate: int) -> Decimal:
    """A rate as settings write it, in dollars."""
    return (Decimal(rate) / _NANO / UNITS[unit].quoted_per).normalize()


def dollars(nano_usd: int) -> str:
    """An amount, exactly: `0.000012500`."""
    sign = "-" if nano_usd < 0 else ""
    return f"{sign}{abs(nano_usd) // _NANO}.{abs(nano_usd) % _NANO:09d}"


def shown_quantity(unit: str, quantity: int) -> tuple[float, str | None]:
    """A quantity as OpenAI's costs API has it, and in which unit; None if it has none for that."""
    known = UNITS.get(cast("UnitName", unit))
    if known is None:
        return quantity, None
    shown = quantity / known.quantity_per
    return (int(shown) if shown.denominator == 1 else float(shown)), known.quantity_unit


def charge(quantity: int, rate: int, per: int) -> int:
    """nano-USD of a quantity: exact, rounded half up once, here, at the end of a line item."""
    return (2 * quantity * rate + per) // (2 * per)
