"""What the book adds to lists of rates: which name and tier decide, what is unknown, what counts once."""

import datetime as dt
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import SystemClock
from gateway.pricing.amounts import token_parts
from gateway.pricing.book import OTHER, Book, Price, make_book
from gateway.pricing.units import QUOTED, UNITS, dollars, quoted, rate_of
from gateway.settings.model import ModelPrice, Prices, Rates
from gateway.values import Quantities, UsageLine
from tests.fakes.measuring import Measured

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC).timestamp()
BOOK = make_book(Prices())
MILLION = 1_000_000
USD = 1_000_000_000


def priced(book: Book = BOOK, /, **fields: Any) -> Price:
    quantities = {name: fields.pop(name) for name in list(fields) if name in Quantities.__struct_fields__}
    line = msgspec.convert(fields | {"quantities": quantities}, UsageLine)
    return book.price(line, NOW)


def usd(price: Price) -> Decimal:
    return (Decimal(price.nano_usd) / USD).normalize()


def test_the_response_names_the_model_else_the_upstream_else_the_client() -> None:
    names = {"request_model": "gpt-4o", "upstream_model": "gpt-5", "response_model": "gpt-4.1-2025-04-14"}
    entries = []
    while names:
        entries.append(priced(input_tokens=1, **names).rate.entry)
        names.popitem()
    assert entries == ["gpt-4.1", "gpt-5", "gpt-4o"]


def test_an_unknown_response_model_is_priced_as_what_was_asked_for_and_says_so() -> None:
    price = priced(input_tokens=MILLION, response_model="gpt-5-9999", upstream_model="gpt-5", request_model="gpt-4o")
    assert usd(price) == Decimal("1.25")
    assert not price.known
    assert "as gpt-5" in price.rate.note
    price = priced(input_tokens=MILLION, response_model="a", upstream_model="b", request_model="gpt-5")
    assert price.rate.entry == "", "a client's name for another model says nothing of its price"


def test_line_items_are_named_like_openais() -> None:
    price = priced(
        response_model="gpt-6-astra",
        input_tokens=100,
        cached_tokens=20,
        cache_write_tokens=30,
        cache_write_12h_tokens=10,
        output_tokens=5,
    )
    assert [(item.name, item.quantity, item.nano_usd) for item in price.items] == [
        ("gpt-6-astra, input_tokens", 50, 500_000),
        ("gpt-6-astra, cached_input_tokens", 20, 20_000),
        ("gpt-6-astra, cache_write_input_tokens", 20, 250_000),
        ("gpt-6-astra, cache_write_12h_input_tokens", 10, 250_000),
        ("gpt-6-astra, output_tokens", 5, 250_000),
    ]
    assert price.known
    assert {UNITS[item.unit].quantity_unit for item in price.items} == {"tokens"}


@pytest.mark.parametrize("written", [{"cache_write_tokens": 10}, {"cache_write_12h_tokens": 10}])
def test_what_is_written_for_12_hours_costs_twice(written: dict[str, int]) -> None:
    for tier in ("", "flex", "priority", "ultrafast"):
        for tokens in (1000, 300_000):
            rates = {
                item.unit: item.rate
                for item in priced(
                    response_model="gpt-6-astra", service_tier=tier, input_tokens=tokens, **written
                ).items
            }
            (rate,) = (rate for unit, rate in rates.items() if unit.startswith("cache_write"))
            assert rate == rates["input_tokens"] * Decimal("1.25") * (2 if "cache_write_12h_tokens" in written else 1)


def test_an_unknown_tier_costs_the_dearest_that_the_model_has() -> None:
    known = priced(response_model="gpt-4o", service_tier="priority", input_tokens=MILLION, output_tokens=MILLION)
    price = priced(response_model="gpt-4o", service_tier="scale", input_tokens=MILLION, output_tokens=MILLION)
    assert price.nano_usd == known.nano_usd
    assert (known.known, price.known, price.rate.tier) == (True, False, "dearest")
    own = make_book(Prices(models={"llama": ModelPrice(input_tokens=1, output_tokens=2)}))
    assert priced(own, response_model="llama", service_tier="scale", input_tokens=5).known, (
        "its rates hold for all tiers"
    )


@pytest.mark.parametrize(("tier", "batch"), [("flex", False), ("default", True)])
def test_a_cheap_tier_without_rates_costs_the_standard_ones(tier: str, batch: bool) -> None:
    price = priced(response_model="chatgpt-4o-latest", service_tier=tier, batch=batch, input_tokens=MILLION)
    assert usd(price) == 5
    assert not price.known


