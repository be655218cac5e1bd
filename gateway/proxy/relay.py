"""Carries one upstream answer to one client, as it arrives.

No task runs per chunk: the upstream connection calls `on_data` with what one read of its socket brought, and that goes
to the client's socket in one write, with back-pressure: while the client does not take its bytes, the upstream is not
read. The pipeline waits on `done` once per answer.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from gateway.clock import Clock
from gateway.errors import REQUEST_TIMEOUT, UPSTREAM_MALFORMED, UPSTREAM_TIMEOUT, ErrorKind, GatewayError
from gateway.operations.table import Operation
from gateway.proxy.http.downstream import Downstream
from gateway.proxy.http.visit import Ending
from gateway.usage.decode import BodyDecoder, body_decoder
from gateway.usage.strip import UsageStripper

_SEQUENCE = re.compile(rb'"sequence_number" ?: ?(\d+)')
_NAMED = re.compile(rb"stream_options|include_usage")
_OF_THE_BYTES = frozenset({b"content-length", b"content-encoding"})  # these change when a stream is edited
_LONGEST_REFUSAL = 64 * 1024
_EVENT_ENDS = (b"\n\n", b"\r\r", b"\r\n\r\n", b"\n\r\n")


class ResponseHead(Protocol):
    """What the upstream room gives: see `upstream.connection.ResponseHead`."""

    @property
    def status(self) -> int: ...
    @property
    def reason(self) -> bytes: ...
    @property
    def headers(self) -> list[tuple[bytes, bytes]]: ...
    @property
    def noted(self) -> dict[bytes, bytes]: ...
    @property
    def length(self) -> int | None: ...
    @property
    def no_body(self) -> bool: ...


class Source(Protocol):
    """Where the answer comes from: the upstream connection."""

    last_activity: float

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def cancel(self, sink: Any, /) -> None: ...


Opened = Callable[[int, dict[bytes, bytes]], Callable[[list[bytes]], None] | None]
COMPLETE = Ending()


class Relay:
    """One answer on its way.

    done: resolves to an Ending. If `down.started` is still false then, the client has seen nothing and the pipeline may
    answer as it likes; otherwise the relay has already ended the client's answer, cleanly or not.
    """

    # Defaults stand in the class: one of these is made for each request.
    sse = False
    head_at = 0.0
    upstream_request_id = b""
    meter: Opened | None = None  # told of the answer's head; gives the tap
    tap: Callable[[list[bytes]], None] | None = None  # sees the body's bytes after the client got them
    _source: Source | None = None
    _paused = False
    _encoded = False  # an event stream, but compressed: nothing can be added to it
    _last = b""

    def __init__(
        self,
        down: Downstream,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        *,
        key: bytes,
        operation: Operation | None,
        on_head: Callable[[], None],
    ) -> None:
        self._loop = loop
        self.done: asyncio.Future[Ending] = loop.create_future()
        self.key = key  # whose exchange it is, for revocation
        self._clock = clock
        self._down = down
        self._operation = operation
        self._on_head = on_head

    # Called by the upstream connection

    def on_head(self, head: ResponseHead) -> None:
        self.head_at = self._clock.monotonic()
        headers, noted = head.headers, head.noted
        if self.meter is not None:
            self.tap = self.meter(head.status, noted)  # looks at the request's body, which then goes
        self._on_head()
        down = self._down
        self.upstream_request_id = noted.get(b"x-request-id", b"")
        if not self.upstream_request_id:
            headers.append((b"x-request-id", down.request_id))
        if noted.get(b"content-type", b"")[:17].lower() == b"text/event-stream":
            self.sse = True
            self._encoded = b"content-encoding" in noted
            if b"x-accel-buffering" not in noted:
                headers.append((b"X-Accel-Buffering", b"no"))  # tells nginx in front not to hold events back
        down.start(head.status, head.reason, headers, length=head.length, no_body=head.no_body)

    def on_data(self, parts: list[bytes]) -> None:
        if not parts:
            self._down.flush_head()  # a stream's first event may be minutes away
            return
        self._pass(parts)
        if self.tap is not None:
            self.tap(parts)

    def _pass(self, parts: list[bytes]) -> None:
        down = self._down
        last = parts[-1]
        self._last = last if len(last) >= 4 else self._last[-4:] + b"".join(parts)
        down.write(parts)
        if down.congested and not self._paused and self._source is not None:
            self._paused = True
            self._source.pause_reading()

    def on_end(self) -> None:
        self._down.end()
        self._finish(COMPLETE)

    def on_lost(self, kind: ErrorKind, replayable: bool) -> None:
        self._break(GatewayError(kind), replayable)

    # Called by others

    @property
    def sent(self) -> bool:
        """Whether a request was sent that an upstream may have taken on."""
        return self._source is not None

    def begin(self, source: Source) -> None:
        """A request is about to be sent over `source`."""
        self._source = source

    def again(self) -> None:
        """The request will be sent again, for nothing has come back."""
        self._source = None
        self.done = self._loop.create_future()

    def resume(self) -> None:
        """The client reads again."""
        if self._paused and self._source is not None and not self.done.done():
            self._paused = False
            self._source.resume_reading()

    def fail(self, error: GatewayError) -> None:
        """Ends the exchange for a reason of the gateway's: a timeout, draining, a revoked key."""
        if self._source is not None:
            self._source.cancel(self)
        self._break(error, replayable=False)

    def overdue(self, now: float, response_s: float, between_bytes_s: float) -> GatewayError | None:
        """Whether the upstream has been silent for too long, or the client has not read for as long."""
        if self._source is None or self.done.done():
            return None  # not sent yet, or ended
        limit = between_bytes_s if self._down.started else response_s
        if now - self._source.last_activity <= limit:
            return None
        return GatewayError(REQUEST_TIMEOUT if self._paused else UPSTREAM_TIMEOUT)

    def _break(self, error: GatewayError, replayable: bool) -> None:
        if self.done.done():
            return
        if not self._down.take_back():
            self._down.cut(self._last_words(error))
        self._finish(Ending(error, replayable))

    def _finish(self, ending: Ending) -> None:
        if not self.done.done():
            self.done.set_result(ending)

    def _last_words(self, error: GatewayError) -> bytes:
        """An error event, where one can still be understood: in an event stream, and not inside another event."""
        if not self.sse or self._encoded or (self._last and not self._last.endswith(_EVENT_ENDS)):
            return b""
        return error_event(error, flavour_of(self._operation), self._last)


