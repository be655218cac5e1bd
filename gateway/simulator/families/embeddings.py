"""Embeddings: unit vectors that depend on the text alone."""

import array
import base64
import math
from typing import Any

from gateway.simulator import answers, catalog, errors, params, tokens
from gateway.simulator.book import Meta, Quantities
from gateway.simulator.call import Call, Handlers, Json, JsonReply, Reply
from gateway.simulator.text import Dice
from gateway.simulator.world import World

_MAX_INPUTS = 2048
_POOL = 4096  # waves to mix a vector from


async def create(world: World, call: Call) -> Reply:
    """POST /embeddings."""
    body, model = call.body, params.model(call)
    inputs = _inputs(params.need(body, "input"))
    own = 3072 if "large" in model else 1536
    length = params.integer(body, "dimensions", own, least=1, most=own) or own
    encoded = params.choice(body, "encoding_format", ("float", "base64"), "float") == "base64"
    data: list[Json] = []
    used = 0
    for i, (text, size) in enumerate(inputs):
        used += size
        vector = _vector(answers.seed_of(model, text), length)
        embedding: Any = base64.b64encode(array.array("f", vector).tobytes()).decode() if encoded else vector
        data.append({"object": "embedding", "index": i, "embedding": embedding})
        if i % 16 == 15:
            await world.breathe()
    served = catalog.resolve(model)
    usage = {"prompt_tokens": used, "total_tokens": used}
    return JsonReply(
        {"object": "list", "data": data, "model": served, "usage": usage}, Meta(Quantities(input_tokens=used), served)
    )


def _inputs(value: Any) -> list[tuple[str, int]]:
    """A text, texts, tokens or lists of tokens → text and number of tokens of each."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        raise errors.wrong_type("input", "a string or an array", value)
    if not value or value == [""]:
        raise errors.ApiError(400, "'$.input' is invalid. Please check the API reference.", param="input")
    if all(isinstance(part, int) for part in value):
        value = [value]
    if len(value) > _MAX_INPUTS:
        raise errors.ApiError(
            400, f"Invalid 'input': array too long. Expected an array with maximum length {_MAX_INPUTS}.", param="input"
        )
    found = []
    for part in value:
        if isinstance(part, str):
            found.append((part, tokens.count(part)))
        elif isinstance(part, list):
            found.append((" ".join(map(str, part)), len(part)))
        else:
            raise errors.wrong_type("input", "a string or an array", part)
    return found


def _vector(seed: int, length: int) -> list[float]:
    """A vector of length 1: the sum of two waves whose frequencies and phases the seed chooses."""
    dice = Dice(seed)
    first, second = 0.1 + dice.below(_POOL) / 1000, 0.3 + dice.below(_POOL) / 777
    sin = math.sin
    values = [sin(i * first) + sin(i * second + 1.0) for i in range(1, length + 1)]
    scale = 1 / (math.sqrt(math.fsum(value * value for value in values)) or 1.0)
    return [round(value * scale, 8) for value in values]


HANDLERS: Handlers = (("createEmbedding", create),)
