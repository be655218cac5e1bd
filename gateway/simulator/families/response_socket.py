"""The Responses API over a WebSocket: many responses on one connection, each with the events of a stream."""

import msgspec

from gateway.simulator import catalog, errors
from gateway.simulator.book import Entry, Meta
from gateway.simulator.call import Call, Event, Json, read_model
from gateway.simulator.errors import ApiError, CutError
from gateway.simulator.families import responses
from gateway.simulator.sockets import Socket, SocketHandlers
from gateway.simulator.world import World

_MOST_RECENT = 50
_encode = msgspec.json.Encoder().encode


async def serve(world: World, socket: Socket) -> None:
    """GET /responses."""
    await socket.open()
    connection = _Connection(world, socket)
    while (event := await socket.receive()) is not None:
        if event.get("type") != "response.create":
            error = errors.wrong_value("type", event.get("type"), ("response.create",))
            await connection.refuse(error, event.get("stream_id"))
        else:
            connection.start(event)


class _Connection:
    """recent: the last responses of this connection, stored or not, for `previous_response_id`."""

    def __init__(self, world: World, socket: Socket) -> None:
        self._world, self._socket = world, socket
        self._recent: dict[str, Json] = {}
        self._streams: set[object] = set()

    async def refuse(self, error: ApiError, stream_id: object) -> None:
        value: Json = {"type": "error", "status": error.status, "error": error.value()}
        if stream_id is not None:
            value["stream_id"] = stream_id
        await self._socket.send_event(Event("error", _encode(value)), None)

    def start(self, event: Json) -> None:
        self._socket.tasks.spawn(self._respond(event), "response")

    async def _respond(self, event: Json) -> None:
        world, socket = self._world, self._socket
        stream_id = event.pop("stream_id", None)
        body = {name: value for name, value in event.items() if name not in {"type", "stream", "background"}}
        entry = socket.begin(Meta(), model=None)
        began = False
        try:
            if stream_id in self._streams:
                message = "This stream has a response in progress already."
                raise ApiError(400, message, code="websocket_stream_limit_reached")
            self._streams.add(stream_id)
            began = True
            await self._answer(body, entry, stream_id)
        except ApiError as error:
            entry.status, entry.error, entry.ended = error.status, error.code or error.type, "refused"
            await self.refuse(error, stream_id)
        except ConnectionError as error:
            entry.ended = "cut" if isinstance(error, CutError) else "client_left"
        except BaseException:
            entry.ended = "client_left"
            raise
        finally:
            if began:
                self._streams.discard(stream_id)
            world.book.write(entry, world.clock.wall())

    async def _answer(self, body: Json, entry: Entry, stream_id: object) -> None:
        world = self._world
        model, specs = read_model(body, entry)
        chosen = world.choose((*self._socket.call.faults.specs, *specs), entry.request)
        entry.faults = chosen.specs
        await world.pause(chosen.delay_s)
        if chosen.status is not None:
            raise errors.of_status(chosen.status, model, world.options.organization, chosen.retry_after)
        if model and not catalog.known(model):
            raise errors.unknown_model(model)
        call = Call("createResponse", {}, entry, seen_at=world.now(), body=body, model=model, faults=chosen)
        plan, script = responses.begin(world, call, self._recent)
        entry.take(plan.meta)
        fails_after = chosen.error_event
        if fails_after is not None and fails_after < 0:
            fails_after = plan.usage.output_tokens // 2
        for i, event in enumerate(script.events()):
            await world.pause(chosen.pace_s or 0.0 if event.tokens else 0.0)
            await self._send(event, entry, stream_id)
            if i % 16 == 15:
                await world.breathe()
            if fails_after is not None and entry.output_tokens_sent >= fails_after and event.tokens:
                for last in script.failure():
                    await self._send(last, entry, stream_id)
                entry.ended = "error"
                return
        self._recent[script.value["id"]] = responses.remember(world, plan, script.value)
        while len(self._recent) > _MOST_RECENT:
            self._recent.pop(next(iter(self._recent)))

    async def _send(self, event: Event, entry: Entry, stream_id: object) -> None:
        if stream_id is not None:
            event = event._replace(data=event.data[:-1] + b',"stream_id":' + _encode(stream_id) + b"}")
        await self._socket.send_event(event, entry)


SOCKETS: SocketHandlers = (("connectResponses", serve),)
