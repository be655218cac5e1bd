"""One response of a realtime session: what it says, what it costs, and its events.

Rules. Items count as messages do; audio in as in `media.py`. A spoken answer has its transcript as text tokens and 6
audio tokens for each of them. What the session's last response had as input is cached now, in steps of 64 tokens of
text and of audio.
"""

import base64
from collections.abc import Iterator

import msgspec

from gateway.simulator import answers, prompt
from gateway.simulator.answers import Answer, Ask
from gateway.simulator.book import Meta, Quantities
from gateway.simulator.call import Event, Json
from gateway.simulator.families.realtime_session import audio_tokens, part, rate
from gateway.simulator.faults import Faults
from gateway.simulator.media import SPEECH_SECONDS_PER_TOKEN
from gateway.simulator.world import World

AUDIO_TOKENS_PER_TOKEN = 6
CACHE_STEP_TOKENS = 64
_encode = msgspec.json.Encoder().encode


class Heard(msgspec.Struct, frozen=True):
    """The input of a response."""

    text: str
    text_tokens: int
    audio_tokens: int
    image_tokens: int


def hear(settings: Json, items: list[Json], seconds: dict[str, float]) -> Heard:
    """Adds up a conversation. seconds: of the audio in its items, by item id."""
    reading, spoken = prompt.Reading(), 0
    reading.message("system")
    reading.text(str(settings.get("instructions") or ""))
    for item in items:
        reading.message(str(item.get("role", "tool")), item.get("name"))
        for i, content in enumerate(item.get("content") or ()):
            if content.get("type") == "input_audio":
                spoken += audio_tokens(seconds.get(item["id"], 0.0))
                reading.text("audio" + str(seconds.get(item["id"], 0.0)))
            else:
                prompt.add_part(reading, content, f"content[{i}]")
        reading.text(str(item.get("arguments") or item.get("output") or ""))
    if settings.get("tools"):
        reading.json(settings["tools"])
    read = reading.done()
    return Heard(read.text, read.tokens - read.image_tokens, spoken, read.image_tokens)


