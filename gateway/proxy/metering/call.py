"""One call as the meter sees it: what was asked, what went by of the answer."""

from collections.abc import Callable, Mapping
from typing import Protocol

from gateway.proxy.http.visit import Observation
from gateway.usage.asked import NOTHING, Asked, of_form, of_json
from gateway.usage.decode import body_decoder
from gateway.usage.kinds import Kind
from gateway.usage.lines import Answer
from gateway.usage.plain import Plain
from gateway.usage.rules import Rule
from gateway.usage.taps import Tap, tap_for
from gateway.usage.tools_asked import ToolsAsked, of_path
from gateway.usage.tools_asked import of_json as tools_of_json
from gateway.values import FormFacts, Principal, Used

_MOST_HELD = 64 * 1024 * 1024
_UNCOUNTED = 16 * 1024  # bytes of a body that is not worth counting


class Plan(Protocol):
    """How the calls of an operation are metered: see `meter.Plan`."""

    @property
    def kind(self) -> Kind: ...
    @property
    def rules(self) -> tuple[Rule, ...]: ...
    @property
    def operation(self) -> str: ...
    @property
    def category(self) -> str | None: ...


class Request(Protocol):
    """A request's body: see `body.outgoing`."""

    model: str | None
    end_user: str
    whole: bytes | bytearray | None

    @property
    def complete(self) -> bool:
        """Whether all of it has been sent."""

    @property
    def facts(self) -> FormFacts: ...


class Held:
    """Bytes of requests that one worker keeps until their answers have ended: nearly all report their usage, and then
    nobody needs to know what the request was. Beyond `most`, requests are measured when their answers begin."""

    def __init__(self, most: int = _MOST_HELD) -> None:
        self._most = most
        self.size = 0

    def take(self, size: int) -> bool:
        if self.size + size > self._most:
            return False
        self.size += size
        return True

    def give_back(self, size: int) -> None:
        self.size -= size


def head_ms(seen: Observation) -> int:
    """How long the last attempt's answer took to begin; 0 if it never did."""
    return int((seen.head_at - seen.sent_at) * 1000) if seen.head_at else 0


class CallMeter:
    """Notes on one call. `opened` and what it gives are the relay's; the rest is for the meter.

    settled: the call has ended, and the meter knows what it used; used: that, if it has handed over an event.
    """

    # Defaults stand in the class: one of these is made for each request.
    status = 0
    settled = False
    used: Used | None = None
    _counted = 0  # bytes of the body that were taken from `held`
    _body: bytes | bytearray = b""
    _asked: Asked | None = None
    _tap: Tap | None = None

    def __init__(self, plan: Plan, principal: Principal, seen: Observation, request: Request, held: Held) -> None:
        self._held = held
        self.plan = plan
        self.principal = principal
        self.seen = seen
        self._request = request

    @property
    def end_user(self) -> str:
        return self._request.end_user

    @property
    def sent_whole(self) -> bool:
        return self._request.complete

    @property
    def small(self) -> bool:
        """Whether the request is quickly looked at."""
        return len(self._body) <= _UNCOUNTED

    def opened(self, status: int, headers: Mapping[bytes, bytes]) -> Callable[[list[bytes]], None] | None:
        """The answer's head has come. headers: its type and coding. Gives what its body is to be shown to."""
        self.status = status
        if status >= 400:
            return None
        self._body = self._request.whole or b""
        coding = headers.get(b"content-encoding", b"")
        decoder = None
        if coding and coding.lower() != b"identity":
            decoder = body_decoder(coding.decode("latin-1"))
            if decoder is None:
                return None  # what it says cannot be read
        self._tap = tap = tap_for(headers.get(b"content-type", b"").lower(), self.plan.rules, decoder)
        if self.small:
            return tap.feed
        size = len(self._body)
        if self._held.take(size):
            self._counted = size
            return tap.feed
        return self._feed_first

    def done(self) -> None:
        """The call has been settled."""
        if self._counted:
            self._held.give_back(self._counted)
            self._counted = 0

    def _feed_first(self, parts: list[bytes]) -> None:
        """A request that cannot be kept is looked at when the answer's first bytes have reached the client."""
        if self._asked is None:
            self._asked = self._read()
            self._body = b""
        if self._tap is not None:
            self._tap.feed(parts)

    def asked(self) -> Asked:
        """What the request asked for."""
        if self._asked is None:
            self._asked = self._read()
        return self._asked

    def _read(self) -> Asked:
        basis = self.plan.kind.basis
        body = self._body or self._request.whole
        if body:
            return of_json(body, basis)
        if body is None:
            return of_form(self._request.facts, basis)
        return NOTHING

    def tools(self) -> ToolsAsked:
        """What the request says of its tools, if it is still at hand."""
        if self.plan.kind.basis == "search":
            return of_path(self.seen.path)
        return tools_of_json(self._body or self._request.whole or b"")

    def plain(self) -> Plain | None:
        """What went by, if it was an answer that reports plainly."""
        return None if self._tap is None else self._tap.plain()

    def answer(self, *, texts: bool) -> Answer:
        """What went by. texts: whether its text is to be measured in any case."""
        return Answer() if self._tap is None else self._tap.end(texts)
