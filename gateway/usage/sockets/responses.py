"""Responses over a socket: several one after another, and several at a time in lanes.

A response that goes on from an earlier one of the same socket reads again what that one read and wrote.

A lane is a `stream_id`; a lane's requests are worked off in their order (package: types/responses/
responses_client_event.py). On a live socket, a lane is a delegation. Deltas name their lane at most, ends the response.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from gateway.usage.asked import NOTHING, Asked
from gateway.usage.extract import Report, of_event
from gateway.usage.kinds import Kind
from gateway.usage.rules import RESPONSE_EVENTS, Rule
from gateway.usage.sockets.messages import Message, read, short
from gateway.usage.sockets.turns import MOST, Finished, Length, Ticket, Turn


class _Response(msgspec.Struct):
    id: Any = None
    model: Any = None
    service_tier: Any = None
    status: Any = None


_decode = msgspec.json.Decoder(_Response).decode


class Lanes:
    """Responses under way. `now` gives seconds since 1970. apart: their model is another than the socket's."""

    def __init__(
        self, now: Callable[[], float], rules: tuple[Rule, ...], kind: Kind, category: str, *, apart: bool = False
    ) -> None:
        self._now = now
        self._rules = rules
        self._kind, self._category, self._apart = kind, category, apart
        self._waiting: deque[tuple[str, Turn]] = deque()  # asked for, and not begun
        self._open: dict[str, tuple[str, Turn]] = {}  # by response id
        self._newest: dict[str, Turn] = {}  # of each lane
        self._known: dict[str, int] = {}  # tokens in and out of responses that have reported, by response id
        self._uncaused: Turn | None = None

    def uncaused(self) -> Turn | None:
        """See Session."""
        turn, self._uncaused = self._uncaused, None
        return turn

    def ask(self, lane: str, message: Message, data: bytes, ticket: Ticket | None = None) -> None:
        """A response has been asked for."""
        if len(self._waiting) + len(self._open) >= MOST:
            return
        turn = self._turn(ticket)
        turn.model = short(message.model)
        turn.end_user = short(message.safety_identifier) or short(message.user)
        turn.context_tokens = self._known.get(short(message.previous_response_id), 0)
        turn.hold(data)
        self._waiting.append((lane, turn))

    def event(self, kind: str, lane: str, message: Message, data: bytes) -> Iterable[Finished]:
        """An event of a response came."""
        if kind == "response.created":
            self._created(lane, message.response)
        elif kind in RESPONSE_EVENTS:
            return self._ended(kind, lane, message.response, data)
        elif kind == "error":
            return self._error(lane, message)
        elif (turn := self._newest.get(lane)) is not None:
            turn.note(kind, message)
        return ()

    def end(self) -> list[Finished]:
        """What was under way. Requests that wait behind others had not been begun."""
        found = [turn for _, turn in self._open.values()]
        busy = {lane for lane, _ in self._open.values()}
        for lane, turn in self._waiting:
            if lane not in busy:
                busy.add(lane)
                found.append(turn)
        self._waiting.clear()
        self._open.clear()
        self._newest.clear()
        return [turn.finished([], complete=False, apart=self._apart) for turn in found]

    def _turn(self, ticket: Ticket | None = None) -> Turn:
        return Turn(self._now(), self._kind, self._category, ticket)

    def _created(self, lane: str, raw: msgspec.Raw) -> None:
        response = _response(raw)
        response_id = short(response.id)
        if response_id in self._open or len(self._open) >= MOST:
            return
        turn = self._next(lane)
        if turn is None:
            turn = self._uncaused = self._turn()
        _name(turn, response)
        turn.answer.began = True
        self._open[response_id] = lane, turn
        self._newest[lane] = turn

    def _next(self, lane: str) -> Turn | None:
        """The request that is answered now: the oldest of its lane. An upstream that knows no lanes names none."""
        only = not lane and len(self._waiting) == 1
        for number, (given, turn) in enumerate(self._waiting):
            if given == lane or only:
                del self._waiting[number]
                return turn
        return None

    def _ended(self, kind: str, lane: str, raw: msgspec.Raw, data: bytes) -> Iterable[Finished]:
        response = _response(raw)
        turn = self._open.pop(short(response.id), (lane, None))[1] or self._next(lane) or self._turn()
        if self._newest.get(lane) is turn:
            del self._newest[lane]
        _name(turn, response)
        turn.answer.began = True
        turn.answer.failed = kind == "response.failed"
        reports = of_event("", data, self._rules)
        self._remember(turn.answer.object_id, reports)
        return (turn.finished(reports, apart=self._apart),)

    def _remember(self, response_id: str, reports: list[Report]) -> None:
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        if response_id and reports and not reports[0].category:
            used = reports[0].quantities
            self._known[response_id] = used.input_tokens + used.output_tokens - used.reasoning_tokens

    def _error(self, lane: str, message: Message) -> Iterable[Finished]:
        """A request was refused; or else something under way has failed, if it does not go on after all."""
        turn = self._next(lane)
        if turn is None:
            if (newest := self._newest.get(lane)) is not None:
                newest.answer.failed = True
            return ()
        turn.answer.failed = True
        status = message.status if isinstance(message.status, int) and 400 <= message.status <= 599 else 0
        return (turn.finished([], apart=self._apart, status=status),)


class ResponsesSession:
    """A socket of the Responses API."""

    def __init__(self, now: Callable[[], float], rules: tuple[Rule, ...], kind: Kind) -> None:
        self._lanes = Lanes(now, rules, kind, "completions")

    @property
    def length(self) -> Length | None:
        return None

    @property
    def model(self) -> str:
        return ""  # each response has its own

    def uncaused(self) -> Turn | None:
        return self._lanes.uncaused()

    def asked(self, message: Message) -> Asked:  # noqa: ARG002 - the message itself says it
        return NOTHING

    def up(self, data: bytes, ticket: Ticket | None = None) -> Iterable[Finished]:
        message = read(data)
        if message is not None and message.kind == "response.create":
            self._lanes.ask(short(message.stream_id), message, data, ticket)
        return ()

    def down(self, data: bytes) -> Iterable[Finished]:
        message = read(data)
        if message is None:
            return ()
        return self._lanes.event(message.kind, short(message.stream_id), message, data)

    def end(self) -> Iterable[Finished]:
        return self._lanes.end()


def _response(raw: msgspec.Raw) -> _Response:
    try:
        return _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Response()


def _name(turn: Turn, response: _Response) -> None:
    answer = turn.answer
    answer.model = short(response.model) or answer.model
    answer.service_tier = short(response.service_tier).lower() or answer.service_tier
    answer.object_id = short(response.id) or answer.object_id
    answer.state = short(response.status)
