"""What a chat completion says and costs; `chat.py` and `chat_stream.py` send it."""

import base64
from typing import Any

import msgspec

from gateway.simulator import answers, catalog, errors, media, params, prompt, tokens
from gateway.simulator.answers import Answer, Ask
from gateway.simulator.book import Quantities
from gateway.simulator.call import Call, Json
from gateway.simulator.families.tiers import served_tier
from gateway.simulator.world import World, text_usage

FINGERPRINT = "fp_5f0c2f3e8a"
_MAX_CHOICES = 128


class Completion(msgspec.Struct, frozen=True):
    """One completion, made but not yet written. audio_s: seconds of speech for each choice, 0.0 without."""

    id: str
    created: int
    model: str
    tier: str
    answers: tuple[Answer, ...]
    usage: Quantities
    audio_format: str | None
    logprobs: int | None
    legacy_functions: bool

    def finish_reason(self, answer: Answer) -> str:
        if answer.cut:
            return "length"
        if answer.calls:
            return "function_call" if self.legacy_functions else "tool_calls"
        return "stop"


def complete(world: World, call: Call) -> Completion:
    """Makes a completion out of a request. Raises ApiError."""
    body = call.body
    model = params.model(call)
    messages = params.need_list(body, "messages")
    if not messages:
        raise errors.ApiError(
            400,
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            param="messages",
            code="empty_array",
        )
    count = params.integer(body, "n", 1, least=1, most=_MAX_CHOICES) or 1
    limit = params.integer(body, "max_completion_tokens", least=1) or params.integer(body, "max_tokens", least=1)
    params.number(body, "temperature", 1.0, 0.0, 2.0)
    params.number(body, "top_p", 1.0, 0.0, 1.0)
    read = prompt.of_chat(body, messages)
    audio = _audio_format(body)
    ask = Ask(
        model,
        read.text,
        seed=params.integer(body, "seed", 0, least=-(1 << 63)) or 0,
        limit=limit,
        effort=params.text(body, "reasoning_effort") or None,
        tools=answers.chat_tools(body),
        tool_choice=answers.chat_choice(body.get("tool_choice", body.get("function_call"))),
        parallel=params.flag(body, "parallel_tool_calls", default=True) and "functions" not in body,
        users_turn=messages[-1].get("role") in {"user", "developer", "system"},
        schema=answers.format_schema(body.get("response_format")),
        stop=tuple(params.texts(body, "stop")),
        short=audio is not None,
    )
    made = tuple(
        answers.compose(world.prose, ask if i == 0 else msgspec.structs.replace(ask, choice=i), call.faults)
        for i in range(count)
    )
    usage = text_usage(
        read,
        world.cached(call, read),
        sum(answer.output_tokens for answer in made),
        sum(answer.reasoning_tokens for answer in made),
    )
    if audio is not None:
        spoken = sum(speech_tokens(answer) for answer in made)
        usage = msgspec.structs.replace(usage, output_tokens=usage.output_tokens + spoken, output_audio_tokens=spoken)
    if prediction := body.get("prediction"):
        usage = _with_prediction(usage, prediction, made)
    return Completion(
        world.ids.make("chatcmpl-", 29),
        call.seen_at,
        catalog.resolve(model),
        served_tier(body),
        made,
        usage,
        audio,
        (params.integer(body, "top_logprobs", 0, most=20) or 0) if params.flag(body, "logprobs") else None,
        "functions" in body,
    )


def whole(world: World, completion: Completion) -> Json:
    """The `chat.completion` object."""
    choices = []
    for i, answer in enumerate(completion.answers):
        message: Json = {"role": "assistant", "content": answer.text, "refusal": None, "annotations": []}
        if answer.calls:
            message["content"] = None
            message |= _called(world, completion, answer)
        if completion.audio_format is not None:
            message["content"] = None
            message["audio"] = audio_object(world, completion, answer)
        choices.append(
            {
                "index": i,
                "message": message,
                "logprobs": logprobs(answer.pieces, completion.logprobs),
                "finish_reason": completion.finish_reason(answer),
            }
        )
    return {
        "id": completion.id,
        "object": "chat.completion",
        "created": completion.created,
        "model": completion.model,
        "choices": choices,
        "usage": usage_object(completion.usage),
        "service_tier": completion.tier,
        "system_fingerprint": FINGERPRINT,
    }


def _called(world: World, completion: Completion, answer: Answer) -> Json:
    if completion.legacy_functions:
        return {"function_call": {"name": answer.calls[0].name, "arguments": answer.calls[0].arguments}}
    return {"tool_calls": [tool_call(world, made) for made in answer.calls]}


def tool_call(world: World, made: answers.ToolCall) -> Json:
    """A tool call as messages carry it."""
    inner = "arguments" if made.type == "function" else "input"
    return {
        "id": world.ids.make("call_"),
        "type": made.type,
        made.type: {"name": made.name, inner: made.arguments},
    }


def usage_object(usage: Quantities) -> Json:
    """`usage` as chat and legacy completions report it."""
    prompt_details: Json = {"cached_tokens": usage.cached_tokens, "audio_tokens": usage.input_audio_tokens}
    if usage.input_image_tokens:
        prompt_details["image_tokens"] = usage.input_image_tokens
    if usage.cache_write_tokens:
        prompt_details["cache_write_tokens"] = usage.cache_write_tokens
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": prompt_details,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.output_audio_tokens,
            "accepted_prediction_tokens": usage.accepted_prediction_tokens,
            "rejected_prediction_tokens": usage.rejected_prediction_tokens,
        },
    }


def _with_prediction(usage: Quantities, prediction: Any, made: tuple[Answer, ...]) -> Quantities:
    """Half of the answer is taken from the prediction, as far as that goes; of its rest at most 64 are rejected."""
    content = prediction.get("content") if isinstance(prediction, dict) else ""
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    predicted = tokens.count(str(content or ""))
    accepted = min(predicted, sum(len(answer.pieces) for answer in made) // 2)
    rejected = min(predicted - accepted, 64)
    return msgspec.structs.replace(
        usage,
        output_tokens=usage.output_tokens + rejected,
        accepted_prediction_tokens=accepted,
        rejected_prediction_tokens=rejected,
    )


def speech_tokens(answer: Answer) -> int:
    """Audio tokens of a spoken answer."""
    return media.sound_tokens_out(media.speech_seconds(len(answer.pieces))) if answer.pieces else 0


def audio_object(world: World, completion: Completion, answer: Answer) -> Json:
    sound = media.speech(media.speech_seconds(len(answer.pieces)), completion.audio_format or "wav")
    return {
        "id": world.ids.hexadecimal("audio_"),
        "data": base64.b64encode(sound).decode(),
        "expires_at": completion.created + 3600,
        "transcript": answer.text,
    }


def logprobs(pieces: list[str], top: int | None) -> Json | None:
    """A plausible, deterministic logprob for each token of a text."""
    if top is None:
        return None
    content = []
    for i, piece in enumerate(pieces):
        chosen = {"token": piece, "logprob": -round(0.01 + (i * 37 % 100) / 250, 6), "bytes": list(piece.encode())}
        others = [
            {"token": f" {rank}", "logprob": chosen["logprob"] - rank, "bytes": list(f" {rank}".encode())}  # type: ignore[operator]
            for rank in range(1, top)
        ]
        content.append(chosen | {"top_logprobs": [dict(chosen), *others] if top else []})
    return {"content": content, "refusal": None}


def _audio_format(body: Json) -> str | None:
    if "audio" not in params.items(body, "modalities"):
        return None
    return str(params.need(body, "audio").get("format", "wav"))
