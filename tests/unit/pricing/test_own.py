"""Prices in the settings: what they change, and what is said of mistakes."""

from decimal import Decimal
from pathlib import Path

import pytest

from gateway.commands.check import load
from gateway.pricing.book import Book, Price, make_book
from gateway.settings.load import SettingsError
from gateway.settings.model import Prices, Settings
from gateway.settings.transfer import decode, encode
from gateway.values import Quantities, UsageLine

MINIMAL = "upstreams: {openai: {base_url: 'https://api.openai.com/v1'}}\nprices:\n"
NOW = 1_795_348_800.0
MILLION = 1_000_000


def settings(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "gateway.yaml"
    path.write_text(MINIMAL + text)
    return load(path)


def book(tmp_path: Path, text: str) -> Book:
    return make_book(settings(tmp_path, text).prices)


def cost(book: Book, model: str, tier: str = "", batch: bool = False, **quantities: int) -> tuple[Decimal, bool]:
    price = price_of(book, model, tier, batch, **quantities)
    return (Decimal(price.nano_usd) / 10**9).normalize(), price.known


def price_of(book: Book, model: str, tier: str = "", batch: bool = False, **quantities: int) -> Price:
    used = Quantities(**quantities)
    return book.price(UsageLine(response_model=model, service_tier=tier, batch=batch, quantities=used), NOW)


def test_rates_are_exact_as_numbers_and_as_text(tmp_path: Path) -> None:
    prices = book(
        tmp_path,
        "  models:\n"
        "    tiny: {input_tokens: 0.000000001, output_tokens: '0.1', images: 1e-3}\n"
        "    audio: {audio_minutes: 0.006, video_seconds: '0.1'}\n",
    )
    assert cost(prices, "tiny", input_tokens=500_000) == (Decimal("0.000000001"), True), "half a nano-dollar is up"
    assert cost(prices, "tiny", output_tokens=3) == (Decimal("0.0000003"), True)
    assert cost(prices, "tiny", images=3) == (Decimal("0.003"), True)
    assert cost(prices, "audio", duration_ms=90_000) == (Decimal("0.009"), True)


def test_a_unit_that_is_written_replaces_the_books_at_every_context_length(tmp_path: Path) -> None:
    prices = book(tmp_path, "  models: {gpt-6-astra: {input_tokens: 7}}\n")
    assert cost(prices, "gpt-6-astra", input_tokens=MILLION) == (Decimal(7), True)
    assert cost(prices, "gpt-6-astra-2027-01-01", output_tokens=MILLION) == (Decimal(50), True), "the others stay"
    assert cost(prices, "gpt-6-astra", "flex", input_tokens=MILLION) == (Decimal(10), True), "and other tiers"
    price = price_of(prices, "gpt-6-astra", input_tokens=1, output_tokens=1)
    assert [item.source for item in price.items] == ["settings", "genai-prices 0.2.3"]


def test_tiers(tmp_path: Path) -> None:
    prices = book(
        tmp_path,
        "  models:\n"
        "    gpt-5: {batch: {input_tokens: 0.5}, priority: {output_tokens: 30}}\n"
        "    mine: {input_tokens: 2, batch: {input_tokens: 1}}\n",
    )
    assert cost(prices, "gpt-5", batch=True, input_tokens=MILLION) == (Decimal("0.5"), True)
    assert cost(prices, "gpt-5", batch=True, output_tokens=MILLION) == (Decimal(5), True), "as the book has it"
    assert cost(prices, "gpt-5", "fast", output_tokens=MILLION) == (Decimal(30), True)
    assert cost(prices, "mine", batch=True, input_tokens=MILLION) == (Decimal(1), True)
    assert cost(prices, "mine", "flex", input_tokens=MILLION) == (Decimal(2), False)


def test_a_factor_is_for_what_is_not_written(tmp_path: Path) -> None:
    prices = book(tmp_path, "  models: {'gpt-4o*': {factor: 0.9, output_tokens: 8}}\n")
    assert cost(prices, "gpt-4o", input_tokens=MILLION) == (Decimal("2.25"), True)
    assert cost(prices, "gpt-4o-mini", input_tokens=MILLION, cached_tokens=MILLION) == (Decimal("0.0675"), True)
    assert cost(prices, "gpt-4o", output_tokens=MILLION) == (Decimal(8), True)
    assert cost(prices, "gpt-4o-weird", output_tokens=MILLION) == (Decimal(8), True), "a model that is only here"
    assert cost(prices, "gpt-4o-weird", input_tokens=MILLION) == (Decimal(150), False)
    assert "times 0.9" in price_of(prices, "gpt-4o", input_tokens=1).items[0].source


def test_like_another_model(tmp_path: Path) -> None:
    prices = book(tmp_path, "  models: {prod-chat: {like: gpt-4o-2024-11-20, factor: '1.1'}}\n")
    assert cost(prices, "prod-chat", input_tokens=MILLION) == (Decimal("2.75"), True)
    assert prices.label("prod-chat") == "prod-chat"


def test_own_image_and_video_rates_are_for_every_size(tmp_path: Path) -> None:
    prices = book(tmp_path, "  models: {dall-e-3: {images: 0.01}, sora-2-pro: {video_seconds: 0.2}}\n")
    assert cost(prices, "dall-e-3", images=2) == (Decimal("0.02"), True)
    assert cost(prices, "sora-2-pro", duration_ms=5_000) == (Decimal(1), True)


def test_patterns_whole_names_first(tmp_path: Path) -> None:
    prices = book(tmp_path, "  models: {'llama-*': {input_tokens: 1}, llama-3: {input_tokens: 3}}\n")
    assert [cost(prices, name, input_tokens=MILLION)[0] for name in ("llama-3", "LLAMA-4", "x-llama-3")] == [3, 1, 150]


def test_prices_survive_the_way_to_a_child(tmp_path: Path) -> None:
    found = settings(tmp_path, "  ceiling: {input_tokens: '3.10'}\n  models: {a: {input_tokens: 0.1}}\n")
    assert decode(encode(found)) == found


USD = "expected dollars, as a number or as text, with at most 9 decimals"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  models: {a: {input_tokens: free}}\n", f"3: prices.models.a.input_tokens: {USD}, got 'free'"),
        ("  models: {a: {input_tokens: -1}}\n", f"3: prices.models.a.input_tokens: {USD}, got -1"),
        ("  models: {a: {input_tokens: '1.0000000001'}}\n", f"3: prices.models.a.input_tokens: {USD}, got '1.0000000001'"),
        (
            "  models:\n    a:\n      batch: {images: 1e-10}\n",
            "5: prices.models.a.batch.images: expected dollars with at most 9 decimals, got 1E-10",
        ),
        ("  models: {a: {input_token: 1}}\n", "3: prices.models.a.input_token: is not a setting; did you mean"),
        ("  models: {a: {factor: 2}}\n", "3: prices.models.a: expected rates, or like: the gateway has no prices for"),
        ("  models: {a: {like: b}}\n", "3: prices.models.a.like: expected the name of a model that the gateway has"),
        ("  ceiling: {images: 0}\n", "3: prices.ceiling.images: expected more than 0"),
        ("  unknown_model: allow\n", "3: prices.unknown_model: expected one of ceiling, refuse, got 'allow'"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_place(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(tmp_path, text)
    (line,) = [line for line in str(caught.value).splitlines() if expected.split(":")[1] in line][:1]
    assert line.removeprefix(f"{tmp_path}/gateway.yaml:").startswith(expected)


def test_the_default_is_the_ceiling() -> None:
    assert Prices().unknown_model == "ceiling"
