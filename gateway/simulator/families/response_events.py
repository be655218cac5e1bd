"""A planned response as events, with their sequence numbers: for server-sent events and WebSockets alike."""

from collections.abc import Callable, Iterator

import msgspec

from gateway.simulator import answers
from gateway.simulator.call import Event, Json
from gateway.simulator.families.response_plan import Plan, Planned, tool_usage, usage_object

_NOISE = "aB3dE5fG7hJ9kL1m"
_encode = msgspec.json.Encoder().encode
_FAILED = "The server had an error while processing your request. Sorry about that!"


def contents(plan: Plan, chunks: int | None) -> int:
    """How many events carry output."""
    return sum(_size(part, chunks) for part in plan.planned)


def _size(part: Planned, chunks: int | None) -> int:
    if part.item["type"] in {"message", "function_call", "custom_tool_call"}:
        return chunks or len(part.pieces)
    return 1 if part.tokens else 0


class Script:
    """The events of one response. `value` changes as they are made; `tokens` (and `reasoning` of them) is what has been
    said so far."""

    def __init__(self, plan: Plan, *, chunks: int | None, noise: bool, no_usage: bool) -> None:
        self.value = dict(plan.value)
        self.tokens = self.reasoning = 0
        self._plan, self._chunks, self._noise, self._no_usage = plan, chunks, noise, no_usage
        self._number = 0

    def events(self) -> Iterator[Event]:
        yield self._whole("response.created")
        if self.value["status"] == "queued":
            yield self._whole("response.queued")
            self.value["status"] = "in_progress"
        yield self._whole("response.in_progress")
        for index, part in enumerate(self._plan.planned):
            for event in self._item(index, part):
                self.tokens += event.tokens
                yield event
            self.value["output"] = [*self.value["output"], part.item]
        yield self.end()

    def finish(self) -> Json:
        """The response as it is in the end, without any events."""
        plan = self._plan
        self.value |= plan.ends | {"output": plan.output, "tool_usage": tool_usage(plan.usage)}
        if plan.ends["status"] != "failed" and not self._no_usage:
            self.value["usage"] = usage_object(plan.usage)
        return self.value

    def end(self) -> Event:
        value = self.finish()
        return self._whole(f"response.{value['status']}", usage=value["usage"] is not None)

    def failure(self) -> Iterator[Event]:
        """How a stream ends that fails in the middle."""
        error = {"type": "server_error", "code": "server_error", "message": _FAILED, "param": None}
        yield self._make("error", {"error": error})
        self.value |= {"status": "failed", "error": {"code": "server_error", "message": _FAILED}, "usage": None}
        yield self._whole("response.failed")

    def _make(self, name: str, members: Json, tokens: int = 0, *, usage: bool = False) -> Event:
        data = _encode({"type": name, "sequence_number": self._number} | members)
        self._number += 1
        return Event(name, data, tokens, usage)

    def _whole(self, name: str, *, usage: bool = False) -> Event:
        return self._make(name, {"response": self.value}, usage=usage)

    def _item(self, index: int, part: Planned) -> Iterator[Event]:
        item, place = part.item, {"output_index": index}
        events: Callable[[Planned, Json], Iterator[Event]] = {
            "message": self._message,
            "function_call": self._call,
            "custom_tool_call": self._call,
            "reasoning": self._reasoning,
            "code_interpreter_call": self._code,
        }.get(item["type"], self._hosted)
        yield self._make("response.output_item.added", place | {"item": _beginning(item)})
        yield from events(part, place | {"item_id": item["id"]})
        reasoning = part.tokens if item["type"] == "reasoning" else 0
        self.reasoning += reasoning
        yield self._make("response.output_item.done", place | {"item": item}, reasoning)

    def _message(self, part: Planned, place: Json) -> Iterator[Event]:
        place = place | {"content_index": 0}
        whole = part.item["content"][0]
        yield self._make("response.content_part.added", place | {"part": whole | {"text": "", "logprobs": []}})
        for text, size in answers.grouped(part.pieces, self._chunks):
            yield self._delta("response.output_text.delta", place | {"delta": text, "logprobs": []}, size)
        yield self._make("response.output_text.done", place | {"text": whole["text"], "logprobs": []})
        yield self._make("response.content_part.done", place | {"part": whole})

    def _delta(self, name: str, members: Json, size: int) -> Event:
        if self._noise:
            members["obfuscation"] = _NOISE[len(members["delta"]) % 16 :]
        return self._make(name, members, size)

    def _call(self, part: Planned, place: Json) -> Iterator[Event]:
        custom = part.item["type"] == "custom_tool_call"
        name, member = ("custom_tool_call_input", "input") if custom else ("function_call_arguments", "arguments")
        unsent = part.tokens - len(part.pieces)  # those of the name go with the first piece
        for text, size in answers.grouped(part.pieces, self._chunks):
            yield self._delta(f"response.{name}.delta", place | {"delta": text}, size + unsent)
            unsent = 0
        yield self._make(f"response.{name}.done", place | {member: part.item[member]}, unsent)

    def _reasoning(self, part: Planned, place: Json) -> Iterator[Event]:
        if not part.pieces:
            return
        place, text = place | {"summary_index": 0}, part.item["summary"][0]["text"]
        name = "response.reasoning_summary"
        yield self._make(f"{name}_part.added", place | {"part": {"type": "summary_text", "text": ""}})
        for piece, _ in answers.grouped(part.pieces, self._chunks):
            yield self._delta(f"{name}_text.delta", place | {"delta": piece}, 0)
        yield self._make(f"{name}_text.done", place | {"text": text})
        yield self._make(f"{name}_part.done", place | {"part": {"type": "summary_text", "text": text}})

    def _code(self, part: Planned, place: Json) -> Iterator[Event]:
        name = "response.code_interpreter_call"
        yield self._make(f"{name}.in_progress", place)
        yield self._delta(f"{name}_code.delta", place | {"delta": part.item["code"]}, part.tokens)
        yield self._make(f"{name}_code.done", place | {"code": part.item["code"]})
        yield self._make(f"{name}.interpreting", place)
        yield self._make(f"{name}.completed", place)

    def _hosted(self, part: Planned, place: Json) -> Iterator[Event]:
        """Searches and pictures: two states and the end."""
        kind = part.item["type"]
        name = f"response.{kind}"
        yield self._make(f"{name}.in_progress", place)
        doing = "generating" if kind == "image_generation_call" else "searching"
        yield self._make(f"{name}.{doing}", place)
        yield self._make(f"{name}.completed", place, part.tokens)


def _beginning(item: Json) -> Json:
    """An item as it is announced: nothing said yet."""
    kind = item["type"]
    empties: dict[str, Json] = {
        "message": {"content": []},
        "function_call": {"arguments": ""},
        "custom_tool_call": {"input": ""},
        "reasoning": {"summary": []},
        "code_interpreter_call": {"code": ""},
        "image_generation_call": {"result": None},
    }
    return item | empties.get(kind, {}) | ({"status": "in_progress"} if "status" in item else {})
