"""Audio: speech, transcriptions, translations. Rules of length and tokens are those of `media.py`.

A transcription's text has 3 tokens a second. whisper-1 bills seconds, the gpt-4o models tokens: those of the sound and
of the prompt in, those of the text out.
"""

import base64
import math
from collections.abc import Iterator

import msgspec

from gateway.simulator import answers, catalog, errors, media, params, tokens
from gateway.simulator.book import Meta, Quantities
from gateway.simulator.call import BytesReply, Call, Event, EventReply, Handlers, Json, JsonReply, Reply
from gateway.simulator.families.files import taken
from gateway.simulator.families.subtitles import segments, srt, vtt, words
from gateway.simulator.sse import failure
from gateway.simulator.world import World

_SPEECH_TYPES = (
    ("mp3", "audio/mpeg"), ("opus", "audio/opus"), ("aac", "audio/aac"), ("flac", "audio/flac"), ("wav", "audio/wav"),
    ("pcm", "audio/pcm"),
)  # fmt: skip
_MAX_CHARACTERS = 4096
_PIECE_BYTES = 16_384
TRANSCRIPT_TOKENS_PER_SECOND = 3
_encode = msgspec.json.Encoder().encode


async def speak(_: World, call: Call) -> Reply:
    """POST /audio/speech: sound, or with `stream_format: sse` events."""
    body, model = call.body, params.model(call)
    text = params.need_text(body, "input")
    params.need(body, "voice")
    if len(text) > _MAX_CHARACTERS:
        raise errors.ApiError(
            400, f"Invalid 'input': string too long. Expected a string with maximum length {_MAX_CHARACTERS}.",
            param="input", code="string_above_max_length",
        )  # fmt: skip
    form = params.choice(body, "response_format", tuple(known for known, _ in _SPEECH_TYPES), "mp3")
    speed = params.number(body, "speed", 1.0, 0.25, 4.0)
    size = tokens.count(text)
    seconds = round(media.speech_seconds(size) / speed, 3)
    sound = media.speech(seconds, form)
    usage = Quantities(characters=len(text), seconds=seconds)
    if not model.startswith("tts-"):
        spoken = media.sound_tokens_out(seconds)
        usage += Quantities(input_tokens=size, output_tokens=spoken, output_audio_tokens=spoken)
    meta = Meta(usage, catalog.resolve(model))
    if params.text(body, "stream_format", "audio") == "sse":
        if model.startswith("tts-"):
            raise errors.ApiError(400, f"'sse' is not supported for '{model}'.", param="stream_format")
        return EventReply(_speech_events(call, sound, usage), meta, _pieces(sound), end=b"", failure=failure)
    return BytesReply(sound, dict(_SPEECH_TYPES)[form], meta)


def _pieces(sound: bytes) -> int:
    return math.ceil(len(sound) / _PIECE_BYTES)


