"""What decides on a socket's messages, as the tunnel sees it."""

from collections.abc import Awaitable
from typing import Protocol

import msgspec

from gateway.errors import GatewayError
from gateway.proxy.websocket.observer import Observer


class Ruling(Protocol):
    """What becomes of a message. passes: it goes on. error: the client is told. about: what of the client's the error
    repeats. up: a message of the gateway's own, sent to the upstream; empty for none. instead: what goes on in the
    message's place; empty for the message itself. ends: the socket ends with the error.
    """

    @property
    def passes(self) -> bool: ...
    @property
    def error(self) -> GatewayError | None: ...
    @property
    def about(self) -> "Naming": ...
    @property
    def up(self) -> bytes: ...
    @property
    def instead(self) -> bytes: ...
    @property
    def ends(self) -> bool: ...


class Naming(Protocol):
    """event_id: of the client's event. lane: its `stream_id`. number: of the error on its socket."""

    @property
    def event_id(self) -> str: ...
    @property
    def lane(self) -> str: ...
    @property
    def number(self) -> int: ...


class Gate(Observer, Protocol):
    """Decides on messages, and is shown them as an observer is. It raises nothing."""

    def asks(self, message: bytes, /) -> Awaitable[Ruling] | None:
        """Before a client's message is passed on; None: it may pass. The client's others wait behind it."""

    def follows(self) -> Awaitable[Ruling] | None:
        """After an upstream's message was passed on and shown: whether that leads to anything. The upstream's others
        wait behind it. The ruling's `passes` means nothing here."""


def error_event(error: GatewayError, path: str, request_id: str, about: Naming | None = None) -> bytes:
    """An error as a message, in the form that OpenAI gives it on this path."""
    body = msgspec.structs.asdict(error.body())
    if path.startswith("/responses"):
        event = {"type": "error", "status": error.kind.status, "error": body}
        if about is not None and about.lane:
            event["stream_id"] = about.lane
        return _encoded(event)
    event_id = "event_" + request_id.removeprefix("req_")
    if about is not None:
        event_id += f"_{about.number}"
        body["event_id"] = about.event_id or None
    return _encoded({"type": "error", "event_id": event_id, "error": body})


def _encoded(event: object) -> bytes:
    return msgspec.json.encode(event)
