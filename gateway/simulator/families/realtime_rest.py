"""Realtime over REST: client secrets, and calls as far as they need no media."""

from gateway.simulator import errors, params
from gateway.simulator.book import Meta
from gateway.simulator.call import BytesReply, Call, Handlers, Json, JsonReply, Reply
from gateway.simulator.families import realtime_session
from gateway.simulator.world import World

_SECRET_LIFETIME_S = 600
_MOST_SECRETS = 10_000
_SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n"
    "a=rtpmap:111 opus/48000/2\r\n"
)


def _secret(world: World, session: Json) -> Json:
    """A client secret: a key of its own, which brings its session along."""
    while len(world.ephemeral) >= _MOST_SECRETS:
        world.ephemeral.pop(next(iter(world.ephemeral)))
    value = world.ids.hexadecimal("ek_")
    world.ephemeral[value] = session
    return {"value": value, "expires_at": world.now() + _SECRET_LIFETIME_S}


async def create_secret(world: World, call: Call) -> Reply:
    """POST /realtime/client_secrets."""
    given = realtime_session.check(params.mapping(call.body, "session"))
    session = realtime_session.default(world, str(given.get("model") or "gpt-realtime"), given)
    return JsonReply(_secret(world, session) | {"session": session}, Meta(object_id=session["id"]))


async def create_translation_secret(world: World, call: Call) -> Reply:
    """POST /realtime/translations/client_secrets."""
    given = params.mapping(call.body, "session")
    session = realtime_session.translation(world, params.need_text(given, "model"), given)
    return JsonReply(_secret(world, session) | {"session": session}, Meta(object_id=session["id"]))


async def create_session(world: World, call: Call) -> Reply:
    """POST /realtime/sessions, the first shape of client secrets."""
    body = call.body
    model = params.model(call, "gpt-4o-realtime-preview")
    session = realtime_session.default(world, model, {"instructions": body.get("instructions") or ""})
    value: Json = {
        "id": session["id"],
        "object": "realtime.session",
        "model": model,
        "modalities": ["audio", "text"],
        "instructions": "",
        "voice": "alloy",
        "input_audio_format": "pcm16",
        "output_audio_format": "pcm16",
        "turn_detection": {
            "type": "server_vad",
            "threshold": 0.5,
            "prefix_padding_ms": 300,
            "silence_duration_ms": 500,
        },
        "tools": [],
        "tool_choice": "auto",
        "temperature": 0.8,
        "max_response_output_tokens": "inf",
    }
    value |= {name: body[name] for name in value if body.get(name) is not None and name not in {"id", "object"}}
    if transcription := params.mapping(body, "input_audio_transcription"):
        value["input_audio_transcription"] = transcription
    return JsonReply(value | {"client_secret": _secret(world, session)}, Meta(object_id=session["id"]))


async def create_transcription_session(world: World, call: Call) -> Reply:
    """POST /realtime/transcription_sessions."""
    body = call.body
    given = params.mapping(body, "input_audio_transcription") or {"model": "gpt-4o-transcribe"}
    audio = {"input": {"transcription": given}}
    session = realtime_session.default(world, "", {"type": "transcription", "audio": audio})
    value: Json = {
        "id": session["id"],
        "object": "realtime.transcription_session",
        "modalities": ["audio", "text"],
        "input_audio_format": params.text(body, "input_audio_format", "pcm16"),
        "input_audio_transcription": given,
        "turn_detection": params.mapping(body, "turn_detection") or {"type": "server_vad", "threshold": 0.5},
        "client_secret": _secret(world, session),
    }
    return JsonReply(value, Meta(object_id=session["id"]))


async def create_call(world: World, call: Call) -> Reply:
    """POST /realtime/calls: an SDP answer; nothing listens where it points to."""
    if not call.body.get("sdp") and not call.files.get("sdp"):
        raise errors.missing("sdp")
    call_id = world.ids.make("rtc_")
    world.store.shelf("calls").add({"id": call_id})
    location = (("location", f"/v1/realtime/calls/{call_id}"),)
    return BytesReply(_SDP.encode(), "application/sdp", Meta(object_id=call_id), 201, location)


async def create_live(world: World, call: Call) -> Reply:
    """POST /live/sessions and its forks over WebRTC."""
    session = realtime_session.live(world, params.mapping(call.body, "session"))
    world.store.shelf("live").add({"id": session["id"], "session": session, "seconds": 0.0})
    value: Json = {"session": session, "transport": {"type": "webrtc", "sdp": _SDP}}
    return JsonReply(value, Meta(object_id=session["id"]), 201)


async def control_call(world: World, call: Call) -> Reply:
    """POST /realtime/calls/{call_id}/accept | hangup | refer | reject: of calls that are known."""
    world.store.shelf("calls").get(call.params["call_id"])
    return BytesReply(b"", "text/plain")


async def control_live(world: World, call: Call) -> Reply:
    """POST /live/sessions/{session_id}/accept | hangup | refer | reject."""
    world.store.shelf("live").get(call.params["session_id"])
    return BytesReply(b"", "text/plain")


HANDLERS: Handlers = (
    ("create-realtime-session", create_session),
    ("create-realtime-client-secret", create_secret),
    ("create-realtime-transcription-session", create_transcription_session),
    ("create-realtime-translation-client-secret", create_translation_secret),
    ("create-realtime-call", create_call),
    ("accept-realtime-call", control_call),
    ("hangup-realtime-call", control_call),
    ("refer-realtime-call", control_call),
    ("reject-realtime-call", control_call),
    ("createLiveSession", create_live),
    ("forkLiveSession", create_live),
    ("acceptLiveSession", control_live),
    ("hangupLiveSession", control_live),
    ("referLiveSession", control_live),
    ("rejectLiveSession", control_live),
)
