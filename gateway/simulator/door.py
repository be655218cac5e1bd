"""The outermost door: one request, from its arrival to its record in the book."""

import asyncio
import logging
from collections.abc import Mapping

from aiohttp import web

from gateway.simulator import catalog, errors, faults, intake
from gateway.simulator.book import Entry
from gateway.simulator.call import BytesReply, Call, EventReply, FileReply, Json, JsonReply, Reply, read_model
from gateway.simulator.errors import ApiError, CutError
from gateway.simulator.routes import Route, Routes
from gateway.simulator.sockets import Socket, SocketHandler
from gateway.simulator.wire import Wire
from gateway.simulator.world import World

FAULT_HEADER = "x-simulator-fault"
log = logging.getLogger("gateway.simulator")


class Door:
    """Serves everything under /v1."""

    def __init__(self, world: World, routes: Routes, sockets: Mapping[str, SocketHandler]) -> None:
        self._world, self._routes, self._sockets = world, routes, sockets

    async def serve(self, request: web.Request) -> web.StreamResponse:
        world = self._world
        entry = Entry(
            world.book.number(),
            world.ids.hexadecimal("req_"),
            request.method,
            request.raw_path.partition("?")[0],
            world.clock.wall(),
        )
        wire = Wire(world, request, entry, world.clock.monotonic())
        try:
            try:
                await self._serve(request, entry, wire)
            except ConnectionError:
                raise
            except Exception:
                log.exception("the simulator failed", extra={"operation": entry.operation})
                await wire.broken()
        except asyncio.CancelledError:
            entry.ended = "client_left" if entry.ended != "cut" else "cut"
            raise
        except CutError:
            entry.ended = "cut"
        except ConnectionError:
            entry.ended = "client_left"
        finally:
            world.book.write(entry, world.clock.wall())
        return wire.response

    async def _serve(self, request: web.Request, entry: Entry, wire: Wire) -> None:
        body = intake.Body({}, {})
        try:
            route = self._enter(request, entry)
            specs = faults.split_header(request.headers.get(FAULT_HEADER, ""))
            if route.is_socket:
                await self._socket(request, route, entry, wire, specs)
                return
            body = await intake.read_body(self._world, request, entry)
            model, more = read_model(body.value, entry)
            wire.faults = self._world.choose(specs + more, entry.request)
            entry.faults = wire.faults.specs
            await self._before(wire, model)
            if model and not catalog.known(model):
                raise errors.unknown_model(model)
            call = Call(
                route.operation.id,
                route.params,
                entry,
                seen_at=self._world.now(),
                body=body.value,
                query=intake.read_query(request),
                headers=request.headers,
                files=body.files,
                model=model,
                faults=wire.faults,
            )
            reply = await self._world.answer(call)
            entry.take(reply.meta)
            await self._send(wire, reply)
        except ApiError as error:
            if wire.response.prepared:
                raise
            await wire.error(error)
        finally:
            intake.discard(body)

    async def _socket(
        self, request: web.Request, route: Route, entry: Entry, wire: Wire, specs: tuple[str, ...]
    ) -> None:
        """A WebSocket, from its handshake to its end. Its own record has no usage: each answer's does."""
        if request.headers.get("upgrade", "").lower() != "websocket":
            raise ApiError(426, "This path is a WebSocket: ask for an upgrade.", headers=(("upgrade", "websocket"),))
        query = intake.read_query(request)
        # A plus in a query is a space, unless it is encoded.
        named: Json = {"model": query["model"][-1].replace(" ", "+")} if query.get("model") else {}
        model, more = read_model(named, entry)
        wire.faults = self._world.choose(specs + more, entry.request)
        entry.faults, entry.stream = wire.faults.specs, True
        await self._before(wire, model)
        if model and not catalog.known(model):
            raise errors.unknown_model(model)
        call = Call(
            route.operation.id,
            route.params,
            entry,
            seen_at=self._world.now(),
            query=query,
            headers=request.headers,
            model=model,
            faults=wire.faults,
        )
        socket = Socket(self._world, request, call, intake.read_key(request.headers) or "")
        wire.response = socket.response
        try:
            await self._sockets[route.operation.id](self._world, socket)
            await socket.response.close()
        finally:
            await socket.tasks.cancel()

    def _enter(self, request: web.Request, entry: Entry) -> Route:
        """Knows the path and lets the caller in, or raises ApiError."""
        entry.incoming_request_id = request.headers.get("x-request-id")
        entry.client_request_id = request.headers.get("x-client-request-id")
        route = self._routes.find(request.method, request.raw_path)
        if route is None:
            raise errors.unknown_path(request.method, entry.path)
        entry.operation = route.operation.id
        key = intake.read_key(request.headers)
        is_admin = route.operation.plane == "admin"
        entry.key = self._world.admit_admin(key) if is_admin else self._world.admit(request.headers, key)
        return route

    async def _before(self, wire: Wire, model: str) -> None:
        """The faults that come before or instead of an answer."""
        chosen = wire.faults
        if chosen is faults.NONE:
            return
        await self._world.pause(chosen.delay_s)
        if chosen.cut_head:
            await wire.no_head()
        if chosen.malformed:
            await wire.not_http()
        if chosen.status is not None:
            organization = self._world.options.organization
            raise errors.of_status(chosen.status, model or "gpt-4o", organization, chosen.retry_after)

    async def _send(self, wire: Wire, reply: Reply) -> None:
        if isinstance(reply, EventReply):
            await wire.events(reply)
            return
        latency = self._world.options.latency
        await self._world.pause(latency.first_s + latency.token_s * reply.meta.usage.output_tokens)
        if isinstance(reply, JsonReply):
            await wire.json(reply)
        elif isinstance(reply, BytesReply):
            await wire.plain(reply)
        elif isinstance(reply, FileReply):
            await wire.file(reply)
