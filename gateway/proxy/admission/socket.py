"""Limits on a socket: each response is admitted on its own, and what makes none is admitted in pieces of its sound.

docs/limits-and-budgets.md, WebSockets, says what clients see of it.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

import msgspec

from gateway.clock import Clock
from gateway.errors import INVALID_JSON, OVERLOADED, GatewayError
from gateway.operations.table import Operation
from gateway.proxy.admission.bounds import SESSION_MS
from gateway.proxy.admission.reserve import Admits
from gateway.proxy.admission.socket_asked import (
    CONFIGURES,
    SocketRequest,
    check_plain,
    of_conversation,
    of_message,
    of_sound,
    of_upstream,
    said_of_response,
    said_of_session,
)  # fmt: skip
from gateway.proxy.admission.socket_holds import Caller, Holds, Wish
from gateway.usage.sockets.messages import Message, read, short
from gateway.usage.sockets.turns import MOST, Finished, Length, Session, Ticket, Turn, ms_of
from gateway.values import HeadFacts, UsageEvent

_AGAIN_S = 1.0  # between two attempts to find room for sound, of which each ends in an error event or lets it pass
_MOST_PIECES = 64  # of a session that only writes down what it hears: what is older than that was silence

_encode = msgspec.json.Encoder().encode


class Meter(Protocol):
    """See `metering.socket.SocketMeter`."""

    desk: "SocketGate | Any"

    @property
    def session(self) -> Session: ...
    def number(self) -> int: ...
    def up(self, message: bytes, ticket: Ticket | None, /) -> None: ...
    def down(self, message: bytes, /) -> None: ...
    def end(self, ended: str, /) -> None: ...


class Heads(Protocol):
    """See `body.intake.Intake`."""

    def read_head(self, body: bytes, /) -> tuple[str | None, HeadFacts]: ...
    def with_tier(self, body: bytes, tier: str, /) -> bytes: ...


class About(msgspec.Struct, frozen=True):
    """What of the client's an error is about: see `websocket.gate.Naming`."""

    event_id: str = ""
    lane: str = ""
    number: int = 0


class Ruling(msgspec.Struct, frozen=True):
    """What becomes of a message: see `websocket.gate.Ruling`."""

    passes: bool = True
    error: GatewayError | None = None
    about: About = About()
    up: bytes = b""
    instead: bytes = b""
    ends: bool = False


_PASS = Ruling()
_DROP = Ruling(passes=False)


class SocketGates:
    """Makes the gates of a worker's sockets."""

    def __init__(self, admission: Admits, operations: Iterable[Operation], heads: Heads, clock: Clock) -> None:
        self._admission = admission
        known = {one.id: one for one in operations}
        self._transcription, self._response = known["createTranscription"], known["createResponse"]
        self._heads = heads
        self._clock = clock

    def gate(
        self,
        meter: Meter,
        operation: Operation,
        caller: Caller,
        models: Callable[[str], Sequence[str]],
        *,
        request_id: str,
        named: str,
    ) -> "SocketGate":
        """named, models: see SocketGate."""
        holds = Holds(self._admission, caller, request_id, self._clock)
        gate = SocketGate(
            meter, holds, operation, self._transcription, self._response, named, models, self._heads, self._clock
        )  # fmt: skip
        meter.desk = gate
        return gate


