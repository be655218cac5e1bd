"""The simulator's composition root: `make_app` for tests, `serve` for the demo."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from aiohttp import web

from gateway.operations.table import load_operations
from gateway.simulator import media
from gateway.simulator.door import Door
from gateway.simulator.families import HANDLERS, SOCKETS, generic, organization
from gateway.simulator.options import SimulatorOptions
from gateway.simulator.routes import Routes
from gateway.simulator.world import World

MAX_BODY_BYTES = 1 << 30
MAX_LINE_BYTES = 1 << 16
_PAGE = 1000
_encode = msgspec.json.Encoder().encode


def make_app(options: SimulatorOptions | None = None) -> web.Application:
    """A simulator. Run it with `handler_cancellation=True`, so that a client's leaving is noticed at once."""
    options = options or SimulatorOptions()
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    temporary = options.data is None
    data = options.data or Path(tempfile.mkdtemp(prefix="simulator-"))
    for folder in ("incoming", "files"):
        (data / folder).mkdir(parents=True, exist_ok=True)
    operations = load_operations()
    served = dict(HANDLERS)
    admin = dict(organization.HANDLERS)
    world = World(options, data, served | admin | dict(generic.handlers(operations, served)))
    own = _OwnPaths(world)
    app.router.add_get("/_simulator/health", own.health)
    app.router.add_get("/_simulator/stats", own.stats)
    app.router.add_get("/_simulator/served", own.served)
    app.router.add_post("/_simulator/reset", own.reset)
    app.router.add_get(r"/_simulator/images/{width:\d{1,4}}x{height:\d{1,4}}/{shade:\d+}.png", own.image)
    app.router.add_route("*", "/{path:.*}", Door(world, Routes(operations, admin), dict(SOCKETS)).serve)

    async def stop(_: web.Application) -> None:
        world.stop()

    async def live(_: web.Application) -> AsyncIterator[None]:
        yield
        await world.tasks.cancel()
        world.book.close()
        if temporary:
            shutil.rmtree(data, ignore_errors=True)

    app.on_shutdown.append(stop)
    app.cleanup_ctx.append(live)
    return app


@asynccontextmanager
async def running(
    options: SimulatorOptions | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[str]:
    """A simulator on a socket of its own; the value is its base URL without /v1, `http://127.0.0.1:45678`."""
    runner = web.AppRunner(
        make_app(options),
        handler_cancellation=True,
        access_log=None,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_LINE_BYTES,
        shutdown_timeout=5.0,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=1024)
        await site.start()
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def serve(host: str, port: int, options: SimulatorOptions | None = None) -> None:
    """Serves until cancelled."""
    async with running(options, host, port):
        await asyncio.Event().wait()


class _OwnPaths:
    """What the simulator says about itself, under /_simulator. No key needed."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def health(self, _: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def stats(self, _: web.Request) -> web.Response:
        return _json(self._world.book.stats())

    async def served(self, request: web.Request) -> web.Response:
        """`?since=<sequence>&limit=<n>&wait=<s>` → book.Page. wait: until nothing is in flight, at most so long."""
        since, limit = request.query.get("since", "0"), request.query.get("limit", str(_PAGE))
        wait_s = request.query.get("wait", "0")
        if not (since.isdigit() and limit.isdigit() and wait_s.isdigit()):
            return _json({"error": "since, limit and wait are whole numbers"}, 400)
        if wait_s != "0":
            await self._world.book.quiet(int(wait_s))
        return _json(self._world.book.since(int(since), max(1, min(int(limit), 10 * _PAGE))))

    async def image(self, request: web.Request) -> web.Response:
        """The pictures that image answers give as URLs."""
        width, height, shade = (int(request.match_info[name]) for name in ("width", "height", "shade"))
        return web.Response(body=media.png(max(1, width), max(1, height), shade % 256), content_type="image/png")

    async def reset(self, _: web.Request) -> web.Response:
        """Ends all jobs; forgets the book, the prompt cache and all stored objects."""
        await self._world.reset()
        return _json({"status": "ok"})


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=_encode(value), content_type="application/json")
