"""`gateway serve`, `proxy`, `control` and `simulator`."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gateway.clock import SystemClock
from gateway.commands.check import load
from gateway.commands.console import complain, complain_of_settings, say
from gateway.commands.uncaught import log_everything
from gateway.settings.load import SettingsError
from gateway.settings.model import Settings
from gateway.settings.places import PlaceTakenError
from gateway.supervisor.listeners import ListenError
from gateway.supervisor.lock import DataFolderError
from gateway.supervisor.main import Plan, Supervisor
from gateway.supervisor.post import StartError
from gateway.telemetry.logging import Logger, make_logger


def serve(command: str, path: Path) -> int:
    """Runs a gateway, or one of its planes alone, until a signal ends it."""
    try:
        settings = load(path)
    except SettingsError as error:
        return complain_of_settings(error)
    plan = {
        "serve": Plan(),
        "proxy": Plan(control=False, embedded_redis=False),
        "control": Plan(workers=False, embedded_redis=False),
    }[command]
    log = make_logger("supervisor", settings.logs.level, SystemClock())
    log_everything()
    return supervise(settings, plan, log, partial(load, path))


def supervise(
    settings: Settings,
    plan: Plan,
    log: Logger,
    load: Callable[[], Settings] | None,
    started: Callable[[Supervisor], None] = lambda _: None,
) -> int:
    """Runs a gateway to its end; returns the exit status. started: called once everything serves."""

    async def run() -> int:
        return await Supervisor(settings, plan, log=log, load=load).run(started)

    try:
        return asyncio.run(run())
    except (StartError, ListenError, DataFolderError, PlaceTakenError, OSError) as error:
        log.error("cannot_start", reason=str(error))
        return complain(str(error))


def simulator(host: str, port: int) -> int:
    from gateway.simulator.app import serve as serve_simulator  # noqa: PLC0415 - only this command needs it

    say(f"simulated OpenAI on http://{host}:{port}/v1")
    asyncio.run(serve_simulator(host, port))
    return 0
