"""A child process of the supervisor. Each role imports only what it needs: workers must start fast."""

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

from gateway.clock import Clock, SystemClock
from gateway.commands.uncaught import log_everything
from gateway.process import Child, OrphanError
from gateway.redisdb.failures import RedisMisconfigured
from gateway.settings.places import PlaceTakenError
from gateway.telemetry.logging import make_logger


def run_child(role: str) -> int:
    """Runs a role to its end. Returns the exit status."""
    clock = SystemClock()
    log = make_logger(role, "info", clock)
    log_everything()
    try:
        _run(_serve(role, clock))
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


async def _serve(role: str, clock: Clock) -> None:
    gc.disable()  # there is next to no garbage in imports, but looking for it takes a tenth of their time
    if role == "simulator":
        from gateway.simulator.child import run as run_simulator  # noqa: PLC0415

        gc.enable()
        return await run_simulator()
    if role == "worker":
        from gateway.proxy.app import run  # noqa: PLC0415
    else:
        from gateway.control.app import run  # noqa: PLC0415
    gc.enable()
    child = await Child.connect()
    try:
        await run(child, clock)
    except Exception as error:
        child.failed(_words(error))
        raise
    return None


def _words(error: Exception) -> str:
    """What the supervisor is told. Only errors whose text is known to hold no secret are quoted."""
    if isinstance(error, OSError | RedisMisconfigured | PlaceTakenError):
        return str(error)
    return f"{type(error).__name__}; see its log lines"
