"""Writing answers: heads, bodies, events, and whatever a fault does to them."""

import socket
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import NoReturn

import msgspec
from aiohttp import hdrs, web

from gateway.simulator import headers, sse
from gateway.simulator.book import NOTHING, Entry, Meta
from gateway.simulator.call import BytesReply, Event, EventReply, FileReply, JsonReply
from gateway.simulator.errors import ApiError, CutError, internal
from gateway.simulator.faults import Faults
from gateway.simulator.world import World

_PIECE_BYTES = 1 << 18
_PADDING = b"x" * (1 << 16)
_FAIR_EVENTS = 32
_JSON = "application/json"
_NOT_HTTP = b"HTTP/1.1 2OO Fine\r\nthis line is not a header\r\n\x00\x01\x02\r\n\r\n{}"
_encode = msgspec.json.Encoder().encode


class Wire:
    """One request's way back. Methods raise ConnectionError when the client has left, CutError when a fault cut."""

    def __init__(self, world: World, request: web.BaseRequest, entry: Entry, began_s: float) -> None:
        self._world, self._request, self._entry, self._began_s = world, request, entry, began_s
        self.faults = Faults()
        self.response: web.StreamResponse = web.Response()

    # Whole answers

    async def error(self, error: ApiError) -> None:
        self._entry.error = error.code or error.type
        self._entry.ended = "refused" if error.status < 500 else "error"
        await self._body(error.status, _JSON, error.body(), self._head(error.headers))

    async def broken(self) -> None:
        """After an error of the simulator's own."""
        if self.response.prepared:
            self._entry.ended, self._entry.error = "error", "internal"
            if self._request.transport is not None:
                self._request.transport.close()
        else:
            await self.error(internal())

    async def json(self, reply: JsonReply) -> None:
        value, meta = reply.value, reply.meta
        if self.faults.no_usage and "usage" in value:
            value = {name: member for name, member in value.items() if name != "usage"}
        body = _encode(value)
        if self.faults.malformed_json:
            body = body[: len(body) // 2]
        if self.faults.huge is not None:
            await self._pieces(reply.status, _JSON, self.faults.huge << 20, _padded(body, self.faults.huge << 20), meta)
        else:
            await self._body(reply.status, _JSON, body, self._head(reply.headers, meta))
        self._sent(meta, usage=value.get("usage") is not None)

    async def plain(self, reply: BytesReply) -> None:
        if self.faults.huge is not None:
            size = self.faults.huge << 20
            await self._pieces(200, reply.content_type, size, _repeated(reply.body or b"\x00", size), reply.meta)
        else:
            head = self._head(reply.headers, reply.meta)
            await self._body(reply.status, reply.content_type, reply.body, head)
        self._sent(reply.meta, usage=False)

    async def file(self, reply: FileReply) -> None:
        """A stored file, in whole or the one range that was asked for."""
        size = reply.path.stat().st_size
        named: tuple[tuple[str, str], ...] = (
            ("content-disposition", f'attachment; filename="{reply.filename}"'),
            ("accept-ranges", "bytes"),
        )
        span = _span(self._request.headers.get(hdrs.RANGE, ""), size)
        if span is None:
            await self._pieces(200, reply.content_type, size, _read(reply, 0, size), reply.meta, extra=named)
        elif span[0] >= span[1]:
            await self._body(416, _JSON, b"", self._head((("content-range", f"bytes */{size}"),)))
        else:
            first, end = span
            named += (("content-range", f"bytes {first}-{end - 1}/{size}"),)
            pieces = _read(reply, first, end)
            await self._pieces(206, reply.content_type, end - first, pieces, reply.meta, extra=named)
        self._sent(reply.meta, usage=False)

    def _sent(self, meta: Meta, *, usage: bool) -> None:
        self._entry.output_tokens_sent = meta.usage.output_tokens
        self._entry.usage_sent = usage and meta.usage is not NOTHING

    async def _body(self, status: int, kind: str, body: bytes, head: list[tuple[str, str]]) -> None:
        self._entry.status = status
        if self.faults.shapes_body:
            await self._shaped(status, kind, len(body), iter((body,)), head)
            return
        self.response = response = web.Response(status=status, body=body, content_type=kind)
        response.headers.extend(head)
        await response.prepare(self._request)
        await response.write_eof()
        self._entry.bytes_sent = len(body)

    async def _pieces(
        self,
        status: int,
        kind: str,
        size: int,
        pieces: Iterator[bytes],
        meta: Meta,
        *,
        extra: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._entry.status = status
        await self._shaped(status, kind, size, pieces, self._head(extra, meta))

    async def _shaped(
        self, status: int, kind: str, size: int, pieces: Iterable[bytes], head: list[tuple[str, str]]
    ) -> None:
        """A body piece by piece, through the faults that change bodies."""
        self.response = response = web.StreamResponse(status=status)
        response.headers.extend(head)
        response.headers[hdrs.CONTENT_TYPE] = kind
        if self.faults.gzip:
            response.headers[hdrs.CONTENT_ENCODING] = "gzip"
            response.enable_chunked_encoding()
        else:
            response.content_length = size
        await response.prepare(self._request)
        writer = _Writer(self._world, self._request, response, self._entry, self.faults, stall_bytes=self.faults.stall)
        for piece in pieces:
            await writer.write(piece)
        await writer.end()

    # Streams

    async def events(self, reply: EventReply) -> None:
        self._entry.status, self._entry.stream = 200, True
        self.response = response = web.StreamResponse()
        response.headers.extend(self._head((("cache-control", "no-cache"),), reply.meta))
        response.headers[hdrs.CONTENT_TYPE] = "text/event-stream; charset=utf-8"
        if self.faults.gzip:
            response.headers[hdrs.CONTENT_ENCODING] = "gzip"
        response.enable_chunked_encoding()
        writer = _Writer(self._world, self._request, response, self._entry, self.faults)
        try:
            await response.prepare(self._request)
            await self._world.pause(self._world.options.latency.first_s)
            for number, event in enumerate(self._script(reply)):
                await self._wait(number, event)
                await writer.write(self._event_bytes(event))
                self._entry.events_sent += 1
                self._entry.output_tokens_sent += event.tokens
                self._entry.usage_sent = self._entry.usage_sent or event.usage
            if self.faults.stall == self._entry.events_sent:
                await self._world.stall(self._request)
            if reply.end and self._entry.ended == "complete":
                await writer.write(reply.end)
            await writer.end()
        finally:
            if reply.detached:
                for _ in reply.events:
                    pass
            close = getattr(reply.events, "close", None)
            if close is not None:
                close()

    def _script(self, reply: EventReply) -> Iterator[Event]:
        """The events that are sent: those of the reply, or some of them and those of its failure."""
        after = self.faults.error_event
        if after is not None and after < 0:
            after = reply.contents // 2
        contents = 0
        for event in reply.events:  # not `yield from`: that would close them when the client leaves
            if after is not None and contents >= after and (event.tokens or contents):
                self._entry.ended = "error"
                yield from (reply.failure or sse.failure)()
                return
            contents += event.tokens > 0
            yield event

    async def _wait(self, number: int, event: Event) -> None:
        """What passes before an event: its pause, for ever, or now and then a chance for others."""
        options, faults = self._world.options, self.faults
        if faults.stall == number:
            await self._world.stall(self._request)
        pace_s = options.pace_s if faults.pace_s is None else faults.pace_s
        if wait_s := pace_s + options.latency.token_s * event.tokens:
            await self._world.pause(wait_s)
        elif number % _FAIR_EVENTS == _FAIR_EVENTS - 1:
            await self._world.breathe()

    def _event_bytes(self, event: Event) -> bytes:
        if self.faults.huge is not None and not self._entry.events_sent:
            event = event._replace(data=b"".join(_padded(event.data, self.faults.huge << 20)))
        if self.faults.malformed_json and self._entry.events_sent == 2:
            event = event._replace(data=event.data[: len(event.data) // 2])
        return sse.frame(event)

    # Instead of answers

    async def not_http(self) -> None:
        self._entry.ended, self._entry.error = "cut", "malformed"
        if (transport := self._request.transport) is not None:
            transport.write(_NOT_HTTP)
            transport.close()
        raise CutError

    async def no_head(self) -> None:
        if self._request.transport is not None:
            self._request.transport.close()
        raise CutError

    def _head(self, extra: Iterable[tuple[str, str]], meta: Meta | None = None) -> list[tuple[str, str]]:
        world = self._world
        passed_s = world.clock.monotonic() - self._began_s
        head = headers.common(world.options, self._entry.request_id, passed_s)
        if meta is not None and meta.model is not None:
            head += world.limits.headers(meta.model, meta.usage.total_tokens)
        head += extra
        return head


class _Writer:
    """Writes body bytes through `gzip`, `drip`, `stall` (of bytes), `cut` and `reset`."""

    def __init__(
        self,
        world: World,
        request: web.BaseRequest,
        response: web.StreamResponse,
        entry: Entry,
        faults: Faults,
        *,
        stall_bytes: int | None = None,
    ) -> None:
        self._world, self._request, self._response, self._entry = world, request, response, entry
        self._gzip = zlib.compressobj(wbits=31) if faults.gzip else None
        self._drip = faults.drip
        self._end = min((n for n in (faults.cut, faults.reset) if n is not None), default=None)
        self._resets = faults.reset is not None and faults.reset == self._end
        self._stall = stall_bytes
        self._sent = 0
        self._is_plain = all(part is None for part in (self._gzip, self._drip, self._end, self._stall))

    async def write(self, data: bytes) -> None:
        if self._is_plain:
            await self._response.write(data)
            self._entry.bytes_sent += len(data)
            return
        if self._gzip is not None:
            data = self._gzip.compress(data) + self._gzip.flush(zlib.Z_SYNC_FLUSH)
        await self._raw(data)

    async def end(self) -> None:
        if self._gzip is not None:
            await self._raw(self._gzip.flush())
        await self._response.write_eof()

    async def _raw(self, data: bytes) -> None:
        size, wait_s = self._drip or (len(data) or 1, 0.0)
        for at in range(0, len(data), size):
            await self._piece(data[at : at + size])
            if wait_s:
                await self._world.pause(wait_s)

    async def _piece(self, piece: bytes) -> None:
        for limit in (self._stall, self._end):
            if limit is not None and self._sent + len(piece) >= limit:
                piece = piece[: limit - self._sent]
        if piece:
            await self._response.write(piece)
            self._sent += len(piece)
            self._entry.bytes_sent += len(piece)
        if self._end is not None and self._sent >= self._end:
            cut(self._request, reset=self._resets)
        if self._stall is not None and self._sent >= self._stall:
            await self._world.stall(self._request)


def cut(request: web.BaseRequest, *, reset: bool) -> NoReturn:
    """Closes the connection at once, cleanly or with a TCP reset. Raises CutError."""
    transport = request.transport
    if transport is not None:
        if reset:
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.close()
    raise CutError


def _padded(body: bytes, size: int) -> Iterator[bytes]:
    """A JSON object, made `size` bytes long by one more member (and no shorter than it is)."""
    start = body[:-1] + (b',"padding":"' if body != b"{}" else b'"padding":"')
    yield start
    left = max(0, size - len(start) - 2)
    while left > 0:
        yield _PADDING[:left]
        left -= len(_PADDING)
    yield b'"}'


def _repeated(body: bytes, size: int) -> Iterator[bytes]:
    piece = body * max(1, len(_PADDING) // len(body))
    while size > 0:
        yield piece[:size]
        size -= len(piece)


def _read(reply: FileReply, first: int, end: int) -> Iterator[bytes]:
    with reply.path.open("rb") as source:
        source.seek(first)
        while first < end and (piece := source.read(min(_PIECE_BYTES, end - first))):
            first += len(piece)
            yield piece


def _span(value: str, size: int) -> tuple[int, int] | None:
    """A `Range` header with one range → first byte and the one after the last; None for the whole."""
    unit, _, asked = value.partition("=")
    first, dash, last = asked.strip().partition("-")
    if unit != "bytes" or not dash or "," in asked or not (first + last).isdigit():
        return None
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1 if last else size)
