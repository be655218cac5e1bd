"""One request on its way through the rooms, and the notes taken on it."""

import msgspec

from gateway.errors import Fault, GatewayError
from gateway.proxy.http.connection import ServerConnection
from gateway.proxy.http.downstream import Downstream
from gateway.proxy.http.payload import Payload
from gateway.proxy.http.request import Request
from gateway.values import Checked, Taking, Tried


class Observation:
    """Notes on one request while it lives. The only thing about a request that changes; nothing decides by it.

    ended: complete | refused | client_left | upstream_failed | cut (by the gateway: draining, revoked, timeout).
    Times are the clock's monotonic seconds, 0 for never; sizes are bytes of bodies. taking, checked: what was
    reserved, and against which limits; without admitted_us, by this worker alone. tried: attempts that others followed,
    or that reached nobody; failed: what ended the last one, and after how many ms. rare: one of these is the case.
    """

    # Defaults stand in the class: most requests change few of them, and making one of these is on the hot path.
    status = 0
    ended = "complete"
    error = ""
    operation = "unknown"
    project = key = user = model = ""
    upstream = upstream_model = upstream_request_id = client_request_id = ""
    stream = False
    attempts = 0
    admitted_us = 0  # since 1970, by Redis' clock; 0 if nothing was reserved there
    taking: Taking | None = None
    checked: tuple[Checked, ...] = ()
    tried: tuple[Tried, ...] = ()
    failed: tuple[str, int] = ("", 0)
    rare = False
    sent_at = head_at = 0.0
    bytes_in = bytes_out = 0

    def __init__(  # noqa: PLR0917 - names cost time here
        self, request_id: str, method: str, path: str, client: str, wall: float, started_at: float
    ) -> None:
        self.request_id = request_id
        self.method = method
        self.path = path
        self.client = client
        self.wall = wall
        self.started_at = started_at

    def answered(self, head_at: float, upstream_request_id: bytes) -> None:
        """An upstream has answered; head_at: when its head came, 0 for never."""
        self.head_at = head_at
        self.upstream_request_id = upstream_request_id.decode("latin-1")

    def note_tried(self, tried: Tried) -> None:
        self.tried += (tried,)
        self.rare = True

    def note_failed(self, error: GatewayError, at: float) -> None:
        """The last attempt has. at: the clock's monotonic seconds."""
        self.failed = error.kind.name, int((at - self.sent_at) * 1000)
        self.rare = True

    def refuse(self, error: GatewayError) -> None:
        """The gateway answers with an error of its own."""
        self.error = error.kind.name
        self.ended = "upstream_failed" if error.kind.fault is Fault.UPSTREAM else "refused"

    def cut_short(self, error: GatewayError) -> None:
        """The answer had begun and could not be completed."""
        self.error = error.kind.name
        self.ended = "upstream_failed" if error.kind.fault is Fault.UPSTREAM else "cut"


class Ending(msgspec.Struct, frozen=True):
    """How a relay ended. error: None if the answer is complete. replayable: nothing came, and sending again is safe.
    unasked: the upstream refused what the gateway had added to the request; the client has seen nothing of it.
    """

    error: GatewayError | None = None
    replayable: bool = False
    unasked: bool = False


class Visit(msgspec.Struct, frozen=True):
    """A request with what it came on, what it is answered on, and the notes on it."""

    request: Request
    payload: Payload
    connection: ServerConnection
    down: Downstream
    seen: Observation

    def __repr__(self) -> str:
        return f"Visit({self.request!r})"
