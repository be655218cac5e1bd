"""One socket as the meter sees it: shows its messages to the session's meter, and hands on what has ended."""

from collections.abc import Callable, Iterable

from gateway.proxy.http.visit import Observation
from gateway.proxy.metering.call import Plan
from gateway.usage.sockets.turns import Finished, Session
from gateway.values import Principal


class SocketMeter:
    """Is shown each text message of a socket after it was passed on. `settle` takes what has ended.

    ended: how the socket has ended, for what was under way then: `client_left` or `cut`. number: of responses so far.
    """

    __slots__ = ("_session", "_settle", "ended", "number", "plan", "principal", "seen")

    def __init__(
        self,
        plan: Plan,
        principal: Principal,
        seen: Observation,
        session: Session,
        settle: Callable[["SocketMeter", Finished], None],
    ) -> None:
        self.plan = plan
        self.principal = principal
        self.seen = seen
        self.ended = ""
        self.number = 0
        self._session = session
        self._settle = settle

    def up(self, message: bytes) -> None:
        """The upstream has been sent this."""
        self._take(self._session.up(message))

    def down(self, message: bytes) -> None:
        """The client has been sent this."""
        self._take(self._session.down(message))

    def end(self, ended: str) -> None:
        """The socket has ended."""
        self.ended = ended
        self._take(self._session.end())

    def _take(self, finished: Iterable[Finished]) -> None:
        for response in finished:
            self.number += 1
            self._settle(self, response)
