"""What a realtime conversation amounts to, for estimates: each of its responses reads all of it again.

Text is counted in bytes, sound in milliseconds. The server says when an item joins the conversation, and how its sound
was cut; the client's messages say how large it is.
"""

from collections import deque
from typing import Any

import msgspec

from gateway.usage.asked import Asked
from gateway.usage.sockets.messages import Message, at, plain, short, size, text
from gateway.usage.sockets.turns import SOUND_BYTES_PER_S, ms_of

_ITEMS = 1024  # that are remembered one by one; of older ones only the sum is known
_G711_BYTES_PER_S = 8_000
_LONGEST_MS = 24 * 3_600_000


class Size(msgspec.Struct, frozen=True):
    text_bytes: int = 0
    sound_ms: int = 0


class _Part(msgspec.Struct):
    text: Any = None
    transcript: Any = None
    audio: msgspec.Raw = msgspec.Raw()


class _Item(msgspec.Struct):
    id: Any = None
    type: Any = None
    content: list[_Part] | None = None
    arguments: Any = None
    output: Any = None


class _Wish(msgspec.Struct):
    """What a request for a response sets instead of what holds for the session."""

    conversation: Any = None
    instructions: Any = None
    tools: msgspec.Raw = msgspec.Raw()
    input: list[msgspec.Raw] | None = None


_decode_item = msgspec.json.Decoder(_Item).decode
_decode_wish = msgspec.json.Decoder(_Wish).decode


class Wish(msgspec.Struct, frozen=True):
    """A response that has been asked for. alone: it stays out of the conversation. event_id: of the request. Sizes are
    None where those of the session hold."""

    event_id: str = ""
    alone: bool = False
    instructions: int | None = None
    tools: int | None = None
    input: Size | None = None


