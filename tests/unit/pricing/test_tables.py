"""prices.json and its strict reader."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.pricing.tables import PricesError, instant, load_tables, parse_tables
from gateway.pricing.units import UNITS


def file() -> dict[str, Any]:
    return {
        "form": 1,
        "source": {"name": "n", "version": "1", "url": "u", "notice": "MIT", "generated": "2026-11-22"},
        "tools": {"rates": {"web_searches": 1}, "sources": {"web_searches": "s"}},
        "ceiling": {"input_tokens": 5},
        "models": [
            {
                "id": "a",
                "match": {"equals": ["a"], "regex": ["^a-\\d$"]},
                "layers": [
                    {"rates": {"input_tokens": [[0, 1], [10, 2]], "output_tokens": 3}},
                    {"rates": {"input_tokens": 1}, "tier": "flex", "start": "2026-01-02"},
                ],
            }
        ],
    }


def test_the_file_says_where_it_is_from() -> None:
    tables = load_tables()
    assert (tables.source.name, tables.source.version) == ("genai-prices", "0.2.3")
    assert "MIT" in tables.source.notice
    assert instant(tables.source.generated) > 0
    assert tables.ceiling.keys() == UNITS.keys()


def test_every_rate_that_is_not_the_sources_own_names_its_source() -> None:
    tables = load_tables()
    assert tables.tools.sources.keys() == tables.tools.rates.keys()
    for entry in tables.models:
        for layer in entry.layers:
            assert all(layer.sources.values())
            if layer.sized:
                assert entry.source or layer.sized.keys() <= layer.sources.keys()


def test_a_right_file_is_read() -> None:
    tables = parse_tables(json.dumps(file()).encode(), "f")
    assert tables.models[0].layers[0].rates["input_tokens"] == ((0, 1), (10, 2))


def change(place: str, value: object) -> Callable[[dict[str, Any]], None]:
    def apply(target: Any) -> None:
        *way, last = [int(part) if part.isdigit() else part for part in place.split(".")]
        for part in way:
            target = target[part]
        target[last] = value

    return apply


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("form", 2, "f: expected a file of form 1, got 2 - at `$.form`"),
        ("more", 1, "f: Object contains unknown field `more`"),
        ("ceiling.input_tokens", 0, "expected a rate above 0, got 0 - at `$.ceiling.input_tokens`"),
        ("ceiling.input_tokens", 1.5, "at `$.ceiling[...]`"),
        ("models.0.layers.0.rates.tokens", 1, "at `key` in `$.models[0].layers[0].rates`"),
        ("models.0.layers.0.rates.input_tokens", -1, "at `$.models[0].layers[0].rates.input_tokens`"),
        ("models.0.layers.0.rates.input_tokens", [[5, 1]], "at `$.models[0].layers[0].rates.input_tokens`"),
        ("models.0.layers.0.rates.input_tokens", [[0, 1], [0, 2]], "at `$.models[0].layers[0].rates.input_tokens`"),
        ("models.0.layers.0.rates.input_tokens", [], "at `$.models[0].layers[0].rates.input_tokens`"),
        ("models.0.layers.0.start", "2026-01-02", "a has no layer of tier default that always holds - at `$.models[0]"),
        ("models.0.layers.1.start", "soon", "at `$.models[0].layers[1].start`"),
        ("models.0.layers.0.sized", {"images": {}}, "at `$.models[0].layers[0].sized.images`"),
        ("models.0.match.regex", ["("], "'(' is not a regular expression"),
        ("models.0.id", 5, "at `$.models[0].id`"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(place: str, value: object, expected: str) -> None:
    wrong = file()
    change(place, value)(wrong)
    with pytest.raises(PricesError) as caught:
        parse_tables(json.dumps(wrong).encode(), "f")
    assert str(caught.value).startswith("f: ")
    assert expected in str(caught.value)


def test_an_entry_stands_once() -> None:
    wrong = file()
    wrong["models"] *= 2
    with pytest.raises(PricesError, match=r"a stands twice - at `\$.models\[1\].id`"):
        parse_tables(json.dumps(wrong).encode(), "f")
    with pytest.raises(PricesError, match="f: "):
        parse_tables(b"{", "f")
