"""Server-sent events."""

from collections.abc import Iterator

import msgspec

from gateway.simulator.call import Event

_SERVER_ERROR = msgspec.json.encode(
    {
        "error": {
            "message": "The server had an error while processing your request. Sorry about that!",
            "type": "server_error",
            "param": None,
            "code": None,
        }
    }
)


def frame(event: Event) -> bytes:
    """An event as it goes over the wire."""
    if event.name is None:
        return b"data: %b\n\n" % event.data
    return b"event: %b\ndata: %b\n\n" % (event.name.encode(), event.data)


def failure() -> Iterator[Event]:
    """How chat and legacy completions end a stream that failed."""
    yield Event(None, _SERVER_ERROR)
