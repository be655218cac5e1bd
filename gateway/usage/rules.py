"""Where usage stands in OpenAI's answers, as data. `extract.py` is the interpreter that reads it.

Sources are sections of OpenAI's API reference and of its Python package (3.54), as far as not said otherwise. A path
names members from outside to inside: `response.usage`. Everything that an answer says of usage is optional, and `null`
is the same as absent.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

ANY = ""  # as an event's name: events of every name, and of none

# Member of Quantities ← where it stands in a usage object; the first that is a number counts. The names of chat
# completions (prompt_, completion_) and of everything newer (input_, output_) never meet in one object.
_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details", "output_token_details")


def _in(details: tuple[str, ...], member: str) -> tuple[str, ...]:
    return tuple(f"{name}.{member}" for name in details)


QUANTITIES: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "input_tokens": ("prompt_tokens", "input_tokens"),
    "cached_tokens": (*_in(_DETAILS, "cached_tokens"), "cached_tokens"),  # the last: eval runs, tools
    "cache_write_tokens": _in(_DETAILS, "cache_write_tokens"),
    "cache_write_12h_tokens": _in(_DETAILS, "cache_write_tokens_details.ttl_12h_tokens"),
    "output_tokens": ("completion_tokens", "output_tokens"),
    "reasoning_tokens": _in(_OUTPUT_DETAILS, "reasoning_tokens"),
    "input_audio_tokens": _in(_DETAILS, "audio_tokens"),
    "cached_audio_tokens": _in(_DETAILS, "cached_tokens_details.audio_tokens"),
    "output_audio_tokens": _in(_OUTPUT_DETAILS, "audio_tokens"),
    "input_image_tokens": _in(_DETAILS, "image_tokens"),
    "cached_image_tokens": _in(_DETAILS, "cached_tokens_details.image_tokens"),
    "output_image_tokens": _in(_OUTPUT_DETAILS, "image_tokens"),
    "trained_tokens": ("trained_tokens",),
})  # fmt: skip
SECONDS = "seconds"  # of a usage object of type `duration`; a number that need not be whole


class Tool(msgspec.Struct, frozen=True):
    """Something besides tokens that an answer may have used, and that is a line of its own.

    number: path of a count. usage: path of a usage object. items: type of the members of `output` that are counted,
    once for each value of `distinct` if that names a member; with `usage` they are counted beside it. quantity: the
    member of Quantities that it becomes. declared: type of the member of `tools` whose `model` it was, else `model`.
    """

    category: str
    quantity: str = ""
    number: str = ""
    usage: str = ""
    items: str = ""
    distinct: str = ""
    declared: str = ""
    model: str = ""


# Responses: `tool_usage` beside `usage`, and items of `output`. A container is billed once however often it is used.
RESPONSE_TOOLS = (
    Tool("web_search_calls", "web_searches", number="tool_usage.web_search.num_requests"),
    Tool(
        "images",
        "images",
        usage="tool_usage.image_gen",
        items="image_generation_call",
        declared="image_generation",
        model="gpt-image-2.6-sunburst",  # the default (package: types/responses/tool.py)
    ),
    Tool("file_search_calls", "file_searches", items="file_search_call"),
    Tool("code_interpreter_sessions", "sessions", items="code_interpreter_call", distinct="container_id"),
)

# Events of a streamed response that say that a tool has been used, for streams that end without saying how often.
TOOL_EVENTS: Mapping[str, str] = MappingProxyType({
    "response.web_search_call.completed": "web_search_calls",
    "response.file_search_call.completed": "file_search_calls",
})  # fmt: skip


class Rule(msgspec.Struct, frozen=True):
    """How the answers of some operations tell what was used.

    body: path of the object that has `usage` in a whole answer, ANY for the answer itself; None if it never has one.
    events: the same in events, by their type (member `type`, else the event's name). usage: where in that object usage
    stands. several: what a second report of a stream means: the newest counts (`last`), or each is of its own (`each`).
    deltas: the types of events whose text is a piece of the answer, for estimates: ANY, or what they end with.
    category: of these lines, where it is not the operation's. plain: `plain.py` may read whole answers. stores: they
    tell of vector stores (`stores.py`), and of no usage.
    source: where this is written.
    """

    operations: tuple[str, ...]
    source: str
    body: str | None = None
    events: Mapping[str, str] = MappingProxyType({})
    usage: tuple[str, ...] = ("usage",)
    several: Literal["last", "each"] = "last"
    deltas: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    category: str | None = None
    plain: bool = False
    stores: bool = False


RESPONSE_EVENTS: Mapping[str, str] = MappingProxyType({
    "response.completed": "response",
    "response.incomplete": "response",
    "response.failed": "response",
    "response.cancelled": "response",
})  # fmt: skip

# Of paths that are not in the operation table: a usage object wherever OpenAI's newer answers have it.
UNKNOWN_RULES = (
    Rule(
        (),
        "by analogy; OpenAI adds endpoints faster than anybody's table",
        body=ANY,
        events=MappingProxyType({ANY: ANY, **RESPONSE_EVENTS}),
        usage=("usage", "token_usage"),
        tools=RESPONSE_TOOLS,
    ),
)

# What a live session hands to other models tells its usage in events inside its own events.
DELEGATED_RULES = (
    Rule(
        (),
        "package: types/live/response_event.py: the events of a streamed response",
        events=RESPONSE_EVENTS,
        several="each",
        deltas=(".delta",),
        tools=RESPONSE_TOOLS,
    ),
    Rule(
        (),
        "package: types/live/decision_event.py",
        events=MappingProxyType({"decision.completed": "decision"}),
        several="each",
        category="decisions",
    ),
)

RULES = (
    Rule(
        ("createChatCompletion", "createCompletion"),
        "reference: The chat completion object, The chat completion chunk object; Groq's own place is x_groq.usage",
        body=ANY,
        events=MappingProxyType({ANY: ANY}),
        usage=("usage", "x_groq.usage"),
        deltas=(ANY,),
        plain=True,
    ),
    Rule(
        ("createResponse",),
        "reference: The response object, Streaming events; package: types/responses/response_usage.py",
        body=ANY,
        events=RESPONSE_EVENTS,
        deltas=(".delta",),
        tools=RESPONSE_TOOLS,
    ),
    Rule(("Compactconversation",), "package: types/responses/compacted_response.py", body=ANY),
    Rule(("createDecision",), "package: types/decision.py", body=ANY),
    Rule(("createEmbedding",), "reference: Create embeddings, Returns", body=ANY, plain=True),
    Rule(
        ("createImage", "createImageEdit", "createImageVariation"),
        "reference: The image generation response; Image streaming: image_generation.completed, image_edit.completed",
        body=ANY,
        events=MappingProxyType({"image_generation.completed": ANY, "image_edit.completed": ANY}),
        several="each",
    ),
    Rule(
        ("createSpeech",),
        "reference: speech.audio.done; the audio itself says nothing",
        events=MappingProxyType({"speech.audio.done": ANY}),
    ),
    Rule(
        ("createTranscription", "createTranslation"),
        "reference: The transcription object (JSON), (Verbose JSON); transcript.text.done",
        body=ANY,
        events=MappingProxyType({"transcript.text.done": ANY}),
        deltas=("transcript.text.delta",),
    ),
    Rule(
        ("createRun", "createThreadAndRun", "submitToolOuputsToRun"),
        "reference: The run object; Assistant stream events thread.run.*. Steps repeat what the run sums up",
        body=ANY,
        events=MappingProxyType({
            f"thread.run.{state}": ANY
            for state in ("completed", "incomplete", "failed", "cancelled", "expired", "requires_action")
        }),
        deltas=("thread.message.delta",),
    ),
    Rule(
        ("createAgentSession",),
        "package: types/beta/agent_session_event.py; usage there is best effort",
        body=ANY,
        events=MappingProxyType({
            f"agent.session.turn.{state}": ANY for state in ("completed", "failed", "cancelled")
        }),
        usage=("turn.usage", "usage"),
        several="each",
        deltas=(".delta",),
    ),
    Rule(
        ("runGrader",),
        "reference: Run grader, Returns",
        body="metadata",
        usage=("token_usage",),
    ),
    Rule(
        ("connectRealtime", "connectRealtimeTranslation"),
        "reference: Realtime server events: response.done",
        events=MappingProxyType({"response.done": "response"}),
        several="each",
        deltas=(".delta",),
    ),
    Rule(
        ("connectRealtime",),
        "reference: conversation.item.input_audio_transcription.completed, billed at the transcribing model's price",
        events=MappingProxyType({"conversation.item.input_audio_transcription.completed": ANY}),
        several="each",
        category="audio_transcriptions",
    ),
    Rule(
        ("connectResponses",),
        "package: resources/responses (socket): the events of a streamed response, several responses a socket",
        events=RESPONSE_EVENTS,
        several="each",
        deltas=(".delta",),
        tools=RESPONSE_TOOLS,
    ),
    Rule(
        ("connectLiveSession", "connectLiveSessionFork"),
        "package: types/live: session.usage.updated and session.closed count the whole session each time",
        events=MappingProxyType({"session.usage.updated": ANY, "session.closed": ANY}),
    ),
)  # fmt: skip
