"""Which operations are metered, and how what they use is estimated where no answer tells. Data; by operation id.

`tests/integration/test_metering_table.py` walks the operation table: whatever is not here must be free for a reason.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

# text: tokens in and out. input: tokens in. speech: characters, and tokens of audio. audio: seconds, and tokens.
# images: pictures. video: seconds. search, container: one for each call. later: only its end tells. unknown: only
# what an answer reports. talk: tokens of text and audio, in and out. session: as long as sound went either way.
Basis = Literal[
    "text", "input", "speech", "audio", "images", "video", "search", "container", "later", "unknown", "talk", "session"
]  # fmt: skip


class Kind(msgspec.Struct, frozen=True):
    """basis: of the estimate. deferred: an answer without usage may be of an object that is not finished yet.
    image_source: as OpenAI's usage API calls it. batch: what it starts is priced as a batch.
    """

    basis: Basis
    deferred: bool = False
    image_source: str = ""
    batch: bool = False


UNKNOWN = Kind("unknown")
DELEGATED = Kind("text")  # what a live session hands to other models
TRANSCRIPTION = Kind("audio")  # of what a realtime session hears

KINDS: Mapping[str, Kind] = MappingProxyType({
    "createResponse": Kind("text", deferred=True),
    "Compactconversation": Kind("text"),
    "createChatCompletion": Kind("text"),
    "createCompletion": Kind("text"),
    "createDecision": Kind("text"),
    "createEmbedding": Kind("input"),
    "createModeration": Kind("input"),
    "createImage": Kind("images", image_source="image.generation"),
    "createImageEdit": Kind("images", image_source="image.edit"),
    "createImageVariation": Kind("images", image_source="image.variation"),
    "createVideo": Kind("video", deferred=True),
    "CreateVideoRemix": Kind("video", deferred=True),
    "CreateVideoEdit": Kind("video", deferred=True),
    "CreateVideoExtend": Kind("video", deferred=True),
    "createSpeech": Kind("speech"),
    "createTranscription": Kind("audio"),
    "createTranslation": Kind("audio"),
    "createBatch": Kind("later", deferred=True, batch=True),
    "searchVectorStore": Kind("search"),
    "CreateContainer": Kind("container"),
    "createFineTuningJob": Kind("later", deferred=True),
    "runGrader": Kind("text"),
    "createEvalRun": Kind("later", deferred=True),
    "createRun": Kind("text", deferred=True),
    "submitToolOuputsToRun": Kind("text", deferred=True),
    "createThreadAndRun": Kind("text", deferred=True),
    "createAgentAutomationInvocation": Kind("later", deferred=True),
    "createAgentSession": Kind("later", deferred=True),
    "createAgentSessionEvent": Kind("later", deferred=True),
    "connectResponses": Kind("text"),
    "connectRealtime": Kind("talk"),
    "connectRealtimeTranslation": Kind("session"),
    "connectLiveSession": Kind("session"),
    "connectLiveSessionFork": Kind("session"),
    # Only where a setting lets them through: what they start passes the gateway by, and their answers tell nothing.
    "create-realtime-call": Kind("later"),
    "accept-realtime-call": Kind("later"),
    "createLiveSession": Kind("later"),
    "acceptLiveSession": Kind("later"),
    "forkLiveSession": Kind("later"),
    "createAgentAutomation": Kind("later"),
})  # fmt: skip
