"""A request's head, as the pipeline needs it: read once, frozen."""

import os

import msgspec

from gateway.errors import BAD_REQUEST, METHOD_NOT_ALLOWED, GatewayError, without_keys
from gateway.proxy.http.headers import Headers
from gateway.proxy.http.incoming import Head
from gateway.proxy.http.target import Target

_REFLECTING = frozenset({"TRACE", "CONNECT"})  # TRACE would show the client the upstream's credentials


class Request(msgspec.Struct, frozen=True):
    """One request's head.

    length: of the body as declared, None if it is chunked; has_body: whether one follows. websocket: an upgrade to a
    WebSocket.
    """

    method: str
    target: Target
    headers: Headers
    length: int | None
    has_body: bool
    websocket: bool

    def __repr__(self) -> str:
        return f"Request({self.method} {without_keys(self.target.path)})"


def read_request(head: Head, target: Target) -> Request:
    """Raises GatewayError METHOD_NOT_ALLOWED or BAD_REQUEST."""
    method, length, headers = head.method, head.length, head.headers
    if method in _REFLECTING:
        raise GatewayError(METHOD_NOT_ALLOWED, method=method, path=target.path)
    if length is None and headers.named[b"transfer-encoding"].lower() != b"chunked":
        # `gzip, chunked`: the parser takes the chunks off; what is left would go upstream without its coding's name.
        raise GatewayError(BAD_REQUEST, reason="its Transfer-Encoding is not plain 'chunked'")
    websocket = head.switches and head.modern and length == 0 and method == "GET"
    if websocket:
        websocket = headers.named.get(b"upgrade", b"").lower() == b"websocket"
    return Request(method, target, headers, length, length != 0, websocket)


class RequestIds:
    """Makes request ids in OpenAI's form, `req_` and 32 hex digits. They are unique, not secret: 64 random bits of the
    maker's own, and a number."""

    def __init__(self) -> None:
        self._form = f"req_{os.urandom(8).hex()}%016x"
        self._number = 0

    def new(self) -> str:
        self._number += 1
        return self._form % self._number
