"""How soon a process that has ended by itself is started again."""

_HEALTHY_S = 2.0  # a process that lived so long did not fail at its start
_FREE = 3  # restarts without a pause: whatever killed it may have been an accident
_FIRST_S = 0.2
_LONGEST_S = 10.0
_LONGEST_READY_S = 1.0  # after one that had served: its successor will too, and callers wait for it


class Backoff:
    """Pure: it is told how long a process lived and answers how long to wait. The first few restarts come at once, then
    each waits twice as long as the one before; a process that lived for a while starts the count anew. After those that
    cannot start at all the waits grow much longer than after those that served for a moment.
    """

    def __init__(self) -> None:
        self._failures = 0

    def after(self, lived_s: float, *, was_ready: bool = False) -> float:
        """Seconds to wait before the next start."""
        self._failures = 0 if lived_s > _HEALTHY_S else self._failures + 1
        excess = self._failures - _FREE
        longest = _LONGEST_READY_S if was_ready else _LONGEST_S
        return 0.0 if excess <= 0 else min(longest, _FIRST_S * 2.0 ** min(excess - 1, 16))
