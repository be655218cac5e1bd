"""What the operator of this machine tells the control process, over a socket that nobody else may open."""

from pathlib import Path

import msgspec
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from gateway.control.admin.door import LONGEST_BODY, Door
from gateway.control.jobs.reconciliation import Reconciliation, ReconciliationError
from gateway.control.jobs.spend_audit import NotNowError, SpendAudit
from gateway.control.registry.backup import back_up, dump_command
from gateway.control.registry.declared import UnknownKeyError
from gateway.control.registry.publisher import Publisher
from gateway.control.sql.database import Database, DatabaseError, words
from gateway.redisdb.failures import RedisFailure
from gateway.telemetry.logging import Logger


class AskedReset(msgspec.Struct, frozen=True):
    """What `gateway limits reset-spend` asks for. zero: all windows are to begin anew, also if they are open."""

    zero: bool


class AskedBackup(msgspec.Struct, frozen=True):
    """What `gateway backup` asks for. file: an absolute path, of a file that is not there yet."""

    file: str


class AskedReconciliation(msgspec.Struct, frozen=True):
    """What `gateway reconcile` asks for. day: YYYY-MM-DD, UTC."""

    day: str


class Commands:
    """The commands, and the admin API for whoever gives them."""

    def __init__(  # noqa: PLR0917
        self,
        publisher: Publisher,
        database: Database,
        door: Door,
        audit: SpendAudit,
        reconciliation: Reconciliation,
        log: Logger,
    ) -> None:
        self._publisher = publisher
        self._database = database
        self._door = door
        self._audit = audit
        self._log = log
        self._reconciliation = reconciliation

    def app(self) -> web.Application:
        """All of them, to be served on the command socket."""
        app = web.Application(client_max_size=LONGEST_BODY)
        app.router.add_get("/health", self._health)
        app.router.add_post("/keys/revoke", self._revoke)
        app.router.add_post("/limits/reset-spend", self._reset_spend)
        app.router.add_post("/read-model/rebuild", self._rebuild)
        app.router.add_post("/backup", self._backup)
        app.router.add_post("/reconcile", self._reconcile)
        app.router.add_route("*", "/v1/{path:.*}", self._door.serve_operator)
        return app

    async def _health(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    async def _revoke(self, request: web.Request) -> web.StreamResponse:
        try:
            name = msgspec.json.decode(await request.read(), type=dict[str, str])["key"]
            key = await self._publisher.revoke(name)
        except (msgspec.MsgspecError, KeyError):
            return _refused(400, 'expected {"key": "…"}')
        except UnknownKeyError as error:
            return _refused(404, str(error))
        except RedisFailure as error:
            return _refused(503, f"it will be revoked as soon as Redis answers: {error}")
        except (SQLAlchemyError, OSError) as error:
            self._log.error("revocation_not_remembered", reason=words(error))
            return _refused(500, f"it cannot be remembered: {words(error)}")
        self._log.info("key_revoked", key=key.key_id, name=key.name)
        return web.json_response({"revoked": key.name, "id": key.key_id})

    async def _reset_spend(self, request: web.Request) -> web.StreamResponse:
        try:
            asked = msgspec.json.decode(await request.read(), type=AskedReset)
            reset = await self._audit.reset(zero=asked.zero)
        except msgspec.MsgspecError:
            return _refused(400, 'expected {"zero": true or false}')
        except NotNowError as error:
            return _refused(409, str(error))
        except RedisFailure as error:
            return _refused(503, f"Redis does not answer as it should: {error}")
        except (SQLAlchemyError, OSError) as error:
            return _refused(503, f"the database does not answer as it should: {words(error)}")
        return web.Response(body=msgspec.json.encode(reset), content_type="application/json")

    async def _rebuild(self, _request: web.Request) -> web.StreamResponse:
        try:
            written = await self._publisher.publish_all()
        except RedisFailure as error:
            return _refused(503, f"Redis does not answer as it should: {error}")
        except (SQLAlchemyError, OSError) as error:
            return _refused(503, f"the database does not answer as it should: {words(error)}")
        self._log.info("read_model_rebuilt", **msgspec.structs.asdict(written))
        return web.Response(body=msgspec.json.encode(written), content_type="application/json")

    async def _backup(self, request: web.Request) -> web.StreamResponse:
        """Copies SQLite's file; what PostgreSQL has is dumped by its own program, which we name."""
        try:
            file = Path(msgspec.json.decode(await request.read(), type=AskedBackup).file)
        except msgspec.MsgspecError:
            return _refused(400, 'expected {"file": "/…"}')
        if (command := dump_command(self._database.url, file)) is not None:
            return web.json_response({"command": command})
        try:
            size = await back_up(self._database, file)
        except DatabaseError as error:
            return _refused(409, str(error))
        except SQLAlchemyError as error:
            return _refused(503, f"the database does not answer as it should: {words(error)}")
        self._log.info("database_backed_up", file=str(file), bytes=size)
        return web.json_response({"file": str(file), "bytes": size})

    async def _reconcile(self, request: web.Request) -> web.StreamResponse:
        try:
            asked = msgspec.json.decode(await request.read(), type=AskedReconciliation)
            report = await self._reconciliation.reconcile(asked.day)
        except msgspec.MsgspecError:
            return _refused(400, 'expected {"day": "YYYY-MM-DD"}')
        except ReconciliationError as error:
            return _refused(409, str(error))
        except (SQLAlchemyError, OSError) as error:
            return _refused(503, f"the database does not answer as it should: {words(error)}")
        return web.Response(body=msgspec.json.encode(report), content_type="application/json")


def _refused(status: int, error: str) -> web.Response:
    return web.json_response({"error": error}, status=status)
