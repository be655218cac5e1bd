"""Which models there are, which are accepted, and what a name resolves to."""

import re
from types import MappingProxyType

_ACCEPTED = re.compile(
    r"(gpt-|o\d|text-embedding-|text-moderation-|ft:|dall-e-|tts-|whisper-|sora-|omni-|chatgpt-|babbage-|davinci-|codex-"
    r"|computer-use-).*"
)
_REASONING = re.compile(r"(ft:)?(o\d|gpt-[5-9]|codex-)(?!.*chat).*")
_WRITES_CACHE = re.compile(r"gpt-([6-9]|\d\d).*")

# The dated snapshots that OpenAI's aliases answer with.
SNAPSHOTS = MappingProxyType(
    {
        "gpt-3.5-turbo": "gpt-3.5-turbo-0125",
        "gpt-4": "gpt-4-0613",
        "gpt-4-turbo": "gpt-4-turbo-2024-04-09",
        "gpt-4o": "gpt-4o-2024-08-06",
        "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
        "gpt-4o-audio-preview": "gpt-4o-audio-preview-2024-12-17",
        "gpt-4.1": "gpt-4.1-2025-04-14",
        "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
        "gpt-4.1-nano": "gpt-4.1-nano-2025-04-14",
        "gpt-5": "gpt-5-2025-08-07",
        "gpt-5-mini": "gpt-5-mini-2025-08-07",
        "gpt-5-nano": "gpt-5-nano-2025-08-07",
        "gpt-5.1": "gpt-5.1-2025-11-13",
        "o1": "o1-2024-12-17",
        "o3": "o3-2025-04-16",
        "o3-mini": "o3-mini-2025-01-31",
        "o4-mini": "o4-mini-2025-04-16",
        "omni-moderation-latest": "omni-moderation-2024-09-26",
        "text-embedding-ada-002": "text-embedding-ada-002-v2",
    }
)

LISTED = (
    *SNAPSHOTS,
    *SNAPSHOTS.values(),
    "babbage-002",
    "chatgpt-4o-latest",
    "codex-mini-latest",
    "dall-e-2",
    "dall-e-3",
    "davinci-002",
    "gpt-3.5-turbo-instruct",
    "gpt-4o-mini-realtime-preview",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-tts",
    "gpt-4o-realtime-preview",
    "gpt-4o-transcribe",
    "gpt-4o-transcribe-diarize",
    "gpt-5-search-api",
    "gpt-6-astra",
    "gpt-6-luna",
    "gpt-6-sol",
    "gpt-audio",
    "gpt-image-1",
    "gpt-image-1-mini",
    "gpt-live-1",
    "gpt-realtime",
    "gpt-realtime-mini",
    "sora-2",
    "sora-2-pro",
    "text-embedding-3-large",
    "text-embedding-3-small",
    "tts-1",
    "tts-1-hd",
    "whisper-1",
)


def known(model: str) -> bool:
    """Whether OpenAI would accept the name (every family is open-ended, as OpenAI's is over time)."""
    return _ACCEPTED.fullmatch(model) is not None


def resolve(model: str) -> str:
    """The name that the response carries."""
    return SNAPSHOTS.get(model, model)


def reasons(model: str) -> bool:
    """Whether the model thinks before it answers, and bills it as reasoning tokens."""
    return _REASONING.fullmatch(model) is not None


def writes_cache(model: str) -> bool:
    """Whether writing to the prompt cache is billed (`cache_write_tokens`)."""
    return _WRITES_CACHE.fullmatch(model) is not None
