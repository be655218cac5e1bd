"""Moderations: everything is harmless but texts with a few plain words."""

from types import MappingProxyType
from typing import Any

from gateway.simulator import answers, catalog, errors, media, params, tokens
from gateway.simulator.book import Meta, Quantities
from gateway.simulator.call import Call, Handlers, Json, JsonReply, Reply
from gateway.simulator.text import Dice
from gateway.simulator.world import World

# Category → the words that make it apply, and whether it looks at pictures.
_CATEGORIES = MappingProxyType(
    {
        "harassment": (("idiot",), False),
        "harassment/threatening": ((), False),
        "hate": (("hate",), False),
        "hate/threatening": ((), False),
        "illicit": (("steal",), False),
        "illicit/violent": ((), False),
        "self-harm": ((), True),
        "self-harm/intent": ((), True),
        "self-harm/instructions": ((), True),
        "sexual": ((), True),
        "sexual/minors": ((), False),
        "violence": (("kill", "murder"), True),
        "violence/graphic": (("blood",), True),
    }
)


async def create(world: World, call: Call) -> Reply:
    """POST /moderations."""
    model = params.model(call, "omni-moderation-latest")
    value = params.need(call.body, "input")
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not value:
        raise errors.wrong_type("input", "a string or an array", value)
    several = all(isinstance(part, str) for part in value)
    groups: list[list[Any]] = [[part] for part in value] if several else [value]
    read = [_read(group) for group in groups]
    used = sum(size for _, size, _ in read)
    served = catalog.resolve(model)
    results = [_result(model, text, pictures=pictures) for text, _, pictures in read]
    answer: Json = {"id": world.ids.make("modr-"), "model": served, "results": results}
    return JsonReply(answer, Meta(Quantities(input_tokens=used), served, object_id=answer["id"]))


def _read(parts: list[Any]) -> tuple[str, int, bool]:
    """The text of one input, its tokens, and whether it has pictures."""
    texts, size, pictures = [], 0, False
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and part.get("type") == "text":
            texts.append(str(part.get("text", "")))
        elif isinstance(part, dict) and part.get("type") == "image_url":
            pictures = True
            size += media.picture_tokens(media.picture_size(media.head(str(part["image_url"].get("url", "")))))
        else:
            raise errors.wrong_type("input", "a string or an array of strings or content parts", part)
    text = "\n".join(texts)
    return text, size + tokens.count(text), pictures


def _result(model: str, text: str, *, pictures: bool) -> Json:
    dice, lowered = Dice(answers.seed_of(model, text)), text.lower()
    found = {name: any(word in lowered for word in words) for name, (words, _) in _CATEGORIES.items()}
    kinds = {name: ["text", "image"] if sees and pictures else ["text"] for name, (_, sees) in _CATEGORIES.items()}
    scores = {name: 0.9 + dice.below(900) / 10_000 if hit else dice.below(900) / 1e6 for name, hit in found.items()}
    return {
        "flagged": any(found.values()),
        "categories": found,
        "category_scores": scores,
        "category_applied_input_types": kinds,
    }


HANDLERS: Handlers = (("createModeration", create),)
