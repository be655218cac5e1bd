"""The control process: publishes the read model, and takes administrative requests and the operator's commands.

The admin API itself comes with the Control plane issue; its door, its process and its keys are here.
"""

import asyncio
import contextlib
import hashlib
import hmac
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware
from sqlalchemy.exc import SQLAlchemyError

from gateway.accounts.limits_store import LimitsStore
from gateway.accounts.prune import Prune
from gateway.accounts.reservations import Reservations
from gateway.accounts.scripts import AccountScripts
from gateway.accounts.spend import Spend
from gateway.clock import Clock
from gateway.control.jobs.pruner import Pruner
from gateway.control.jobs.sweeper import Sweeper
from gateway.control.jobs.usage_trimmer import UsageTrimmer
from gateway.control.registry.changes import Changes
from gateway.control.registry.database import Database, DatabaseError, database_url, words
from gateway.control.registry.declared import UnknownKeyError
from gateway.control.registry.limits import LimitsPublisher
from gateway.control.registry.publisher import Publisher
from gateway.control.registry.reconcile import reconcile
from gateway.credentials import incorrect, read_key
from gateway.errors import ADMIN_NOT_IMPLEMENTED, INTERNAL, INVALID_URL, GatewayError
from gateway.keyspace import Keyspace
from gateway.process import Child, serve_until_told
from gateway.redisdb.client import connect
from gateway.redisdb.failures import RedisFailure
from gateway.settings.model import Settings
from gateway.settings.places import command_socket, control_socket
from gateway.settings.transfer import decode
from gateway.tasks import Tasks
from gateway.telemetry.logging import Logger, make_logger

_PUBLISH_S = 30.0  # how long the first publication may take before the gateway serves without it
_DATABASE_S = 20.0  # how long it is waited for at the start
_LOOK_S = 0.5
_ORPHAN_S = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AskedReset(msgspec.Struct, frozen=True):
    """What `gateway limits reset-spend` asks for. zero: all windows are to begin anew, also if they are open."""

    zero: bool


class Control:
    """One control process. limits: None publishes none."""

    def __init__(
        self, settings: Settings, publisher: Publisher, *, log: Logger, limits: LimitsPublisher | None = None
    ) -> None:
        self._settings = settings
        self._log = log
        self._limits = limits
        self._publisher = publisher
        self._admin_hashes = [_admin_hash(key.reveal()) for key in settings.admin_keys]
        self._runners: list[web.AppRunner] = []

    async def listen(self, sockets: list[socket.socket]) -> None:
        """Opens its unix sockets, and serves the admin API on further sockets too."""
        admin = web.Application(middlewares=[_openai_errors(self._log)])
        admin.router.add_route("*", "/{path:.*}", self._administer)
        await self._serve(admin, [_unix(control_socket(self._settings)), *sockets])
        commands = web.Application()
        commands.router.add_get("/health", self._health)
        commands.router.add_post("/keys/revoke", self._revoke)
        commands.router.add_post("/limits/reset-spend", self._reset_spend)
        await self._serve(commands, [_unix(command_socket(self._settings))])

    async def _serve(self, app: web.Application, sockets: list[socket.socket]) -> None:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        for each in sockets:
            await web.SockSite(runner, each).start()

    async def close(self) -> None:
        for runner in self._runners:
            await runner.cleanup()

    async def _administer(self, request: web.Request) -> web.StreamResponse:
        key = read_key(request.headers)
        offered = hashlib.sha256(key.encode()).hexdigest()
        if not any(hmac.compare_digest(offered, known) for known in self._admin_hashes):
            raise incorrect(key)
        if not request.path.startswith(("/v1/organization", "/v1/projects")):
            raise GatewayError(INVALID_URL, method=request.method, path=request.path[:200])
        raise GatewayError(ADMIN_NOT_IMPLEMENTED)

    async def _health(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    async def _revoke(self, request: web.Request) -> web.StreamResponse:
        try:
            name = msgspec.json.decode(await request.read(), type=dict[str, str])["key"]
            key = await self._publisher.revoke(name)
        except (msgspec.MsgspecError, KeyError):
            return web.json_response({"error": 'expected {"key": "…"}'}, status=400)
        except UnknownKeyError as error:
            return web.json_response({"error": str(error)}, status=404)
        except RedisFailure as error:
            return web.json_response({"error": f"it will be revoked as soon as Redis answers: {error}"}, status=503)
        except (SQLAlchemyError, OSError) as error:
            self._log.error("revocation_not_remembered", reason=words(error))
            return web.json_response({"error": f"it cannot be remembered: {words(error)}"}, status=500)
        self._log.info("key_revoked", key=key.key_id, name=key.name)
        return web.json_response({"revoked": key.name, "id": key.key_id})

    async def _reset_spend(self, request: web.Request) -> web.StreamResponse:
        if self._limits is None:
            return web.json_response({"error": "this control process publishes no limits"}, status=503)
        try:
            asked = msgspec.json.decode(await request.read(), type=AskedReset)
            reset = await self._limits.reset_spend(zero=asked.zero)
        except msgspec.MsgspecError:
            return web.json_response({"error": 'expected {"zero": true or false}'}, status=400)
        except RedisFailure as error:
            return web.json_response({"error": f"Redis does not answer as it should: {error}"}, status=503)
        return web.Response(body=msgspec.json.encode(reset), content_type="application/json")


def _openai_errors(log: Logger) -> Middleware:
    """Answers with OpenAI's error bodies, whatever goes wrong."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except GatewayError as error:
            return _error_response(error)
        except web.HTTPException:
            raise
        except Exception:
            log.exception("admin_request_failed", path=request.path[:200])
            return _error_response(GatewayError(INTERNAL))

    return middleware


def _error_response(error: GatewayError) -> web.Response:
    headers = {name.decode(): value.decode() for name, value in error.headers()}
    return web.Response(
        status=error.kind.status, body=error.json(), headers={**headers, "Content-Type": "application/json"}
    )


def _admin_hash(key: str) -> str:
    """A declared admin key's hash, whether it was declared as a hash or as itself."""
    return key.removeprefix("sha256:") if key.startswith("sha256:") else hashlib.sha256(key.encode()).hexdigest()


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
    limits = LimitsPublisher(settings, LimitsStore(client, keyspace), Spend(client, keyspace), clock, log)
    database = await _opened(settings, log)
    reconciled = await reconcile(Changes(database, clock), settings, clock)
    log.info("declared_reconciled", written=reconciled.written, withdrawn=reconciled.withdrawn)
    publisher = Publisher(settings, client, database, clock=clock, log=log, limits=limits)
    control = Control(settings, publisher, log=log, limits=limits)
    await control.listen(child.sockets())
    tasks.spawn(publisher.keep_published(child.health), "publish keys")
    trimmer = UsageTrimmer(client, keyspace, settings.organization_id, clock, log)
    tasks.spawn(trimmer.keep_trimmed(), "trim usage")
    sweeper = Sweeper(Reservations(client, keyspace, AccountScripts.load()), settings.organization_id, log)
    tasks.spawn(sweeper.keep_swept(), "sweep reservations")
    pruner = Pruner(Prune(client, keyspace), settings.organization_id, log)
    tasks.spawn(pruner.keep_pruned(), "prune counters")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PUBLISH_S):
            await publisher.tried.wait()  # workers that start now should find the keys
    await child.ready()

    async def drain(_deadline_s: float) -> None:
        await control.close()

    await serve_until_told(child, drain, _ORPHAN_S)
    await tasks.cancel()
    await client.aclose()
    await database.close()


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
