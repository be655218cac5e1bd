"""What of a record OpenAI's usage and costs endpoints would show, by category and field. Pure.

A call counts as a request if it used anything: refused ones do not, and neither do jobs before their end.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import msgspec

from gateway.simulator.book import NOTHING, Quantities, Record

_IMAGE_SOURCES = MappingProxyType(
    {
        "createImage": "image.generation",
        "createImageEdit": "image.edit",
        "createImageVariation": "image.variation",
    }
)
Fields = dict[str, float]


class Share(msgspec.Struct, frozen=True):
    """A record's part in one category. dimensions: what it can be grouped and filtered by, as far as the book knows."""

    category: str
    dimensions: Mapping[str, str | bool | None]
    fields: Fields


class Charge(msgspec.Struct, frozen=True):
    """A record's part in one line item, `{model}, {name}`. nano_usd: 10^-9 dollars."""

    item: str
    quantity: int
    nano_usd: int


def shares(record: Record, categories: Mapping[str, str | None], project: str) -> Iterator[Share]:
    """categories: by operation."""
    used = record.usage
    if used == NOTHING:
        return
    dimensions: dict[str, str | bool | None] = {
        "project_id": project,
        "api_key_id": key_id(record),
        "model": record.response_model or record.request_model,
        "batch": record.batch,
        "service_tier": record.service_tier,
        "source": _IMAGE_SOURCES.get(record.operation or ""),
    }
    main = categories.get(record.operation or "")
    if main is not None and main in _OWN:
        yield Share(main, dimensions, {"num_model_requests": 1, **_OWN[main](record)})
    if used.web_searches:
        yield Share("web_search_calls", dimensions, {"num_requests": used.web_searches, "num_model_requests": 1})
    if used.file_searches:
        yield Share("file_search_calls", dimensions, {"num_requests": used.file_searches})
    if used.sessions:
        yield Share("code_interpreter_sessions", dimensions, {"num_sessions": used.sessions})
    if used.images and main != "images":  # a tool's, whose own model the book does not know
        yield Share("images", dimensions, {"num_model_requests": 0, "images": used.images})


def charges(record: Record, prices: Mapping[str, Mapping[str, int]]) -> Iterator[Charge]:
    """prices: nano-dollars for one of each, by response model and name in `PRICED`. What is not in it costs nothing."""
    model = record.response_model or record.request_model or ""
    for name, nano_usd in prices.get(model, {}).items():
        if quantity := PRICED[name](record.usage):
            yield Charge(f"{model}, {name}", quantity, quantity * nano_usd)


def key_id(record: Record) -> str:
    """How usage names the key of a record."""
    return f"key_{record.key}"


def _tokens(record: Record) -> Fields:
    used = record.usage
    uncached = _uncached(used)
    audio = used.input_audio_tokens - used.cached_audio_tokens
    return {
        "input_tokens": used.input_tokens,
        "output_tokens": used.output_tokens,
        "input_cached_tokens": used.cached_tokens,
        "input_uncached_tokens": uncached,
        "input_text_tokens": uncached - audio - used.input_image_tokens,
        "output_text_tokens": used.output_tokens - used.output_audio_tokens - used.output_image_tokens,
        "input_cached_text_tokens": used.cached_tokens - used.cached_audio_tokens,
        "input_audio_tokens": audio,
        "input_cached_audio_tokens": used.cached_audio_tokens,
        "output_audio_tokens": used.output_audio_tokens,
        "input_image_tokens": used.input_image_tokens,
        "input_cached_image_tokens": 0,
        "output_image_tokens": used.output_image_tokens,
        "input_cache_write_tokens": used.cache_write_tokens,
        "input_cache_write_30m_tokens": used.cache_write_tokens,
        "input_cache_write_12h_tokens": 0,
    }


def _read(record: Record) -> Fields:
    return {"input_tokens": record.usage.input_tokens}


def _seconds(record: Record) -> Fields:
    """whisper-1 reports whole seconds, begun ones counted."""
    seconds = record.usage.seconds
    return {"seconds": math.ceil(seconds) if (record.response_model or "").startswith("whisper") else seconds}


def _uncached(used: Quantities) -> int:
    return used.input_tokens - used.cached_tokens - used.cache_write_tokens


_OWN: Mapping[str, Callable[[Record], Fields]] = MappingProxyType(
    {
        "completions": _tokens,
        "decisions": _tokens,
        "embeddings": _read,
        "moderations": _read,
        "images": lambda record: {"images": record.usage.images},
        "audio_speeches": lambda record: {"characters": record.usage.characters},
        "audio_transcriptions": _seconds,
    }
)
PRICED: Mapping[str, Callable[[Quantities], int]] = MappingProxyType(
    {
        "input_tokens": _uncached,
        "cached_input_tokens": lambda used: used.cached_tokens,
        "cache_write_input_tokens": lambda used: used.cache_write_tokens,
        "output_tokens": lambda used: used.output_tokens,
        "images": lambda used: used.images,
        "characters": lambda used: used.characters,
        "web_searches": lambda used: used.web_searches,
        "file_searches": lambda used: used.file_searches,
        "sessions": lambda used: used.sessions,
    }
)
UNITS: Mapping[str, str | None] = MappingProxyType(
    {
        name: "tokens" if name.endswith("_tokens") else name if name in {"images", "characters"} else None
        for name in PRICED
    }
)