def test_tiers_that_genai_prices_lacks() -> None:
    assert usd(priced(response_model="text-embedding-3-small", batch=True, input_tokens=MILLION)) == Decimal("0.01")
    assert usd(
        priced(response_model="gpt-6-astra", service_tier="ultrafast", input_tokens=1000, output_tokens=1000)
    ) == Decimal("0.36")
    decision = priced(response_model="gpt-6-luna", category="decisions", input_tokens=MILLION // 4, output_tokens=9)
    assert usd(decision) == Decimal("0.025")
    assert decision.known
    other = priced(response_model="gpt-5", category="decisions", input_tokens=MILLION)
    assert (usd(other), other.known) == (Decimal("1.25"), True)


@pytest.mark.parametrize(
    ("fields", "expected", "known"),
    [
        ({"response_model": "dall-e-3", "images": 2, "image_size": "1792x1024", "image_quality": "hd"}, "0.24", True),
        ({"response_model": "dall-e-3", "images": 1}, "0.04", True),
        ({"response_model": "dall-e-3", "images": 1, "image_quality": "hd"}, "0.08", True),
        ({"response_model": "dall-e-3", "images": 1, "image_size": "9x9"}, "0.12", False),
        ({"request_model": "dall-e-2", "images": 3, "image_size": "256x256", "image_quality": "standard"}, "0.048", True),
        ({"response_model": "sora-2", "duration_ms": 8_000, "image_size": "1280x720"}, "0.8", True),
        ({"response_model": "sora-2-pro", "duration_ms": 12_000, "image_size": "1024x1792"}, "6", True),
        ({"response_model": "sora-2-pro", "duration_ms": 4_000, "image_size": "1080x1920"}, "2", False),
        ({"response_model": "gpt-image-1", "images": 1, "image_size": "1024x1024", "image_quality": "low"}, "0.011", True),
        ({"response_model": "gpt-image-1", "images": 1, "output_tokens": 1000, "image_quality": "low"}, "0.04", True),
        ({"response_model": "whisper-1", "duration_ms": 60_000, "category": "audio_transcriptions"}, "0.006", True),
        ({"response_model": "gpt-4o-transcribe", "duration_ms": 60_000, "input_tokens": 1000}, "0.0025", True),
        ({"response_model": "gpt-4o-transcribe", "duration_ms": 60_000}, "0.006", True),
        ({"response_model": "tts-1", "characters": 1_000, "input_tokens": 300}, "0.015", True),
        ({"response_model": "gpt-live-1", "duration_ms": 60_000, "sessions": 1}, "0.05", True),
        ({"category": "code_interpreter_sessions", "sessions": 2}, "0.06", True),
        ({"response_model": "gpt-5", "category": "web_search_calls", "web_searches": 3}, "0.03", True),
        ({"response_model": "who", "category": "web_search_calls", "web_searches": 3}, "0.03", True),
        ({"category": "file_search_calls", "file_searches": 2}, "0.005", True),
        ({"category": "vector_stores", "bytes": 1 << 31}, "0.2", False),
        ({"response_model": "gpt-4.1", "trained_tokens": 1_000}, "0.6", False),
        ({"response_model": "omni-moderation-latest", "input_tokens": 1_000}, "0", True),
        ({"response_model": "text-embedding-3-small", "output_tokens": 1_000}, "0.6", False),
        ({"response_model": "gpt-5", "duration_ms": 3_600_000, "category": "audio_speeches"}, "3", False),
        ({"response_model": "gpt-5"}, "0", True),
    ],
)  # fmt: skip
def test_units(fields: dict[str, object], expected: str, known: bool) -> None:
    price = priced(**fields)
    assert (usd(price), price.known) == (Decimal(expected), known)


def test_an_unknown_model_costs_the_ceiling_never_nothing() -> None:
    for unit in ("input_tokens", "output_tokens", "images", "characters", "duration_ms", "trained_tokens", "bytes"):
        price = priced(response_model="who-knows", **{unit: MILLION})
        assert price.nano_usd > 0
        assert (price.known, price.rate.entry, price.items[0].source) == (False, "", "the ceiling")
    everything = [priced(response_model=model, input_tokens=MILLION).nano_usd for model in BOOK.models()]
    assert priced(response_model="who-knows", input_tokens=MILLION).nano_usd >= max(everything)


def test_a_configured_ceiling() -> None:
    book = make_book(Prices(ceiling=Rates(input_tokens="2.5", output_tokens=10)))
    assert usd(
        priced(book, response_model="who", input_tokens=MILLION, cached_tokens=MILLION // 2, output_tokens=MILLION)
    ) == Decimal("12.5")
    assert usd(priced(book, response_model="who", input_tokens=100, input_audio_tokens=100)) == Decimal("0.00025")
    assert usd(priced(book, response_model="who", images=1)) == Decimal("0.25"), "a unit that is not written"


def test_refusing_is_told_and_still_priced() -> None:
    book = make_book(Prices(unknown_model="refuse", models={"mine": ModelPrice(input_tokens=0, output_tokens=0)}))
    assert (book.refuses("who"), book.refuses("gpt-5"), book.refuses("mine"), BOOK.refuses("who")) == (
        True,
        False,
        False,
        False,
    )
    assert priced(book, response_model="who", input_tokens=1).nano_usd > 0
    mine = priced(book, response_model="mine", input_tokens=5, cached_tokens=2, output_tokens=5)
    assert (mine.nano_usd, mine.known) == (0, True), "free only where someone says so"


def test_names_for_metrics_are_bounded() -> None:
    book = make_book(Prices(models={"llama-*": ModelPrice(input_tokens=1), "prod": ModelPrice(like="gpt-4o")}))
    asked = ["gpt-4o-2024-11-20", "ft:gpt-4o-2024-08-06:org::id", "LLAMA-3", "prod", "who", ""]
    assert [book.label(name) for name in asked] == ["gpt-4o", "ft:gpt-4o", "llama-*", "prod", OTHER, OTHER]
    assert {book.label(name) for name in asked} - {OTHER} <= book.models()


def test_what_is_remembered_is_bounded() -> None:
    book = make_book(Prices())
    for number in range(5_000):
        priced(book, response_model=f"who-{number}", input_tokens=1)
    assert len(book._sheets) <= 1024


TOTALS = ("input_tokens", "output_tokens", "images", "characters", "duration_ms", "trained_tokens", "bytes", "sessions", "web_searches", "file_searches")  # fmt: skip
models = st.sampled_from([*sorted(BOOK.models()), "who-knows", ""])
quantities_of = st.builds(
    Quantities, **{name: st.integers(0, 2_000_000) | st.just(0) for name in Quantities.__struct_fields__}
)
lines = st.builds(
    UsageLine,
    response_model=models,
    service_tier=st.sampled_from(["", "default", "flex", "priority", "fast", "ultrafast", "scale"]),
    batch=st.booleans(),
    category=st.sampled_from([None, "completions", "decisions", "audio_transcriptions"]),
    quantities=quantities_of,
    image_size=st.sampled_from(["", "1024x1024", "9x9"]),
    image_quality=st.sampled_from(["", "hd", "low"]),
)


@given(lines, st.sampled_from([0.0, NOW]))
def test_a_price_is_the_sum_of_its_items(line: UsageLine, at: float) -> None:
    price = BOOK.price(line, at)
    assert price.nano_usd == sum(item.nano_usd for item in price.items)
    assert all(item.quantity > 0 and item.nano_usd >= 0 for item in price.items)
    assert len({item.unit for item in price.items}) == len(price.items)


@given(lines, st.sampled_from(TOTALS), st.integers(0, 1_000_000))
def test_more_never_costs_less(line: UsageLine, total: str, more: int) -> None:
    before = getattr(line.quantities, total)
    if before:  # a unit that the line did not have may change what its measure is
        grown = msgspec.structs.replace(line.quantities, **{total: before + more})
        assert (
            BOOK.price(msgspec.structs.replace(line, quantities=grown), NOW).nano_usd >= BOOK.price(line, NOW).nano_usd
        )


@given(st.lists(st.integers(0, 10**7), min_size=8, max_size=8), st.integers(0, 10**7), st.integers(0, 10**7))
def test_every_token_is_in_one_part(parts: list[int], audio_out: int, image_out: int) -> None:
    text, cached, short, long, audio, cached_audio, image, cached_image = parts
    used = Quantities(
        input_tokens=sum(parts),
        cached_tokens=cached + cached_audio + cached_image,
        cache_write_tokens=short + long,
        cache_write_12h_tokens=long,
        input_audio_tokens=audio + cached_audio,
        cached_audio_tokens=cached_audio,
        input_image_tokens=image + cached_image,
        cached_image_tokens=cached_image,
        output_tokens=5 + audio_out + image_out,
        output_audio_tokens=audio_out,
        output_image_tokens=image_out,
    )
    found = dict(token_parts(used))
    if audio + cached_audio + image + cached_image:
        assert found.get("cached_tokens", 0) == cached
        assert found.get("cached_audio_tokens", 0) == cached_audio
    assert found.get("input_tokens", 0) == text
    assert sum(found.values()) == used.input_tokens + used.output_tokens


def test_rates_are_quoted_exactly() -> None:
    for name, unit in QUOTED.items():
        assert rate_of(name, Decimal("0.000000001"))[1] == UNITS[unit].quoted_per
        assert quoted(*rate_of(name, Decimal("1.25"))) == Decimal("1.25")
    with pytest.raises(ValueError, match="9 decimals"):
        rate_of("images", Decimal("0.0000000001"))
    assert (dollars(1), dollars(12 * USD), dollars(-5)) == ("0.000000001", "12.000000000", "-0.000000005")


def test_pricing_is_cheap(measured: Measured) -> None:
    line = UsageLine(
        response_model="gpt-6-astra",
        service_tier="default",
        category="completions",
        quantities=Quantities(input_tokens=1000, cached_tokens=500, output_tokens=300),
    )
    clock = SystemClock()
    best = 1.0
    for _ in range(20):
        start = clock.monotonic()
        for _ in range(1000):
            BOOK.price(line, NOW)
        best = min(best, clock.monotonic() - start)
    measured("price of a chat line", best * 1000, "µs", limit="< 5 µs")
    assert best * 1000 < 25, "five times what is wanted, for a slow machine"
