"""From quantities to the fields of OpenAI's usage API (`/organization/usage/{category}`): names and meanings are its.

`input_tokens` holds everything; the uncached parts (`input_uncached_tokens`, and text, audio, image) hold neither what
was read from the prompt cache nor what was written to it (reference: Usage, Completions usage object).
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import msgspec

from gateway.values import Quantities


def _written(used: Quantities) -> int:
    return max(used.cache_write_tokens, used.cache_write_12h_tokens)


def _uncached(used: Quantities) -> int:
    return max(0, used.input_tokens - used.cached_tokens - _written(used))


def _fresh_audio(used: Quantities) -> int:
    return max(0, used.input_audio_tokens - used.cached_audio_tokens)


def _fresh_images(used: Quantities) -> int:
    return max(0, used.input_image_tokens - used.cached_image_tokens)


# Of each: the whole, and the parts that it holds.
_PARTS = (
    ("input_tokens", ("cached_tokens", "cache_write_tokens")),
    ("cache_write_tokens", ("cache_write_12h_tokens",)),
    ("output_tokens", ("reasoning_tokens",)),
    ("output_tokens", ("output_audio_tokens", "output_image_tokens")),
    ("cached_tokens", ("cached_audio_tokens", "cached_image_tokens")),
    ("input_audio_tokens", ("cached_audio_tokens",)),
    ("input_image_tokens", ("cached_image_tokens",)),
)


def consistent(used: Quantities) -> Quantities:
    """The same, but no part is more than what it is of: fields of sums are then the sums of fields. An upstream that
    says otherwise has its totals believed, and its parts cut."""
    if _is_plain(used):
        return used
    written = _written(used)
    if used.cache_write_tokens != written:
        used = msgspec.structs.replace(used, cache_write_tokens=written)
    for whole, parts in _PARTS:
        left = getattr(used, whole)
        for part in parts:
            if getattr(used, part) > left:
                used = msgspec.structs.replace(used, **{part: left})
            left -= getattr(used, part)
    fresh = _uncached(used)
    if _fresh_audio(used) + _fresh_images(used) > fresh:
        audio = min(_fresh_audio(used), fresh)
        used = msgspec.structs.replace(
            used,
            input_audio_tokens=used.cached_audio_tokens + audio,
            input_image_tokens=used.cached_image_tokens + min(_fresh_images(used), fresh - audio),
        )
    return used


def _is_plain(used: Quantities) -> bool:
    """Whether it is text as nearly all of it: nothing written, no media, and no part is more than its whole."""
    return (
        used.cached_tokens <= used.input_tokens
        and used.reasoning_tokens <= used.output_tokens
        and not (
            used.cache_write_tokens
            or used.cache_write_12h_tokens
            or used.input_audio_tokens
            or used.cached_audio_tokens
            or used.output_audio_tokens
            or used.input_image_tokens
            or used.cached_image_tokens
            or used.output_image_tokens
        )
    )


REQUESTS = "num_model_requests"
Field = Callable[[Quantities], float]


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

TOKENS = (
    "input_tokens", "cached_tokens", "cache_write_tokens", "cache_write_12h_tokens", "output_tokens",
    "input_audio_tokens", "cached_audio_tokens", "output_audio_tokens",
    "input_image_tokens", "cached_image_tokens", "output_image_tokens",
)  # fmt: skip


def fields_of_tokens(summed: Sequence[int]) -> dict[str, int]:
    """The fields of completions and decisions, from sums of consistent quantities in the order of TOKENS: the same as
    in FIELDS, for answers with ten thousand of them."""
    read, cached, written, long, wrote, audio, cached_audio, spoken, image, cached_image, drawn = summed
    fresh, audio, image = read - cached - written, audio - cached_audio, image - cached_image
    return {
        "input_tokens": read,
        "output_tokens": wrote,
        "input_cached_tokens": cached,
        "input_uncached_tokens": fresh,
        "input_text_tokens": fresh - audio - image,
        "output_text_tokens": wrote - spoken - drawn,
        "input_cached_text_tokens": cached - cached_audio - cached_image,
        "input_audio_tokens": audio,
        "input_cached_audio_tokens": cached_audio,
        "output_audio_tokens": spoken,
        "input_image_tokens": image,
        "input_cached_image_tokens": cached_image,
        "output_image_tokens": drawn,
        "input_cache_write_tokens": written,
        "input_cache_write_30m_tokens": written - long,
        "input_cache_write_12h_tokens": long,
    }


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
