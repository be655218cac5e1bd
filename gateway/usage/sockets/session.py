"""Which meter a socket has, by the operation that opens it. Data."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from gateway.usage.kinds import Kind
from gateway.usage.rules import Rule
from gateway.usage.sockets.live import LiveSession
from gateway.usage.sockets.realtime import RealtimeSession
from gateway.usage.sockets.responses import ResponsesSession
from gateway.usage.sockets.turns import Session

# `now` gives seconds since 1970.
Make = Callable[[Callable[[], float], tuple[Rule, ...], Kind], Session]

# attachLiveSession repeats what its session uses, and is free.
SESSIONS: Mapping[str, Make] = MappingProxyType({
    "connectResponses": ResponsesSession,
    "connectRealtime": RealtimeSession,
    "connectRealtimeTranslation": LiveSession,
    "connectLiveSession": LiveSession,
    "connectLiveSessionFork": LiveSession,
})  # fmt: skip
