"""The realtime WebSocket: sessions of conversation or of transcription.

Turn detection: audio counts as silence if all of its bytes are zero. Speech starts with the first audio that is not
silent and stops after `silence_duration_ms` of silence; then the buffer is committed and, if the session says so, a
response begins.
"""

from gateway.simulator import answers, catalog, errors, params, tokens
from gateway.simulator.book import Entry, Meta, Quantities
from gateway.simulator.call import Json
from gateway.simulator.errors import ApiError, CutError
from gateway.simulator.families import realtime_session
from gateway.simulator.families.audio import TRANSCRIPT_TOKENS_PER_SECOND
from gateway.simulator.families.realtime_session import part
from gateway.simulator.families.realtime_talk import Heard, Talk, hear
from gateway.simulator.sockets import Socket, SocketHandlers
from gateway.simulator.world import World


async def serve(world: World, socket: Socket) -> None:
    """GET /realtime?model=..."""
    given = world.ephemeral.get(socket.key, {})
    if socket.call.asked("intent") == "transcription":
        given = {"type": "transcription"} | given
    model = socket.call.model or str(given.get("model") or "")
    if not model and given.get("type") != "transcription":
        raise errors.missing("model")
    await socket.open()
    session = _Session(world, socket, realtime_session.default(world, model, given))
    await session.run()


