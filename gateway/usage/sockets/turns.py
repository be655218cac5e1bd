"""A response while it is under way, and what is left of it when it has ended."""

from collections.abc import Iterable
from typing import Protocol

import msgspec

from gateway.usage.asked import NOTHING, Asked, of_json
from gateway.usage.extract import Report
from gateway.usage.kinds import Kind
from gateway.usage.lines import Answer
from gateway.usage.rules import TOOL_EVENTS
from gateway.usage.sockets.messages import Message, size
from gateway.values import Checked, Taking

MOST = 256  # under way on one socket at a time; of more, only what they report counts
SOUND_BYTES_PER_S = 48_000  # of OpenAI's default: 24 kHz, 16 bits, mono

_HELD = 4 * 1024  # bytes of a request that are kept until it is known whether anybody needs them


class Ticket(msgspec.Struct, frozen=True):
    """What was reserved for a response. number: its own on its socket. at_us: when it was, since 1970; 0 for never.
    The others are as in its event."""

    number: int
    at_us: int = 0
    reserved: Taking | None = None
    limits: tuple[Checked, ...] = ()


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """A response that has ended; or a transcription, or a session that is billed as a whole.

    begun_at: seconds since 1970. category: in which it counts as a request. model: as asked for. apart: the model is
    another than that of the socket. complete: False if the socket ended before it. status: of its own, 0 if none.
    ticket: as it was begun with.
    """

    begun_at: float
    kind: Kind
    category: str
    answer: Answer
    asked: Asked = NOTHING
    model: str = ""
    apart: bool = False
    complete: bool = True
    status: int = 0
    end_user: str = ""
    ticket: Ticket | None = None

    @property
    def refused(self) -> bool:
        """It failed before anything was made, and tells of nothing used."""
        return self.answer.failed and not (self.answer.reports or self.answer.text_bytes or self.answer.duration_ms)


class Session(Protocol):
    """A socket's meter. It is shown what has gone up and come down, and gives what has ended with it.

    ticket: of the response that the message asks for.
    """

    def up(self, message: bytes, ticket: Ticket | None = None, /) -> Iterable[Finished]: ...
    def down(self, message: bytes, /) -> Iterable[Finished]: ...
    def end(self) -> Iterable[Finished]:
        """The socket has ended: what was under way."""

    def uncaused(self) -> "Turn | None":
        """The response that has begun last, if nobody had asked for it; told once."""

    def asked(self, message: Message, /) -> Asked:
        """What a response would read that this message asks for. Sizes as far as they are known."""

    @property
    def length(self) -> "Length | None":
        """How much sound there was so far, on a socket that is billed by that; None on others."""

    @property
    def model(self) -> str:
        """As the upstream calls the one that answers, or hears; empty if that is not known."""


class Length(msgspec.Struct, frozen=True):
    """ms: of sound, since the session began or was last billed. rate: bytes of a second of it."""

    ms: int
    rate: int


class Turn:
    """One response under way. Sizes are bytes; the sound's are decoded. context_tokens: what it goes on from."""

    __slots__ = (
        "answer", "asked", "begun_at", "body", "category", "context_tokens", "end_user", "kind", "model", "sound_bytes",
        "ticket",
    )  # fmt: skip

    def __init__(self, begun_at: float, kind: Kind, category: str, ticket: Ticket | None = None) -> None:
        self.begun_at = begun_at
        self.ticket = ticket
        self.kind = kind
        self.category = category
        self.model = self.end_user = ""
        self.asked = NOTHING
        self.body = b""
        self.sound_bytes = self.context_tokens = 0
        self.answer = Answer(reports=[], calls={})

    def hold(self, body: bytes) -> None:
        """The request that it began with, looked at only if it has to be."""
        if len(body) <= _HELD:
            self.body = body
        else:
            self.asked = msgspec.structs.replace(of_json(body, self.kind.basis), texts=())

    def note(self, kind: str, message: Message) -> None:
        """An event of it went by."""
        if kind.endswith(".delta"):
            if kind.endswith("audio.delta"):
                self.sound_bytes += message.sound_bytes
            else:
                self.answer.text_bytes += size(message.delta)
        elif kind in TOOL_EVENTS:
            calls, category = self.answer.calls, TOOL_EVENTS[kind]
            calls[category] = calls.get(category, 0) + 1

    def finished(
        self,
        reports: list[Report],
        *,
        complete: bool = True,
        apart: bool = False,
        rate: int = SOUND_BYTES_PER_S,
        status: int = 0,
    ) -> Finished:
        """rate: bytes of a second of its sound."""
        answer = self.answer
        answer.reports = reports
        answer.duration_ms = ms_of(self.sound_bytes, rate)
        asked = self.asked
        if self.body and not reports:
            asked = of_json(self.body, self.kind.basis)
        if self.context_tokens:
            asked = msgspec.structs.replace(asked, tokens=self.context_tokens)
        return Finished(
            begun_at=self.begun_at,
            kind=self.kind,
            category=self.category,
            answer=answer,
            asked=asked,
            model=self.model,
            apart=apart,
            complete=complete,
            status=status,
            end_user=self.end_user,
            ticket=self.ticket,
        )


def ms_of(sound_bytes: int, rate: int) -> int:
    """How long sound of so many bytes is, begun milliseconds included."""
    return -(-sound_bytes * 1000 // rate)
