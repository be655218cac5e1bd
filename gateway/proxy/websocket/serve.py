"""A WebSocket from its request to its end. The upstream is dialled first, so that a client hears its refusal as the
HTTP answer it is."""

import asyncio
import base64
import binascii
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from aiohttp import web

from gateway.clock import Clock
from gateway.errors import BAD_REQUEST, GatewayError
from gateway.operations.table import Operation
from gateway.proxy.http.exchanges import Exchanges
from gateway.proxy.http.headers import HOP_BY_HOP, RESPONSE_DROPPED, Named, joined, kept
from gateway.proxy.http.request import Request
from gateway.proxy.http.target import model_in_query
from gateway.proxy.http.visit import Visit
from gateway.proxy.websocket.dial import HANDSHAKE, KEY_PROTOCOL, Attempt, Dialler, RefusedError, Socket, hang_up, text
from gateway.proxy.websocket.dial import offered as offered_protocols
from gateway.proxy.websocket.gate import Gate, Naming, error_event
from gateway.proxy.websocket.joint import Joint, handshake
from gateway.proxy.websocket.tunnel import Side, Tunnel
from gateway.settings.model import Bodies, Timeouts
from gateway.tasks import Tasks

_PROTOCOLS = "Sec-WebSocket-Protocol"
_HANDSHAKE = ("Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version")
_WRITER_LIMIT = 64 * 1024
_KEY_BYTES = 16


