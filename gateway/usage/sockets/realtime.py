"""A realtime session: responses, be they asked for or begun by the server, and transcriptions of what was heard."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from gateway.usage.asked import Asked
from gateway.usage.extract import of_event
from gateway.usage.kinds import TRANSCRIPTION, Kind
from gateway.usage.rules import Rule
from gateway.usage.sockets.conversation import Conversation, Wish
from gateway.usage.sockets.messages import Message, plain, read, short
from gateway.usage.sockets.messages import at as inside
from gateway.usage.sockets.turns import MOST, Finished, Length, Ticket, Turn, ms_of

_TRANSCRIPTION = "conversation.item.input_audio_transcription."


class _Item(msgspec.Struct):
    id: Any = None


class _Response(msgspec.Struct):
    id: Any = None
    status: Any = None
    output: list[_Item] | None = None


_decode = msgspec.json.Decoder(_Response).decode


class _Talk:
    """A response under way, and what it was asked with."""

    __slots__ = ("turn", "wish")

    def __init__(self, turn: Turn, wish: Wish) -> None:
        self.turn = turn
        self.wish = wish


class RealtimeSession:
    """A realtime socket. Which of several requests a response answers nobody says: the oldest is taken."""

    def __init__(self, now: Callable[[], float], rules: tuple[Rule, ...], kind: Kind) -> None:
        self._now = now
        self._rules = rules
        self._kind = kind
        self._conversation = Conversation()
        self._waiting: deque[_Talk] = deque()  # asked for, and not begun
        self._open: dict[str, _Talk] = {}  # by response id
        self._hearing: dict[str, Turn] = {}  # transcriptions, by item id
        self._uncaused: Turn | None = None
        self._heard = 0  # bytes

    @property
    def length(self) -> Length | None:
        """Sessions that only write down what they hear make no responses."""
        conversation = self._conversation
        if not conversation.transcribes:
            return None
        return Length(ms_of(self._heard, conversation.heard_rate), conversation.heard_rate)

    @property
    def model(self) -> str:
        conversation = self._conversation
        return conversation.transcribed_by if conversation.transcribes else conversation.model

    def uncaused(self) -> Turn | None:
        turn, self._uncaused = self._uncaused, None
        return turn

    def asked(self, message: Message) -> Asked:
        return self._conversation.asked(self._conversation.wish(message))

    def up(self, data: bytes, ticket: Ticket | None = None) -> Iterable[Finished]:
        message = read(data)
        if message is None:
            return ()
        match message.kind:
            case "input_audio_buffer.append":
                self._conversation.hear(message.sound_bytes)
                self._heard += message.sound_bytes
            case "conversation.item.create":
                self._conversation.create(message.item)
            case "response.create":
                if len(self._waiting) < MOST:
                    self._waiting.append(_Talk(self._turn(ticket), self._conversation.wish(message)))
        return ()

    def down(self, data: bytes) -> Iterable[Finished]:
        message = read(data)
        if message is None:
            return ()
        kind = message.kind
        if kind.startswith("response."):
            return self._of_response(kind, message, data)
        if kind.startswith(_TRANSCRIPTION):
            return self._of_transcription(kind, message, data)
        if kind == "error":
            return self._refused(message.error)
        if kind in {"session.created", "session.updated"} or kind.startswith("transcription_session."):
            self._conversation.configure(message.session, transcribes=kind.startswith("t"))
        else:
            self._of_item(kind, message)
        return ()

    def end(self) -> Iterable[Finished]:
        talks = list(self._open.values())
        if not talks and self._waiting:
            talks.append(self._waiting[0])  # the others would have been refused, or begun after it
        for talk in talks:
            if not talk.turn.answer.began:
                talk.turn.asked = self._conversation.asked(talk.wish)
        found = [self._finished(talk.turn, b"", complete=False) for talk in talks]
        found += [self._written(turn, b"", complete=False) for turn in self._hearing.values()]
        self._open.clear()
        self._waiting.clear()
        self._hearing.clear()
        return found

    def _turn(self, ticket: Ticket | None = None) -> Turn:
        return Turn(self._now(), self._kind, "completions", ticket)

    def _of_response(self, kind: str, message: Message, data: bytes) -> Iterable[Finished]:
        if kind == "response.created":
            self._created(_response(message.response))
        elif kind == "response.done":
            return self._done(_response(message.response), data)
        elif (talk := self._open.get(short(message.response_id))) is not None:
            talk.turn.note(kind, message)
        return ()

    def _created(self, response: _Response) -> None:
        response_id = short(response.id)
        if response_id in self._open or len(self._open) >= MOST:
            return
        if self._waiting:
            talk = self._waiting.popleft()
        else:
            talk = _Talk(self._turn(), Wish())
            self._uncaused = talk.turn
        talk.turn.asked = self._conversation.asked(talk.wish)
        talk.turn.answer.began = True
        talk.turn.answer.object_id = response_id
        self._open[response_id] = talk

    def _done(self, response: _Response, data: bytes) -> Iterable[Finished]:
        talk = self._open.pop(short(response.id), None)
        if talk is None:
            talk = _Talk(self._turn(), Wish(alone=True))
            talk.turn.asked = self._conversation.asked(talk.wish)
        turn = talk.turn
        turn.answer.began = True
        turn.answer.object_id = short(response.id)
        turn.answer.failed = response.status == "failed"
        if not talk.wish.alone and (turn.answer.text_bytes or turn.sound_bytes):
            item_id = short(response.output[0].id) if response.output else ""
            sound_ms = ms_of(turn.sound_bytes, self._conversation.spoken_rate)
            self._conversation.say(item_id, turn.answer.text_bytes, sound_ms)
        return (self._finished(turn, data),)

    def _finished(self, turn: Turn, data: bytes, *, complete: bool = True) -> Finished:
        turn.model = turn.answer.model = self._conversation.model
        reports = of_event("", data, self._rules) if data else []
        return turn.finished(reports, complete=complete, rate=self._conversation.spoken_rate)

    def _refused(self, error: msgspec.Raw) -> Iterable[Finished]:
        """The server did not do what it was asked. It names the request if that had an id."""
        named = short(inside(plain(error), "event_id"))
        for number, talk in enumerate(self._waiting):
            if talk.wish.event_id == named:
                del self._waiting[number]
                talk.turn.answer.failed = True
                return (self._finished(talk.turn, b""),) if talk.turn.ticket is not None else ()
        return ()

    def _of_item(self, kind: str, message: Message) -> None:
        conversation, item_id = self._conversation, short(message.item_id)
        match kind:
            case "input_audio_buffer.committed":
                sound_ms = conversation.commit(item_id)
                if conversation.transcribed_by and len(self._hearing) < MOST:
                    self._hearing[item_id] = self._transcription(sound_ms)
            case "input_audio_buffer.cleared":
                conversation.clear()
            case "input_audio_buffer.speech_started":
                conversation.speech(message, began=True)
            case "input_audio_buffer.speech_stopped":
                conversation.speech(message, began=False)
            case "conversation.item.added" | "conversation.item.created":
                conversation.named(message.item)
            case "conversation.item.deleted":
                conversation.delete(item_id)
            case "conversation.item.truncated":
                conversation.truncate(item_id, message.audio_end_ms)

    def _transcription(self, sound_ms: int) -> Turn:
        turn = Turn(self._now(), TRANSCRIPTION, "audio_transcriptions")
        turn.asked = Asked(duration_ms=sound_ms)
        turn.model = turn.answer.model = self._conversation.transcribed_by
        return turn

    def _of_transcription(self, kind: str, message: Message, data: bytes) -> Iterable[Finished]:
        item_id, what = short(message.item_id), kind.removeprefix(_TRANSCRIPTION)
        turn = self._hearing.get(item_id)
        if what == "completed":
            turn = turn or self._transcription(0)
            turn.answer.object_id = item_id
        elif turn is not None and what == "delta":
            turn.note(kind, message)
        if what in {"completed", "failed"}:  # what failed is not billed
            self._hearing.pop(item_id, None)
        if turn is not None and what == "completed":
            return (self._written(turn, data),)
        return ()

    def _written(self, turn: Turn, data: bytes, *, complete: bool = True) -> Finished:
        turn.answer.began = True
        heard_ms = turn.asked.duration_ms
        reports = of_event("", data, self._rules) if data else []
        found = turn.finished(reports, complete=complete, apart=True)
        found.answer.duration_ms = heard_ms
        return found


def _response(raw: msgspec.Raw) -> _Response:
    try:
        return _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Response()
