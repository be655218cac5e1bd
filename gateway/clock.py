"""Time, as something that is passed in, so that tests can pass their own."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back: for durations."""

    def wall(self) -> float:
        """Seconds since the epoch: for what people and other machines read."""


class SystemClock:
    """The machine's clock. Both methods are the C functions themselves: the hot path calls them."""

    monotonic = staticmethod(time.perf_counter)  # noqa: TID251 - this is the one place that may
    wall = staticmethod(time.time)  # noqa: TID251


class ManualClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, start_s: float = 1_800_000_000.0) -> None:
        self._now = start_s

    def monotonic(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds
