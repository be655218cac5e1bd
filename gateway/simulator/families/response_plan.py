"""What a response is going to be: all of its output, and what it costs, before the first event is sent.

Rules. A tool that runs at OpenAI (web search, file search, code interpreter, image generation) is used once, on the
user's turn, unless `tool_choice` is "none" or names another. Its call costs the tokens of its query or code. Pictures
are billed apart, in `tool_usage`, as a medium square of `images.py` is. Reasoning is one item, and costs what
`answers.py` says. Then come calls of functions, or a message.
"""

import base64
from typing import Any

import msgspec

from gateway.simulator import answers, catalog, media, params, tokens
from gateway.simulator.answers import Answer, Ask
from gateway.simulator.book import Meta, Quantities
from gateway.simulator.call import Call, Json
from gateway.simulator.families import vector_stores
from gateway.simulator.families.response_input import Input, conversation_id
from gateway.simulator.families.tiers import served_tier
from gateway.simulator.world import World, text_usage

PICTURE_TOKENS = 1056
_CODE = "import math\n\nprint(math.factorial(12))\n"
_HOSTED = ("web_search", "file_search", "code_interpreter", "image_generation")
_SEARCH_TOOLS = ("web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11")


class Planned(msgspec.Struct, frozen=True):
    """One item of the output as it will be in the end. pieces: the tokens that its stream has; tokens: all of its."""

    item: Json
    pieces: tuple[str, ...]
    tokens: int


class Plan(msgspec.Struct, frozen=True):
    """value: the response object as it is when it starts. ends: what it becomes besides output and usage."""

    value: Json
    planned: list[Planned]
    usage: Quantities
    given: Input
    ends: Json
    meta: Meta

    @property
    def output(self) -> list[Json]:
        return [part.item for part in self.planned]


def make(world: World, call: Call, given: Input) -> Plan:
    """Plans the response to a request. Raises ApiError."""
    body = call.body
    model = params.model(call, "gpt-4o" if body.get("prompt") else None)
    limit = params.integer(body, "max_output_tokens", least=1)
    params.number(body, "temperature", 1.0, 0.0, 2.0)
    planned, extra = _hosted_calls(world, call, given)
    used = sum(part.tokens for part in planned)
    reasoning = params.mapping(body, "reasoning")
    ask = Ask(
        model,
        given.read.text,
        limit=None if limit is None else max(1, limit - used),
        effort=params.text(reasoning, "effort") or None,
        tools=_functions(body),
        tool_choice=_choice(body.get("tool_choice")),
        parallel=params.flag(body, "parallel_tool_calls", default=True),
        users_turn=given.users_turn,
        schema=answers.format_schema(params.mapping(params.mapping(body, "text"), "format")),
    )
    answer = answers.compose(world.prose, ask, call.faults)
    planned = [*_reasoning(world, body, answer), *planned, *_said(world, body, answer)]
    usage = text_usage(given.read, world.cached(call, given.read), used + answer.output_tokens, answer.reasoning_tokens)
    usage += extra
    served, tier = catalog.resolve(model), served_tier(body)
    value = _skeleton(world, call, served, tier)
    ends: Json = {"status": "completed", "completed_at": world.now()}
    if call.faults.fail:
        error = {"code": "server_error", "message": "The server had an error while processing your request."}
        planned, usage, ends = [], Quantities(), {"status": "failed", "error": error}
    elif answer.cut:
        ends = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    return Plan(value, planned, usage, given, ends, Meta(usage, served, tier, value["id"], conversation_id(body)))


def usage_object(usage: Quantities) -> Json:
    """`usage` as the Responses API reports it."""
    details: Json = {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens}
    if usage.cache_write_tokens:
        written = {"ttl_30m_tokens": usage.cache_write_tokens, "ttl_12h_tokens": 0}
        details["cache_write_tokens_details"] = written
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": details,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def tool_usage(usage: Quantities) -> Json:
    """`tool_usage`: web searches, and pictures, whose tokens are not in `usage`."""
    made = usage.tool_image_tokens
    pictures = {
        "input_tokens": 0,
        "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": made},
        "total_tokens": made,
    }
    return {"image_gen": pictures, "web_search": {"num_requests": usage.web_searches}}


