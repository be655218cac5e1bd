"""One socket as the meter sees it: shows its messages to the session's meter, and hands on what has ended."""

from collections.abc import Callable, Iterable
from typing import Protocol

from gateway.proxy.http.visit import Observation
from gateway.proxy.metering.call import Plan
from gateway.usage.sockets.turns import Finished, Session, Ticket
from gateway.values import Principal, UsageEvent


class Desk(Protocol):
    """Where what was reserved is kept: see `admission.socket.SocketGate`."""

    def spare(self, done: Finished, /) -> Ticket | None:
        """A ticket for what has ended without one of its own."""

    def settled(self, ticket: Ticket, event: UsageEvent, /) -> None:
        """What the ticket was for has ended with this event, which is on its way."""


class SocketMeter:
    """Is shown each message of a socket after it was passed on. `settle` takes what has ended.

    ended: how the socket has ended, for what was under way then: `client_left` or `cut`. desk: None where nothing is
    reserved.
    """

    __slots__ = ("_number", "_settle", "desk", "ended", "plan", "principal", "seen", "session")

    def __init__(
        self,
        plan: Plan,
        principal: Principal,
        seen: Observation,
        session: Session,
        settle: Callable[["SocketMeter", Finished, Ticket], UsageEvent],
    ) -> None:
        self.plan = plan
        self.principal = principal
        self.seen = seen
        self.ended = ""
        self.desk: Desk | None = None
        self.session = session
        self._number = 0
        self._settle = settle

    def number(self) -> int:
        """A number that nothing on this socket has had: of its id, `req_…/3`."""
        self._number += 1
        return self._number

    def up(self, message: bytes, ticket: Ticket | None = None) -> None:
        """The upstream has been sent this. ticket: of the response that it asks for."""
        self._take(self.session.up(message, ticket))

    def down(self, message: bytes) -> None:
        """The client has been sent this."""
        self._take(self.session.down(message))

    def end(self, ended: str) -> None:
        """The socket has ended."""
        self.ended = ended
        self._take(self.session.end())

    def _take(self, finished: Iterable[Finished]) -> None:
        desk = self.desk
        for done in finished:
            ticket = done.ticket
            if ticket is None and desk is not None:
                ticket = desk.spare(done)
            ticket = ticket or Ticket(self.number())
            event = self._settle(self, done, ticket)
            if desk is not None:
                desk.settled(ticket, event)