class Taken(Protocol):
    """A request, which may ask for its stream's usage in the client's place: see `body.outgoing`."""

    @property
    def askable(self) -> bool: ...
    @property
    def asked(self) -> bool: ...
    def release(self) -> None: ...


class AskedRelay(Relay):
    """Carries an answer that the gateway may have asked for more than the client did: takes that out again.

    An answer that refuses the asking is not passed on: the request is sent again without.
    """

    request: Taken  # set by `relay_for`
    _stripper: UsageStripper | None = None
    _decoder: BodyDecoder | None = None  # of an answer that is compressed though that was not asked for
    _refusal: ResponseHead | None = None
    _held: tuple[bytes, ...] = ()  # of the refusal's body

    def on_head(self, head: ResponseHead) -> None:
        if not self.request.asked:
            super().on_head(head)
        elif head.status == 400 and not head.no_body:
            self._refusal = head
        else:
            self._begin(head)

    def _begin(self, head: ResponseHead) -> None:
        kind, coding = _kind_and_coding(head.headers)
        decoder = body_decoder(coding)
        if head.status == 200 and kind.startswith(b"text/event-stream") and decoder is not None:
            self._stripper = UsageStripper()
            self._decoder = decoder if decoder.codes else None
            headers = [header for header in head.headers if header[0].lower() not in _OF_THE_BYTES]
            noted = {name: value for name, value in head.noted.items() if name not in _OF_THE_BYTES}
            head = StreamHead(head.status, head.reason, headers, noted)
        super().on_head(head)

    def on_data(self, parts: list[bytes]) -> None:
        if self._refusal is not None:
            self._held += tuple(parts)
            if sum(map(len, self._held)) > _LONGEST_REFUSAL:
                self._pass_refusal(self._refusal)
        elif self._stripper is None or not parts:
            super().on_data(parts)
        else:
            if self._decoder is not None:
                parts = list(map(self._decoder.feed, parts))
                if self._decoder.broken or self._decoder.overflow:
                    self.fail(GatewayError(UPSTREAM_MALFORMED))
                    return
            passing = self._stripper.feed(parts[0] if len(parts) == 1 else b"".join(parts))
            if passing:
                self._pass([passing])
            else:
                self._down.flush_head()
            if self.tap is not None:
                self.tap(parts)

    def on_end(self) -> None:
        if self._refusal is not None:
            if _NAMED.search(b"".join(self._held)):
                self._refusal, self._held = None, ()
                self._finish(Ending(unasked=True))
                return
            self._pass_refusal(self._refusal)
        if self._stripper is not None and (rest := self._stripper.end()):
            self._down.write([rest])
        super().on_end()

    def _pass_refusal(self, head: ResponseHead) -> None:
        """It was about something else: the client gets it."""
        held, self._held, self._refusal = self._held, (), None
        super().on_head(head)
        super().on_data(list(held))


