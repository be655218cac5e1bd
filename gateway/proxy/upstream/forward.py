"""Sends a call to the first upstream that can be reached and waits until its answer has gone by."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

from gateway.clock import Clock
from gateway.errors import INTERNAL, UPSTREAM_UNREACHABLE, ErrorKind, GatewayError
from gateway.proxy.http.headers import Crossing, Headers, crossing_of, sorted_out
from gateway.proxy.http.visit import Ending, Observation, Visit
from gateway.proxy.upstream.connection import ResponseHead, UpstreamConnection
from gateway.proxy.upstream.pool import Pool
from gateway.proxy.upstream.router import Attempt, Destination
from gateway.tasks import Tasks
from gateway.values import Tried


class Outgoing(Protocol):
    """A request as one upstream gets it.

    target: path and query below the base path. dropped: headers of the client that do not fit any more, in lower case.
    length: of the body, None if not known. whole: all of it, if it is in memory. fed: whether part of one that is not
    has been taken from the client.
    """

    @property
    def target(self) -> str: ...
    @property
    def dropped(self) -> frozenset[bytes]: ...
    @property
    def length(self) -> int | None: ...
    @property
    def whole(self) -> bytes | bytearray | None: ...
    @property
    def fed(self) -> bool: ...
    @property
    def asked(self) -> bool:
        """Whether the gateway asks for the stream's usage in the client's place."""

    async def feed(self, connection: UpstreamConnection, /, *, chunked: bool) -> None:
        """Writes a body that is not in memory. Raises GatewayError if the client does not deliver it."""


Call = TypeVar("Call", bound=Outgoing)
_NOTED = frozenset({b"x-request-id"})
_PLAIN = (b"Accept-Encoding", b"identity")
STALE = "stale_connection"  # it had been kept open, and was closed just before


class Receiver(Protocol):
    """Who takes the answer: see `relay.Relay`."""

    done: asyncio.Future[Ending]

    def begin(self, source: UpstreamConnection, /) -> None: ...
    def again(self) -> None: ...
    def fail(self, error: GatewayError) -> None: ...
    def on_head(self, head: ResponseHead) -> None: ...
    def on_data(self, parts: list[bytes]) -> None: ...
    def on_end(self) -> None: ...
    def on_lost(self, kind: ErrorKind, replayable: bool) -> None: ...


class Forwarder:
    """Runs exchanges."""

    def __init__(self, clock: Clock, tasks: Tasks, retried: Callable[[tuple[str, ...]], None]) -> None:
        self._clock = clock
        self._tasks = tasks
        self._retried = retried

    async def forward(
        self,
        visit: Visit,
        attempts: tuple[Attempt, ...],
        call: Call,
        outgoing: Callable[[Call, str | None, bool], Call],
        receiver: Receiver,
    ) -> Ending:
        """Tries the attempts in order, until one upstream can be connected to.

        outgoing: gives the call under its model's name at an upstream, None for the client's own, and asking for usage
        in the client's place or not.
        Raises GatewayError UPSTREAM_UNREACHABLE or OVERLOADED if none can be reached.
        """
        failure: GatewayError | None = None
        for attempt in attempts:
            seen, to, model = visit.seen, attempt.destination, attempt.upstream_model
            body = outgoing(call, model, to.may_ask(model or seen.model))
            seen.upstream = to.name
            seen.upstream_model = model or ""
            fresh = False  # only a new connection will do
            while True:
                connection = None if fresh else to.pool.take(sure=body.whole is None)
                if connection is None:
                    began = self._clock.monotonic()
                    try:
                        connection = await self._connect(to.pool, receiver)
                    except GatewayError as error:
                        if error.kind is not UPSTREAM_UNREACHABLE:
                            raise
                        failure = error
                        self._note(seen, 0, 0, error.kind.name, began)
                        break
                    if connection is None:
                        return receiver.done.result()
                self._send(visit, to, body, receiver, connection)
                try:
                    ending = await (receiver.done if body.whole is not None else self._fed(connection, body, receiver))
                except asyncio.CancelledError:
                    connection.cancel(receiver)  # the client has left: so does the upstream's work for it
                    raise
                if ending.unasked and body.asked:
                    to.ask_no_more(model or seen.model)
                    self._note(seen, seen.attempts, 400, "", seen.sent_at)
                    body = outgoing(call, model, False)
                elif fresh or not ending.replayable or body.fed:
                    return ending
                else:
                    # A pooled connection had gone stale, and sending again is safe: once more, on a fresh one.
                    self._retried((to.name,))
                    self._note(seen, seen.attempts, 0, STALE, seen.sent_at)
                    fresh = True
                receiver.again()
        assert failure is not None, "a route has at least one upstream"
        raise failure

    def _send(
        self, visit: Visit, to: Destination, body: Outgoing, receiver: Receiver, connection: UpstreamConnection
    ) -> None:
        request, seen, whole = visit.request, visit.seen, body.whole
        if body.dropped or request.target.admin:
            crossing = self._edited(visit, to, body)
        else:
            crossing = request.headers.crossing.get(to.name) or self._crossing(request.headers, to)
        if crossing.request_id is None:
            lines = b"%b\r\nx-request-id: %b" % (crossing.lines, visit.down.request_id)
        else:
            lines, seen.client_request_id = crossing.lines, crossing.request_id
        head = to.head(request.method, body.target, lines, body.length)
        seen.attempts += 1
        seen.sent_at = self._clock.monotonic()
        receiver.begin(connection)
        connection.send(receiver, request.method, head, whole, streaming=whole is None)

    def _note(self, seen: Observation, attempt: int, status: int, error: str, began: float) -> None:
        """An attempt that another one follows, or that has reached nobody. Its fields: see Tried."""
        seen.note_tried(Tried(attempt, seen.upstream, status, error, int((self._clock.monotonic() - began) * 1000)))

    def _crossing(self, headers: Headers, to: Destination) -> Crossing:
        """What of the client's headers goes to an upstream; kept, for the client may send the same again."""
        crossing = headers.crossing[to.name] = crossing_of(*sorted_out(headers.raw, to.dropped, _NOTED))
        return crossing

    def _edited(self, visit: Visit, to: Destination, body: Outgoing) -> Crossing:
        """The same where other headers go up than the client's."""
        headers, noted = sorted_out(visit.request.headers.raw, to.dropped | body.dropped, _NOTED)
        if body.asked:
            headers.append(_PLAIN)
        if visit.request.target.admin:
            headers += _of_the_client(visit)
            noted.setdefault(b"x-request-id", b"")  # the control process makes its own
        return crossing_of(headers, noted)

    async def _fed(self, connection: UpstreamConnection, body: Outgoing, receiver: Receiver) -> Ending:
        """Feeds a body that is not in memory until the answer has gone by."""
        if receiver.done.done():
            return receiver.done.result()
        upload = self._tasks.spawn(_upload(connection, body, receiver), "upload")
        try:
            return await receiver.done
        finally:
            upload.cancel()  # the answer came first, or nobody waits for it any more

    async def _connect(self, pool: Pool, receiver: Receiver) -> UpstreamConnection | None:
        """A fresh connection; None if the exchange was ended while it was being made. Raises as `Pool.connect`."""
        opening = self._tasks.spawn(_tried(pool), "connect")
        wanted = False
        try:
            either: set[asyncio.Future[Any]] = {opening, receiver.done}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            wanted = not receiver.done.done()
        finally:
            if not wanted:
                opening.cancel()
                opening.add_done_callback(partial(_unwanted, pool))
        if not wanted:
            return None
        made = opening.result()
        if isinstance(made, GatewayError):
            raise made
        return made


async def _tried(pool: Pool) -> UpstreamConnection | GatewayError:
    """As a result, for nobody might look at an error."""
    try:
        return await pool.connect()
    except GatewayError as error:
        return error


def _unwanted(pool: Pool, opening: "asyncio.Task[UpstreamConnection | GatewayError]") -> None:
    """A connection was made for somebody who had gone."""
    if not opening.cancelled() and isinstance(made := opening.result(), UpstreamConnection):
        pool.release(made)


def _of_the_client(visit: Visit) -> list[tuple[bytes, bytes]]:
    """What the control process hears besides the client's headers: where it is."""
    added = [(b"x-gateway-client-address", visit.seen.client.encode())]
    if b"host" in visit.request.headers.named:  # HTTP/1.0 does not need one
        return added
    return [(b"Host", b"gateway"), *added]


async def _upload(connection: UpstreamConnection, body: Outgoing, receiver: Receiver) -> None:
    try:
        await body.feed(connection, chunked=body.length is None)
    except GatewayError as error:
        receiver.fail(error)
    except asyncio.CancelledError:
        raise
    except BaseException:
        receiver.fail(GatewayError(INTERNAL))  # else the request would wait for an answer to half of it
        raise
    else:
        connection.finish()
