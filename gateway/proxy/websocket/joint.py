"""Where aiohttp's WebSocket and a client's connection meet.

aiohttp's `WebSocketResponse` wants a connection of aiohttp's own; `Joint` is one as far as that goes. It leans on parts
of aiohttp that are not public, hence the narrow version range in pyproject.toml, and the tests over real sockets.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpVersion11, RawRequestMessage, StreamWriter
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web import BaseRequest
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway.proxy.http.connection import ServerConnection


class Joint(BaseProtocol):
    """Takes a connection's bytes to aiohttp's reader of frames, and is what aiohttp's writer of frames writes to."""

    ssl_context = peername = sockname = None  # aiohttp asks for them, and nobody looks at what it hears

    def __init__(self, connection: ServerConnection, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.transport = connection.transport
        self._upgraded = True  # there is no parser to be paused
        self._reader: Any = None
        self._ended = False
        self._tail = connection.switch(self)
        if connection.writing_paused:
            self.pause_writing()

    @property
    def holds(self) -> bool:
        return self._reading_paused

    def set_parser(self, parser: Any, data_received_cb: Callable[[], None] | None = None) -> None:  # noqa: ARG002
        """Called by aiohttp: `parser` reads frames from now on."""
        self._reader = parser
        tail, self._tail = self._tail, b""
        if tail:
            self.data_received(tail)

    def keep_alive(self, _value: bool) -> None:
        """Called by aiohttp: no request follows a WebSocket."""

    def data_received(self, data: bytes) -> None:
        if self._reader is None:
            self._tail += data
        elif not self._ended:
            self._ended, _ = self._reader.feed_data(data)  # true: it has given up

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._reader is not None:
            self._reader.feed_eof()


def handshake(joint: Joint, headers: Mapping[str, str], loop: asyncio.AbstractEventLoop) -> BaseRequest:
    """The client's request to switch, as aiohttp wants to see it. headers: those that the handshake is about."""
    shown = CIMultiDictProxy(CIMultiDict(headers))
    message = RawRequestMessage("GET", "/", HttpVersion11, shown, (), True, None, True, False, URL.build(path="/"))
    task: Any = asyncio.current_task()
    connection: Any = joint
    return BaseRequest(message, EMPTY_PAYLOAD, connection, StreamWriter(joint, loop), task, loop)
