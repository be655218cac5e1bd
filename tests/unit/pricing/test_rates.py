"""Rates as integers, against the book that they are from."""

import msgspec
import pytest

from gateway.pricing.book import Book, make_book
from gateway.pricing.rates import MILLION, RateCards
from gateway.pricing.tables import instant
from gateway.settings.model import ModelPrice, Prices
from gateway.values import Quantities, UsageLine

AT = instant("2026-11-22")
MODELS = ["gpt-4o", "gpt-5.4", "gpt-5.6-luna", "o4-mini", "gpt-audio", "nobody-knows-it", "omni-moderation-latest"]


@pytest.fixture(scope="module")
def book() -> Book:
    return make_book(Prices())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("tier", ["", "flex", "priority", "nonsense"])
@pytest.mark.parametrize("read", [1, 1000, 272_000, 272_001, 900_000])
def test_tokens_cost_what_the_book_says(model: str, tier: str, read: int, book: Book) -> None:
    step = RateCards(book).of(model, tier, "completions", AT).step(read)
    line = UsageLine(category="completions", upstream_model=model, service_tier=tier)

    def price(used: Quantities, *, at_default: bool = False) -> int:
        made = msgspec.structs.replace(line, quantities=used, **({"service_tier": "default"} if at_default else {}))
        return book.price(made, AT).nano_usd

    usual = Quantities(input_tokens=read, output_tokens=1000)
    assert abs(price(usual) - (read * step.input + 1000 * step.output) / MILLION) <= 1
    for default in (False, True):
        for used in (
            usual,
            Quantities(input_tokens=read, cache_write_tokens=read, cache_write_12h_tokens=read),
            Quantities(input_tokens=read, cached_tokens=read),
            Quantities(input_tokens=read, output_tokens=1000, output_audio_tokens=1000),
        ):
            most = (read * step.most_input + used.output_tokens * step.most_output) / MILLION
            assert price(used, at_default=default) <= most + 1
        media = Quantities(input_tokens=read, input_audio_tokens=read)
        assert price(media, at_default=default) <= read * step.most_media / MILLION + 1


def test_a_window_is_that_of_the_model_also_under_another_name() -> None:
    book = make_book(Prices(models={"mine": ModelPrice(like="gpt-4o"), "gpt-4.1": ModelPrice(input_tokens=1)}))
    assert book.context("gpt-4o-2024-11-20") == (128_000, 16_384)
    assert book.context("mine") == (128_000, 16_384)
    assert book.context("gpt-4.1") == (1_047_576, 32_768)
    assert book.context("nobody-knows-it") == (0, 0)


def test_rates_are_looked_up_anew_when_others_hold(book: Book) -> None:
    cards = RateCards(book)
    first = cards.of("o3", "", "completions", instant("2025-06-01"))
    assert first.until == instant("2025-06-10")
    assert cards.of("o3", "", "completions", instant("2025-06-02")) is first
    later = cards.of("o3", "", "completions", instant("2025-06-10"))
    assert later.steps[0].input < first.steps[0].input


def test_a_call_of_a_tool_costs_what_the_book_says(book: Book) -> None:
    rates = RateCards(book).of("gpt-5-mini", "", "completions", AT)
    line = UsageLine(category="x", upstream_model="gpt-5-mini")
    for price, used in (
        (rates.web_search, Quantities(web_searches=1)),
        (rates.file_search, Quantities(file_searches=1)),
        (rates.session, Quantities(sessions=1)),
    ):
        assert price == book.price(msgspec.structs.replace(line, quantities=used), AT).nano_usd