class Talk:
    """A response in the making. `value` is its object; `usage` what it costs as far as it has come."""

    def __init__(
        self, world: World, settings: Json, heard: Heard, *, conversation: str | None, users_turn: bool
    ) -> None:
        self._world, self._settings, self._heard = world, settings, heard
        self._spoken = "audio" in (settings.get("output_modalities") or ["audio"])
        self._users_turn = users_turn
        self._text_tokens = self._audio_tokens = 0
        self._cached = (0, 0)
        self.value: Json = {
            "object": "realtime.response",
            "id": world.ids.make("resp_", 22),
            "status": "in_progress",
            "status_details": None,
            "output": [],
            "conversation_id": conversation,
            "output_modalities": settings.get("output_modalities") or ["audio"],
            "max_output_tokens": settings.get("max_output_tokens") or "inf",
            "audio": {"output": {name: part(settings, "audio", "output", name) for name in ("format", "voice")}},
            "usage": None,
            "metadata": settings.get("metadata"),
        }

    def plan(self, model: str, before: Heard | None, faults: Faults) -> Meta:
        """Decides what is said. before: the input of the session's last response."""
        limit = self._settings.get("max_output_tokens")
        limit = limit if isinstance(limit, int) else None
        each = 1 + AUDIO_TOKENS_PER_TOKEN if self._spoken else 1
        if faults.tokens is not None and self._spoken:
            faults = msgspec.structs.replace(faults, tokens=max(1, faults.tokens // each))
        ask = Ask(
            model,
            self._heard.text,
            limit=None if limit is None else max(1, limit // each),
            effort=(self._settings.get("reasoning") or {}).get("effort") or "none",
            tools=tuple(tool for tool in self._settings.get("tools") or () if tool.get("type") == "function"),
            tool_choice=answers.chat_choice(self._settings.get("tool_choice")),
            parallel=self._settings.get("parallel_tool_calls") is not False,
            users_turn=self._users_turn,
            short=self._spoken,
        )
        self._answer = answers.compose(self._world.prose, ask, faults)
        self._faults = faults
        if before is not None:
            text = min(before.text_tokens, self._heard.text_tokens) // CACHE_STEP_TOKENS * CACHE_STEP_TOKENS
            sound = min(before.audio_tokens, self._heard.audio_tokens) // CACHE_STEP_TOKENS * CACHE_STEP_TOKENS
            self._cached = (text, sound)
        spoken = AUDIO_TOKENS_PER_TOKEN * len(self._answer.pieces) if self._spoken else 0
        return Meta(self._quantities(self._answer.output_tokens + spoken, spoken), model, None, self.value["id"])

    def _quantities(self, output: int, spoken: int) -> Quantities:
        heard = self._heard
        return Quantities(
            input_tokens=heard.text_tokens + heard.audio_tokens + heard.image_tokens,
            cached_tokens=sum(self._cached),
            cached_audio_tokens=self._cached[1],
            input_audio_tokens=heard.audio_tokens,
            input_image_tokens=heard.image_tokens,
            output_tokens=output,
            output_audio_tokens=spoken,
        )

    @property
    def usage(self) -> Quantities:
        """Of what has been said so far."""
        return self._quantities(self._text_tokens + self._audio_tokens, self._audio_tokens)

    def events(self) -> Iterator[Event]:
        """From `response.created` up to, not including, `response.done`."""
        yield self._event("response.created", {"response": self.value})
        answer = self._answer
        self._text_tokens += answer.reasoning_tokens
        if answer.calls:
            for index, made in enumerate(answer.calls):
                yield from self._call(index, made, answer.reasoning_tokens if index == 0 else 0)
        else:
            yield from self._say(answer)

    def done(self, status: str, reason: str | None = None) -> Event:
        """`response.done`: completed, incomplete, cancelled or failed."""
        if status == "completed" and self._answer.cut:
            status, reason = "incomplete", "max_output_tokens"
        details: Json = {"type": status} | ({"reason": reason} if reason else {})
        if status == "failed":
            details["error"] = {"type": "server_error", "code": "server_error", "message": "Something went wrong."}
        self.value |= {"status": status, "status_details": None if status == "completed" else details}
        if not self._faults.no_usage:
            self.value["usage"] = usage_object(self.usage)
        return self._event("response.done", {"response": self.value}, usage=self.value["usage"] is not None)

    def _event(self, name: str, members: Json, tokens: int = 0, *, usage: bool = False) -> Event:
        value = {"type": name, "event_id": self._world.ids.make("event_", 21)} | members
        return Event(name, _encode(value), tokens, usage)

    def _opened(self, index: int, item: Json) -> Iterator[Event]:
        place = {"response_id": self.value["id"], "output_index": index}
        yield self._event("response.output_item.added", place | {"item": item})
        yield self._event("conversation.item.added", {"previous_item_id": None, "item": item})

    def _closed(self, index: int, item: Json) -> Iterator[Event]:
        place = {"response_id": self.value["id"], "output_index": index}
        self.value["output"].append(item)
        yield self._event("conversation.item.done", {"previous_item_id": None, "item": item})
        yield self._event("response.output_item.done", place | {"item": item})

    def _say(self, answer: Answer) -> Iterator[Event]:
        head: Json = {"id": self._world.ids.make("item_", 21), "object": "realtime.item", "type": "message"}
        item = head | {"role": "assistant", "status": "in_progress", "content": []}
        yield from self._opened(0, item)
        place: Json = {"response_id": self.value["id"], "item_id": item["id"], "output_index": 0, "content_index": 0}
        said: Json = {"type": "audio", "transcript": ""} if self._spoken else {"type": "text", "text": ""}
        yield self._event("response.content_part.added", place | {"part": said})
        for text, size in answers.grouped(answer.pieces, self._faults.chunks):
            yield from self._piece(place, text, size)
        if self._spoken:
            yield self._event("response.output_audio.done", place)
            yield self._event("response.output_audio_transcript.done", place | {"transcript": answer.text})
            said, kept = (
                {"type": "audio", "transcript": answer.text},
                {"type": "output_audio", "transcript": answer.text},
            )
        else:
            yield self._event("response.output_text.done", place | {"text": answer.text})
            said, kept = {"type": "text", "text": answer.text}, {"type": "output_text", "text": answer.text}
        yield self._event("response.content_part.done", place | {"part": said})
        status = "incomplete" if answer.cut else "completed"
        yield from self._closed(0, item | {"status": status, "content": [kept]})

    def _piece(self, place: Json, text: str, size: int) -> Iterator[Event]:
        """A few tokens of the answer; the tokens of the sound go with the sound."""
        self._text_tokens += size
        if not self._spoken:
            yield self._event("response.output_text.delta", place | {"delta": text}, size)
            return
        yield self._event("response.output_audio_transcript.delta", place | {"delta": text}, size)
        sound = b"\x00" * (int(rate(self._settings, "output") * SPEECH_SECONDS_PER_TOKEN * size) // 2 * 2)
        self._audio_tokens += AUDIO_TOKENS_PER_TOKEN * size
        delta = place | {"delta": base64.b64encode(sound).decode()}
        yield self._event("response.output_audio.delta", delta, AUDIO_TOKENS_PER_TOKEN * size)

    def _call(self, index: int, made: answers.ToolCall, reasoning: int) -> Iterator[Event]:
        call_id = self._world.ids.make("call_", 16)
        head: Json = {"id": self._world.ids.make("item_", 21), "object": "realtime.item", "type": "function_call"}
        item = head | {"status": "in_progress", "name": made.name, "call_id": call_id, "arguments": ""}
        yield from self._opened(index, item)
        place: Json = {
            "response_id": self.value["id"],
            "item_id": item["id"],
            "output_index": index,
            "call_id": call_id,
        }
        unsent = made.tokens - len(made.pieces)
        for text, size in answers.grouped(made.pieces, self._faults.chunks):
            self._text_tokens += size + unsent
            name = "response.function_call_arguments.delta"
            yield self._event(name, place | {"delta": text}, size + unsent + reasoning)
            unsent = reasoning = 0
        named = {"arguments": made.arguments, "name": made.name}
        yield self._event("response.function_call_arguments.done", place | named)
        yield from self._closed(index, item | {"status": "completed", "arguments": made.arguments})


def usage_object(usage: Quantities) -> Json:
    """`usage` as realtime reports it."""
    cached_text = usage.cached_tokens - usage.cached_audio_tokens
    details = {"text_tokens": cached_text, "audio_tokens": usage.cached_audio_tokens, "image_tokens": 0}
    return {
        "total_tokens": usage.total_tokens,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "input_token_details": {
            "text_tokens": usage.input_tokens - usage.input_audio_tokens - usage.input_image_tokens,
            "audio_tokens": usage.input_audio_tokens,
            "image_tokens": usage.input_image_tokens,
            "cached_tokens": usage.cached_tokens,
            "cached_tokens_details": details,
        },
        "output_token_details": {
            "text_tokens": usage.output_tokens - usage.output_audio_tokens,
            "audio_tokens": usage.output_audio_tokens,
        },
    }
