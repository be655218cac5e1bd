"""What bounds a call, as data: by operation, by hosted tool, by model for pictures. `docs/reserving.md` explains it.

Facts of OpenAI are from its guides (Images and vision, Calculating costs; Image generation, Cost and latency; Speech to
text, File uploads) and its API reference, as far as not said otherwise.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

from gateway.usage.kinds import Basis

# tokens: of text and what stands in it. line: one synthetic line of usage, priced by the book. flat: nothing of the
# request tells, so a configured amount under `adaptive`, and a refusal under `strict`.
Measure = Literal["tokens", "line", "flat"]

MEASURES: Mapping[Basis, Measure] = MappingProxyType({
    "text": "tokens", "input": "tokens", "talk": "tokens",
    "speech": "line", "audio": "line", "images": "line", "video": "line", "search": "line", "container": "line",
    "session": "line",
    "later": "flat", "unknown": "flat",
})  # fmt: skip


class Way(msgspec.Struct, frozen=True):
    """How the tokens of an operation are bounded. limits: the members of HeadFacts that bound an answer; the larger one
    counts. writes: it answers in tokens. numbered: `n` answers are made. several: its input is many texts, each of
    which may fill the window. stored: the upstream always has input that is not in the body; told: the request's length
    is that of all of it, about. sounds: what it reads and writes is mostly sound. loops: it may have hosted tools that
    the body does not name.
    """

    limits: tuple[str, ...] = ()
    writes: bool = True
    numbered: bool = False
    several: bool = False
    stored: bool = False
    loops: bool = False
    told: bool = False
    sounds: bool = False


_RUN = Way(("max_completion_tokens",), stored=True, loops=True)
WAYS: Mapping[str, Way] = MappingProxyType({
    "createChatCompletion": Way(("max_completion_tokens", "max_tokens"), numbered=True),
    "createCompletion": Way(("max_tokens",), numbered=True, several=True),
    "createResponse": Way(("max_output_tokens",)),
    "connectResponses": Way(("max_output_tokens",)),
    "Compactconversation": Way(),
    "createDecision": Way(),
    "createEmbedding": Way(writes=False, several=True),
    "createModeration": Way(writes=False, several=True),
    "runGrader": Way(stored=True),
    "createRun": _RUN,
    "submitToolOuputsToRun": _RUN,
    "createThreadAndRun": _RUN,
    "connectRealtime": Way(("max_output_tokens",), stored=True, told=True, sounds=True),
})  # fmt: skip

MOST_ANSWERS = 128  # `n` at most (reference: Create chat completion)
MOST_IMAGES = 10  # `n` of pictures (reference: Create image)
MOST_EDITED = 16  # pictures in an edit (reference: Create image edit)
MOST_AUDIO_BYTES = 25 * 1024 * 1024  # of an upload (guide: Speech to text), where its form does not say how long it is
MOST_VIDEO_MS = 20_000  # the longest a video can be where its length is not in sight (package: VideoSeconds, extension)
WORST_BYTES_A_S = 750  # of Opus at 6 kbit/s, the least that speech is stored in: for audio that is not in sight yet
USUAL_BYTES_A_S = 4_000  # 32 kbit/s, common for recorded speech
WORST_TOKENS_A_S = 10  # of text for a second of speech; people say 2 to 4 words in it
USUAL_TOKENS_A_S = 4
WORST_SPOKEN = 4  # tokens of sound for a character that is read aloud: five characters a second, slowed down
USUAL_SPOKEN_A_S = 15  # characters
SESSION_MS = 10_000  # of sound, for which sessions without responses are reserved

CLIENTS_TOOLS = frozenset({"function", "custom"})  # which the client runs: most are
# Hosted tools, by how the names of their types begin, and what a call of one costs: a member of TokenRates, `image`, or
# nothing but the tokens that it leads to.
TOOL_UNITS: Mapping[str, str] = MappingProxyType({
    "web_search": "web_search",
    "file_search": "file_search",
    "code_interpreter": "session",
    "shell": "session",
    "image_generation": "image",
    "mcp": "",
})  # fmt: skip
IMAGE_TOOL_MODEL = "gpt-image-2.6-sunburst"  # the default (package: types/responses/tool.py)


class Picture(msgspec.Struct, frozen=True):
    """Tokens of a picture that a model looks at. low: with `detail: low`. usual: of 1024 by 1024. most: of any."""

    low: int
    usual: int
    most: int


# Tiles of 512 by 512: a base and 4 (usual) or 8 tiles. Patches of 32 by 32: at most 1,536 times a factor, of which
# OpenAI has named several for some models; the largest stands here.
_PATCHES_162 = Picture(1659, 1659, 2489)
_PATCHES_172 = Picture(1762, 1762, 2642)
_PATCHES_246 = Picture(2520, 2520, 3779)
_TILES_4O = Picture(85, 765, 1445)
_TILES_O = Picture(75, 675, 1275)
PICTURES: tuple[tuple[str, Picture], ...] = (
    ("gpt-4o-mini", Picture(2833, 25501, 48169)),
    ("gpt-4.1-mini", _PATCHES_162),
    ("gpt-4.1-nano", _PATCHES_246),
    ("gpt-5-mini", _PATCHES_162),
    ("gpt-5-nano", _PATCHES_246),
    ("o4-mini", _PATCHES_172),
    ("codex-mini", _PATCHES_172),
    ("gpt-4", _TILES_4O),
    ("chatgpt-4o", _TILES_4O),
    ("ft:gpt-4o-mini", Picture(2833, 25501, 48169)),
    ("ft:gpt-4", _TILES_4O),
    ("o1", _TILES_O),
    ("o3", _TILES_O),
    ("computer-use", Picture(65, 581, 1097)),
)
# `detail: original`: up to 10,000 patches, times the largest factor. Of models that are not OpenAI's nobody knows.
ANY_PICTURE = Picture(1536, 1536, 24_600)
UNKNOWN_PICTURE = Picture(1536, 1536, 48_169)


def picture(model: str) -> Picture:
    """What a model's pictures count, by its name."""
    for prefix, tokens in PICTURES:
        if model.startswith(prefix):
            return tokens
    return ANY_PICTURE if model.startswith("gpt-") else UNKNOWN_PICTURE