def relay_for(  # noqa: PLR0917 - names cost time here
    taken: Taken,
    down: Downstream,
    clock: Clock,
    loop: asyncio.AbstractEventLoop,
    key: bytes,
    operation: Operation | None,
) -> Relay:
    """The relay for the answer to a request, whose body is let go when the answer comes."""
    if not taken.askable:
        return Relay(down, clock, loop, key=key, operation=operation, on_head=taken.release)
    relay = AskedRelay(down, clock, loop, key=key, operation=operation, on_head=taken.release)
    relay.request = taken
    return relay


class StreamHead(msgspec.Struct, frozen=True):
    """A head whose body has another length than the upstream declared, if it did."""

    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]
    noted: dict[bytes, bytes]
    length: int | None = None
    no_body: bool = False


def _kind_and_coding(headers: list[tuple[bytes, bytes]]) -> tuple[bytes, str]:
    kind, codings = b"", []
    for name, value in headers:
        if name.lower() == b"content-type":
            kind = value.lower()
        elif name.lower() == b"content-encoding":
            codings.append(value.decode("latin-1").rstrip(" \t"))
    return kind, ",".join(codings)


def error_event(error: GatewayError, flavour: str, last: bytes) -> bytes:
    """An error inside an event stream, as the official SDKs recognise it.

    flavour: `responses` wants a type and the next sequence number, `plain` (chat and legacy completions) has no event
    names, everything else gets an `error` event. last: the bytes before, for the sequence number.
    """
    body = msgspec.json.encode(error.body())
    if flavour == "plain":
        return b'data: {"error":%b}\n\n' % body
    if flavour == "responses":
        numbers = _SEQUENCE.findall(last)
        sequence = int(numbers[-1]) + 1 if numbers else 0
        return b'event: error\ndata: {"type":"error","sequence_number":%d,"error":%b}\n\n' % (sequence, body)
    return b'event: error\ndata: {"error":%b}\n\n' % body


def flavour_of(operation: Operation | None) -> str:
    """How a stream of this operation says that something went wrong: see `error_event`."""
    path = operation.path if operation is not None else ""
    if path in {"/chat/completions", "/completions"}:
        return "plain"
    return "responses" if path.startswith("/responses") else "event"
