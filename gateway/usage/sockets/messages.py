"""Messages of sockets, as far as meters look at them. Members that may be large are sized and not decoded."""

import re
from typing import Any

import msgspec

_LONG = 4096  # bytes of a message from which it pays to look at its type before it is decoded
_HEAD = 1024  # bytes of a long message in which its type and ids stand
_SHORTEN = 256  # characters of an id or a name

_TYPE = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"type"[ \t\r\n]*:[ \t\r\n]*"([a-z_.]{1,100})"')
# Base64 has neither quotes nor backslashes, so its end is the next quote.
_SOUND = re.compile(rb'"(?:delta|audio)"[ \t\r\n]*:[ \t\r\n]*"')
_SURROGATE = re.compile(rb"(?<!\\)((?:\\\\)*)\\u[dD][89a-fA-F][0-9a-fA-F]{2}")  # see `proxy.body.head`
_SECOND_LOOK = 4 * 1024 * 1024  # bytes of a message that are worth it
_TAIL = 256  # bytes of a long message behind its sound
_IDS = re.compile(rb'"(response_id|stream_id|item_id)"[ \t\r\n]*:[ \t\r\n]*"([^"\\]{1,256})"')


class Message(msgspec.Struct):
    """The members of any message that matter. Objects stay as they are until somebody wants them.

    sound: characters of base64 in a message that was not decoded, for it is long and all sound.
    """

    type: Any = None
    event_id: Any = None
    response_id: Any = None
    stream_id: Any = None
    item_id: Any = None
    delegation_id: Any = None
    delta: Any = None
    model: Any = None
    user: Any = None
    safety_identifier: Any = None
    previous_response_id: Any = None
    status: Any = None
    audio_start_ms: Any = None
    audio_end_ms: Any = None
    audio: msgspec.Raw = msgspec.Raw()
    item: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()
    session: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    event: msgspec.Raw = msgspec.Raw()
    sound: int = 0

    @property
    def kind(self) -> str:
        return self.type if isinstance(self.type, str) else ""

    @property
    def sound_bytes(self) -> int:
        """Bytes of the audio that the message brings."""
        return (self.sound or max(len(self.audio) - 2, len(text(self.delta)), 0)) * 3 // 4


_decode = msgspec.json.Decoder(Message).decode
_decode_any = msgspec.json.Decoder().decode


def read(data: bytes) -> Message | None:
    """A message; None if it is no JSON object."""
    if len(data) > _LONG and (sound := _sound(data)) is not None:
        return sound
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _without_surrogates(data)


def _without_surrogates(data: bytes) -> Message | None:
    """A message in whose texts half a character stands, which upstreams take."""
    if len(data) > _SECOND_LOOK:
        return None
    text, number = _SURROGATE.subn(rb"\1\\u0001", data)
    if not number:
        return None
    try:
        return _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _sound(data: bytes) -> Message | None:
    """A long message that is all sound; None if it is another, or does not look like that at once."""
    found = _TYPE.match(data)
    if found is None or not found[1].endswith((b"audio.delta", b".append")):
        return None
    sound = _SOUND.search(data, found.end(), _HEAD)
    if sound is None:
        return None
    end = data.find(b'"', sound.end())
    around = data[found.end() : sound.start()] + data[end + 1 : end + 1 + _TAIL]
    if len(data) - end > _TAIL or b'"type"' in around or b"\\" in around:
        return None  # it may be another message after all
    size = end - sound.end() - data.count(b"=", max(sound.end(), end - 2), end)
    message = Message(type=found[1].decode(), sound=size)
    for name, value in _IDS.findall(data, found.end(), sound.start()):
        setattr(message, name.decode(), value.decode("utf-8", "replace"))
    return message if end > 0 else None


def plain(raw: msgspec.Raw) -> Any:
    """What an object is; None if it is none. For what is small, or rare."""
    try:
        return _decode_any(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def at(value: Any, *path: str) -> Any:
    """The value at a path into decoded objects, None if there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def short(value: Any) -> str:
    """A name or an id, which are not believed to be of any length."""
    return value[:_SHORTEN] if isinstance(value, str) else ""


def size(value: Any) -> int:
    """Bytes of a text, as UTF-8."""
    if not isinstance(value, str):
        return 0
    return len(value) if value.isascii() else len(value.encode("utf-8", "replace"))
