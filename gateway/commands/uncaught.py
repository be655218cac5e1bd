"""What Python would write to standard error as plain text goes into the log, as a line of JSON like everything else."""

import logging
import sys
import threading
from types import TracebackType

_log = logging.getLogger("gateway.uncaught")


def log_everything() -> None:
    """From now on warnings, and errors that nobody caught, are log lines. Call make_logger first."""
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable
    threading.excepthook = _in_thread


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _log.critical("uncaught_error", exc_info=(kind, error, trace))


def _unraisable(what: "sys.UnraisableHookArgs") -> None:
    if what.exc_value is not None:
        # The object itself is not shown: its repr may hold anything.
        _log.error("error_in_finalizer", exc_info=what.exc_value)


def _in_thread(what: threading.ExceptHookArgs) -> None:
    if what.exc_value is not None and not isinstance(what.exc_value, SystemExit):
        _log.error("uncaught_error_in_thread", exc_info=what.exc_value)
