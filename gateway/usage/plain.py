"""The short way for most answers: usage as OpenAI writes it in chat completions and embeddings, decoded in one pass.

Whatever is in any way unusual is None here, and goes the long way of `extract.py`, which takes things as they come.
`tests/unit/usage/test_plain.py` holds the two against each other.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.values import Quantities

_Count = Annotated[int, Meta(ge=0, lt=1 << 53)]


class Details(msgspec.Struct, frozen=True):
    """`prompt_tokens_details` or `completion_tokens_details`: counts, in tokens."""

    cached_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    image_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None
    # Members that only the long way understands; one of them, whatever its value, ends the short one.
    cache_write_tokens_details: UnsetType = UNSET
    cached_tokens_details: UnsetType = UNSET


class _Usage(msgspec.Struct):
    prompt_tokens: _Count
    completion_tokens: _Count = 0
    prompt_tokens_details: Details | None = None
    completion_tokens_details: Details | None = None
    input_tokens: UnsetType = UNSET
    output_tokens: UnsetType = UNSET
    input_tokens_details: UnsetType = UNSET
    input_token_details: UnsetType = UNSET
    output_tokens_details: UnsetType = UNSET
    output_token_details: UnsetType = UNSET
    cached_tokens: UnsetType = UNSET
    trained_tokens: UnsetType = UNSET
    seconds: UnsetType = UNSET


class Plain(msgspec.Struct):
    """An answer with plain usage."""

    usage: _Usage
    id: str | None = None
    model: str | None = None
    service_tier: str | None = None

    @property
    def quantities(self) -> Quantities:
        used = self.usage
        read, written = used.prompt_tokens_details or _NONE, used.completion_tokens_details or _NONE
        return Quantities(
            used.prompt_tokens,
            read.cached_tokens or 0,
            read.cache_write_tokens or 0,
            0,
            used.completion_tokens,
            written.reasoning_tokens or 0,
            read.audio_tokens or 0,
            0,
            written.audio_tokens or 0,
            read.image_tokens or 0,
            0,
            written.image_tokens or 0,
        )


_NONE = Details()
_decode = msgspec.json.Decoder(Plain).decode


def plain(body: bytes | bytearray | memoryview) -> Plain | None:
    """An answer read the short way; None if it has to go the long one."""
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
