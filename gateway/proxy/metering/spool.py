"""Usage that waits on disk while Redis is away. Everything here blocks: call it in a thread.

    <spool_dir>/<when the writer began, µs>-<pid>-<random>/lock
                                                           00000001.jsonl, 00000002.jsonl, …

A writer has a folder of its own and holds its lock for as long as it lives; a folder whose lock is free is of a dead
writer, and any living one may take it, all of it, so that the order within it is kept. A line is an event.

Folders whose names begin with `intents-` have events that may never be needed (`intents.py`): they are taken last, and
not while their writer has left anything else.
"""

import contextlib
import errno
import fcntl
import os
import secrets
from pathlib import Path

import msgspec

from gateway.accounts.usage_stream import Packed, unpack
from gateway.clock import Clock

SEGMENT_BYTES = 16 * 1024 * 1024  # a file; it is deleted when all of it has been delivered
_LOCK = "lock"
_SUFFIX = ".jsonl"
_FILES = "[0-9]" * 8 + _SUFFIX
_INTENTS = "intents-"  # comes behind all digits


class Batch(msgspec.Struct, frozen=True):
    """Events of one organization from a spool, in order, and where they end.

    torn: bytes at a file's end that are half a line, for their writer was killed. unreadable: lines that are no events.
    """

    events: list[Packed]
    end: int
    torn: int = 0
    unreadable: int = 0


class Spool:
    """A writer's folder, locked. One caller at a time.

    Written at the end and read from the beginning: `read` gives the same batch until it is `done`. A file that has been
    read from is not written to any more. size: bytes of its files.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        """lock: the descriptor of its lock, held."""
        self._folder = folder
        self._lock = lock
        self._files = sorted(folder.glob(_FILES))
        self._last = int(self._files[-1].stem) if self._files else 0
        self.size = sum(map(_size, self._files))
        self._offset = 0  # how much of the first file is done
        self._writing: int | None = None  # the descriptor of the last file, while it takes more
        self._written = 0

    @property
    def empty(self) -> bool:
        return not self._files

    @property
    def unread(self) -> int:
        """Bytes that are not done."""
        return self.size - self._offset

    def write(self, data: bytes) -> None:
        """Appends whole lines; when it returns they are on disk. After an OSError none of them is, as far as can be."""
        if self._writing is None:
            self._begin_file()
        descriptor = self._writing
        assert descriptor is not None
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
            if not os.fstat(descriptor).st_nlink:
                raise FileNotFoundError(errno.ENOENT, "the file was deleted while it was written")
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, self._written)
            self._seal()
            if not self._written:
                self._files.pop().unlink(missing_ok=True)
            raise
        self._written += len(data)
        self.size += len(data)
        if self._written >= SEGMENT_BYTES:
            self._seal()

    def read(self, most_events: int, most_bytes: int) -> Batch:
        """The first batch that is not done: at most so much, but one event at least if there is any. OSError."""
        while self._files and not self._files[0].exists():  # somebody has deleted it
            self._forget_first()
        if not self._files:
            return Batch([], 0)
        if len(self._files) == 1:
            self._seal()
        events: list[Packed] = []
        end, size, torn, unreadable = self._offset, 0, 0, 0
        with self._files[0].open("rb") as file:
            file.seek(end)
            for line in file:
                if not line.endswith(b"\n"):
                    torn = len(line)
                else:
                    try:
                        event = unpack(line[:-1])
                    except msgspec.MsgspecError:
                        unreadable += 1
                    else:
                        size += len(line)
                        other = bool(events) and event.organization_id != events[0].organization_id
                        if events and (size > most_bytes or len(events) == most_events or other):
                            break
                        events.append(event)
                end += len(line)
        return Batch(events, end, torn, unreadable)

    def done(self, batch: Batch) -> None:
        """The batch that was read last has been delivered. A file of which that was the end is deleted. OSError."""
        if not self._files:
            return
        if batch.end >= _size(self._files[0]):
            self._files[0].unlink(missing_ok=True)
            self._forget_first()
        else:
            self._offset = batch.end

    def _forget_first(self) -> None:
        del self._files[0]
        self._offset = 0
        if not self._files:
            self._seal()
        self.size = sum(map(_size, self._files))

    def clear(self) -> None:
        """Nothing in it is wanted any more. OSError."""
        self._seal()
        while self._files:
            self._files[-1].unlink(missing_ok=True)
            self._files.pop()
        self.size = self._offset = 0

    def release(self) -> None:
        """Lets go of it: whoever wants may take what is in it. If that is nothing, it is removed."""
        self._seal()
        if self.empty:
            with contextlib.suppress(OSError):
                (self._folder / _LOCK).unlink(missing_ok=True)
                self._folder.rmdir()
        os.close(self._lock)

    def _begin_file(self) -> None:
        self._last += 1
        path = self._folder / f"{self._last:08d}{_SUFFIX}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._writing = os.open(path, flags, 0o600)
        self._written = 0
        self._files.append(path)
        _sync(self._folder)

    def _seal(self) -> None:
        """The last file takes no more."""
        if self._writing is not None:
            os.close(self._writing)
            self._writing = None


class Spools:
    """The folder of all writers' spools. Its methods raise OSError."""

    def __init__(self, folder: Path, most_bytes: int, clock: Clock) -> None:
        """most_bytes: all of them together, of every worker that uses the folder."""
        self._folder = folder
        self._most_bytes = most_bytes
        self._clock = clock

    def open(self, *, intents: bool = False) -> Spool:
        """A new one, of this writer."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            began_us = int(self._clock.wall() * 1_000_000)
            kind = _INTENTS if intents else ""
            own = self._folder / f"{kind}{began_us:017d}-{os.getpid()}-{secrets.token_hex(4)}"
            own.mkdir(mode=0o700)
            _sync(self._folder)
            if (lock := _locked(own)) is not None:  # else somebody took it for a dead writer's, and removes it
                return Spool(own, lock)

    def adopt(self) -> Spool | None:
        """The oldest one of a dead writer, if there is one, now held by the caller. Empty ones are removed."""
        try:
            folders = sorted(path for path in self._folder.iterdir() if path.is_dir())
        except FileNotFoundError:
            return None
        others = {_writer(folder) for folder in folders if not folder.name.startswith(_INTENTS)}
        for folder in folders:
            if folder.name.startswith(_INTENTS) and _writer(folder) in others:
                continue  # what is known of these calls may be there, and comes first
            if (lock := _locked(folder)) is not None:
                spool = Spool(folder, lock)
                if not spool.empty:
                    return spool
                spool.release()
        return None

    def check_room(self, size: int) -> None:
        """Raises OSError if so many bytes more are more than there may be. Workers that write at once may go a batch
        each beyond it."""
        used = sum(map(_size, self._folder.glob(f"*/{_FILES}")))
        if used + size > self._most_bytes:
            raise OSError(errno.EDQUOT, "the spool is as large as usage.spool_mib lets it be")


def _writer(folder: Path) -> str:
    """Its process; others may have had the same number."""
    return "".join(folder.name.split("-")[-2:-1])


def _locked(folder: Path) -> int | None:
    """The descriptor of a writer's lock, or None if somebody holds it or the folder has gone."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = os.fstat(lock).st_nlink > 0  # else its last holder has removed it
    except BlockingIOError:
        held = False
    if not held:
        os.close(lock)
        return None
    return lock


def _size(path: Path) -> int:
    """0 for what has gone meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync(folder: Path) -> None:
    """Makes the names in a folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # file systems that cannot say so
            raise
    finally:
        os.close(descriptor)
