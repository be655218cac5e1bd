"""Prices agree with genai-prices, from which they are made, on every model, tier, date and context length."""

import datetime as dt
from collections.abc import Iterator
from fractions import Fraction

import pytest
from genai_prices.types import ModelInfo

from gateway.pricing.book import Book, LineItem, make_book
from gateway.pricing.names import Names
from gateway.pricing.tables import load_tables
from gateway.pricing.units import UNITS
from gateway.settings.model import Prices
from gateway.values import Quantities, UsageLine
from tests.unit.pricing.oracle import OPENAI, exact, names_of, nano_usd, price_keys, starts_of

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC).timestamp()
TIERS = [("", False), ("default", False), ("flex", False), ("priority", False), ("fast", False), ("default", True)]
# It has no batch rates for these; .ci/prices.toml has.
BATCH_BY_HAND = {
    "babbage-002",
    "chatgpt-image-latest",
    "davinci-002",
    "gpt-4o-search-preview",
    "text-embedding-3-large",
    "text-embedding-3-small",
    "text-embedding-ada-002",
}
INPUTS = (1, 1000, 272_000, 272_001, 999_999)


@pytest.fixture(scope="module")
def book() -> Book:
    return make_book(Prices())


def token_uses(keys: set[str]) -> Iterator[Quantities]:
    for total in INPUTS:
        yield Quantities(input_tokens=total)
        if "output_mtok" not in keys:
            continue
        yield Quantities(input_tokens=total, output_tokens=7)
        part = total // 9
        yield Quantities(
            input_tokens=total,
            cached_tokens=3 * part,
            cache_write_tokens=part,
            output_tokens=1_357,
            reasoning_tokens=1_000,
        )
        yield Quantities(
            input_tokens=total,
            cached_tokens=3 * part,
            input_audio_tokens=2 * part,
            cached_audio_tokens=part,
            input_image_tokens=2 * part,
            cached_image_tokens=part,
            output_tokens=2_468,
            output_audio_tokens=333,
            output_image_tokens=444,
        )


def uses(model: ModelInfo) -> Iterator[Quantities]:
    """Quantities in all units that genai-prices has a rate for."""
    keys = price_keys(model)
    if "input_mtok" in keys or not keys:
        yield from token_uses(keys)
    if "web_searches_kcount" in keys:
        yield Quantities(input_tokens=5, output_tokens=5, web_searches=3, file_searches=7)
    if "input_mchars" in keys:
        yield Quantities(characters=4_097)
    if "audio_hours" in keys:
        yield Quantities(duration_ms=61_200)


def moments(model: ModelInfo) -> Iterator[float]:
    yield NOW
    yield 0.0
    for date in starts_of(model):
        midnight = dt.datetime.combine(date, dt.time(), dt.UTC).timestamp()
        yield from (midnight - 1, midnight)


def half_up(value: Fraction) -> int:
    return (value + Fraction(1, 2)).__floor__()


def rounded(item: LineItem) -> int:
    return half_up(Fraction(item.quantity * item.rate, UNITS[item.unit].per))


def test_all_its_models_are_here() -> None:
    ours = [entry.id for entry in load_tables().models]
    assert ours[: len(OPENAI.models)] == [model.id for model in OPENAI.models]


@pytest.mark.parametrize("model", OPENAI.models, ids=lambda model: model.id)
def test_every_tier_date_and_context_costs_the_same(model: ModelInfo, book: Book) -> None:
    seen = 0
    for at in moments(model):
        for tier, batch in TIERS:
            if batch and model.id in BATCH_BY_HAND:
                continue
            for quantities in uses(model):
                line = UsageLine(
                    response_model=next(names_of(model)), service_tier=tier, batch=batch, quantities=quantities
                )
                price = book.price(line, at)
                assert exact(price.items) == nano_usd(model, line, at), (line, at)
                assert [item.nano_usd for item in price.items] == [rounded(item) for item in price.items]
                assert price.nano_usd == sum(item.nano_usd for item in price.items)
                seen += 1
    assert seen >= 2 * (len(TIERS) - 1)


def test_round_quantities_agree_to_the_nano_dollar(book: Book) -> None:
    """Where no part of a price is a fraction of a nano-dollar, rounding has nothing to do."""
    for model in OPENAI.models:
        if "output_mtok" in price_keys(model):
            used = Quantities(input_tokens=270_000, cached_tokens=10_000, cache_write_tokens=2_000, output_tokens=8_000)
            line = UsageLine(response_model=next(names_of(model)), quantities=used)
            assert book.price(line, NOW).nano_usd == nano_usd(model, line, NOW)


def test_every_name_finds_the_same_model() -> None:
    names = Names(load_tables().models)
    others = {"tts-1-1106", "gpt-6-astra-law", "dall-e-3", "gpt-4o-mini-tts-2025-12-15", "sora-2", "llama-3", "", "gpt"}
    asked = others | {name for model in OPENAI.models for name in names_of(model)}
    asked |= {variant for name in asked for variant in (name.upper(), f"{name}-mini", f"ft:{name}:org::id", name[:-1])}
    ours_alone = set()
    for name in asked:
        theirs, ours = OPENAI.find_model(name), names.find(name)
        if theirs is None and ours is not None:
            ours_alone.add(ours.id)
        else:
            assert (ours.id if ours else None) == (theirs.id if theirs else None), name
    assert {"dall-e-3", "sora-2", "tts-1", "gpt-6-astra-law"} <= ours_alone
    assert all(name.lower() not in {model.id for model in OPENAI.models} for name in others)


def test_rates_by_hand_are_only_of_what_it_lacks() -> None:
    assert {model.id for model in OPENAI.models} >= BATCH_BY_HAND
    for model in OPENAI.models:
        has_batch = any("processing" in variant.when for variant in model.price_variants or ())
        assert not (has_batch and model.id in BATCH_BY_HAND)


@pytest.mark.parametrize("tier", ["flex", "priority", "batch"])
def test_a_tier_that_it_has_rates_for_is_known(tier: str, book: Book) -> None:
    key = ("processing", "batch") if tier == "batch" else ("service_tier", tier)
    having = [model for model in OPENAI.models if any(dict([key]) == v.when for v in model.price_variants or ())]
    assert len(having) > 20
    for model in having:
        line = UsageLine(
            response_model=next(names_of(model)),
            service_tier="" if tier == "batch" else tier,
            batch=tier == "batch",
            quantities=Quantities(input_tokens=10, output_tokens=10),
        )
        price = book.price(line, NOW)
        assert (price.known, price.rate.tier, price.rate.entry) == (True, tier, model.id)
