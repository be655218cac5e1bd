"""What the simulator's book says that a call used, in the terms of usage lines; by category of OpenAI's usage API.

Written from the book's own description and not from the gateway's rules: it is what they are held against.
"""

import math

from gateway.simulator.book import Quantities as Served
from gateway.simulator.book import Record
from gateway.values import Quantities

TEXTS = frozenset({"createChatCompletion", "createCompletion", "createResponse"})
MAIN = {
    **dict.fromkeys(TEXTS, "completions"),
    "createEmbedding": "embeddings",
    "createModeration": "moderations",
    "createImage": "images",
    "createSpeech": "audio_speeches",
    "createTranscription": "audio_transcriptions",
    "createTranslation": "audio_transcriptions",
}
TOOLS = frozenset({"web_search_calls", "file_search_calls", "code_interpreter_sessions"})
Booked = dict[str, Quantities]


def booked(record: Record) -> Booked:
    """The lines of a call that was answered whole."""
    used, operation = record.usage, record.operation or ""
    tools = {
        "web_search_calls": Quantities(web_searches=used.web_searches),
        "images": Quantities(
            output_tokens=used.tool_image_tokens, output_image_tokens=used.tool_image_tokens, images=used.images
        ),
        "file_search_calls": Quantities(file_searches=used.file_searches),
        "code_interpreter_sessions": Quantities(sessions=used.sessions),
    }
    lines = {category: tool for category, tool in tools.items() if tool != Quantities()}
    return lines | {MAIN[operation]: _main(operation, record)}


def _main(operation: str, record: Record) -> Quantities:
    used = record.usage
    if operation in TEXTS:
        return Quantities(
            input_tokens=used.input_tokens,
            cached_tokens=used.cached_tokens,
            cache_write_tokens=used.cache_write_tokens,
            output_tokens=used.output_tokens,
            reasoning_tokens=used.reasoning_tokens,
        )
    if operation == "createImage":
        return Quantities(
            input_tokens=used.input_tokens,
            output_tokens=used.output_tokens,
            output_image_tokens=used.output_image_tokens,
            images=used.images,
        )
    if operation == "createSpeech":
        return Quantities(
            input_tokens=used.input_tokens,
            output_tokens=used.output_tokens,
            output_audio_tokens=used.output_audio_tokens,
            characters=used.characters,
        )
    return Quantities(
        input_tokens=used.input_tokens,
        input_audio_tokens=used.input_audio_tokens,
        output_tokens=used.output_tokens,
        duration_ms=_duration_ms(used, record.response_model or ""),
    )


def _duration_ms(used: Served, model: str) -> int:
    """whisper-1 reports whole seconds, begun ones counted."""
    return (math.ceil(used.seconds) if model.startswith("whisper") else used.seconds) * 1000  # type: ignore[return-value]
