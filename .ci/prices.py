"""gateway/pricing/prices.json: --write makes it from the locked genai-prices and .ci/prices.toml; without it, fails
when the committed file is not what these two give. No network: the prices are inside the package.
"""

import datetime as dt
import sys
import tomllib
from collections.abc import Iterable, Iterator
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from genai_prices.data import providers
from genai_prices.types import (
    ClauseContains,
    ClauseEquals,
    ClauseOr,
    ClauseRegex,
    ClauseStartsWith,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    TieredPrices,
)

from gateway.pricing.tables import FORM, STANDARD, Entry, Layer, Match, Source, Steps, Tables, parse_tables
from gateway.pricing.units import UNITS, UnitName, rate_of

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "gateway" / "pricing" / "prices.json"
EXTRA = ROOT / ".ci" / "prices.toml"
LOCK = ROOT / "requirements-dev.lock"
NOTICE = "MIT License, Copyright (c) Pydantic Services Inc. 2025 to present"
# genai-prices counts in the same measures as UNITS: millions of tokens and characters, thousands of searches, hours.
UNIT_OF: dict[str, UnitName] = {
    "input_mtok": "input_tokens",
    "cache_read_mtok": "cached_tokens",
    "cache_write_mtok": "cache_write_tokens",
    "output_mtok": "output_tokens",
    "input_audio_mtok": "input_audio_tokens",
    "cache_audio_read_mtok": "cached_audio_tokens",
    "output_audio_mtok": "output_audio_tokens",
    "input_image_mtok": "input_image_tokens",
    "cache_image_read_mtok": "cached_image_tokens",
    "output_image_mtok": "output_image_tokens",
    "input_mchars": "characters",
    "audio_hours": "audio_ms",
    "web_searches_kcount": "web_searches",
    "storage_searches_kcount": "file_searches",
}
SAME = {"input_audio_hours": "audio_hours"}  # a part that costs what the whole costs
TIERS = {
    ("service_tier", "default"): STANDARD,
    ("service_tier", "flex"): "flex",
    ("service_tier", "priority"): "priority",
    ("service_tier", "fast"): "fast",
    ("processing", "batch"): "batch",
}
TOKENS = tuple(name for name, unit in UNITS.items() if unit.quantity_unit == "tokens")


def nano(usd: Decimal) -> int:
    value = usd * 1_000_000_000
    assert value == int(value), f"{usd} has more than 9 decimals"
    return int(value)


def rates(price: ModelPrice) -> dict[UnitName, Steps]:
    found: dict[UnitName, Steps] = {}
    priced = {key: value for key, value in vars(price).items() if value is not None}
    for key, value in priced.items():
        if key in SAME:
            assert priced[SAME[key]] == value, f"{key} is not {SAME[key]}"
        elif isinstance(value, TieredPrices):
            found[UNIT_OF[key]] = ((0, nano(value.base)), *((tier.start, nano(tier.price)) for tier in value.tiers))
        else:
            found[UNIT_OF[key]] = nano(value)
    return found


def start_of(constraint: object) -> str:
    if constraint is None:
        return ""
    assert isinstance(constraint, StartDateConstraint), f"{constraint} is not a start date"
    return constraint.start_date.isoformat()


def match_of(model: ModelInfo) -> Match:
    clauses = model.match.or_ if isinstance(model.match, ClauseOr) else [model.match]
    parts: dict[str, list[str]] = {"equals": [], "starts_with": [], "contains": [], "regex": []}
    for clause in clauses:
        match clause:
            case ClauseEquals(equals=text):
                parts["equals"].append(text.lower())
            case ClauseStartsWith(starts_with=text):
                parts["starts_with"].append(text.lower())
            case ClauseContains(contains=text):
                parts["contains"].append(text.lower())
            case ClauseRegex(regex=text):
                parts["regex"].append(text)
            case _:
                raise SystemExit(f"{model.id}: {clause} is a match that .ci/prices.py does not know")
    return msgspec.convert(parts, Match)


