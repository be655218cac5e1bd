"""Words that are remembered in a file: on disk before anything is done about them, and never taken off the list."""

import os
from pathlib import Path


class Remembered:
    """A set of words, a line each. Methods raise OSError."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def all(self) -> set[str]:
        return set(self._file.read_text().split()) if self._file.exists() else set()

    def add(self, words: set[str]) -> None:
        if not words:
            return
        new = not self._file.exists()
        with self._file.open("a") as file:
            file.writelines(f"{word}\n" for word in sorted(words))
            file.flush()
            os.fsync(file.fileno())
        if new:
            _sync_folder(self._file.parent)


def _sync_folder(folder: Path) -> None:
    """A new file's name is on disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
