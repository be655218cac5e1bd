"""Chat completions, streamed.

A choice's events: the role; one chunk for each output token (or as many as `chunks=<n>` asks, for the text or each tool
call's arguments); the finish reason. Then, if `stream_options.include_usage` asks for it, one chunk without choices and
with the usage, all others having `usage: null`; then `[DONE]`. Reasoning tokens count as sent with the first output of
their choice. The choices of n > 1 take turns.
"""

import base64
from collections.abc import Iterator
from itertools import zip_longest

import msgspec

from gateway.simulator import answers, params
from gateway.simulator.answers import Answer
from gateway.simulator.book import Meta
from gateway.simulator.call import Call, Event, EventReply, Json, Reply
from gateway.simulator.families import chat_answer, chat_stored
from gateway.simulator.families.chat_answer import Completion
from gateway.simulator.sse import failure
from gateway.simulator.world import World

_NOISE = "aB3dE5fG7hJ9kL1m"
_AUDIO_PIECE = 24_000
_encode = msgspec.json.Encoder().encode


def reply(world: World, call: Call, completion: Completion, meta: Meta) -> Reply:
    options = params.mapping(call.body, "stream_options")
    frame = _Frame(
        completion,
        usage=params.flag(options, "include_usage"),
        noise=params.flag(options, "include_obfuscation", default=True),
    )
    chunks = call.faults.chunks
    streams = [_Choice(world, completion, frame, i, chunks) for i in range(len(completion.answers))]
    last = None
    if params.flag(options, "include_usage") and not call.faults.no_usage:
        last = frame.last(chat_answer.usage_object(completion.usage))
    contents = sum(_contents(answer, chunks) for answer in completion.answers)
    events = _events(streams, last)
    if params.flag(call.body, "store"):
        events = _stored(world, call, completion, events)
    return EventReply(events, meta, contents, failure=failure)


def _stored(world: World, call: Call, completion: Completion, events: Iterator[Event]) -> Iterator[Event]:
    """Kept only if it comes to its end."""
    yield from events
    chat_stored.keep(world, call.body, chat_answer.whole(world, completion))


def _contents(answer: Answer, chunks: int | None) -> int:
    """How many of a choice's events carry output."""
    if answer.calls:
        return sum(1 + (chunks or len(made.pieces)) for made in answer.calls)
    return chunks or len(answer.pieces)


def _events(streams: list["_Choice"], last: bytes | None) -> Iterator[Event]:
    if len(streams) == 1:
        yield from streams[0].events()
    else:
        for together in zip_longest(*(stream.events() for stream in streams)):
            yield from (event for event in together if event is not None)
    if last is not None:
        yield Event(None, last, usage=True)


class _Frame:
    """What all chunks of a stream have in common, as bytes: only the delta is encoded for each."""

    def __init__(self, completion: Completion, *, usage: bool, noise: bool) -> None:
        head = {
            "id": completion.id,
            "object": "chat.completion.chunk",
            "created": completion.created,
            "model": completion.model,
            "service_tier": completion.tier,
            "system_fingerprint": chat_answer.FINGERPRINT,
        }
        self._head = _encode(head)[:-1] + b',"choices":['
        end = b',"usage":null' if usage else b""
        noises = [b',"obfuscation":"%b"' % _NOISE[i:].encode() if noise else b"" for i in range(16)]
        self._tails = [b"}]" + end + part + b"}" for part in noises]
        self._last_tail = noises[3] + b"}"

    def chunk(self, index: int, delta: bytes, logprobs: bytes = b"null", finish: str | None = None) -> bytes:
        reason = b'"%b"' % finish.encode() if finish else b"null"
        return b'%b{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b%b' % (
            self._head, index, delta, logprobs, reason, self._tails[len(delta) % 16],
        )  # fmt: skip

    def last(self, usage: Json) -> bytes:
        return b'%b],"usage":%b%b' % (self._head, _encode(usage), self._last_tail)


class _Choice:
    """The events of one choice."""

    def __init__(self, world: World, completion: Completion, frame: _Frame, index: int, chunks: int | None) -> None:
        self._world, self._completion, self._frame = world, completion, frame
        self._index, self._chunks = index, chunks
        self._answer = completion.answers[index]
        self._unsent = self._answer.reasoning_tokens

    def events(self) -> Iterator[Event]:
        answer, completion = self._answer, self._completion
        content = b"null" if answer.calls or completion.audio_format else b'""'
        yield self._event(b'{"role":"assistant","content":%b,"refusal":null}' % content)
        if answer.calls:
            yield from self._legacy_call() if completion.legacy_functions else self._calls()
        elif completion.audio_format:
            yield from self._audio()
        else:
            yield from self._text()
        finish = completion.finish_reason(answer)
        yield Event(None, self._frame.chunk(self._index, b"{}", finish=finish), self._take(0))

    def _event(self, delta: bytes) -> Event:
        return Event(None, self._frame.chunk(self._index, delta))

    def _take(self, tokens: int) -> int:
        """The output tokens that go with an event; the first takes the reasoning along."""
        total, self._unsent = tokens + self._unsent, 0
        return total

    def _output(self, delta: bytes, tokens: int, logprobs: bytes = b"null") -> Event:
        return Event(None, self._frame.chunk(self._index, delta, logprobs), self._take(tokens))

    def _text(self) -> Iterator[Event]:
        top, at = self._completion.logprobs, 0
        for text, size in answers.grouped(self._answer.pieces, self._chunks):
            logprobs = b"null"
            if top is not None:
                logprobs = _encode(chat_answer.logprobs(self._answer.pieces[at : at + size], top))
                at += size
            yield self._output(b'{"content":%b}' % _encode(text), size, logprobs)

    def _calls(self) -> Iterator[Event]:
        for i, made in enumerate(self._answer.calls):
            inner = "arguments" if made.type == "function" else "input"
            start = chat_answer.tool_call(self._world, made) | {"index": i}
            start[made.type] = {"name": made.name, inner: ""}
            yield self._output(_encode({"tool_calls": [start]}), made.tokens - len(made.pieces))
            for text, size in answers.grouped(made.pieces, self._chunks):
                yield self._output(_encode({"tool_calls": [{"index": i, made.type: {inner: text}}]}), size)

    def _legacy_call(self) -> Iterator[Event]:
        made = self._answer.calls[0]
        start = {"function_call": {"name": made.name, "arguments": ""}}
        yield self._output(_encode(start), made.tokens - len(made.pieces))
        for text, size in answers.grouped(made.pieces, self._chunks):
            yield self._output(_encode({"function_call": {"arguments": text}}), size)

    def _audio(self) -> Iterator[Event]:
        """The transcript token by token, then the sound, then when it expires. Audio tokens count with the sound."""
        sound = chat_answer.audio_object(self._world, self._completion, self._answer)
        known = {"id": sound["id"]}
        for text, size in answers.grouped(self._answer.pieces, self._chunks):
            yield self._output(_encode({"audio": known | {"transcript": text}}), size)
        data = base64.b64decode(sound["data"])
        parts = [data[i : i + _AUDIO_PIECE] for i in range(0, len(data), _AUDIO_PIECE)]
        left = chat_answer.speech_tokens(self._answer)
        for i, part in enumerate(parts):
            size = left // (len(parts) - i)
            left -= size
            yield self._output(_encode({"audio": known | {"data": base64.b64encode(part).decode()}}), size)
        yield self._event(_encode({"audio": known | {"expires_at": sound["expires_at"]}}))