def _speech_events(call: Call, sound: bytes, usage: Quantities) -> Iterator[Event]:
    left, count = usage.output_tokens, _pieces(sound)
    for i in range(count):
        piece = sound[i * _PIECE_BYTES : (i + 1) * _PIECE_BYTES]
        size = left // (count - i)
        left -= size
        value = {"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()}
        yield Event(None, _encode(value), size)
    done: Json = {"type": "speech.audio.done"}
    if not call.faults.no_usage:
        counted = ("input_tokens", "output_tokens", "total_tokens")
        done["usage"] = {name: getattr(usage, name) for name in counted}
    yield Event(None, _encode(done), usage="usage" in done)


class Heard(msgspec.Struct, frozen=True):
    """A transcription or translation: pieces are the tokens of its text."""

    pieces: list[str]
    seconds: float
    usage: Quantities
    prompt_tokens: int
    by_tokens: bool

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def usage_object(self) -> Json:
        if not self.by_tokens:
            return {"type": "duration", "seconds": math.ceil(self.seconds)}
        return {
            "type": "tokens",
            "input_tokens": self.usage.input_tokens,
            "input_token_details": {"text_tokens": self.prompt_tokens, "audio_tokens": self.usage.input_audio_tokens},
            "output_tokens": self.usage.output_tokens,
            "total_tokens": self.usage.total_tokens,
        }


def _hear(world: World, call: Call) -> Heard:
    model, upload = params.model(call), taken(call, "file")
    with upload.path.open("rb") as source:
        head = source.read(64)
    if upload.size == 0:
        raise errors.ApiError(400, "Audio file is too short. Minimum audio length is 0.1 seconds.", param="file")
    seconds = media.sound_seconds(head, upload.size)
    seed = answers.seed_of(model, head.hex(), upload.size)
    natural = (
        call.faults.tokens if call.faults.tokens is not None else max(1, int(seconds * TRANSCRIPT_TOKENS_PER_SECOND))
    )
    pieces = world.prose.pieces(seed, natural)
    by_tokens = not model.startswith("whisper")
    asked = tokens.count(params.text(call.body, "prompt"))
    usage = Quantities(seconds=seconds)
    if by_tokens:
        sound = media.sound_tokens_in(seconds)
        usage += Quantities(input_tokens=sound + asked, input_audio_tokens=sound, output_tokens=len(pieces))
    return Heard(pieces, seconds, usage, asked, by_tokens)


async def transcribe(world: World, call: Call) -> Reply:
    """POST /audio/transcriptions."""
    form = params.text(call.body, "response_format", "json")
    model = params.model(call)
    if model.startswith("gpt-") and form not in {"json", "text", "diarized_json"}:
        raise errors.ApiError(
            400, f"response_format '{form}' is not compatible with model '{model}'. Use 'json' or 'text' instead.",
            param="response_format", code="unsupported_value",
        )  # fmt: skip
    heard = _hear(world, call)
    meta = Meta(heard.usage, catalog.resolve(model))
    if params.flag(call.body, "stream") and heard.by_tokens:
        events = _transcript_events(call, heard, diarized=form == "diarized_json")
        return EventReply(events, meta, call.faults.chunks or len(heard.pieces), failure=failure)
    return _written(call, heard, meta, form, "transcribe")


async def translate(world: World, call: Call) -> Reply:
    """POST /audio/translations: nothing about usage in any answer."""
    heard = _hear(world, call)
    meta = Meta(heard.usage, catalog.resolve(params.model(call)))
    return _written(call, heard, meta, params.text(call.body, "response_format", "json"), "translate")


def _written(call: Call, heard: Heard, meta: Meta, form: str, task: str) -> Reply:
    usage: Json = {"usage": heard.usage_object()} if task == "transcribe" else {}
    if form == "text":
        return BytesReply(heard.text.encode() + b"\n", "text/plain", meta)
    if form in {"srt", "vtt"}:
        text = (srt if form == "srt" else vtt)(heard.pieces, heard.seconds)
        return BytesReply(text.encode(), "text/plain", meta)
    if form == "json":
        return JsonReply({"text": heard.text} | usage, meta)
    if form == "diarized_json":
        spoken = [_speaker_segment(part) for part in segments(heard.pieces, heard.seconds)]
        value = {"task": task, "duration": heard.seconds, "text": heard.text, "segments": spoken}
        return JsonReply(value | usage, meta)
    if form != "verbose_json":
        raise errors.wrong_value("response_format", form, ("json", "text", "srt", "verbose_json", "vtt"))
    value = {
        "task": task,
        "language": "english",
        "duration": heard.seconds,
        "text": heard.text,
        "segments": segments(heard.pieces, heard.seconds),
    }
    if "word" in params.items(call.body, "timestamp_granularities"):
        value["words"] = words(heard.pieces, heard.seconds)
    return JsonReply(value | usage, meta)


def _speaker_segment(part: Json) -> Json:
    kept = {name: part[name] for name in ("start", "end", "text")}
    return {"type": "transcript.text.segment", "id": f"seg_{part['id']:03d}", "speaker": "AB"[part["id"] % 2]} | kept


def _transcript_events(call: Call, heard: Heard, *, diarized: bool) -> Iterator[Event]:
    for text, size in answers.grouped(heard.pieces, call.faults.chunks):
        yield Event(None, _encode({"type": "transcript.text.delta", "delta": text}), size)
    if diarized:
        for part in segments(heard.pieces, heard.seconds):
            yield Event(None, _encode(_speaker_segment(part)))
    done: Json = {"type": "transcript.text.done", "text": heard.text}
    if not call.faults.no_usage:
        done["usage"] = heard.usage_object()
    yield Event(None, _encode(done), usage="usage" in done)


HANDLERS: Handlers = (("createSpeech", speak), ("createTranscription", transcribe), ("createTranslation", translate))
