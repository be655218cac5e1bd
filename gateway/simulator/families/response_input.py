"""The input of a response: its items, what they amount to, and what came before them.

Rules. Items count as messages do (see `prompt.py`): 3 tokens, the role and the texts; calls count name and arguments,
their outputs the text. Instructions are a message, a stored prompt is 64 tokens. What a `previous_response_id` or a
conversation brings along counts like input.
"""

from typing import Any

import msgspec

from gateway.simulator import errors, params, prompt
from gateway.simulator.call import Call, Json
from gateway.simulator.world import World

STORED_PROMPT_TOKENS = 64
_PREFIXES = (
    ("function_call", "fc_"),
    ("function_call_output", "fco_"),
    ("custom_tool_call", "ctc_"),
    ("custom_tool_call_output", "ctco_"),
    ("reasoning", "rs_"),
    ("compaction", "cmp_"),
)


class Input(msgspec.Struct, frozen=True):
    """items: of this request, normalised and with ids. earlier: what they follow. users_turn: the user spoke last."""

    items: list[Json]
    earlier: list[Json]
    read: prompt.Prompt
    users_turn: bool


def kept(world: World, response_id: str) -> Json:
    """What is stored of a response: `{id, value, input, earlier}`. Raises ApiError."""
    return world.store.shelf("responses").get(response_id)


def conversation_id(body: Json) -> str | None:
    given = body.get("conversation")
    if isinstance(given, dict):
        given = given.get("id")
    return str(given) if given else None


def take(world: World, call: Call, recent: dict[str, Json]) -> Input:
    """Reads a request's input. recent: responses of the same socket that are not stored. Raises ApiError."""
    body = call.body
    earlier: list[Json] = []
    previous, conversation = body.get("previous_response_id"), conversation_id(body)
    if previous and conversation:
        message = "'previous_response_id' and 'conversation' cannot be used together."
        raise errors.ApiError(400, message, param="previous_response_id", code="mutually_exclusive_parameters")
    if previous:
        before = recent.get(str(previous)) or world.store.shelf("responses").find(previous)
        if before is None:
            message = f"Previous response with id '{previous}' not found."
            raise errors.ApiError(400, message, param="previous_response_id", code="previous_response_not_found")
        earlier = [*before["earlier"], *before["input"], *before["value"]["output"]]
    elif conversation:
        world.store.shelf("conversations").get(conversation)
        earlier = list(world.store.shelf("conversation_items", conversation))
    items = normalised(world, body.get("input"))
    if not items and not earlier and not body.get("prompt"):
        message = "One of 'input' or 'previous_response_id' or 'prompt' or 'conversation' must be provided."
        raise errors.ApiError(400, message, param="input", code="missing_required_parameter")
    return Input(items, earlier, _count(body, [*earlier, *items]), _users_turn(items))


def normalised(world: World, given: Any) -> list[Json]:
    """`input` as a list of items with ids. Raises ApiError."""
    if given is None:
        return []
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not isinstance(given, list):
        raise errors.wrong_type("input", "one of a string or array of input items", given)
    return [_item(world, part, i) for i, part in enumerate(given)]


def _item(world: World, part: Any, index: int) -> Json:
    if not isinstance(part, dict):
        raise errors.wrong_type(f"input[{index}]", "an object", part)
    kind = part.get("type", "message" if "role" in part else None)
    if not isinstance(kind, str):
        raise errors.missing(f"input[{index}].type")
    if kind == "item_reference":
        return {"type": "item_reference", "id": str(part.get("id"))}
    item = part | {"type": kind}
    item["id"] = part.get("id") or world.ids.hexadecimal(dict(_PREFIXES).get(kind, "msg_"), 48)
    if kind == "message":
        item["role"] = role = params.choice(part, "role", ("user", "system", "developer", "assistant"), "user")
        item["status"] = part.get("status") or "completed"
        content = params.need(part, "content")
        if not isinstance(content, str):
            params.typed(part, "content")
        else:
            text: Json = {"type": "output_text" if role == "assistant" else "input_text", "text": content}
            item["content"] = [text | {"annotations": []} if role == "assistant" else text]
    elif kind in {"function_call", "function_call_output", "custom_tool_call_output"}:
        item["status"] = part.get("status") or "completed"
    return item


def _users_turn(items: list[Json]) -> bool:
    last = items[-1] if items else {"type": "message", "role": "user"}
    return last["type"] == "message" and last.get("role") != "assistant"


def _count(body: Json, items: list[Json]) -> prompt.Prompt:
    reading = prompt.Reading()
    if instructions := body.get("instructions"):
        reading.message("developer")
        reading.text(instructions if isinstance(instructions, str) else str(instructions))
    if stored := body.get("prompt"):
        reading.json(stored)
        reading.tokens = STORED_PROMPT_TOKENS
    for item in items:
        _add(reading, item)
    if body.get("tools"):
        reading.json(body["tools"])
    form = params.mapping(params.mapping(body, "text"), "format")
    if form and form != {"type": "text"}:
        reading.json(form)
    return reading.done()


def _add(reading: prompt.Reading, item: Json) -> None:
    kind = item["type"]
    if kind == "message":
        reading.message(str(item["role"]))
        for i, part in enumerate(item["content"]):
            prompt.add_part(reading, part, f"content[{i}]")
    elif kind in {"function_call", "custom_tool_call"}:
        reading.message("assistant", str(item.get("name")))
        reading.text(str(item.get("arguments") or item.get("input") or ""))
    elif kind in {"function_call_output", "custom_tool_call_output"}:
        output = item.get("output")
        reading.message("tool")
        if isinstance(output, list):
            for i, part in enumerate(output):
                prompt.add_part(reading, part, f"output[{i}]")
        else:
            reading.text(str(output or ""))
    elif kind == "compaction":
        reading.text(str(item.get("encrypted_content") or ""))
