"""`gateway prices show`: what a call costs, and why."""

import argparse
from collections.abc import Iterator

from gateway.clock import SystemClock
from gateway.commands.console import complain_of_settings, say
from gateway.pricing.book import Price, make_book
from gateway.pricing.sheet import Card, Rate
from gateway.pricing.tables import Source
from gateway.pricing.units import UNITS, UnitName, dollars, quoted
from gateway.settings.load import SettingsError
from gateway.settings.model import Prices
from gateway.values import Quantities, UsageLine


def prices(options: argparse.Namespace) -> int:
    own = Prices()
    if options.config is not None:
        from gateway.commands.check import load  # noqa: PLC0415 - half a second that the list prices can do without

        try:
            own = load(options.config).prices
        except SettingsError as error:
            return complain_of_settings(error)
    book = make_book(own)
    at = SystemClock.wall() if options.date is None else options.date
    line = _line(options)
    if line.quantities == Quantities():
        say("\n".join(_rates(book.card(line, at), book.source)))
    else:
        say("\n".join(_costs(book.price(line, at), book.source)))
    if book.refuses(options.model):
        say("Calls are refused: prices.unknown_model is refuse.")
    return 0


def _line(options: argparse.Namespace) -> UsageLine:
    quantities = Quantities(
        input_tokens=options.input,
        cached_tokens=options.cached,
        cache_write_tokens=options.cache_write,
        output_tokens=options.output,
        input_audio_tokens=options.audio_input,
        output_audio_tokens=options.audio_output,
        input_image_tokens=options.image_input,
        output_image_tokens=options.image_output,
        images=options.images,
        characters=options.characters,
        duration_ms=options.seconds * 1000,
        web_searches=options.web_searches,
        file_searches=options.file_searches,
        sessions=options.sessions,
    )
    return UsageLine(
        response_model=options.model,
        service_tier=options.tier.lower(),
        batch=options.batch,
        quantities=quantities,
        image_size=options.size,
        image_quality=options.quality,
    )


def _costs(price: Price, source: Source) -> Iterator[str]:
    width = max((len(item.name) for item in price.items), default=0)
    for item in price.items:
        rate = f"${quoted(item.unit, item.rate):f} {_per(item.unit)}"
        yield f"{item.name:{width}}  {_amount(item.unit, item.quantity):>12} at {rate:24} ${dollars(item.nano_usd)}"
    yield f"{'total':{width}}  {'':12}    {'':24} ${dollars(price.nano_usd)}"
    yield ""
    yield from _why(price.rate, source)
    for text in sorted({item.source for item in price.items} - {price.rate.source}):
        yield f"source:  {text} ({', '.join(UNITS[i.unit].item for i in price.items if i.source == text)})"
    if not price.known:
        yield "unknown: at least one of these rates only stands in for one that is not known"


def _rates(card: Card, source: Source) -> Iterator[str]:
    cells = {UNITS[unit].item: (unit, cell) for unit, cell in card.cells.items() if unit in card.rated}
    for name, (unit, cell) in cells.items():
        yield f"{name:26} ${quoted(unit, cell.rate):f} {_per(unit)}"
    for unit, sizes in card.sized.items():
        for size, cell in sizes.items():
            yield f"{UNITS[unit].item + ' ' + size:26} ${quoted(unit, cell.rate):f} {_per(unit)}"
    if not card.rated:
        yield "no prices of its own"
    yield ""
    yield from _why(card.rate, source)


def _why(rate: Rate, source: Source) -> Iterator[str]:
    yield f"model:   {rate.model}" + (f", priced as {rate.entry}" if rate.entry else "")
    yield f"tier:    {rate.tier}"
    yield f"context: {f'above {rate.above:,} tokens of input' if rate.above else 'the base rates'}"
    yield f"since:   {rate.since or 'always'}"
    yield f"source:  {rate.source}" + (f", made on {source.generated}" if source.name in rate.source else "")
    if rate.note:
        yield f"note:    {rate.note}"


def _per(unit: UnitName) -> str:
    if UNITS[unit].quoted_per > 1:
        return "a minute" if unit == "audio_ms" else "a second"
    if unit == "bytes":
        return "per GiB and day"
    per = UNITS[unit].per
    return "each" if per == 1 else f"per {per:,}"


def _amount(unit: UnitName, quantity: int) -> str:
    return f"{quantity / 1000:,g} s" if unit in ("audio_ms", "video_ms") else f"{quantity:,}"
