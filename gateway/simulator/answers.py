"""What the model says: a text, a JSON document or calls of tools, with exact token counts.

Deterministic: the prompt, the model, the number of the choice and the request's `seed` decide everything.

When does the model call tools? With `tool_choice` "required", or one that names a tool: always. With "auto": if the
last word is the user's and not a tool's result. It calls the named tool, or the first two of those it may call
(the first, if parallel calls are off).
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.simulator import catalog, params, shapes, tokens
from gateway.simulator.call import Json
from gateway.simulator.faults import Faults
from gateway.simulator.text import Dice, Prose

_encode = msgspec.json.Encoder().encode
_PAD = " " * 16  # exactly one token after anything but a single space


class Ask(msgspec.Struct, frozen=True):
    """What an answer depends on.

    limit: the most output tokens, reasoning included. tools: `{type, name, parameters}` each. tool_choice: "auto",
    "none", "required" or a tool's name. users_turn: whether the last word was the user's. schema: answer JSON that
    fits it ({} for any). short: a brief answer, for speech.
    """

    model: str
    prompt: str
    choice: int = 0
    seed: int = 0
    limit: int | None = None
    effort: str | None = None
    tools: tuple[Json, ...] = ()
    tool_choice: str = "auto"
    parallel: bool = True
    users_turn: bool = True
    schema: Json | None = None
    stop: tuple[str, ...] = ()
    short: bool = False


class ToolCall(msgspec.Struct, frozen=True):
    """type: `function` or `custom`. arguments: JSON text, or a custom tool's input. pieces: the tokens of arguments."""

    type: str
    name: str
    arguments: str
    pieces: tuple[str, ...]

    @property
    def tokens(self) -> int:
        return tokens.count(self.name) + len(self.pieces)


class Answer(msgspec.Struct, frozen=True):
    """pieces: the tokens of the visible text. output_tokens: reasoning, text and tool calls. cut: by the limit.

    seed: for whatever else has to be made up.
    """

    pieces: list[str]
    calls: tuple[ToolCall, ...]
    reasoning_tokens: int
    output_tokens: int
    cut: bool
    seed: int

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def seed_of(*parts: object) -> int:
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


