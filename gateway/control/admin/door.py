"""The door of the admin API: from an HTTP request to the noun that serves it, and back."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from gateway.clock import Clock
from gateway.control.admin.asked import Asked, House, read_pairs
from gateway.control.admin.caller import Caller
from gateway.control.admin.identify import Identify, the_operator
from gateway.control.admin.oauth import OAuthError
from gateway.control.admin.outside import Outside, Served
from gateway.control.admin.routes import Match, Route, Routes
from gateway.control.registry.changes import Changes, new_id
from gateway.control.sql.database import Database, words
from gateway.errors import (
    ADMIN_UNAVAILABLE,
    BODY_TOO_LARGE,
    INTERNAL,
    INVALID_JSON,
    INVALID_URL,
    METHOD_NOT_ALLOWED,
    MISSING_SCOPES,
    GatewayError,
)
from gateway.telemetry.logging import Logger

LONGEST_BODY = 1024 * 1024
_CLIENT = "x-gateway-client-address"  # a worker says who its client is; believed on the unix socket alone

Publish = Callable[[], Awaitable[None]]
Who = Callable[[Mapping[str, str], str], Awaitable[Caller]]  # from headers and the client's address


class Door:
    """Serves all requests under /v1. publish: brings what a change made due to Redis, or leaves it to be done later."""

    def __init__(  # noqa: PLR0917
        self,
        house: House,
        routes: Routes,
        identify: Identify,
        database: Database,
        changes: Changes,
        outside: Outside,
        publish: Publish,
        *,
        clock: Clock,
        log: Logger,
    ) -> None:
        self._house = house
        self._routes = routes
        self._identify = identify
        self._database = database
        self._changes = changes
        self._publish = publish
        self._outside = outside
        self._clock = clock
        self._log = log

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One request. Raises nothing but what ends it without an answer."""
        return await self._serve(request, self._identify.caller)

    async def serve_operator(self, request: web.Request) -> web.StreamResponse:
        """The same on a socket that nobody but the operator can open."""
        return await self._serve(request, the_operator)

    async def _serve(self, request: web.Request, who: Who) -> web.StreamResponse:
        began = self._clock.monotonic()
        request_id = new_id("req_")
        caller: list[Caller] = []
        headers = {"x-request-id": request_id, "openai-version": "2020-10-01"}
        try:
            answer = await self._answered(request, who, caller)
            status, body = 200, msgspec.json.encode(answer)
        except GatewayError as error:
            status, body = error.kind.status, error.json()
            headers.update({name.decode(): value.decode() for name, value in error.headers()})
        except OAuthError as error:
            status, body = error.status, error.json()
        self._log.info(
            "admin_request",
            request_id=request_id,
            method=request.method,
            path=request.path[:200],
            status=status,
            caller=caller[0].id if caller else "",
            address=_address(request),
            ms=round((self._clock.monotonic() - began) * 1000, 1),
        )
        return web.Response(status=status, body=body, headers={**headers, "Content-Type": "application/json"})

    async def close(self) -> None:
        await self._outside.close()

    async def _answered(self, request: web.Request, who: Who, caller: list[Caller]) -> Any:
        try:
            if (served := self._outside.posted.get(request.rel_url.raw_path)) is not None:
                return await self._opened(request, served)
            caller.append(await who(request.headers, _address(request)))
            match = self._matched(request)
            _permit(caller[0], match)
            return await self._done(request, match, caller[0])
        except (GatewayError, OAuthError):
            raise
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            self._log.error("database_away", reason=words(error), path=request.path[:200])
            raise GatewayError(ADMIN_UNAVAILABLE) from None
        except Exception:  # noqa: BLE001 - the outermost door: every request gets an answer
            self._log.exception("admin_request_failed", path=request.path[:200])
            raise GatewayError(INTERNAL) from None

    async def _opened(self, request: web.Request, served: Served) -> Any:
        if request.method != "POST":
            raise GatewayError(METHOD_NOT_ALLOWED, method=request.method, path=request.path[:200])
        answer = await served(request.headers, await _content(request), _address(request))
        await self._publish()
        return answer

    def _matched(self, request: web.Request) -> Match:
        path = request.rel_url.raw_path
        if path.startswith("/v1/"):
            match = self._routes.match(request.method, path[3:])
            if match is not None:
                return match
            if methods := self._routes.methods(path[3:]):
                raise GatewayError(METHOD_NOT_ALLOWED, method=request.method, path=f"{request.path[:200]} ({methods})")
        raise GatewayError(INVALID_URL, method=request.method, path=request.path[:200])

    async def _done(self, request: web.Request, match: Match, caller: Caller) -> Any:
        content = await _content(request)
        pairs = read_pairs(request.rel_url.raw_query_string)
        asked = Asked(self._house, caller, match.ids, pairs, content, int(self._clock.wall()))
        route = match.route
        if route.read is not None:
            async with self._database.transaction() as connection:
                return await route.read(asked, connection)
        assert route.write is not None
        async with self._changes.begin(asked.organization_id, caller.actor()) as change:
            answer = await route.write(asked, change)
        await self._publish()
        return answer


async def _content(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise GatewayError(BODY_TOO_LARGE, limit=LONGEST_BODY) from None
    except (web.RequestPayloadError, ConnectionError):  # its coding is not what it says, or the client has left
        raise GatewayError(INVALID_JSON, reason="it cannot be read to its end") from None


def _permit(caller: Caller, match: Match) -> None:
    route = match.route
    if caller.kind == "api_key":
        own = {"project_id": caller.project_id, "api_key_id": caller.id}
        ids = {name: value for name, value in match.ids.items() if name not in route.judges}
        if not route.own or any(own.get(name) != value for name, value in ids.items()):
            raise _missing(route)
    elif not caller.may(route.permission, match.project_id):
        raise _missing(route)


def _missing(route: Route) -> GatewayError:
    return GatewayError(MISSING_SCOPES, scope=route.permission)


def _address(request: web.Request) -> str:
    """The client's: as the worker says that handed it over, or the peer's own."""
    return request.remote or request.headers.get(_CLIENT, "")[:64]