class WebSockets:
    """Serves WebSockets. One per worker; `renamed` puts another model into a target."""

    def __init__(
        self,
        timeouts: Timeouts,
        bodies: Bodies,
        exchanges: Exchanges,
        clock: Clock,
        renamed: Callable[[str, str], str],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._max_message = bodies.websocket_message_mib * 1024 * 1024 + 1  # aiohttp wants less than this
        self._exchanges = exchanges
        self._dialler = Dialler(timeouts, bodies, clock, renamed)
        self._tasks = Tasks()
        self.open = 0

    def model(self, request: Request, operation: Operation | None) -> str | None:
        """The model that the target names; others are named in the socket's messages. Raises DUPLICATE_MEMBER."""
        if operation is not None and "query" in operation.model:
            return model_in_query(request.target.raw)
        return None

    async def serve(
        self, visit: Visit, attempts: Iterable[Attempt], key: bytes, gate: Gate | None = None
    ) -> None:  # fmt: skip
        """Dials, accepts and carries until one side ends it. Raises GatewayError before the client is accepted."""
        _check(visit.request)
        path, request_id = visit.request.target.path, visit.seen.request_id

        def words(error: GatewayError, about: Naming | None) -> bytes:
            return error_event(error, path, request_id, about)

        tunnel = Tunnel(key, self._loop, words, gate)
        self._exchanges.add(tunnel)
        try:
            upstream = await self._dial(visit, attempts, tunnel)
            if isinstance(upstream, RefusedError):
                _pass_on(visit, upstream)
                return
            try:
                await self._join(visit, upstream, tunnel)
            finally:
                await hang_up(upstream)
        finally:
            self._exchanges.discard(tunnel)
            visit.seen.bytes_in, visit.down.sent = tunnel.received, max(tunnel.sent, visit.down.sent)

    async def close(self) -> None:
        await self._tasks.cancel()
        await self._dialler.close()

    async def _dial(self, visit: Visit, attempts: Iterable[Attempt], tunnel: Tunnel) -> Socket | RefusedError:
        """The upstream's socket, unless the gateway ends it all first. Raises GatewayError."""
        dialling = self._tasks.spawn(_tried(self._dialler, visit, attempts), "dial")
        wanted = False
        try:
            either: set[asyncio.Future[Any]] = {dialling, tunnel.ended}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            wanted = not tunnel.ended.done()
        finally:
            if not wanted:
                dialling.cancel()
                dialling.add_done_callback(partial(_unwanted, self._tasks))
        if not wanted:
            raise tunnel.ended.result()
        found = dialling.result()
        if isinstance(found, GatewayError):
            raise found
        return found

    async def _join(self, visit: Visit, upstream: Socket, tunnel: Tunnel) -> None:
        client = await self._accept(visit, upstream)
        visit.down.status = 101
        visit.down.keep_alive = False
        self.open += 1
        try:
            await tunnel.carry(Side(client), Side(upstream), self._tasks)
            visit.down.complete = True
        except asyncio.CancelledError:
            # A client may leave as soon as one side has said goodbye, or has gone.
            visit.down.complete = tunnel.goodbye is not None or tunnel.error is not None
            raise
        finally:
            self.open -= 1
            tunnel.tell_end()
            if tunnel.error is not None:
                visit.seen.cut_short(tunnel.error)

    async def _accept(self, visit: Visit, upstream: Socket) -> "web.WebSocketResponse[bool]":
        request = visit.request
        client: web.WebSocketResponse[bool] = web.WebSocketResponse(
            protocols=offered_protocols(request.headers.raw),
            autoclose=False,
            autoping=False,
            compress=False,
            max_msg_size=self._max_message,
            writer_limit=_WRITER_LIMIT,
            decode_text=False,
        )
        response = upstream._response
        for name, value in kept(response.raw_headers, RESPONSE_DROPPED | HANDSHAKE):
            client.headers.add(text(name), text(value))
        visit.seen.upstream_request_id = response.headers.get("x-request-id", "")
        client.headers.setdefault("x-request-id", visit.seen.request_id)
        client.headers.setdefault("Server", "gateway")
        named = Named(request.headers.named)
        headers = {name: named.get(name, "") for name in _HANDSHAKE}
        # aiohttp would look into the client's list of protocols, and quote it in its log: it is shown the choice only.
        if (chosen := _protocol(request, upstream)) is not None:
            headers[_PROTOCOLS] = chosen
        await client.prepare(handshake(Joint(visit.connection, self._loop), headers, self._loop))
        return client


async def _tried(dialler: Dialler, visit: Visit, attempts: Iterable[Attempt]) -> Socket | RefusedError | GatewayError:
    """As a result, for nobody might look at an error."""
    try:
        return await dialler.dial(visit, attempts)
    except (RefusedError, GatewayError) as error:
        return error


def _unwanted(tasks: Tasks, dialling: "asyncio.Task[Socket | RefusedError | GatewayError]") -> None:
    """A socket was opened for somebody who had gone."""
    if not dialling.cancelled() and not isinstance(socket := dialling.result(), Exception):
        tasks.spawn(hang_up(socket), "hang up")


def _check(request: Request) -> None:
    """Whether aiohttp will accept the client's handshake. Raises GatewayError BAD_REQUEST (400)."""
    try:
        key = base64.b64decode(request.headers.named.get(b"sec-websocket-key", b""))
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES or request.headers.named.get(b"sec-websocket-version") != b"13":
        raise GatewayError(BAD_REQUEST, reason="its WebSocket handshake is malformed or not of version 13")


def _protocol(request: Request, upstream: Socket) -> str | None:
    """The subprotocol to answer with: the upstream's choice. A browser that has to put its key among the subprotocols
    insists on a choice, whether the upstream made one or not."""
    if upstream.protocol is not None:
        return upstream.protocol
    if KEY_PROTOCOL not in joined(request.headers.raw, b"sec-websocket-protocol"):
        return None
    offered = offered_protocols(request.headers.raw)
    return offered[0] if offered else None


def _pass_on(visit: Visit, refusal: RefusedError) -> None:
    """Answers the client's handshake with the upstream's refusal."""
    headers = kept(refusal.headers, RESPONSE_DROPPED | HOP_BY_HOP | {b"content-length"})
    headers.append((b"Content-Length", b"%d" % len(refusal.body)))
    if not any(name.lower() == b"x-request-id" for name, _ in headers):
        headers.append((b"x-request-id", visit.down.request_id))
    visit.down.start(refusal.status, refusal.reason.encode("utf-8", "replace"), headers, length=len(refusal.body))
    if refusal.body:
        visit.down.write([refusal.body])
    visit.down.end()