class SocketGate:
    """Decides on the messages of one socket, and shows them to its meter."""

    def __init__(  # noqa: PLR0917 - it joins all of these
        self,
        meter: Meter,
        holds: Holds,
        operation: Operation,
        transcription: Operation,
        response: Operation,
        named: str,
        models: Callable[[str], Sequence[str]],
        heads: Heads,
        clock: Clock,
    ) -> None:
        """operation: of the socket; transcription: as which sound is reserved that is only written down; response: what
        the upstream hands to other models. named: the model in its URL, empty for none. models: a model as the socket's
        upstream calls it; raises GatewayError if it may not be used here."""
        self._meter = meter
        self._holds = holds
        self._operation = operation
        self._transcription = transcription
        self._named = named
        self._first = ""  # what the server called the model at first
        self._models = models
        self._read_head = heads.read_head
        self._with_tier = heads.with_tier
        self._clock = clock
        self._responses = operation.id == "connectResponses"
        self._talks = self._responses or operation.id == "connectRealtime"
        self._coming: Ticket | None = None  # of the message that goes up next
        self._pieces: deque[Ticket] = deque()
        self._covered_ms = 0
        self._refusing: GatewayError | None = None  # why sound is not taken
        self._again_at = 0.0
        self._response = response
        self._left: int | None = None  # pieces that outlive the event that is being settled
        self._errors = 0

    # Messages

    def asks(self, data: bytes) -> Awaitable[Ruling] | None:
        """See `websocket.gate.Gate`. Sound is sized and not decoded."""
        message = read(data)
        if message is None:
            return self._told(GatewayError(INVALID_JSON, reason="it cannot be read")) if _is_object(data) else None
        kind = message.kind
        if message.sound:
            return self._sound(message)
        try:
            check_plain(kind, data)
        except GatewayError as error:
            return self._told(error, message)
        if kind in CONFIGURES:
            return self._configure(message)
        if kind == "response.create" and self._talks:
            return self._create(message, data)
        if kind.endswith(".append") and message.sound_bytes:
            return self._sound(message)
        return None

    def up(self, data: bytes) -> None:
        ticket, self._coming = self._coming, None
        if ticket is not None:
            self._holds.sent(ticket)
        self._meter.up(data, ticket)

    def down(self, data: bytes) -> None:
        self._meter.down(data)
        self._first = self._first or self._meter.session.model

    def follows(self) -> Awaitable[Ruling] | None:
        """See `websocket.gate.Gate`: a response that nobody asked for, or sound that was not reserved for."""
        session = self._meter.session
        turn = session.uncaused()
        if turn is not None:
            return self._begun(turn)
        if self._pieces and self._refusing is None:
            length = session.length
            if length is not None and length.ms > self._covered_ms:
                return self._cover(length.ms, None)
        return None

    def end(self, ended: str) -> None:
        """The socket has ended: what is under way is settled, and the rest is given back."""
        metered = False
        try:
            self._meter.end(ended)
            metered = True
        finally:
            self._holds.close(metered=metered)

    # What the meter finds

    def spare(self, done: Finished) -> Ticket | None:
        """A piece of sound for what was made of it."""
        session = done.kind.basis == "session"
        if not self._pieces or not (session or done.category == "audio_transcriptions"):
            return None
        self._left = 0 if session else 1
        return self._pieces.popleft()

    def settled(self, ticket: Ticket, event: UsageEvent) -> None:
        """See `metering.socket.Desk`. The event of a session pays for all of its pieces, that of a transcription for
        all but the newest."""
        self._holds.settled(ticket, event)
        if self._left is not None:
            self._let_go(self._left)
            if not self._left:
                self._covered_ms = 0  # the next session, if there is one, begins anew
            self._left = None

    def _let_go(self, left: int) -> None:
        while len(self._pieces) > left:
            self._holds.give_back(self._pieces.popleft())

    async def permit(self, models: Sequence[str]) -> None:
        """Whether the model in the URL may be used. models: as the route's upstreams call it. Raises GatewayError."""
        await self._holds.permit(Wish(self._operation, SocketRequest(self._named), models))

    async def _configure(self, message: Message) -> Ruling:
        """A session is to have models and tools."""
        try:
            for request in said_of_session(message, self._read_head):
                await self._permit(request)
        except GatewayError as error:
            return self._refusal(error, message)
        return _PASS

    async def _permit(self, request: SocketRequest) -> Sequence[str]:
        """The models of what is named besides, if it may be used."""
        models = self._models(request.model) if request.model else ()
        await self._holds.permit(Wish(self._operation, request, models))
        return models

    # Responses

    async def _create(self, message: Message, data: bytes) -> Ruling:
        """A response is asked for."""
        try:
            if len(self._holds) - len(self._pieces) >= MOST:
                raise GatewayError(OVERLOADED)
            wish = self._of_message(data) if self._responses else await self._of_conversation(message)
            self._coming = await self._holds.take(self._meter.number(), wish)
        except GatewayError as error:
            return self._refusal(error, message)
        self._refusing = None
        tier = self._holds.tier(self._coming)
        return Ruling(instead=self._with_tier(data, tier)) if tier else _PASS

    def _of_message(self, data: bytes) -> Wish:
        request = of_message(data, self._read_head)
        models = self._models(request.model) if request.model is not None else ()
        return Wish(self._operation, request, models)

    async def _of_conversation(self, message: Message) -> Wish:
        """The model is the session's, whatever the request names; if that is dearer, it counts."""
        said = said_of_response(message, self._read_head)
        models, head = [*self._called(self._model)], None
        if said is not None:
            if said.model or said.head.tools:
                models += await self._permit(said)
            if b"max_" in (said.whole or b""):  # else that is the session's, too
                head = said.head
        return Wish(self._operation, of_conversation(self._meter.session.asked(message), self._model, head), models)

    async def _begun(self, turn: Turn) -> Ruling:
        """A response has begun that nobody asked for. Without room for it, it is cancelled, and the sound that leads to
        such is refused for now. What a live session has handed to another model runs on; a socket of the Responses API
        ends, for there is no cancelling on it."""
        try:
            turn.ticket = await self._uncaused(turn)
        except GatewayError as error:
            ruling = self._refusal(error, None)
            if self._responses or ruling.ends:
                return msgspec.structs.replace(ruling, ends=True)
            self._refuse_sound(error)
            if not self._talks:
                return ruling
            cancel = {
                "type": "response.cancel",
                "event_id": f"event_gateway_{self._errors}",  # else its failure might be taken for another's
                "response_id": turn.answer.object_id,
            }
            return msgspec.structs.replace(ruling, up=_encode(cancel))
        self._refusing = None
        return _PASS

    async def _uncaused(self, turn: Turn) -> Ticket:
        model = turn.answer.model or self._model
        wish = Wish(self._response, of_upstream(model), self._called(model))
        if self._talks and not self._responses:
            wish = Wish(self._operation, of_conversation(turn.asked, model), self._called(model))
        ticket = await self._holds.take(self._meter.number(), wish)
        self._holds.sent(ticket)
        return ticket

    @property
    def _model(self) -> str:
        """As the client calls it in the URL; as the server does if that names none, or if it is another by now."""
        said = self._meter.session.model
        return self._named if self._named and said in {"", self._first} else said

    def _called(self, model: str) -> Sequence[str]:
        """A model as its upstream calls it, be it the server that chose it."""
        if not model:
            return ()
        return self._models(model) if model == self._named else (model,)

    # Sound

    def _sound(self, message: Message) -> Awaitable[Ruling] | None:
        length = self._meter.session.length
        if self._refusing is not None and self._clock.monotonic() < self._again_at:
            return _unheard()
        if length is None:
            return self._probe() if self._refusing is not None else None
        if not self._pieces:
            self._covered_ms = length.ms
        need = length.ms + ms_of(message.sound_bytes, length.rate)
        return self._cover(need, length) if need > self._covered_ms else None

    async def _probe(self) -> Ruling:
        """Whether there is room again for a response to what is heard: takes it, and gives it back at once."""
        request = of_conversation(self._meter.session.asked(Message()), self._model)
        try:
            wish = Wish(self._operation, request, self._called(self._model))
            self._holds.give_back(await self._holds.take(self._meter.number(), wish))
        except GatewayError as error:
            return self._no_room(error)
        self._refusing = None
        return _PASS

    async def _cover(self, need_ms: int, length: Length | None) -> Ruling:
        """Reserves pieces until so much sound is covered. length: None for sound that has come down already."""
        transcribes = self._talks
        operation = self._transcription if transcribes else self._operation
        try:
            while self._covered_ms < need_ms:
                model = self._meter.session.model if transcribes else self._model
                wish = Wish(operation, of_sound(model), self._called(model), more=bool(self._pieces))
                ticket = await self._holds.take(self._meter.number(), wish)
                self._holds.sent(ticket)
                self._pieces.append(ticket)
                self._covered_ms += SESSION_MS
        except GatewayError as error:
            ruling = self._no_room(error)
            return ruling if length is not None or ruling.ends else msgspec.structs.replace(ruling, passes=True)
        if transcribes:
            self._let_go(_MOST_PIECES)
        self._refusing = None
        return _PASS

    def _no_room(self, error: GatewayError) -> Ruling:
        self._refuse_sound(error)
        return self._refusal(error, None)

    def _refuse_sound(self, error: GatewayError) -> None:
        self._refusing = error
        self._again_at = self._clock.monotonic() + _AGAIN_S

    # Refusals

    async def _told(self, error: GatewayError, message: Message | None = None) -> Ruling:
        return self._refusal(error, message)

    def _refusal(self, error: GatewayError, message: Message | None) -> Ruling:
        """The message is not passed on; a key that is not good any more ends the socket."""
        self._errors += 1
        about = About(number=self._errors)
        if message is not None:
            about = About(short(message.event_id), short(message.stream_id), self._errors)
        return Ruling(passes=False, error=error, about=about, ends=error.kind.status == 401)


async def _unheard() -> Ruling:
    """Sound that is not passed on; the client has been told less than a second ago."""
    return _DROP


def _is_object(data: bytes) -> bool:
    return data.lstrip(b" \t\r\n")[:1] == b"{"
