"""A child process of the supervisor. Each role imports only what it needs: workers must start fast."""

import asyncio
import contextlib
import gc
import os
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from gateway.clock import Clock, SystemClock
from gateway.commands.uncaught import log_everything
from gateway.nursery import Newborn, tend
from gateway.process import Child, OrphanError, inherited_leash
from gateway.redisdb.failures import RedisMisconfigured
from gateway.settings.places import PlaceTakenError
from gateway.telemetry.logging import make_logger

Connect = Callable[[], Awaitable[Child]]
Run = Callable[[Child, Clock], Awaitable[None]]


def run_child(role: str) -> int:
    """Runs a role to its end. Returns the exit status."""
    clock = SystemClock()
    if role != "nursery":
        return _live(role, clock, Child.connect)
    log = make_logger(role, "info", clock)
    log_everything()
    try:
        newborn = _nurse()
    except OrphanError as error:
        log.error("no_supervisor", reason=str(error))
        return 1
    if newborn is None:
        return 0
    return _live("worker", clock, lambda: Child.hold(newborn.leash, newborn.sockets))


def _nurse() -> Newborn | None:
    """Imports what a worker needs, and forks workers until the supervisor has gone. Returns in each of them too."""
    end = inherited_leash()
    gc.disable()
    _worker()
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: F401, PLC0415
    gc.freeze()  # what all have in common is not looked at in any of them, and so not copied
    newborn = tend(end)
    gc.enable()
    if newborn is not None:
        os.setsid()
        with contextlib.suppress(OSError):
            Path("/proc/self/comm").write_text(f"worker {newborn.label}")
    return newborn


def _live(role: str, clock: Clock, connect: Connect) -> int:
    log = make_logger(role, "info", clock)
    log_everything()
    try:
        _run(_serve(role, clock, connect))
    except OrphanError as error:
        log.error("no_supervisor", reason=str(error))
        return 1
    except Exception:
        log.exception("process_failed")
        return 1
    return 0


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Runs on uvloop where there is one."""
    try:
        import uvloop  # noqa: PLC0415 - not on every system
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


async def _serve(role: str, clock: Clock, connect: Connect) -> None:
    run = _role(role)
    child = await connect()
    try:
        await run(child, clock)
    except Exception as error:
        child.failed(_words(error))
        raise


def _role(role: str) -> Run:
    gc.disable()  # there is next to no garbage in imports, but looking for it takes a tenth of their time
    try:
        return {"worker": _worker, "control": _control, "simulator": _simulator}[role]()
    finally:
        gc.enable()


def _worker() -> Run:
    from gateway.proxy.app import run  # noqa: PLC0415

    return run


def _control() -> Run:
    from gateway.control.app import run  # noqa: PLC0415

    return run


def _simulator() -> Run:
    from gateway.simulator.child import run  # noqa: PLC0415

    return run


def _words(error: Exception) -> str:
    """What the supervisor is told. Only errors whose text is known to hold no secret are quoted."""
    if isinstance(error, OSError | RedisMisconfigured | PlaceTakenError):
        return str(error)
    return f"{type(error).__name__}; see its log lines"
