"""A data folder belongs to one gateway at a time."""

import fcntl
import os
from pathlib import Path


class DataFolderError(Exception):
    """The folder cannot be used: another process holds it, or the system does not let us. The message is for people."""


class DataFolderLock:
    """Locks a data folder, which it makes if need be, for the life of this process; the system releases it however the
    process ends.

    Raises DataFolderError, naming the holder's pid, if another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataFolderError(f"the data folder {folder} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._descriptor)
            raise DataFolderError(f"the data folder {folder} is in use by the gateway with pid {holder}") from None
        except OSError as error:
            os.close(self._descriptor)
            raise DataFolderError(f"the data folder {folder} cannot be locked: {error.strerror}") from None

    def release(self) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def is_held(folder: Path) -> bool:
    """Whether a gateway runs on a data folder just now."""
    try:
        with (folder / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
