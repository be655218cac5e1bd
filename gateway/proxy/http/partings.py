"""Whose last answer has been sent, but who is still sending.

Closing such a connection would reset it, and the reset would overtake the answer. So what still comes is read and
thrown away for a while; of few connections at a time, in turn, for a flood of refused uploads would take the worker's
time from everyone else.
"""

from collections import deque
from typing import Protocol


class Parting(Protocol):
    """A connection that reads away what comes, once it is its turn."""

    def read_away(self) -> None: ...


class Partings:
    """The connections of one worker that are parting."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._reading: set[Parting] = set()
        self._waiting: deque[Parting] = deque()

    def join(self, connection: Parting) -> None:
        """From now on the connection reads away what comes, or waits for its turn."""
        if self._free:
            self._free -= 1
            self._reading.add(connection)
            connection.read_away()
        else:
            self._waiting.append(connection)

    def leave(self, connection: Parting) -> None:
        """The connection has gone; if it was parting, it is somebody else's turn."""
        if connection in self._reading:
            self._reading.discard(connection)
            self._free += 1
            if self._waiting:
                self.join(self._waiting.popleft())
        elif connection in self._waiting:
            self._waiting.remove(connection)