def compose(prose: Prose, ask: Ask, faults: Faults) -> Answer:
    """The answer to an ask."""
    seed = seed_of(ask.model, ask.prompt, ask.choice, ask.seed)
    dice = Dice(seed)
    natural = 8 + dice.below(24) if ask.short else 32 + dice.below(200)
    reasoning = _reasoning(ask, dice)
    if faults.tokens is not None:
        reasoning = min(reasoning, faults.tokens // 2)
        natural = faults.tokens - reasoning
    if faults.chunks is not None:
        natural = max(natural, faults.chunks)
    limit = ask.limit if ask.limit is not None else 1 << 40
    if reasoning >= limit:
        return Answer([], (), limit, limit, True, seed)
    room = limit - reasoning
    chosen = _chosen_tools(ask)
    if chosen:
        return _tool_answer(prose, chosen, reasoning=reasoning, room=room, faults=faults, seed=seed)
    if ask.schema is not None:
        text = _encode(
            shapes.example(ask.schema, prose, seed) if ask.schema else {"answer": prose.text(seed, 12)}
        ).decode()
        pieces = _padded(tokens.split(text), faults)
    else:
        pieces = prose.pieces(seed, natural)
        if ask.stop:
            pieces = _stopped(pieces, ask.stop)
    cut = len(pieces) > room
    if cut:
        del pieces[room:]
    return Answer(pieces, (), reasoning, reasoning + len(pieces), cut, seed)


def _reasoning(ask: Ask, dice: Dice) -> int:
    if not catalog.reasons(ask.model):
        return 0
    steps = {"none": 0, "minimal": 0, "low": 1, "medium": 3, "high": 10, "xhigh": 20, "max": 30}.get(
        ask.effort or "medium", 3
    )
    return 64 * (steps + (dice.below(steps) if steps else 0))


def _chosen_tools(ask: Ask) -> tuple[Json, ...]:
    if not ask.tools or ask.tool_choice == "none":
        return ()
    if ask.tool_choice in {"auto", "required"}:
        if ask.tool_choice == "auto" and not ask.users_turn:
            return ()
        return ask.tools[: 2 if ask.parallel else 1]
    return tuple(tool for tool in ask.tools if tool["name"] == ask.tool_choice)[:1]


def _tool_answer(
    prose: Prose, chosen: tuple[Json, ...], *, reasoning: int, room: int, faults: Faults, seed: int
) -> Answer:
    calls: list[ToolCall] = []
    used, cut = 0, False
    for i, tool in enumerate(chosen):
        name = str(tool["name"])
        if tool.get("type") == "custom":
            text = prose.text(seed + i, 16)
        else:
            text = _encode(shapes.example(tool.get("parameters") or {"type": "object"}, prose, seed + i)).decode()
        pieces = tokens.split(text)
        if faults.tokens is not None and i == len(chosen) - 1:
            missing = faults.tokens - reasoning - used - tokens.count(name) - len(pieces)
            pieces += [_PAD] * max(0, missing)
        left = room - used - tokens.count(name)
        if left <= 0:
            cut = True
            break
        cut = len(pieces) > left
        del pieces[left:]
        calls.append(ToolCall(str(tool.get("type", "function")), name, "".join(pieces), tuple(pieces)))
        used += calls[-1].tokens
        if cut:
            break
    return Answer([], tuple(calls), reasoning, reasoning + used, cut, seed)


def _padded(pieces: list[str], faults: Faults) -> list[str]:
    if faults.tokens is not None:
        pieces += [_PAD] * max(0, faults.tokens - len(pieces))
    return pieces


def _stopped(pieces: list[str], stop: tuple[str, ...]) -> list[str]:
    text = "".join(pieces)
    ends = [at for word in stop if word and (at := text.find(word)) >= 0]
    return tokens.split(text[: min(ends)]) if ends else pieces


def chat_tools(body: Json) -> tuple[Json, ...]:
    """Tools as chat completions, assistants and legacy functions declare them → `{type, name, parameters}`.

    Raises ApiError.
    """
    found: list[Json] = []
    for tool in params.typed(body, "tools"):
        if tool["type"] in {"function", "custom"}:
            inner: Any = tool.get(tool["type"]) or {}
            if isinstance(inner, dict) and inner.get("name"):
                found.append({"type": tool["type"], "name": inner["name"], "parameters": inner.get("parameters")})
    found.extend(
        {"type": "function", "name": function["name"], "parameters": function.get("parameters")}
        for function in params.objects(body, "functions")
        if function.get("name")
    )
    return tuple(found)


def chat_choice(value: object) -> str:
    """`tool_choice` and `function_call` of chat completions and assistants → "auto", "none", "required" or a name."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        inner = value.get("function") or value.get("custom") or value
        if isinstance(inner, dict) and inner.get("name"):
            return str(inner["name"])
    return "auto"


def format_schema(value: object) -> Json | None:
    """`response_format` (and `text.format` of Responses) → a schema, {} for any JSON, None for text."""
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(value, dict) or kind is None or kind == "text":
        return None
    if kind == "json_schema":
        inner = value.get("json_schema") or value
        schema = inner.get("schema") if isinstance(inner, dict) else None
        return schema if isinstance(schema, dict) else {}
    return {}


def grouped(pieces: list[str] | tuple[str, ...], chunks: int | None) -> Iterator[tuple[str, int]]:
    """Pieces as a stream sends them → text and number of tokens: one by one, or in exactly `chunks` groups."""
    if chunks is None:
        for piece in pieces:
            yield piece, 1
        return
    total = len(pieces)
    for i in range(chunks):
        part = pieces[i * total // chunks : (i + 1) * total // chunks]
        yield "".join(part), len(part)