# Tokens of a picture that is made: (guide: Image generation, Cost and latency).
_DRAWN: Mapping[str, Mapping[str, int]] = MappingProxyType({
    "1024x1024": MappingProxyType({"low": 272, "medium": 1056, "high": 4160}),
    "1024x1536": MappingProxyType({"low": 408, "medium": 1584, "high": 6240}),
    "1536x1024": MappingProxyType({"low": 400, "medium": 1568, "high": 6208}),
})  # fmt: skip
_PARTIAL = 3 * 100  # partial pictures of a stream, a hundred tokens each
_MOST_DRAWN = 6240 + _PARTIAL
_USUAL_DRAWN = 1056
MOST_LOOKED_AT = 7_000  # tokens of a picture that is edited, in high fidelity
USUAL_LOOKED_AT = 1_000
# Models that draw in other sizes too: up to 3840 by 2160, which is 8 times as many as 1024 by 1024.
_LARGEST_DRAWN = 8 * 4160 + _PARTIAL
_THREE_SIZES = ("gpt-image-1", "chatgpt-image")


def drawn(model: str, size: str, quality: str) -> tuple[int, int]:
    """Tokens of a picture that a model makes: as it usually is, and at most."""
    usual = _DRAWN.get(size, {}).get(quality, _USUAL_DRAWN)
    most = _MOST_DRAWN if model.startswith(_THREE_SIZES) else _LARGEST_DRAWN
    return usual, most


class Assumed(msgspec.Struct, frozen=True):
    """What is taken for granted where a request does not tell. Tokens, as far as not said otherwise.

    tokens_a_byte: of a body, before a model's calls have been reported. output: of an answer, likewise. file, stored,
    tool: under `adaptive`, for a file, for input that the upstream has, for what a hosted tool brings in. tool_calls:
    of hosted tools where `max_tool_calls` does not say. window: of models of which it is not known; 0 has calls that
    only a window bounds refused under `strict`. tier: what `auto` and no service tier mean. flat_nano_usd: for calls of
    which nothing tells the price, under `adaptive`. stream_bytes: of the largest body that is let through.
    """

    tokens_a_byte: float = 0.25
    output: int = 1000
    file: int = 5000
    stored: int = 4000
    tool: int = 4000
    tool_calls: int = 16
    window: int = 0
    tier: str = "default"
    flat_nano_usd: int = 10_000_000
    stream_bytes: int = 8192 * 1024 * 1024
