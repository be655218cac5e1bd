"""The control process: publishes the read model, serves the admin API and takes the operator's commands."""

import asyncio
import contextlib
import socket
from pathlib import Path

import msgspec
from aiohttp import web

from gateway.accounts.limits_store import LimitsStore
from gateway.accounts.spend import Spend
from gateway.clock import Clock
from gateway.control.admin.asked import House
from gateway.control.admin.door import LONGEST_BODY, Door
from gateway.control.admin.identify import Identify
from gateway.control.admin.nouns import all_routes
from gateway.control.admin.outside import Outside
from gateway.control.admin.routes import Routes
from gateway.control.admin.spent import SpentNow
from gateway.control.background import Background
from gateway.control.commands import Commands
from gateway.control.registry.changes import Changes
from gateway.control.registry.limits import LimitsPublisher
from gateway.control.registry.publisher import Publisher
from gateway.control.registry.reconcile import reconcile
from gateway.control.sql.database import Database, DatabaseError, database_url
from gateway.keyspace import Keyspace
from gateway.pricing.book import make_book
from gateway.process import Child, serve_until_told
from gateway.redisdb.client import connect
from gateway.settings.model import Settings
from gateway.settings.places import command_socket, control_socket
from gateway.settings.transfer import decode
from gateway.tasks import Tasks
from gateway.telemetry.logging import Logger, make_logger
from gateway.telemetry.metrics import Metrics, use_lane

_PUBLISH_S = 30.0  # how long the first publication may take before the gateway serves without it
_DATABASE_S = 20.0  # how long it is waited for at the start
_LOOK_S = 0.5
_ORPHAN_S = 1.0


class Control:
    """What one control process serves."""

    def __init__(self, settings: Settings, door: Door, commands: Commands) -> None:
        self._settings = settings
        self._door = door
        self._commands = commands
        self._runners: list[web.AppRunner] = []

    async def listen(self, sockets: list[socket.socket]) -> None:
        """Opens its unix sockets, and serves the admin API on further sockets too."""
        admin = web.Application(client_max_size=LONGEST_BODY)
        admin.router.add_route("*", "/{path:.*}", self._door.serve)
        await self._serve(admin, [_unix(control_socket(self._settings)), *sockets])
        await self._serve(self._commands.app(), [_unix(command_socket(self._settings))])

    async def _serve(self, app: web.Application, sockets: list[socket.socket]) -> None:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        for each in sockets:
            await web.SockSite(runner, each).start()

    async def close(self) -> None:
        for runner in self._runners:
            await runner.cleanup()
        await self._door.close()


def _unix(path: Path) -> socket.socket:
    """A listening unix socket for this user alone. What is left of an earlier process at its path is removed."""
    path.unlink(missing_ok=True)
    opened = socket.socket(socket.AF_UNIX)
    opened.bind(str(path))
    path.chmod(0o600)
    opened.setblocking(False)
    return opened


async def run(child: Child, clock: Clock) -> None:
    """The process, from its start by the supervisor to its end."""
    settings = decode(child.start.settings)
    log = make_logger("control", settings.logs.level, clock)
    tasks = Tasks()
    client = connect(settings.redis, embedded_url=child.start.redis_url)
    keyspace = Keyspace(settings.redis.prefix)
    database = await _opened(settings, log)
    changes = Changes(database, clock)
    reconciled = await reconcile(changes, settings, clock)
    log.info("declared_reconciled", **msgspec.structs.asdict(reconciled))
    spend = Spend(client, keyspace)
    limits = LimitsPublisher(settings, database, LimitsStore(client, keyspace), spend, clock, log)
    publisher = Publisher(settings, client, database, clock=clock, log=log, limits=limits)
    door = make_door(settings, publisher, database, spend, clock, log)
    use_lane(child.start.lane)
    background = Background(settings, database, client, clock, Metrics("control"), log)
    commands = Commands(publisher, database, door, background.audit, background.reconciliation, log=log)
    control = Control(settings, door, commands)
    await control.listen(child.sockets())
    tasks.spawn(publisher.keep_published(child.health), "publish keys")
    background.start(tasks)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PUBLISH_S):
            await publisher.tried.wait()  # workers that start now should find the keys
    await child.ready()

    async def drain(_deadline_s: float) -> None:
        await control.close()

    await serve_until_told(child, drain, _ORPHAN_S)
    await tasks.cancel()
    await background.close()
    await client.aclose()
    await database.close()


def make_door(  # noqa: PLR0917
    settings: Settings, publisher: Publisher, database: Database, spend: Spend, clock: Clock, log: Logger
) -> Door:
    """The admin API over these."""
    changes = Changes(database, clock)
    spent = SpentNow(spend, settings.organization_id)
    house = House(settings, sorted(make_book(settings.prices).models()), spent.read)
    outside = Outside(house, database, changes, clock, log)
    identify = Identify(settings, database, changes, outside.bearers, clock)
    routes = Routes(all_routes())
    return Door(house, routes, identify, database, changes, outside, publisher.soon, clock=clock, log=log)


async def _opened(settings: Settings, log: Logger) -> Database:
    """The database, which may come a little later than we do. Raises DatabaseError."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _DATABASE_S
    said = ""
    while True:
        try:
            return await Database.open(database_url(settings))
        except DatabaseError as error:
            if loop.time() > until:
                raise
            if said != str(error):
                said = str(error)
                log.warning("database_away", reason=said)
        await asyncio.sleep(_LOOK_S)
