"""Logs: one JSON line an event, from every process and every library.

Events (starts, reloads, failures) go through structlog and are written at once. Access lines, one a request, are
gathered and written by a thread in batches, for a slow reader of our output must not slow down requests.
"""

import logging
import os
import select
import stat
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from queue import SimpleQueue
from types import MappingProxyType
from typing import Any

import msgspec
import structlog

from gateway.clock import Clock

Logger = structlog.typing.FilteringBoundLogger

_LEVELS: Mapping[str, int] = MappingProxyType(
    {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
)
_CHATTY = ("python_multipart.multipart", "aiohttp.websocket")  # they log what clients do wrong
_ATOMIC = 4096  # a write of this size to a pipe is never mixed with another process's (PIPE_BUF)
_AT_ONCE = 128 * 1024
_MAX_WAITING = 8 * 1024 * 1024  # bytes of access lines that may wait for a slow reader


def _plain(value: Any) -> str:
    """How a log shows what JSON has no form for. Secrets have a str() that hides them."""
    return str(value)


_encode = msgspec.json.Encoder(enc_hook=_plain).encode


def _write(line: bytes) -> None:
    """Writes to standard output, past Python's buffer, so that lines of processes do not mix."""
    try:
        os.write(1, line)
    except OSError:
        return  # nobody reads; there is nobody to tell


def _render(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> bytes:
    return _encode(event) + b"\n"


def _stamp(clock: Clock) -> Any:
    def add(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {"ts": round(clock.wall(), 3), "level": method, "event": event.pop("event"), **event}

    return add


def _exception(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An exception as one field: type, message and where; no local variables, for they may hold secrets."""
    info = event.pop("exc_info", None)
    if info:
        error = info if isinstance(info, BaseException) else info[1] if isinstance(info, tuple) else sys.exc_info()[1]
        if error is not None:
            event["error"] = "".join(traceback.format_exception(error))
    return event


class _Sink:
    """Where structlog's lines end."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    def msg(self, message: bytes) -> None:
        self._write(message)

    debug = info = warning = warn = error = critical = exception = log = msg


class _Standard(logging.Handler):
    """Turns records of the standard library's logging, which asyncio and aiohttp use, into the same lines."""

    def __init__(self, log: Logger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level = (
            "error" if record.levelno >= logging.ERROR else "warning" if record.levelno >= logging.WARNING else "info"
        )
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        getattr(self._log, level)(record.getMessage(), **fields)


def make_logger(
    role: str, level: str, clock: Clock, write: Callable[[bytes], None] = _write, **fields: object
) -> Logger:
    """The logger of a process; `role` and `fields` stand in each of its lines. Takes over the standard library's."""
    log: Logger = structlog.wrap_logger(
        _Sink(write),
        processors=[_exception, _stamp(clock), _render],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        cache_logger_on_first_use=True,
    ).bind(process=role, **fields)
    root = logging.getLogger()
    root.handlers = [_Standard(log)]
    root.setLevel(max(_LEVELS[level], logging.INFO))
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return log


class LineWriter:
    """Writes lines in batches from its own thread. Never blocks its caller; drops, and counts, what is too much."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self._piece = _piece(descriptor)
        self._lines: list[bytes] = []
        self._queue: SimpleQueue[list[bytes] | None] = SimpleQueue()
        self._size = 0
        self._waiting = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()
        self._dropped = 0

    def add(self, line: bytes) -> None:
        """One line, with its line feed."""
        self._lines.append(line)
        self._size += len(line)
        if self._size > 64 * 1024:
            self.flush()

    def flush(self) -> None:
        """Hands what has gathered to the thread; to be called a few times a second."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        size, self._size = self._size, 0
        with self._lock:
            if self._waiting + size > _MAX_WAITING:
                self._dropped += len(lines)
                return
            self._waiting += size
        self._queue.put(lines)

    def take_dropped(self) -> int:
        """How many lines were dropped since the last call."""
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        return dropped

    def close(self, timeout_s: float = 2.0) -> None:
        """Writes what is left, waiting at most so long for the reader."""
        self.flush()
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (lines := self._queue.get()) is not None:
            size = sum(map(len, lines))
            for batch in [b"".join(lines)] if size <= self._piece else batches(lines, self._piece):
                self._write_all(batch)
            with self._lock:
                self._waiting -= size

    def _write_all(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # somebody else made the descriptor so
                select.select([], [self._descriptor], [], 1.0)
            except OSError:
                return


def _piece(descriptor: int) -> int:
    """How much to write at once: to a file much, for each write interrupts the loop; elsewhere (a pipe, a socket of the
    journal's) no more than what is not mixed with other processes' lines."""
    try:
        return _AT_ONCE if stat.S_ISREG(os.fstat(descriptor).st_mode) else _ATOMIC
    except OSError:
        return _ATOMIC  # it is closed: there is nobody to write for


def batches(lines: list[bytes], most: int) -> list[bytes]:
    """Lines joined into pieces of at most so many bytes; a longer line is a piece by itself."""
    pieces: list[bytes] = []
    current: list[bytes] = []
    size = 0
    for line in lines:
        if current and size + len(line) > most:
            pieces.append(b"".join(current))
            current, size = [], 0
        current.append(line)
        size += len(line)
    if current:
        pieces.append(b"".join(current))
    return pieces
