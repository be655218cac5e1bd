"""The upstream's side of a WebSocket: dialling it, with aiohttp's client."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol
from urllib.parse import quote

import aiohttp
from yarl import URL

from gateway.clock import Clock
from gateway.errors import (
    UPSTREAM_CUT,
    UPSTREAM_MALFORMED,
    UPSTREAM_TIMEOUT,
    UPSTREAM_UNREACHABLE,
    GatewayError,
)
from gateway.proxy.http.headers import RawHeaders, joined, kept
from gateway.proxy.http.visit import Visit
from gateway.settings.model import Bodies, Timeouts
from gateway.values import Tried

KEY_PROTOCOL = "openai-insecure-api-key."  # carries a browser's key; never goes upstream
HANDSHAKE = frozenset(
    {
        b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-protocol", b"sec-websocket-extensions",
        b"sec-websocket-accept", b"content-length", b"date",
    }
)  # fmt: skip
_LONGEST_REFUSAL = 1024 * 1024
_ASCII = "".join(map(chr, range(0x21, 0x7F)))

Socket = aiohttp.ClientWebSocketResponse[bool]


class Destination(Protocol):
    """See `upstream.router.Destination`."""

    @property
    def name(self) -> str: ...
    @property
    def base_url(self) -> str: ...
    @property
    def constant(self) -> list[tuple[bytes, bytes]]: ...
    @property
    def dropped(self) -> frozenset[bytes]: ...
    @property
    def tls(self) -> Any: ...


class Attempt(Protocol):
    @property
    def destination(self) -> Destination: ...
    @property
    def upstream_model(self) -> str | None: ...


class RefusedError(Exception):
    """The upstream answered the handshake with something else than a switch of protocols."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        super().__init__(response.status)
        self.status = response.status
        self.reason = response.reason or ""
        self.headers = response.raw_headers
        self.body = body


class Dialler:
    """Opens sockets to upstreams. One per worker; `renamed` puts another model into a target."""

    def __init__(
        self, timeouts: Timeouts, bodies: Bodies, clock: Clock, renamed: Callable[[str, str], str]
    ) -> None:  # fmt: skip
        self._timeouts = timeouts
        self._max_message = bodies.websocket_message_mib * 1024 * 1024 + 1  # aiohttp wants less than this
        self._clock = clock
        self._renamed = renamed
        self._session: aiohttp.ClientSession | None = None

    async def dial(self, visit: Visit, attempts: Iterable[Attempt]) -> Socket:
        """The first upstream's socket that can be connected to. Raises GatewayError, or RefusedError if it refuses."""
        failure: GatewayError | None = None
        for attempt in attempts:
            try:
                return await self._connect(visit, attempt)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                failure = GatewayError(UPSTREAM_UNREACHABLE)
                seen = visit.seen
                ms = int((self._clock.monotonic() - seen.sent_at) * 1000)
                seen.note_tried(Tried(seen.attempts, seen.upstream, 0, failure.kind.name, ms))
            except TimeoutError:
                raise GatewayError(UPSTREAM_TIMEOUT) from None
            except (aiohttp.ClientConnectionError, OSError):
                raise GatewayError(UPSTREAM_CUT) from None
            except aiohttp.ClientError:
                raise GatewayError(UPSTREAM_MALFORMED) from None
        assert failure is not None, "a route has at least one upstream"
        raise failure

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _connect(self, visit: Visit, attempt: Attempt) -> Socket:
        request, seen, to = visit.request, visit.seen, attempt.destination
        seen.upstream, seen.upstream_model = to.name, attempt.upstream_model or ""
        seen.attempts += 1
        target = request.target.raw
        if attempt.upstream_model is not None:
            target = self._renamed(target, attempt.upstream_model)
        headers = [h for h in to.constant if h[0].lower() != b"host"]
        headers += kept(request.headers.raw, to.dropped | HANDSHAKE)
        if (given := request.headers.named.get(b"x-request-id")) is not None:
            seen.client_request_id = given.decode("utf-8", "surrogateescape")
        else:
            headers.append((b"x-request-id", visit.down.request_id))
        seen.sent_at = self._clock.monotonic()
        url = to.base_url.replace("http", "ws", 1) + quote(target, safe=_ASCII, errors="surrogateescape")
        async with asyncio.timeout(self._timeouts.response_s):
            upstream: Any = await self._client().ws_connect(
                URL(url, encoded=True),
                headers=[(text(name), text(value)) for name, value in headers],
                protocols=offered(request.headers.raw),
                autoclose=False,
                autoping=False,
                max_msg_size=self._max_message,
                decode_text=False,
                ssl=to.tls if to.tls is not None else True,
            )
        seen.head_at = self._clock.monotonic()
        return upstream  # type: ignore[no-any-return]

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=self._timeouts.connect_s),
                middlewares=(_must_switch,),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
                auto_decompress=False,
                max_line_size=65536,
                max_field_size=65536,
            )
        return self._session


async def _must_switch(
    request: aiohttp.ClientRequest, handler: Callable[[aiohttp.ClientRequest], Any]
) -> aiohttp.ClientResponse:
    """Stops at any other answer: aiohttp's own error for it has no body, and it would follow redirects."""
    response: aiohttp.ClientResponse = await handler(request)
    if response.status == 101:
        return response
    body = bytearray()
    try:
        while chunk := await response.content.readany():
            body += chunk
            if len(body) > _LONGEST_REFUSAL:
                raise GatewayError(UPSTREAM_MALFORMED)
    finally:
        response.close()
    raise RefusedError(response, bytes(body))


def offered(headers: RawHeaders) -> list[str]:
    """The subprotocols that the client offers, without the one that is a key."""
    protocols = (part.strip() for part in joined(headers, b"sec-websocket-protocol").split(","))
    return [protocol for protocol in protocols if protocol and not protocol.startswith(KEY_PROTOCOL)]


def text(raw: bytes) -> str:
    """A header's bytes as the text that aiohttp, which writes UTF-8, turns into them again wherever that can be."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


async def hang_up(socket: Socket) -> None:
    """Whatever happened, the upstream's connection does not outlive the client's: closes it, in order if possible."""
    connection = socket._response.connection
    transport = connection.transport if connection is not None else None
    if transport is not None and transport.get_write_buffer_size():
        transport.abort()  # it does not take what was sent last
    socket._response.close()