class Conversation:
    """One conversation. heard_rate, spoken_rate: bytes of a second of sound. transcribed_by: the model that writes down
    what is heard, empty for none; transcribes: that is all there is. most: tokens of an answer, None for any number."""

    def __init__(self) -> None:
        self.model = self.transcribed_by = ""
        self.transcribes = False
        self.most: int | None = None
        self.heard_rate = self.spoken_rate = SOUND_BYTES_PER_S
        self._instructions = self._tools = 0
        self._items: dict[str, Size] = {}
        self._unnamed: deque[Size] = deque(maxlen=_ITEMS)  # went up without an id, the server has not named them yet
        self._number = self._text_bytes = self._sound_ms = 0
        self._buffer = 0  # bytes
        self._speech: dict[str, tuple[int, int]] = {}  # item id → when it begins and ends, in ms of what was heard

    def configure(self, raw: msgspec.Raw, *, transcribes: bool = False) -> None:
        """The session is this, as the server says. transcribes: also if it does not name its type."""
        session = plain(raw)
        if not isinstance(session, dict):
            return
        self.model = short(session.get("model")) or self.model
        self.transcribes = transcribes or session.get("type") == "transcription"
        most = session.get("max_output_tokens", session.get("max_response_output_tokens"))
        self.most = most if type(most) is int and most > 0 else None
        self.heard_rate = rate_of(at(session, "audio", "input", "format") or session.get("input_audio_format"))
        self.spoken_rate = rate_of(at(session, "audio", "output", "format") or session.get("output_audio_format"))
        transcription = at(session, "audio", "input", "transcription") or session.get("input_audio_transcription")
        self.transcribed_by = short(at(transcription, "model"))
        self._instructions = size(session.get("instructions"))
        self._tools = len(msgspec.json.encode(session["tools"])) if session.get("tools") else 0

    def hear(self, sound_bytes: int) -> None:
        self._buffer += sound_bytes

    def clear(self) -> None:
        self._buffer = 0

    def speech(self, message: Message, *, began: bool) -> None:
        """The server has found where somebody speaks."""
        at_ms = message.audio_start_ms if began else message.audio_end_ms
        item_id = short(message.item_id)
        if isinstance(at_ms, int) and 0 <= at_ms < _LONGEST_MS:
            first, _ = self._speech.get(item_id, (at_ms, 0))
            if len(self._speech) >= _ITEMS:
                self._speech.clear()
            self._speech[item_id] = (at_ms, 0) if began else (first, at_ms)

    def commit(self, item_id: str) -> int:
        """What was heard becomes an item; returns its length in ms."""
        first, last = self._speech.pop(item_id, (0, 0))
        sound_ms = last - first if last > first else ms_of(self._buffer, self.heard_rate)
        self._buffer = 0
        self._add(item_id, Size(0, sound_ms))
        return sound_ms

    def create(self, raw: msgspec.Raw) -> None:
        """An item went up."""
        item = _item(raw)
        if item is None:
            return
        found = self._size(item)
        if not short(item.id):
            self._unnamed.append(found)
        self._add(short(item.id), found)

    def named(self, raw: msgspec.Raw) -> None:
        """The server says which id an item has."""
        item = _item(raw)
        item_id = short(item.id) if item is not None else ""
        if self._unnamed and item_id and item_id not in self._items:
            self._remember(item_id, self._unnamed.popleft())

    def delete(self, item_id: str) -> None:
        found = self._items.pop(item_id, None)
        if found is not None:
            self._number -= 1
            self._text_bytes -= found.text_bytes
            self._sound_ms -= found.sound_ms

    def truncate(self, item_id: str, sound_ms: Any) -> None:
        found = self._items.get(item_id)
        if found is not None and isinstance(sound_ms, int) and 0 <= sound_ms < found.sound_ms:
            self._sound_ms -= found.sound_ms - sound_ms
            self._items[item_id] = Size(found.text_bytes, sound_ms)

    def say(self, item_id: str, text_bytes: int, sound_ms: int) -> None:
        """A response is part of the conversation now."""
        self._add(item_id, Size(text_bytes, sound_ms))

    def wish(self, message: Message) -> Wish:
        """What is asked for with a request for a response."""
        event_id = short(message.event_id)
        try:
            given = _decode_wish(message.response) if message.response else _Wish()
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            given = _Wish()
        return Wish(
            event_id,
            given.conversation == "none",
            None if given.instructions is None else size(given.instructions),
            len(given.tools) or None,
            None if given.input is None else self._sum(given.input),
        )

    def asked(self, wish: Wish) -> Asked:
        """All that a response reads."""
        told = wish.input if wish.input is not None else Size(self._text_bytes, self._sound_ms)
        instructions = self._instructions if wish.instructions is None else wish.instructions
        tools = self._tools if wish.tools is None else wish.tools
        return Asked(
            text_bytes=told.text_bytes + instructions + tools,
            messages=self._number if wish.input is None else 0,
            duration_ms=told.sound_ms,
            most=self.most,
        )

    def _add(self, item_id: str, found: Size) -> None:
        self._number += 1
        self._text_bytes += found.text_bytes
        self._sound_ms += found.sound_ms
        if item_id:
            self._remember(item_id, found)

    def _remember(self, item_id: str, found: Size) -> None:
        if len(self._items) >= _ITEMS:
            del self._items[next(iter(self._items))]
        self._items[item_id] = found

    def _sum(self, raws: list[msgspec.Raw]) -> Size:
        found = [self._size(item) for item in map(_item, raws) if item is not None]
        return Size(sum(one.text_bytes for one in found), sum(one.sound_ms for one in found))

    def _size(self, item: _Item) -> Size:
        if item.type == "item_reference":
            return self._items.get(short(item.id), Size())
        parts = item.content or []
        text_bytes = size(item.arguments) + size(item.output)
        text_bytes += sum(size(part.text) + size(part.transcript) for part in parts)
        sound = sum(max(0, len(part.audio) - 2) * 3 // 4 for part in parts)
        return Size(text_bytes, ms_of(sound, self.heard_rate))


def rate_of(form: Any) -> int:
    """Bytes of a second of sound in a format, as sessions have it: an object, and a name in the beta."""
    name = text(form) or text(at(form, "type"))
    if name in {"audio/pcmu", "audio/pcma", "g711_ulaw", "g711_alaw"}:
        return _G711_BYTES_PER_S
    hertz = at(form, "rate")
    return 2 * hertz if isinstance(hertz, int) and 1_000 <= hertz <= 192_000 else SOUND_BYTES_PER_S


def _item(raw: msgspec.Raw) -> _Item | None:
    try:
        return _decode_item(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
