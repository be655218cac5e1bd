"""A request's head, as the pipeline needs it: read once, frozen."""

import os
from collections.abc import Mapping

import msgspec
from aiohttp.http import HttpVersion11, RawRequestMessage

from gateway.errors import BAD_REQUEST, METHOD_NOT_ALLOWED, GatewayError, without_keys
from gateway.proxy.http.target import Target, Targets

_REFLECTING = frozenset({"TRACE", "CONNECT"})  # TRACE would show the client the upstream's credentials


class Request(msgspec.Struct, frozen=True):
    """One request's head.

    raw_headers: all, as they came. headers: the same to look names up in, any case. length: of the body as declared,
    None if it is chunked; has_body: whether one follows. websocket: an upgrade to a WebSocket.
    """

    method: str
    target: Target
    raw_headers: tuple[tuple[bytes, bytes], ...]
    headers: Mapping[str, str]
    length: int | None
    has_body: bool
    websocket: bool

    def __repr__(self) -> str:
        return f"Request({self.method} {without_keys(self.target.path)})"  # its headers hold keys


def read_request(message: RawRequestMessage, targets: Targets, *, empty: bool) -> Request:
    """Raises GatewayError INVALID_URL, METHOD_NOT_ALLOWED or BAD_REQUEST. empty: the parser saw no body."""
    method = message.method
    target = targets.read(method, message.path)
    if method in _REFLECTING:
        raise GatewayError(METHOD_NOT_ALLOWED, method=method, path=target.path)
    headers = message.headers
    if empty:
        upgrade = (
            message.upgrade
            and method == "GET"
            and headers.get("Upgrade", "").lower() == "websocket"
            and message.version is HttpVersion11
        )
        return Request(method, target, message.raw_headers, headers, 0, has_body=False, websocket=upgrade)
    length = None
    if not message.chunked:
        length = int(headers["Content-Length"])
    elif headers["Transfer-Encoding"].lower() != "chunked":
        # `gzip, chunked`: the parser takes the chunks off; what is left would go upstream without its coding's name.
        raise GatewayError(BAD_REQUEST, reason="its Transfer-Encoding is not plain 'chunked'")
    return Request(method, target, message.raw_headers, headers, length, has_body=True, websocket=False)


class RequestIds:
    """Makes request ids in OpenAI's form, `req_` and 32 hex digits. They are unique, not secret: 64 random bits of the
    maker's own, and a number."""

    def __init__(self) -> None:
        self._prefix = f"req_{os.urandom(8).hex()}"
        self._number = 0

    def new(self) -> str:
        self._number += 1
        return f"{self._prefix}{self._number:016x}"