def layers_of(model: ModelInfo) -> list[Layer]:
    if isinstance(model.prices, ModelPrice):
        layers = [Layer(rates(model.prices))]
    else:
        layers = [Layer(rates(c.prices), start=start_of(c.constraint)) for c in model.prices]
    fast: list[Layer] = []
    for variant in model.price_variants or ():
        ((key, value),) = variant.when.items()
        layer = Layer(rates(variant.prices), TIERS[key, value], start_of(variant.constraint))
        if layer.tier == STANDARD:
            assert not layer.rates, f"{model.id}: {layer}"
        elif layer.tier == "fast":
            fast.append(layer)
        else:
            layers.append(layer)
    assert [msgspec.structs.replace(f, tier="priority") for f in fast] == [x for x in layers if x.tier == "priority"]
    assert len({(x.tier, x.start) for x in layers}) == len(layers), f"{model.id}: a tier stands twice"
    return layers


def quoted_rates(row: dict[str, Any], name: str = "rates", above: str = "rates_above") -> dict[UnitName, Steps]:
    found: dict[UnitName, Steps] = dict(rate_of(unit, Decimal(usd)) for unit, usd in row.get(name, {}).items())
    for unit, rate in (rate_of(unit, Decimal(usd)) for unit, usd in row.get(above, {}).items()):
        base = found[unit]
        assert isinstance(base, int)
        found[unit] = ((0, base), (row["above"], rate))
    return found


def quoted_sizes(row: dict[str, Any]) -> dict[UnitName, dict[str, int]]:
    found = {}
    for name, sizes in row.get("sized", {}).items():
        pairs = [(size, rate_of(name, Decimal(usd))) for size, usd in sizes.items()]
        found[pairs[0][1][0]] = {size: rate for size, (_, rate) in pairs}
    return found


def added(layers: list[Layer], row: dict[str, Any]) -> list[Layer]:
    """Layers with a row of the hand-kept table in them. It may not say what genai-prices says already."""
    more, sized, tier = quoted_rates(row), quoted_sizes(row), row.get("tier", STANDARD)
    sources: dict[UnitName, str] = dict.fromkeys([*more, *sized], row["source"])
    if tier != STANDARD:
        assert all(layer.tier != tier for layer in layers), f"{row['model']} has {tier} already"
        return [*layers, Layer(more, tier, sources=sources)]
    assert not any(more.keys() & layer.rates.keys() for layer in layers), f"{row['model']} has {list(more)} already"
    return [
        Layer(layer.rates | more, layer.tier, layer.start, layer.sized | sized, layer.sources | sources)
        if layer.tier == STANDARD
        else layer
        for layer in layers
    ]


def multiplied(layer: Layer, row: dict[str, Any]) -> Layer:
    steps = layer.rates.get(row["of"])
    if steps is None:
        return layer
    by = row["by"]
    more: Steps = steps * by if isinstance(steps, int) else tuple((above, rate * by) for above, rate in steps)
    return Layer(
        layer.rates | {row["unit"]: more},
        layer.tier,
        layer.start,
        layer.sized,
        layer.sources | {row["unit"]: row["source"]},
    )


def entries(extra: dict[str, Any]) -> Iterator[Entry]:
    (openai,) = (provider for provider in providers if provider.id == "openai")
    free = {row["model"]: row["source"] for row in extra["free"]}
    for model in openai.models:
        layers = layers_of(model)
        for row in extra["add"]:
            if row["model"] == model.id:
                layers = added(layers, row)
        match = match_of(model)
        names = tuple(name for row in extra["names"] if row["model"] == model.id for name in row["names"])
        match = msgspec.structs.replace(match, equals=match.equals + names)
        assert bool(layers[0].rates or layers[0].sized) != (model.id in free), f"{model.id}: free or not?"
        if model.id in free:
            layers = [Layer({"input_tokens": 0, "output_tokens": 0})]
        window = model.context_window or 0
        yield Entry(model.id, match, tuple(layers), flat=model.id in free, source=free.get(model.id, ""), window=window)
    for row in extra["models"]:
        batch = [Layer(quoted_rates(row, "batch", ""), "batch")] if "batch" in row else []
        standard = Layer(quoted_rates(row), sized=quoted_sizes(row))
        match = Match(equals=tuple(row.get("names", ())), starts_with=tuple(row.get("prefixes", ())))
        yield Entry(row["id"], match, (standard, *batch), source=row["source"])


