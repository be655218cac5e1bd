"""What a line of usage costs by somebody else's reckoning: genai-prices, and for what it lacks a table written by hand
from OpenAI's price list."""

from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType

from gateway.values import Quantities, UsageLine
from tests.unit.pricing.oracle import OPENAI, nano_usd

# nano-dollars for one of each
SEARCH, FILE_SEARCH, CONTAINER = 10_000_000, 2_500_000, 30_000_000
CHARACTER: Mapping[str, int] = MappingProxyType({"tts-1": 15_000, "tts-1-hd": 30_000})
PICTURE: Mapping[tuple[str, str, str], int] = MappingProxyType({
    ("dall-e-2", "256x256", ""): 16_000_000,
    ("dall-e-2", "512x512", ""): 18_000_000,
    ("dall-e-3", "1024x1792", "standard"): 80_000_000,
    ("dall-e-3", "1024x1792", "hd"): 120_000_000,
})  # fmt: skip


def bill(line: UsageLine, used: Quantities, at: float) -> Fraction:
    """Exactly what the line costs, if it used this much. Raises AssertionError for what nobody here has a price for."""
    tools = used.web_searches * SEARCH + used.file_searches * FILE_SEARCH + used.sessions * CONTAINER
    if tools:
        return Fraction(tools)
    name = line.response_model or line.upstream_model or line.request_model
    if name in CHARACTER:
        return Fraction(used.characters * CHARACTER[name])
    if used.images and not used.output_tokens:
        return Fraction(used.images * PICTURE[name, line.image_size, line.image_quality])
    model = OPENAI.find_model(name)
    if line.category == "moderations":
        return Fraction(0)
    assert model is not None, line
    return nano_usd(model, line_with(line, used), at)


def line_with(line: UsageLine, used: Quantities) -> UsageLine:
    return UsageLine(response_model=line.response_model, service_tier=line.service_tier, quantities=used)
