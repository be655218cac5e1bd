"""A request's body on its way from the socket to whoever takes it."""

import asyncio
from typing import Protocol

_HIGH = 128 * 1024  # bytes that nobody has taken, beyond which the socket is left unread


class Flow(Protocol):
    """The connection that a body comes on. Each `hold` is followed by one `release`."""

    def hold(self) -> None: ...
    def release(self) -> None: ...


class Payload:
    """What has come of a body and was not taken yet. total_bytes: that have come so far. ended: all of it has come,
    whether it was taken or not.
    """

    # Defaults stand in the class: one of these is made for each request.
    _error: BaseException | None = None
    _held = False
    _waiter: asyncio.Future[None] | None = None

    def __init__(self, flow: Flow, whole: bytes | None = None) -> None:
        """whole: all of it, if it is here."""
        self._flow = flow
        self._pieces: list[bytes] = [] if not whole else [whole]
        self._size = self.total_bytes = 0 if whole is None else len(whole)
        self.ended = whole is not None

    # The connection's side

    def feed(self, data: bytes) -> None:
        size = len(data)
        self._pieces.append(data)
        self._size += size
        self.total_bytes += size
        if self._waiter is not None:
            self._wake()
        if self._size > _HIGH and not self._held:
            self._held = True
            self._flow.hold()

    def end(self) -> None:
        """All of it has come."""
        self.ended = True
        if self._waiter is not None:
            self._wake()

    def set_exception(self, error: BaseException) -> None:
        """Whoever takes it gets this error, now or when they ask."""
        self._error = error
        if self._waiter is not None:
            self._wake()

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for more of it."""
        return self._waiter is not None

    # The taker's side

    async def readany(self) -> bytes:
        """What there is, waiting for some if need be; empty at the end. Raises what `set_exception` was given."""
        while self._error is None and not self._pieces and not self.ended:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._error is not None:
            raise self._error
        return self.read_nowait()

    def read_nowait(self) -> bytes:
        """All that there is now."""
        pieces = self._pieces
        if not pieces:
            return b""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = []
        self._size = 0
        if self._held:
            self._held = False
            self._flow.release()
        return data

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
