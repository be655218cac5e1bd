"""The simulator as a process of the demo, under its supervisor."""

from aiohttp import web

from gateway.clock import Clock
from gateway.process import Child, serve_until_told
from gateway.simulator.app import MAX_LINE_BYTES, make_app
from gateway.simulator.options import SimulatorOptions

_ORPHAN_S = 1.0


async def run(child: Child, _clock: Clock) -> None:
    """From its start by the supervisor to its end. `extra["key"]`: the only upstream key that it accepts."""
    options = SimulatorOptions(keys=frozenset({child.start.extra["key"]}))
    runner = web.AppRunner(
        make_app(options),
        handler_cancellation=True,
        access_log=None,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_LINE_BYTES,
        shutdown_timeout=1.0,
    )
    await runner.setup()
    for listening in child.sockets():
        await web.SockSite(runner, listening).start()
    await child.ready()

    async def drain(_deadline_s: float) -> None:
        await runner.cleanup()

    await serve_until_told(child, drain, _ORPHAN_S)
