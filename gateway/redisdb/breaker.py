"""A circuit breaker: after several failures in a row, calls fail at once instead of each waiting for its deadline."""

from collections.abc import Callable
from typing import Literal

from gateway.clock import Clock

State = Literal["closed", "open", "half_open"]


class Breaker:
    """Pure: it is told what happened and answers whether a call may go out.

    closed: all calls go out; `failures` failures in a row open it.
    open: none does, for `open_s` seconds.
    half_open: one call in `open_s` goes out as a probe. Its success closes the breaker, its failure opens it again. A
    probe whose outcome is never told (its caller left before it was sent) is followed by another one after `open_s`.

    `changed` is called with each new state, after the change.
    """

    __slots__ = ("_changed", "_clock", "_failed", "_failures", "_open_s", "_since", "state")

    def __init__(self, failures: int, open_s: float, clock: Clock, changed: Callable[[State], None]) -> None:
        self._failures = failures
        self._open_s = open_s
        self._clock = clock
        self._changed = changed
        self._failed = 0
        self._since = 0.0
        self.state: State = "closed"

    def admits(self) -> bool:
        """Whether a call may go out now. True in an open or half-open breaker makes that call the probe."""
        if self.state == "closed":
            return True
        now = self._clock.monotonic()
        if now - self._since < self._open_s:
            return False
        self._since = now
        if self.state == "open":
            self._change("half_open")
        return True

    def succeeded(self) -> None:
        """A call was answered in time. What was sent before the breaker opened says nothing about now: ignored."""
        self._failed = 0
        if self.state == "half_open":
            self._change("closed")

    def failed(self) -> None:
        """A call was not answered in time, or a connection broke, or could not be had."""
        self._failed += 1
        if self.state == "half_open" or (self.state == "closed" and self._failed >= self._failures):
            self._since = self._clock.monotonic()
            self._change("open")

    def reset(self) -> None:
        """Forgets everything: what it guarded is not there any more."""
        self._failed = 0
        if self.state != "closed":
            self._change("closed")

    def _change(self, state: State) -> None:
        self.state = state
        self._changed(state)
