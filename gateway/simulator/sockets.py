"""WebSockets: one connection, its messages and its faults.

Faults of the handshake are those of any request. After it, for the connection as a whole: `pace`, `stall=<n>` (sends n
events, then nothing), `cut=<bytes>` and `reset=<bytes>` (of event bytes); for each answer: `tokens`, `chunks`,
`error_event`, `no_usage`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec
from aiohttp import WSMsgType, web

from gateway.simulator import headers, wire
from gateway.simulator.book import Entry, Meta
from gateway.simulator.call import Call, Event, Json
from gateway.simulator.errors import ApiError
from gateway.simulator.world import World
from gateway.tasks import Tasks

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Socket:
    """An open WebSocket. call: the handshake as a call; its entry is the connection's record.

    Answers run as `tasks` beside the reading of messages, each with an entry of its own.
    """

    def __init__(self, world: World, request: web.Request, call: Call, key: str) -> None:
        self.world, self.call, self.key = world, call, key
        self._request = request
        self.response = web.WebSocketResponse(protocols=("realtime",), max_msg_size=0, compress=False)
        self.tasks = Tasks()
        self._lock = asyncio.Lock()
        self._sent_bytes = self._sent_events = 0

    async def open(self) -> None:
        """Answers the handshake. Raises ApiError for one that is wrong."""
        entry = self.call.entry
        self.response.headers.extend(headers.common(self.world.options, entry.request_id, 0.0))
        try:
            await self.response.prepare(self._request)
        except web.HTTPException as error:
            raise ApiError(400, f"The WebSocket handshake is wrong: {error.text}") from None
        entry.status = 101

    async def receive(self) -> Json | None:
        """The client's next event; None when it has closed. `{}` for what is no JSON object."""
        message = await self.response.receive()
        if message.type not in {WSMsgType.TEXT, WSMsgType.BINARY}:
            return None
        self.call.entry.bytes_received += len(message.data)
        try:
            value = _decode(message.data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return {}
        return value if isinstance(value, dict) else {}

    async def send(self, name: str, members: Json) -> None:
        """One event, with an id."""
        value = {"type": name, "event_id": self.world.ids.make("event_", 21)} | members
        await self.send_event(Event(name, _encode(value)), None)

    async def send_event(self, event: Event, entry: Entry | None) -> None:
        """One event, counted in the answer's entry. Raises ConnectionError when the client has left, or a fault cut."""
        faults = self.call.faults
        if faults.pace_s and event.tokens:
            await self.world.pause(faults.pace_s)
        async with self._lock:
            if faults.stall is not None and self._sent_events >= faults.stall:
                await self.world.stall(self._request)
            limits = [limit for limit in (faults.cut, faults.reset) if limit is not None]
            if limits and self._sent_bytes + len(event.data) > min(limits):
                self.call.entry.ended = "cut"
                wire.cut(self._request, reset=faults.reset == min(limits))
            await self.response.send_str(event.data.decode())
        self._sent_bytes += len(event.data)
        self._sent_events += 1
        self.call.entry.bytes_sent += len(event.data)
        if entry is not None:
            entry.events_sent += 1
            entry.bytes_sent += len(event.data)
            entry.output_tokens_sent += event.tokens
            entry.usage_sent = entry.usage_sent or event.usage

    def begin(self, meta: Meta, *, model: str | None) -> Entry:
        """An entry for one answer; it is in flight until `end`."""
        world = self.world
        entry = self.call.entry.child(
            world.book.number(), world.ids.hexadecimal("req_"), "websocket", world.clock.wall()
        )
        entry.request_model, entry.faults, entry.stream, entry.status = model, self.call.faults.specs, True, 200
        entry.take(meta)
        return entry

    def end(self, entry: Entry) -> None:
        self.world.book.write(entry, self.world.clock.wall())


SocketHandler: TypeAlias = Callable[[World, Socket], Awaitable[None]]
SocketHandlers: TypeAlias = tuple[tuple[str, SocketHandler], ...]
