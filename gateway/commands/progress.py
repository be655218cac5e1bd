"""A bar that shows how far something is, for people at a terminal: on standard error, and nowhere else."""

import sys

_WIDTH = 40


class Progress:
    """what: what is being done. quiet: never show it. Shows nothing anyway if standard error is no terminal."""

    def __init__(self, what: str, *, quiet: bool = False) -> None:
        self._what = what
        self._shown = sys.stderr.isatty() and not quiet

    def show(self, part: float) -> None:
        """part: of all, from 0 to 1."""
        if self._shown:
            done = round(max(0.0, min(part, 1.0)) * _WIDTH)
            bar = "#" * done + "." * (_WIDTH - done)
            sys.stderr.write(f"\r{self._what} [{bar}] {round(part * 100):3}%")
            sys.stderr.flush()

    def end(self) -> None:
        """Takes the bar away."""
        if self._shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
