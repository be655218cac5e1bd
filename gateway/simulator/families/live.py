"""Live and translation sessions over WebSockets: minimal.

Rules. For each second of audio that came in there are 3 tokens of transcript, in and out, and as much audio out. A live
session's usage is the seconds of audio, cumulative; a translation's is in no event, only in the book.
"""

import base64

from gateway.simulator import answers, errors
from gateway.simulator.book import Entry, Meta, Quantities
from gateway.simulator.call import Json
from gateway.simulator.errors import ApiError, CutError
from gateway.simulator.families import realtime_session
from gateway.simulator.sockets import Socket, SocketHandlers
from gateway.simulator.world import World

_TOKENS_PER_SECOND = 3


class _Stream:
    """Audio in, audio and transcripts out. prefix: of the client's audio event."""

    def __init__(self, world: World, socket: Socket, session: Json, *, reports: bool) -> None:
        self._world, self._socket, self._reports = world, socket, reports
        self.session = session
        self.entry: Entry = socket.begin(Meta(model=session["model"], object_id=session["id"]), model=session["model"])
        self._bytes = self._answered_s = 0

    @property
    def seconds(self) -> float:
        return round(self._bytes / 48_000, 3)

    async def append(self, sound: bytes) -> None:
        """Answers every full second."""
        self._bytes += len(sound)
        self.entry.usage = Quantities(seconds=self.seconds)
        while self.seconds >= self._answered_s + 1:
            await self._answer(self._answered_s)
            self._answered_s += 1
        if self._reports:
            await self._socket.send("session.usage.updated", {"usage": {"seconds": self.seconds}})
            self.entry.usage_sent = True

    async def _answer(self, second: int) -> None:
        start = second * 1000
        span = {"start_ms": start, "end_ms": start + 1000} if self._reports else {"elapsed_ms": start}
        for way in ("input", "output"):
            text = self._world.prose.text(answers.seed_of(self.session["model"], way, second), _TOKENS_PER_SECOND)
            await self._socket.send(f"session.{way}_transcript.delta", span | {"delta": text})
        sound = base64.b64encode(b"\x00" * 48_000).decode()
        await self._socket.send("session.output_audio.delta", span | {"delta": sound})


async def serve_live(world: World, socket: Socket) -> None:
    """GET /live/sessions, and its forks."""
    await socket.open()
    stream: _Stream | None = None
    try:
        while (event := await socket.receive()) is not None:
            kind = event.get("type")
            try:
                if kind == "session.start" and stream is None:
                    stream = await _start_live(world, socket, event)
                elif stream is None:
                    raise ApiError(400, "The first event has to be session.start.", code="session_not_started")
                elif await _live_event(world, socket, stream, event):
                    stream.entry.ended = "complete"
                    return
            except ApiError as error:
                await socket.send("error", {"error": error.value() | {"code": error.code or "invalid_event"}})
        if stream is not None:
            stream.entry.ended = "client_left"
    except ConnectionError as error:
        if stream is not None:
            stream.entry.ended = "cut" if isinstance(error, CutError) else "client_left"
        raise
    finally:
        if stream is not None:
            socket.end(stream.entry)


async def _start_live(world: World, socket: Socket, event: Json) -> _Stream:
    given = event.get("session")
    session = realtime_session.live(world, given if isinstance(given, dict) else {})
    world.store.shelf("live").add({"id": session["id"], "session": session, "seconds": 0.0})
    stream = _Stream(world, socket, session, reports=True)
    stream.entry.ended = "client_left"
    await socket.send("session.started", {"session": session})
    return stream


async def _live_event(world: World, socket: Socket, stream: _Stream, event: Json) -> bool:
    """Whether the session is over."""
    match event.get("type"):
        case "session.input_audio.append":
            await stream.append(realtime_session.decoded(event.get("audio")))
            world.store.shelf("live").get(stream.session["id"])["seconds"] = stream.seconds
        case "session.update":
            stream.session = realtime_session.merged(stream.session, event.get("session") or {})
            await socket.send("session.updated", {"session": stream.session})
        case "session.close":
            members = {"session": stream.session, "usage": {"seconds": stream.seconds}, "reason": "close_requested"}
            await socket.send("session.closed", members)
            stream.entry.usage_sent = True
            return True
        case kind:
            raise errors.wrong_value("type", kind, ("session.input_audio.append", "session.update", "session.close"))
    return False


async def serve_attached(world: World, socket: Socket) -> None:
    """GET /live/sessions/{session_id}/attach: repeats what is known of the session, and bills nothing."""
    known = world.store.shelf("live").get(socket.call.params["session_id"])
    await socket.open()
    await socket.send("session.started", {"session": known["session"]})
    await socket.send("session.usage.updated", {"usage": {"seconds": known["seconds"]}})
    while await socket.receive() is not None:
        pass


async def serve_translation(world: World, socket: Socket) -> None:
    """GET /realtime/translations?model=..."""
    given = world.ephemeral.get(socket.key, {})
    model = socket.call.model or str(given.get("model") or "")
    if not model:
        raise errors.missing("model")
    await socket.open()
    stream = _Stream(world, socket, realtime_session.translation(world, model, given), reports=False)
    stream.entry.ended = "client_left"
    try:
        await socket.send("session.created", {"session": stream.session})
        while (event := await socket.receive()) is not None:
            try:
                if await _translation_event(socket, stream, event):
                    stream.entry.ended = "complete"
                    return
            except ApiError as error:
                await socket.send("error", {"error": error.value()})
    except CutError:
        stream.entry.ended = "cut"
        raise
    finally:
        socket.end(stream.entry)


async def _translation_event(socket: Socket, stream: _Stream, event: Json) -> bool:
    match event.get("type"):
        case "session.input_audio_buffer.append":
            await stream.append(realtime_session.decoded(event.get("audio")))
        case "session.update":
            stream.session = realtime_session.merged(stream.session, event.get("session") or {})
            await socket.send("session.updated", {"session": stream.session})
        case "session.close":
            await socket.send("session.closed", {})
            return True
        case kind:
            known = ("session.input_audio_buffer.append", "session.update", "session.close")
            raise errors.wrong_value("type", kind, known)
    return False


SOCKETS: SocketHandlers = (
    ("connectLiveSession", serve_live),
    ("connectLiveSessionFork", serve_live),
    ("attachLiveSession", serve_attached),
    ("connectRealtimeTranslation", serve_translation),
)