def _skeleton(world: World, call: Call, model: str, tier: str) -> Json:
    body = call.body
    reasoning = params.mapping(body, "reasoning")
    conversation = conversation_id(body)
    return {
        "id": world.ids.hexadecimal("resp_", 48),
        "object": "response",
        "created_at": call.seen_at,
        "status": "queued" if body.get("background") else "in_progress",
        "background": bool(body.get("background")),
        "completed_at": None,
        "conversation": {"id": conversation} if conversation else None,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "model": model,
        "output": [],
        "parallel_tool_calls": params.flag(body, "parallel_tool_calls", default=True),
        "previous_response_id": body.get("previous_response_id"),
        "prompt": body.get("prompt"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": tier,
        "store": params.flag(body, "store", default=True),
        "temperature": params.number(body, "temperature", 1.0, 0.0, 2.0),
        "text": {"format": {"type": "text"}, "verbosity": "medium"} | params.mapping(body, "text"),
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": params.items(body, "tools"),
        "top_logprobs": params.integer(body, "top_logprobs", 0, most=20),
        "top_p": params.number(body, "top_p", 1.0, 0.0, 1.0),
        "truncation": body.get("truncation") or "disabled",
        "usage": None,
        "user": body.get("user"),
        "metadata": params.metadata(body),
    }


def _functions(body: Json) -> tuple[Json, ...]:
    return tuple(
        {"type": tool["type"], "name": params.need(tool, "name"), "parameters": tool.get("parameters")}
        for tool in params.typed(body, "tools")
        if tool["type"] in {"function", "custom"}
    )


def _choice(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return str(value.get("name") or ("none" if value.get("type") not in ("allowed_tools", None) else "auto"))
    return "auto"


def _wanted(body: Json, given: Input) -> list[Json]:
    """The hosted tools that this response uses: name and settings."""
    choice = body.get("tool_choice")
    if choice == "none" or not given.users_turn or (isinstance(choice, dict) and choice.get("name")):
        return []
    named = choice.get("type") if isinstance(choice, dict) else None
    found = []
    for tool in params.typed(body, "tools"):
        kind = "web_search" if tool["type"] in _SEARCH_TOOLS else tool["type"]
        if kind in _HOSTED and named in (None, "allowed_tools", tool["type"]):
            found.append(tool | {"type": kind})
    return found


def _hosted_calls(world: World, call: Call, given: Input) -> tuple[list[Planned], Quantities]:
    planned, extra = [], Quantities()
    seed = answers.seed_of(call.model, given.read.text)
    for tool in _wanted(call.body, given):
        if tool["type"] == "code_interpreter":
            planned.append(_code(world, call, tool))
            extra += Quantities(sessions=int(not isinstance(tool.get("container"), str)))  # that one has been paid for
        elif tool["type"] == "image_generation":
            planned.append(_picture(world, seed))
            extra += Quantities(images=1, tool_image_tokens=PICTURE_TOKENS)
        else:
            planned.append(_search(world, call, tool, world.prose.words(seed, 5)))
            kind = "web_searches" if tool["type"] == "web_search" else "file_searches"
            extra += Quantities(**{kind: 1})
    return planned, extra


def _search(world: World, call: Call, tool: Json, query: str) -> Planned:
    if tool["type"] == "web_search":
        action = {"type": "search", "query": query, "queries": [query]}
        item: Json = {"id": world.ids.hexadecimal("ws_", 48), "type": "web_search_call", "action": action}
    else:
        known = [store for store in tool.get("vector_store_ids") or () if store in vector_stores.shelf(world)]
        rows = vector_stores.found(world, known, query, 5)
        item = {"id": world.ids.hexadecimal("fs_", 48), "type": "file_search_call", "queries": [query], "results": None}
        if "file_search_call.results" in params.items(call.body, "include"):
            named = ("file_id", "filename", "score", "attributes")
            item["results"] = [{n: row[n] for n in named} | {"text": row["content"][0]["text"]} for row in rows]
    return Planned(item | {"status": "completed"}, (), tokens.count(query))


def _code(world: World, call: Call, tool: Json) -> Planned:
    container = tool.get("container")
    outputs = [{"type": "logs", "logs": "479001600\n"}]
    item = {
        "id": world.ids.hexadecimal("ci_", 48),
        "type": "code_interpreter_call",
        "code": _CODE,
        "container_id": container if isinstance(container, str) else world.ids.hexadecimal("cntr_", 48),
        "outputs": outputs if "code_interpreter_call.outputs" in params.items(call.body, "include") else None,
        "status": "completed",
    }
    pieces = tuple(tokens.split(_CODE))
    return Planned(item, pieces, len(pieces))


def _picture(world: World, seed: int) -> Planned:
    item = {
        "id": world.ids.hexadecimal("ig_", 48),
        "type": "image_generation_call",
        "status": "completed",
        "result": base64.b64encode(media.png(1024, 1024, seed % 256)).decode(),
        "background": "opaque",
        "output_format": "png",
        "quality": "medium",
        "size": "1024x1024",
        "revised_prompt": world.prose.text(seed, 20),
        "action": "generate",
    }
    return Planned(item, (), 0)


def _reasoning(world: World, body: Json, answer: Answer) -> list[Planned]:
    if not answer.reasoning_tokens:
        return []
    item: Json = {"id": world.ids.hexadecimal("rs_", 48), "type": "reasoning", "summary": []}
    pieces: list[str] = []
    if params.mapping(body, "reasoning").get("summary"):
        pieces = world.prose.pieces(answer.seed ^ 1, 24)
        item["summary"] = [{"type": "summary_text", "text": "".join(pieces)}]
    if "reasoning.encrypted_content" in params.items(body, "include"):
        item["encrypted_content"] = base64.b64encode(world.prose.text(answer.seed, 40).encode()).decode()
    return [Planned(item, tuple(pieces), answer.reasoning_tokens)]


def _said(world: World, body: Json, answer: Answer) -> list[Planned]:
    """The calls of functions, or the message."""
    status = "incomplete" if answer.cut else "completed"
    if answer.calls:
        return [_called(world, made, status) for made in answer.calls]
    if answer.cut and not answer.pieces:
        return []
    text: Json = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
    if "message.output_text.logprobs" in params.items(body, "include"):
        rows = ((piece, -round(0.01 + (i * 37 % 100) / 250, 6)) for i, piece in enumerate(answer.pieces))
        text["logprobs"] = [
            {"token": piece, "logprob": value, "bytes": list(piece.encode()), "top_logprobs": []}
            for piece, value in rows
        ]
    item = {
        "id": world.ids.hexadecimal("msg_", 48),
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [text],
    }
    return [Planned(item, tuple(answer.pieces), len(answer.pieces))]


def _called(world: World, made: answers.ToolCall, status: str) -> Planned:
    item: Json = {"call_id": world.ids.make("call_"), "name": made.name, "status": status}
    if made.type == "custom":
        item |= {"id": world.ids.hexadecimal("ctc_", 48), "type": "custom_tool_call", "input": made.arguments}
    else:
        item |= {"id": world.ids.hexadecimal("fc_", 48), "type": "function_call", "arguments": made.arguments}
    return Planned(item, made.pieces, made.tokens)
