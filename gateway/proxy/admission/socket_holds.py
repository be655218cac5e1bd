"""What one socket has reserved: each response, and each piece of a session, by a number of its own."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from gateway.clock import Clock
from gateway.operations.table import Operation
from gateway.proxy.admission.reserve import Admits, Grant, KeyChangedError, Wanted, reserve_anew
from gateway.proxy.admission.socket_asked import SocketRequest
from gateway.usage.lines import used_of
from gateway.usage.sockets.turns import Ticket
from gateway.values import Checked, Principal, Taking, UsageEvent


class Caller(Protocol):
    """See `auth.identify.Caller`."""

    async def now(self) -> Principal: ...
    async def anew(self, old: Principal, /) -> Principal: ...


class _Notes:
    """What Admission notes of a response."""

    def __init__(self, request_id: str, wall: float, model: str) -> None:
        self.request_id = request_id
        self.method = "GET"
        self.wall = wall
        self.model = model
        self.upstream_model = ""
        self.admitted_us = 0
        self.taking: Taking | None = None
        self.checked: tuple[Checked, ...] = ()
        self.rare = False
        self.levels = b""


class _Hold:
    __slots__ = ("grant", "sent")

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        self.sent = False


class Wish(msgspec.Struct, frozen=True):
    """What is to be reserved. models: see Wanted. more: see Wanted."""

    operation: Operation
    request: SocketRequest
    models: Sequence[str]
    more: bool = False


class Holds:
    """The reservations of one socket. Its ids are `{request_id}/{number}`, and so are those of the events."""

    def __init__(self, admission: Admits, caller: Caller, request_id: str, clock: Clock) -> None:
        self._admission = admission
        self._caller = caller
        self._request_id = request_id
        self._clock = clock
        self._held: dict[int, _Hold] = {}

    def __len__(self) -> int:
        return len(self._held)

    async def permit(self, wish: Wish) -> None:
        """Whether what a wish names may be used; nothing is taken. Raises as `take`."""
        await self._admitted(self._notes(0, wish), wish, takes=False)

    async def take(self, number: int, wish: Wish) -> Ticket:
        """Raises GatewayError as `Admission.reserve` and `Caller` do."""
        notes = self._notes(number, wish)
        grant = await self._admitted(notes, wish)
        if grant is not None:
            self._held[number] = _Hold(grant)
        return Ticket(number, notes.admitted_us, notes.taking, notes.checked)

    def tier(self, ticket: Ticket) -> str:
        """The service tier to send in the client's place, empty for none."""
        hold = self._held.get(ticket.number)
        return hold.grant.tier if hold is not None else ""

    def _notes(self, number: int, wish: Wish) -> _Notes:
        return _Notes(f"{self._request_id}/{number}", self._clock.wall(), wish.request.model or "")

    async def _admitted(self, notes: _Notes, wish: Wish, *, takes: bool = True) -> Grant | None:
        wanted = Wanted(wish.operation, wish.request, notes, notes, wish.models, wish.more, takes)
        principal = await self._caller.now()
        try:
            return await self._admission.reserve(principal, wanted)
        except KeyChangedError:
            _, grant = await reserve_anew(self._caller, principal, self._admission, wanted)
            return grant

    def sent(self, ticket: Ticket) -> None:
        """What it was taken for has reached the upstream, or may have."""
        if (hold := self._held.get(ticket.number)) is not None:
            hold.sent = True

    def settled(self, ticket: Ticket, event: UsageEvent) -> None:
        """What it was taken for has ended with this event, which has the same id."""
        if (hold := self._held.pop(ticket.number, None)) is not None:
            self._admission.end(hold.grant, used_of(event), True)

    def give_back(self, ticket: Ticket) -> None:
        """Nothing has used it."""
        self._end(ticket.number)

    def close(self, *, metered: bool) -> None:
        """The socket has ended: gives back all that is left. metered: False if nobody can say what was used."""
        for number in list(self._held):
            if metered or not self._held[number].sent:
                self._end(number)
            else:
                self._admission.abandon(self._held.pop(number).grant)

    def _end(self, number: int) -> None:
        if (hold := self._held.pop(number, None)) is not None:
            self._admission.end(hold.grant, None, hold.sent)