def with_context(entry: Entry, extra: dict[str, Any]) -> Entry:
    """An entry with what the hand-kept table says of its context, which is never less than genai-prices knows."""
    for row in extra["contexts"]:
        if entry.id in row["models"]:
            window = row.get("window", entry.window)
            assert window >= max(entry.window, row["output"]), f"{entry.id}: a window of {window} is too small"
            return msgspec.structs.replace(entry, window=window, output=row["output"])
    return entry


def dearest(models: Iterable[Entry], tools: Layer, extra: dict[str, Any]) -> dict[UnitName, int]:
    """The ceiling: the highest rate of each unit; for training, of which no price is known, that of any token."""
    found: dict[UnitName, int] = {}
    for layer in (tools, *(layer for entry in models for layer in entry.layers)):
        for unit, steps in layer.rates.items():
            top = steps if isinstance(steps, int) else max(rate for _, rate in steps)
            found[unit] = max(found.get(unit, 0), top)
        for unit, sizes in layer.sized.items():
            found[unit] = max(found.get(unit, 0), *sizes.values())
    found["trained_tokens"] = max(rate for unit, rate in found.items() if unit in TOKENS)
    for row in extra["ceiling"]:
        for unit, rate in quoted_rates(row).items():
            assert isinstance(rate, int)
            assert unit not in found, f"{unit} has a rate"
            found[unit] = rate
    assert found.keys() == UNITS.keys(), f"no ceiling for {UNITS.keys() - found.keys()}"
    return {unit: found[unit] for unit in UNITS}


def tables(generated: str) -> Tables:
    extra = tomllib.loads(EXTRA.read_text())
    models = []
    for entry in entries(extra):
        layers = entry.layers
        for row in extra["times"]:
            layers = tuple(multiplied(layer, row) for layer in layers)
        models.append(with_context(msgspec.structs.replace(entry, layers=layers), extra))
    tools = Layer({})
    for row in extra["tools"]:
        (tools,) = added([tools], row)
    used = {row["model"] for part in ("add", "names", "free") for row in extra[part]}
    used |= {name for row in extra["contexts"] for name in row["models"]}
    assert used <= {entry.id for entry in models}, used - {entry.id for entry in models}
    source = Source(
        "genai-prices", version("genai-prices"), "https://github.com/pydantic/genai-prices", NOTICE, generated
    )
    return Tables(FORM, source, tools, dearest(models, tools, extra), tuple(models))


def written(made: Tables) -> str:
    """The file's text: a line for each layer, so that a changed price is a changed line."""

    def line(value: object) -> str:
        return msgspec.json.encode(value).decode()

    def entry(one: Entry) -> str:
        head = msgspec.to_builtins(one)
        head["layers"] = []
        text = line(head)
        layers = ",\n   ".join(line(layer) for layer in one.layers)
        return text.replace('"layers":[]', f'"layers":[\n   {layers}]')

    models = ",\n  ".join(entry(one) for one in made.models)
    top = [f'"{name}":{line(getattr(made, name))}' for name in ("form", "source", "tools", "ceiling")]
    return "{\n " + ",\n ".join(top) + f',\n "models":[\n  {models}\n ]\n}}\n'


def complaint(text: str) -> str:
    locked = next(
        line.split("==")[1].split()[0] for line in LOCK.read_text().splitlines() if line.startswith("genai-prices==")
    )
    if locked != version("genai-prices"):
        return f"genai-prices {version('genai-prices')} is installed, {locked} is locked"
    if not FILE.exists() or FILE.read_text() != text:
        return f"{FILE.relative_to(ROOT)} is not what it should be; run .ci/prices.py --write"
    return ""


def main() -> int:
    today = dt.datetime.now(dt.UTC).date().isoformat()
    since = parse_tables(FILE.read_bytes(), FILE.name).source.generated if FILE.exists() else today
    text = written(tables(since))
    if "--write" in sys.argv and (not FILE.exists() or FILE.read_text() != text):
        text = written(tables(today))
        FILE.write_text(text)
    parse_tables(text.encode(), FILE.name)
    wrong = complaint(text)
    print(wrong or "prices: ok")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
