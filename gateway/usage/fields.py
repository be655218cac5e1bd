"""From quantities to the fields of OpenAI's usage API (`/organization/usage/{category}`): names and meanings are its.

`input_tokens` holds everything; the uncached parts (`input_uncached_tokens`, and text, audio, image) hold neither what
was read from the prompt cache nor what was written to it (reference: Usage, Completions usage object).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from gateway.values import Quantities

REQUESTS = "num_model_requests"
Field = Callable[[Quantities], float]


def _written(used: Quantities) -> int:
    return max(used.cache_write_tokens, used.cache_write_12h_tokens)


def _uncached(used: Quantities) -> int:
    return max(0, used.input_tokens - used.cached_tokens - _written(used))


def _fresh_audio(used: Quantities) -> int:
    return max(0, used.input_audio_tokens - used.cached_audio_tokens)


def _fresh_images(used: Quantities) -> int:
    return max(0, used.input_image_tokens - used.cached_image_tokens)


_TOKENS: Mapping[str, Field] = MappingProxyType({
    "input_tokens": lambda used: used.input_tokens,
    "output_tokens": lambda used: used.output_tokens,
    "input_cached_tokens": lambda used: used.cached_tokens,
    "input_uncached_tokens": _uncached,
    "input_text_tokens": lambda used: max(0, _uncached(used) - _fresh_audio(used) - _fresh_images(used)),
    "output_text_tokens": lambda used: max(0, used.output_tokens - used.output_audio_tokens - used.output_image_tokens),
    "input_cached_text_tokens": lambda used: max(
        0, used.cached_tokens - used.cached_audio_tokens - used.cached_image_tokens
    ),
    "input_audio_tokens": _fresh_audio,
    "input_cached_audio_tokens": lambda used: used.cached_audio_tokens,
    "output_audio_tokens": lambda used: used.output_audio_tokens,
    "input_image_tokens": _fresh_images,
    "input_cached_image_tokens": lambda used: used.cached_image_tokens,
    "output_image_tokens": lambda used: used.output_image_tokens,
    "input_cache_write_tokens": _written,
    "input_cache_write_30m_tokens": lambda used: max(0, _written(used) - used.cache_write_12h_tokens),
    "input_cache_write_12h_tokens": lambda used: used.cache_write_12h_tokens,
})  # fmt: skip

# By category. Each but the last three counts its requests besides, as `num_model_requests`.
FIELDS: Mapping[str, Mapping[str, Field]] = MappingProxyType({
    "completions": _TOKENS,
    "decisions": _TOKENS,
    "embeddings": MappingProxyType({"input_tokens": lambda used: used.input_tokens}),
    "moderations": MappingProxyType({"input_tokens": lambda used: used.input_tokens}),
    "images": MappingProxyType({"images": lambda used: used.images}),
    "audio_speeches": MappingProxyType({"characters": lambda used: used.characters}),
    "audio_transcriptions": MappingProxyType({"seconds": lambda used: used.duration_ms / 1000}),
    "web_search_calls": MappingProxyType({"num_requests": lambda used: used.web_searches}),
    "file_search_calls": MappingProxyType({"num_requests": lambda used: used.file_searches}),
    "code_interpreter_sessions": MappingProxyType({"num_sessions": lambda used: used.sessions}),
})  # fmt: skip
COUNTED = frozenset(FIELDS) - {"web_search_calls", "file_search_calls", "code_interpreter_sessions"}
