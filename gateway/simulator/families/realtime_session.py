"""The settings of realtime, translation and live sessions, and what audio in their formats amounts to."""

import base64
import binascii
from typing import Any

from gateway.simulator import errors, media, params
from gateway.simulator.call import Json
from gateway.simulator.world import World

_LIFETIME_S = 3600
_BYTES_PER_SECOND = (("audio/pcm", 48_000), ("audio/pcmu", 8_000), ("audio/pcma", 8_000))
_VAD = (
    ("type", "server_vad"),
    ("threshold", 0.5),
    ("prefix_padding_ms", 300),
    ("silence_duration_ms", 500),
    ("create_response", True),
    ("interrupt_response", True),
)


def default(world: World, model: str, given: Json) -> Json:
    """A realtime (or transcription) session as it is when it starts, with what was given for it."""
    heard: Json = {
        "format": {"type": "audio/pcm", "rate": 24_000},
        "transcription": None,
        "noise_reduction": None,
        "turn_detection": dict(_VAD),
    }
    spoken: Json = {"format": {"type": "audio/pcm", "rate": 24_000}, "voice": "marin", "speed": 1.0}
    head: Json = {"id": world.ids.make("sess_"), "expires_at": world.now() + _LIFETIME_S}
    if given.get("type") == "transcription":
        head |= {"object": "realtime.transcription_session", "type": "transcription", "audio": {"input": heard}}
        return merged(head, given)
    return merged(
        {
            "object": "realtime.session",
            "type": "realtime",
            "model": model,
            "output_modalities": ["audio"],
            "instructions": "",
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": "inf",
            "truncation": "auto",
            "prompt": None,
            "tracing": None,
            "include": None,
            "audio": {"input": heard, "output": spoken},
        }
        | head,
        given,
    )


def translation(world: World, model: str, given: Json) -> Json:
    audio = {"input": {"transcription": None, "noise_reduction": None}, "output": {"language": "es"}}
    head: Json = {"id": world.ids.make("sess_"), "type": "translation", "model": model, "audio": audio}
    return merged(head | {"expires_at": world.now() + _LIFETIME_S}, given)


def live(world: World, given: Json) -> Json:
    head: Json = {"id": world.ids.make("sess_"), "expires_at": world.now() + _LIFETIME_S, "status": "active"}
    model = str(given.get("model") or "gpt-live-1")
    return merged(head | {"model": model, "audio": {"format": {"type": "audio/pcm", "rate": 24_000}}}, given)


def merged(old: Json, new: Json) -> Json:
    """What `session.update` makes of a session: members of objects are replaced one by one."""
    found = dict(old)
    for name, value in new.items():
        before = found.get(name)
        if isinstance(value, dict) and isinstance(before, dict) and name != "format" and _same_kind(before, value):
            found[name] = merged(before, value)
        else:
            found[name] = value
    return found


def _same_kind(before: Json, value: Json) -> bool:
    """Whether a setting changes some members and not its type, as turn detection may."""
    return bool(value.get("type", before.get("type")) == before.get("type"))


def check(settings: Json) -> Json:
    """Settings of a session or a response, looked at. Raises ApiError."""
    if any(one not in ("text", "audio") for one in params.texts(settings, "output_modalities")):
        raise errors.wrong_value("output_modalities", settings["output_modalities"], ("text", "audio"))
    for tool in params.typed(settings, "tools"):
        if tool["type"] == "function":
            params.need_text(tool, "name")
    params.text(settings, "instructions")
    params.metadata(settings)
    params.text(params.mapping(settings, "reasoning"), "effort")
    for way in ("input", "output"):
        heard = params.mapping(params.mapping(settings, "audio"), way)
        for name in ("turn_detection", "transcription", "format"):
            detail = params.mapping(heard, name)
            params.integer(detail, "silence_duration_ms")
    if settings.get("max_output_tokens") != "inf":
        params.integer(settings, "max_output_tokens", least=1)
    return settings


def check_item(item: Json) -> Json:
    """An item of a conversation, looked at. Raises ApiError."""
    kinds = ("message", "function_call", "function_call_output", "item_reference")
    kind = params.choice(item, "type", kinds, "message")
    for name in ("id", "role", "name", "arguments", "output", "call_id"):
        params.text(item, name)
    for content in params.typed(item, "content"):
        for name in ("text", "audio", "transcript", "image_url", "detail"):
            params.text(content, name)
    return item | {"type": kind}


def part(session: Json, *path: str) -> Any:
    """A setting deep in a session, or None."""
    found: Any = session
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def rate(session: Json, way: str) -> int:
    """Bytes of audio a second, of `input` or `output`."""
    return dict(_BYTES_PER_SECOND).get(str(part(session, "audio", way, "format", "type")), 48_000)


def decoded(text: Any) -> bytes:
    """Base64 audio. Raises ApiError."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise errors.wrong_type("audio", "base64 audio", text) from None


def audio_tokens(seconds: float) -> int:
    return media.sound_tokens_in(seconds)