class _Session:
    def __init__(self, world: World, socket: Socket, session: Json) -> None:
        self._world, self._socket, self._session = world, socket, session
        self._conversation = world.ids.make("conv_", 21)
        self._items: dict[str, Json] = {}
        self._seconds: dict[str, float] = {}
        self._before: Heard | None = None
        self._talk: Talk | None = None
        self._cancelled: str | None = None
        self._buffer = 0
        self._silence = 0
        self._speech_item: str | None = None
        self._clock_bytes = 0

    async def run(self) -> None:
        await self._socket.send("session.created", {"session": self._session})
        while (event := await self._socket.receive()) is not None:
            try:
                await self._handle(event)
            except ApiError as error:
                value = error.value() | {"event_id": event.get("event_id")}
                await self._socket.send("error", {"error": value})

    async def _handle(self, event: Json) -> None:
        kind = event.get("type")
        match kind:
            case "session.update":
                await self._update(event)
            case "input_audio_buffer.append":
                await self._append(realtime_session.decoded(event.get("audio")))
            case "input_audio_buffer.commit":
                await self._commit()
            case "input_audio_buffer.clear":
                self._buffer = self._silence = 0
                self._speech_item = None
                await self._socket.send("input_audio_buffer.cleared", {})
            case "conversation.item.create":
                await self._create_item(event)
            case "conversation.item.retrieve" | "conversation.item.delete" | "conversation.item.truncate":
                await self._change_item(event)
            case "response.create":
                self._respond(realtime_session.check(params.mapping(event, "response")))
            case "response.cancel":
                if self._talk is None:
                    message = "Cancellation failed: no active response found"
                    raise ApiError(400, message, code="response_cancel_not_active")
                self._cancelled = "client_cancelled"
            case _:
                known = ("session.update", "conversation.item.create", "response.create", "response.cancel")
                raise errors.wrong_value("type", kind, known)

    async def _update(self, event: Json) -> None:
        given = realtime_session.check(params.need_mapping(event, "session"))
        if given.get("type", self._session["type"]) != self._session["type"]:
            self._session = realtime_session.default(self._world, str(self._session.get("model") or ""), given)
        self._session = realtime_session.merged(self._session, given)
        await self._socket.send("session.updated", {"session": self._session})

    # Audio

    def _ms(self, size: int) -> int:
        return size * 1000 // realtime_session.rate(self._session, "input")

    async def _append(self, sound: bytes) -> None:
        self._clock_bytes += len(sound)
        detection = part(self._session, "audio", "input", "turn_detection")
        self._buffer += len(sound)
        if not detection:
            return
        if sound.strip(b"\x00"):
            self._silence = 0
            if self._speech_item is None:
                await self._speech_started()
                if detection.get("interrupt_response", True) and self._talk is not None:
                    self._cancelled = "turn_detected"
        elif self._speech_item is not None:
            self._silence += len(sound)
            if self._ms(self._silence) >= int(detection.get("silence_duration_ms") or 500):
                place = {"audio_end_ms": self._ms(self._clock_bytes - self._silence), "item_id": self._speech_item}
                await self._socket.send("input_audio_buffer.speech_stopped", place)
                await self._commit()
                if detection.get("create_response", True) and self._session["type"] == "realtime":
                    self._respond({})

    async def _speech_started(self) -> None:
        self._speech_item = self._world.ids.make("item_", 21)
        place = {"audio_start_ms": self._ms(self._clock_bytes), "item_id": self._speech_item}
        await self._socket.send("input_audio_buffer.speech_started", place)

    async def _commit(self) -> None:
        if self._buffer == 0:
            message = "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio."
            raise ApiError(400, message, code="input_audio_buffer_commit_empty")
        seconds = self._ms(self._buffer) / 1000
        item_id, previous = self._speech_item or self._world.ids.make("item_", 21), self._last_id()
        self._buffer = self._silence = 0
        self._speech_item = None
        place = {"previous_item_id": previous, "item_id": item_id}
        await self._socket.send("input_audio_buffer.committed", place)
        content = [{"type": "input_audio", "transcript": None}]
        item: Json = {"id": item_id, "type": "message", "role": "user", "content": content}
        self._seconds[item_id] = seconds
        await self._add(item, previous)
        transcription = part(self._session, "audio", "input", "transcription")
        if transcription:
            self._socket.tasks.spawn(self._transcribe(item_id, seconds, transcription), "transcription")

    async def _transcribe(self, item_id: str, seconds: float, settings: Json) -> None:
        """A transcription is an answer of its own: another model, other usage, another record."""
        model = str(settings.get("model") or "gpt-4o-transcribe")
        count = max(1, int(seconds * TRANSCRIPT_TOKENS_PER_SECOND))
        pieces = self._world.prose.pieces(answers.seed_of(model, seconds), count)
        asked = tokens.count(str(settings.get("prompt") or ""))
        sound = realtime_session.audio_tokens(seconds)
        usage = Quantities(seconds=seconds)
        reported: Json = {"type": "duration", "seconds": seconds}
        if not model.startswith("whisper"):
            usage += Quantities(input_tokens=sound + asked, input_audio_tokens=sound, output_tokens=count)
            details = {"text_tokens": asked, "audio_tokens": sound}
            reported = {"type": "tokens", "input_tokens": usage.input_tokens, "input_token_details": details,
                        "output_tokens": count, "total_tokens": usage.total_tokens}  # fmt: skip
        meta = Meta(usage, catalog.resolve(model), None, item_id, self._session["id"])
        entry = self._socket.begin(meta, model=model)
        name, place = "conversation.item.input_audio_transcription", {"item_id": item_id, "content_index": 0}
        try:
            for piece in pieces:
                await self._socket.send(f"{name}.delta", place | {"delta": piece})
                entry.output_tokens_sent += 1 if usage.output_tokens else 0
            await self._socket.send(f"{name}.completed", place | {"transcript": "".join(pieces), "usage": reported})
            entry.usage_sent = True
        except ConnectionError as error:
            entry.ended = "cut" if isinstance(error, CutError) else "client_left"
        finally:
            self._socket.end(entry)

    # Items

    def _last_id(self) -> str | None:
        return next(reversed(self._items), None)

    async def _add(self, item: Json, previous: str | None) -> None:
        item = {"object": "realtime.item", "status": "completed"} | item
        self._items[item["id"]] = item
        await self._socket.send("conversation.item.added", {"previous_item_id": previous, "item": item})
        await self._socket.send("conversation.item.done", {"previous_item_id": previous, "item": item})

    async def _create_item(self, event: Json) -> None:
        item = realtime_session.check_item(params.need_mapping(event, "item"))
        item["id"] = item.get("id") or self._world.ids.make("item_", 21)
        if item["id"] in self._items:
            raise ApiError(400, f"Error adding item: an item with id '{item['id']}' already exists.", param="item.id")
        for content in item.get("content") or ():
            if content.get("type") == "input_audio":
                size = len(realtime_session.decoded(content.pop("audio", "")))
                self._seconds[item["id"]] = self._ms(size) / 1000
        await self._add(item, params.text(event, "previous_item_id") or self._last_id())

    async def _change_item(self, event: Json) -> None:
        item_id = params.need_text(event, "item_id")
        if item_id not in self._items:
            message = f"Error: the item with id '{item_id}' does not exist."
            raise ApiError(400, message, param="item_id", code="item_not_found")
        if event["type"] == "conversation.item.retrieve":
            await self._socket.send("conversation.item.retrieved", {"item": self._items[item_id]})
        elif event["type"] == "conversation.item.delete":
            del self._items[item_id]
            await self._socket.send("conversation.item.deleted", {"item_id": item_id})
        else:
            place = {name: event.get(name, 0) for name in ("item_id", "content_index", "audio_end_ms")}
            await self._socket.send("conversation.item.truncated", place)

    # Responses

    def _respond(self, given: Json) -> None:
        if self._session["type"] != "realtime":
            raise ApiError(400, "Transcription sessions make no responses.", code="invalid_event")
        if self._talk is not None:
            active = self._talk.value["id"]
            message = f"Conversation already has an active response in progress: {active}."
            raise ApiError(400, message, code="conversation_already_has_active_response")
        settings = realtime_session.merged(self._session, given) | {"metadata": given.get("metadata")}
        items = [*self._items.values()] if given.get("input") is None else self._only(params.objects(given, "input"))
        alone = given.get("conversation") == "none"
        heard = hear(settings, items, self._seconds)
        last = items[-1] if items else {}
        users = last.get("role") == "user" or not items
        conversation = None if alone else self._conversation
        talk = self._talk = Talk(self._world, settings, heard, conversation=conversation, users_turn=users)
        meta = talk.plan(catalog.resolve(str(settings["model"])), self._before, self._socket.call.faults)
        entry = self._socket.begin(meta, model=self._socket.call.entry.request_model)
        entry.parent = self._session["id"]
        self._cancelled = None
        self._socket.tasks.spawn(self._speak(talk, entry, heard, alone=alone), "response")

    def _only(self, given: list[Json]) -> list[Json]:
        """The input of a response that does not take all of the conversation."""
        found = []
        for item in map(realtime_session.check_item, given):
            if item.get("type") == "item_reference":
                if item.get("id") not in self._items:
                    raise ApiError(400, f"Item with id '{item.get('id')}' not found.", code="item_not_found")
                found.append(self._items[item["id"]])
            else:
                found.append({"id": ""} | item)
        return found

    async def _speak(self, talk: Talk, entry: Entry, heard: Heard, *, alone: bool) -> None:
        socket, faults = self._socket, self._socket.call.faults
        fails_after = faults.error_event
        if fails_after is not None and fails_after < 0:
            fails_after = entry.usage.output_tokens // 2
        status = "completed"
        try:
            for i, event in enumerate(talk.events()):
                await socket.send_event(event, entry)
                if i % 16 == 15:
                    await self._world.breathe()
                if self._cancelled is not None:
                    status = "cancelled"
                    break
                if fails_after is not None and entry.output_tokens_sent >= fails_after and event.tokens:
                    status = "failed"
                    break
            self._talk = None
            if status != "completed":
                entry.usage = talk.usage
                entry.ended = "error" if status == "failed" else "complete"
            if not alone:
                self._items |= {item["id"]: item for item in talk.value["output"]}
            self._before = heard
            await socket.send_event(talk.done(status, self._cancelled), entry)
            await socket.send("rate_limits.updated", {"rate_limits": _rate_limits(entry)})
        except ConnectionError as error:
            entry.ended = "cut" if isinstance(error, CutError) else "client_left"
        except BaseException:
            entry.ended = "client_left"
            raise
        finally:
            self._talk = None
            socket.end(entry)


def _rate_limits(entry: Entry) -> list[Json]:
    used = entry.usage.total_tokens
    return [
        {"name": "tokens", "limit": 150_000_000, "remaining": 150_000_000 - used, "reset_seconds": used / 2_500_000}
    ]


SOCKETS: SocketHandlers = (("connectRealtime", serve),)
