"""What tokens and tools cost before a call is made: the book's rates as a few integers for each model and tier."""

import msgspec

from gateway.pricing.book import Book
from gateway.pricing.sheet import Card, Sheet
from gateway.pricing.tables import STANDARD
from gateway.pricing.units import UNITS, UnitName
from gateway.values import UsageLine

MILLION = 1_000_000
_FOREVER = 1e18  # seconds
_MOST_KEPT = 4096  # names come from clients
# A token of input costs as one of these, and one of output likewise; of sound only if the model has a rate for it.
_READ: tuple[UnitName, ...] = ("input_tokens", "cached_tokens", "cache_write_tokens", "cache_write_12h_tokens")
_MEDIA: tuple[UnitName, ...] = (
    "input_audio_tokens", "cached_audio_tokens", "input_image_tokens", "cached_image_tokens",
)  # fmt: skip
_WRITTEN: tuple[UnitName, ...] = ("output_tokens", "output_audio_tokens", "output_image_tokens")


class Step(msgspec.Struct, frozen=True):
    """nano-USD for a million tokens of a call of some context length. input, output: text that was not cached.

    most_*: the dearest that such a token can be, at this length or a shorter one, in this tier or the standard one, in
    which an upstream may answer instead; most_media: of input that may be sound or pictures.
    """

    input: int
    output: int
    most_input: int
    most_media: int
    most_output: int


class TokenRates(msgspec.Struct, frozen=True):
    """above: input tokens beyond which the next step holds. until: seconds since 1970 when other rates hold.

    window, output: see `tables.Entry`. sounds: the model has rates for audio. web_search, file_search, session:
    nano-USD for one.
    """

    above: tuple[int, ...]
    steps: tuple[Step, ...]
    until: float
    window: int
    output: int
    sounds: bool
    web_search: int
    file_search: int
    session: int

    def step(self, input_tokens: int) -> Step:
        number = 0
        for threshold in self.above:
            number += input_tokens > threshold
        return self.steps[number]


class RateCards:
    """The rates of models, looked up in the book when they are first needed. One per worker."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._kept: dict[tuple[str, str, str | None], TokenRates] = {}

    def of(self, model: str, tier: str, category: str | None, at: float) -> TokenRates:
        """The rates of a model, under its upstream's name, for calls of a usage category in a tier that begin at a time
        (seconds since 1970). Time goes on from call to call.
        """
        rates = self._kept.get((model, tier, category))
        if rates is None or at >= rates.until:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            rates = self._kept[model, tier, category] = self._made(model, tier, category, at)
        return rates

    def _made(self, model: str, tier: str, category: str | None, at: float) -> TokenRates:
        asked = UsageLine(upstream_model=model, service_tier=tier, category=category)
        sheet = self._book.sheet(asked)
        standard = self._book.sheet(msgspec.structs.replace(asked, service_tier=STANDARD))
        lengths = (0, *sheet.above)
        cards = [sheet.card(at, length + 1) for length in lengths]
        others = [standard.card(at, length + 1) for length in lengths]
        steps: list[Step] = []
        for number, card in enumerate(cards):
            such = cards[: number + 1] + others[: number + 1]
            read = max(card.cells[unit].rate for card in such for unit in _READ)
            media = max(card.cells[unit].rate for card in such for unit in _MEDIA)
            written = max(card.cells[unit].rate for card in such for unit in _WRITTEN)
            cells = card.cells
            steps.append(Step(cells["input_tokens"].rate, cells["output_tokens"].rate, read, max(read, media), written))
        window, output = self._book.context(model)
        card = cards[0]
        return TokenRates(
            sheet.above,
            tuple(steps),
            _next_start(sheet, at),
            window,
            output,
            "input_audio_tokens" in card.rated or "output_audio_tokens" in card.rated,
            _one(card, "web_searches"),
            _one(card, "file_searches"),
            _one(card, "sessions"),
        )


def _next_start(sheet: Sheet, at: float) -> float:
    return next((start for start in sheet.starts if start > at), _FOREVER)


def _one(card: Card, unit: UnitName) -> int:
    """nano-USD of one, rounded up."""
    return -(-card.cells[unit].rate // UNITS[unit].per)
