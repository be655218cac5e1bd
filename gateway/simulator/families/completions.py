"""Legacy completions. A stream's chunks have `finish_reason: null` until the last, as on OpenAI's wire."""

from collections.abc import Iterator

import msgspec

from gateway.simulator import answers, catalog, errors, params, tokens
from gateway.simulator.answers import Answer, Ask
from gateway.simulator.book import Meta
from gateway.simulator.call import Call, Event, EventReply, Handlers, Json, JsonReply, Reply
from gateway.simulator.families.chat_answer import FINGERPRINT, usage_object
from gateway.simulator.prompt import Prompt
from gateway.simulator.sse import failure
from gateway.simulator.world import World, text_usage

_DEFAULT_TOKENS = 16
_encode = msgspec.json.Encoder().encode


async def create(world: World, call: Call) -> Reply:
    """POST /completions."""
    body, model = call.body, params.model(call)
    prompts = _prompts(body)
    count = params.integer(body, "n", 1, least=1, most=128) or 1
    limit = params.integer(body, "max_tokens", _DEFAULT_TOKENS)
    ask = Ask(
        model,
        "",
        limit=limit,
        seed=params.integer(body, "seed", 0, least=-(1 << 63)) or 0,
        stop=tuple(params.texts(body, "stop")),
    )
    made = [
        (text, answers.compose(world.prose, msgspec.structs.replace(ask, prompt=text, choice=i), call.faults))
        for text, _ in prompts
        for i in range(count)
    ]
    read = Prompt("\n".join(text for text, _ in prompts), sum(size for _, size in prompts))
    usage = text_usage(read, world.cached(call, read), sum(answer.output_tokens for _, answer in made), 0)
    head: Json = {
        "id": world.ids.make("cmpl-", 29),
        "object": "text_completion",
        "created": call.seen_at,
        "model": catalog.resolve(model),
    }
    meta = Meta(usage, catalog.resolve(model), "default", head["id"])
    logprobs = params.integer(body, "logprobs", most=5)
    if params.flag(body, "stream"):
        asked = params.flag(params.mapping(body, "stream_options"), "include_usage")
        return _streamed(call, head, [answer for _, answer in made], meta, asked=asked)
    if body.get("stream_options") is not None:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise errors.ApiError(400, message, param="stream_options")
    choices = [
        {
            "text": (text if params.flag(body, "echo") else "") + answer.text,
            "index": i,
            "logprobs": _logprobs(answer, logprobs),
            "finish_reason": "length" if answer.cut else "stop",
        }
        for i, (text, answer) in enumerate(made)
    ]
    return JsonReply(head | {"choices": choices, "usage": usage_object(usage), "system_fingerprint": FINGERPRINT}, meta)


def _prompts(body: Json) -> list[tuple[str, int]]:
    """`prompt`: a text, texts, tokens or lists of tokens → text and number of tokens of each."""
    value = body.get("prompt", "<|endoftext|>")
    if isinstance(value, str):
        return [(value, tokens.count(value))]
    if not isinstance(value, list) or not value:
        raise errors.wrong_type("prompt", "a string or an array", value)
    if all(isinstance(part, int) for part in value):
        return [(" ".join(map(str, value)), len(value))]
    found = []
    for part in value:
        if isinstance(part, str):
            found.append((part, tokens.count(part)))
        elif isinstance(part, list):
            found.append((" ".join(map(str, part)), len(part)))
        else:
            raise errors.wrong_type("prompt", "a string or an array", part)
    return found


def _streamed(call: Call, head: Json, made: list[Answer], meta: Meta, *, asked: bool) -> Reply:
    def events() -> Iterator[Event]:
        none: Json = {"usage": None} if asked else {}
        for i, answer in enumerate(made):
            for text, size in answers.grouped(answer.pieces, call.faults.chunks):
                yield Event(None, _encode(head | {"choices": [_choice(i, text, None)]} | none), size)
            finish = "length" if answer.cut else "stop"
            yield Event(None, _encode(head | {"choices": [_choice(i, "", finish)]} | none))
        if asked and not call.faults.no_usage:
            yield Event(None, _encode(head | {"choices": [], "usage": usage_object(meta.usage)}), usage=True)

    contents = sum(call.faults.chunks or len(answer.pieces) for answer in made)
    return EventReply(events(), meta, contents, failure=failure)


def _choice(index: int, text: str, finish: str | None) -> Json:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish}


def _logprobs(answer: Answer, top: int | None) -> Json | None:
    if top is None:
        return None
    offsets, at = [], 0
    for piece in answer.pieces:
        offsets.append(at)
        at += len(piece)
    chosen = [-round(0.01 + (i * 37 % 100) / 250, 6) for i in range(len(answer.pieces))]
    return {
        "tokens": answer.pieces,
        "token_logprobs": chosen,
        "top_logprobs": [{piece: value} for piece, value in zip(answer.pieces, chosen, strict=True)] if top else None,
        "text_offset": offsets,
    }


HANDLERS: Handlers = (("createCompletion", create),)
