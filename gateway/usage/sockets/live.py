"""Live and translation sessions, which are billed as a whole by how long their sound is; and what a live session hands
to other models, which is billed for itself.

A live session counts its seconds from its beginning each time it tells them; a translation does not tell them.
"""

from collections.abc import Callable, Iterable

from gateway.usage.asked import NOTHING, Asked
from gateway.usage.extract import Report, of_event
from gateway.usage.kinds import DELEGATED, Kind
from gateway.usage.rules import DELEGATED_RULES, Rule
from gateway.usage.sockets.conversation import rate_of
from gateway.usage.sockets.messages import Message, at, plain, read, short
from gateway.usage.sockets.responses import Lanes
from gateway.usage.sockets.turns import SOUND_BYTES_PER_S, Finished, Length, Ticket, Turn, ms_of


class LiveSession:
    """A live socket or one that translates."""

    def __init__(self, now: Callable[[], float], rules: tuple[Rule, ...], kind: Kind) -> None:
        self._now = now
        self._rules = rules
        self._kind = kind
        self._session = self._begin()
        self._rate = SOUND_BYTES_PER_S
        self._heard = 0  # bytes
        self._reports: list[Report] = []
        self._apart = False  # it is responses that report, and not the session
        self._delegated = Lanes(now, DELEGATED_RULES, DELEGATED, "completions", apart=True)

    @property
    def length(self) -> Length:
        reported = max((report.quantities.duration_ms for report in self._reports), default=0)
        heard = ms_of(max(self._heard, self._session.sound_bytes), self._rate)
        return Length(max(heard, reported), self._rate)

    @property
    def model(self) -> str:
        return self._session.answer.model or self._session.model

    def uncaused(self) -> Turn | None:
        return self._delegated.uncaused()

    def asked(self, message: Message) -> Asked:  # noqa: ARG002 - nobody asks for what is billed by length
        return NOTHING

    def up(self, data: bytes, ticket: Ticket | None = None) -> Iterable[Finished]:  # noqa: ARG002 - see `length`
        message = read(data)
        if message is None:
            return ()
        if message.kind.endswith(".append"):
            self._heard += message.sound_bytes
        elif message.kind == "session.start":
            self._session.model = short(at(plain(message.session), "model"))
        return ()

    def down(self, data: bytes) -> Iterable[Finished]:
        message = read(data)
        if message is None:
            return ()
        match message.kind:
            case "session.started" | "session.created":
                self._session.begun_at = self._now()
                self._configure(message)
            case "session.updated":
                self._configure(message)
            case "session.usage.updated":
                self._reports = of_event("", data, self._rules) or self._reports
            case "session.closed":
                self._reports = of_event("", data, self._rules) or self._reports
                return self._closed(complete=True)
            case "response.event" | "decision.event":
                return self._inside(message)
            case "response.done":
                return self._response(data)
            case kind:
                self._session.note(kind, message)
        return ()

    def end(self) -> Iterable[Finished]:
        return [*self._delegated.end(), *self._closed(complete=False)]

    def _begin(self) -> Turn:
        return Turn(self._now(), self._kind, "completions")

    def _configure(self, message: Message) -> None:
        session = plain(message.session)
        answer = self._session.answer
        answer.model = short(at(session, "model")) or answer.model
        answer.object_id = short(at(session, "id")) or answer.object_id
        self._rate = rate_of(at(session, "audio", "format"))

    def _closed(self, *, complete: bool) -> list[Finished]:
        """The session itself, once, if anything was used in it."""
        session, reports = self._session, self._reports
        heard_ms = ms_of(self._heard, self._rate)
        used = any(report.quantities.duration_ms for report in reports)
        if not used and (reports or self._apart or not (heard_ms or session.sound_bytes)):
            return []
        session.asked = Asked(duration_ms=heard_ms)
        found = session.finished(reports, complete=complete, rate=self._rate)
        self._session, self._reports, self._heard = self._begin(), [], 0
        return [found]

    def _inside(self, message: Message) -> Iterable[Finished]:
        """An event of a model that the session has handed something to."""
        data = bytes(message.event)
        inner = read(data)
        if inner is None:
            return ()
        if inner.kind == "decision.completed":
            reports = of_event("", data, DELEGATED_RULES)
            if not reports:
                return ()
            turn = Turn(self._now(), DELEGATED, "decisions")
            turn.answer.began = True
            turn.answer.model = reports[0].model
            return (turn.finished(reports, apart=True),)
        return self._delegated.event(inner.kind, short(message.delegation_id), inner, data)

    def _response(self, data: bytes) -> Iterable[Finished]:
        """A response that tells its usage, as those of realtime sessions do."""
        reports = of_event("", data, self._rules)
        if not reports:
            return ()
        self._apart = True
        turn = self._begin()
        turn.model = turn.answer.model = self._session.answer.model
        turn.answer.began = True
        return (turn.finished(reports),)
