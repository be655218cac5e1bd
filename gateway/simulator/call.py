"""What goes into a handler and what comes out of it. Handlers do no network I/O: `door.py` and `wire.py` do."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec

from gateway.simulator.book import PLAIN, Entry, Meta
from gateway.simulator.faults import NONE, Faults, split_model

if TYPE_CHECKING:
    from gateway.simulator.world import World

Json: TypeAlias = dict[str, Any]  # a JSON object on its way from or to the wire


DONE = b"data: [DONE]\n\n"
NAMED_DONE = b"event: done\ndata: [DONE]\n\n"


class Upload(msgspec.Struct, frozen=True):
    """A file that came in a multipart body, on disk. Whoever wants to keep it moves it; the rest is removed."""

    path: Path
    filename: str
    content_type: str
    size: int


class Call:
    """One request, read. From the network, from a line of a batch or from a WebSocket.

    body: the JSON object, or a form's fields (names without `[]`). model: as asked for, without faults; "" where the
    operation has none. seen_at: Unix seconds.
    """

    __slots__ = ("body", "entry", "faults", "files", "headers", "model", "operation", "params", "query", "seen_at")

    def __init__(
        self,
        operation: str,
        params: Mapping[str, str],
        entry: Entry,
        *,
        seen_at: int,
        body: Json | None = None,
        query: Mapping[str, list[str]] | None = None,
        headers: Mapping[str, str] | None = None,
        files: Mapping[str, list[Upload]] | None = None,
        model: str = "",
        faults: Faults = NONE,
    ) -> None:
        self.operation, self.params, self.entry, self.seen_at = operation, params, entry, seen_at
        self.body: Json = body if body is not None else {}
        self.query: Mapping[str, list[str]] = query or {}
        self.headers: Mapping[str, str] = headers or {}
        self.files: Mapping[str, list[Upload]] = files or {}
        self.model, self.faults = model, faults

    def asked(self, name: str) -> str | None:
        """The last value of a query parameter."""
        values = self.query.get(name)
        return values[-1] if values else None


class Event(NamedTuple):
    """One event of a stream. tokens: output tokens that the client has with it. usage: whether it carries usage."""

    name: str | None
    data: bytes
    tokens: int = 0
    usage: bool = False


class JsonReply(msgspec.Struct, frozen=True):
    value: Json
    meta: Meta = PLAIN
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


class EventReply(msgspec.Struct, frozen=True):
    """A stream. Making the events may change stored objects as it goes.

    contents: how many events carry output. end: what comes after the last event. failure: the events that an
    `error_event` fault ends it with. detached: what it does goes on when the client leaves.
    """

    events: Iterator[Event]
    meta: Meta = PLAIN
    contents: int = 0
    end: bytes = DONE
    failure: Callable[[], Iterator[Event]] | None = None
    detached: bool = False


class BytesReply(msgspec.Struct, frozen=True):
    """Bytes that are not JSON: text, audio, images."""

    body: bytes
    content_type: str
    meta: Meta = PLAIN
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


class FileReply(msgspec.Struct, frozen=True):
    """A stored file, whole or the range that was asked for."""

    path: Path
    content_type: str
    filename: str
    meta: Meta = PLAIN


Reply: TypeAlias = JsonReply | EventReply | BytesReply | FileReply
Handler: TypeAlias = Callable[["World", Call], Awaitable[Reply]]
Handlers: TypeAlias = tuple[tuple[str, Handler], ...]


def read_model(body: Json, entry: Entry) -> tuple[str, tuple[str, ...]]:
    """The body's model and the faults in its name, which is put into the body without them."""
    name = body.get("model")
    if not isinstance(name, str) or not name:
        return "", ()
    entry.request_model = name
    model, specs = split_model(name)
    body["model"] = model
    return model, specs
