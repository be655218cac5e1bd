"""Decisions: questions about an input, answered with probabilities. Rule: 4 output tokens for each question."""

from typing import Any

from gateway.simulator import answers, catalog, errors, params
from gateway.simulator.book import Meta
from gateway.simulator.call import Call, Handlers, Json, JsonReply, Reply
from gateway.simulator.families import response_input
from gateway.simulator.families.response_plan import usage_object
from gateway.simulator.families.tiers import served_tier
from gateway.simulator.text import Dice
from gateway.simulator.world import World, text_usage

TOKENS_PER_ANSWER = 4


async def create(world: World, call: Call) -> Reply:
    """POST /decisions."""
    body, model = call.body, params.model(call)
    params.need(body, "input")
    questions = params.need_list(body, "questions")
    read = response_input.take(world, call, {}).read
    dice = Dice(answers.seed_of(model, read.text))
    given = [_answer(question, dice, i) for i, question in enumerate(questions)]
    usage = text_usage(read, world.cached(call, read), TOKENS_PER_ANSWER * len(given), 0)
    served = catalog.resolve(model)
    value: Json = {"answers": given, "model": served, "usage": usage_object(usage)}
    return JsonReply(value, Meta(usage, served, served_tier(body)))


def _answer(question: Any, dice: Dice, index: int) -> Json:
    if not isinstance(question, dict):
        raise errors.wrong_type(f"questions[{index}]", "an object", question)
    kind = question.get("type")
    named: Json = {"type": kind} | ({"name": question["name"]} if question.get("name") else {})
    if kind == "predicate":
        return named | {"probability": _share(dice)}
    if kind == "choice":
        values = [params.need(choice, "value") for choice in _some(question, "choices")]
        shares = _shares(dice, len(values))
        rows = [{"value": value, "probability": share} for value, share in zip(values, shares, strict=True)]
        best = max(range(len(values)), key=shares.__getitem__)
        return named | {"choice": values[best], "confidence": shares[best], "probabilities": rows}
    if kind == "score":
        labels = [params.need(level, "label") for level in _some(question, "levels")]
        shares = _shares(dice, len(labels))
        rows = [
            {"label": label, "value": i, "probability": share}
            for i, (label, share) in enumerate(zip(labels, shares, strict=True), 1)
        ]
        mean = sum(row["value"] * row["probability"] for row in rows)
        return named | {"score": round(mean, 4), "confidence": max(shares), "probabilities": rows}
    raise errors.wrong_value(f"questions[{index}].type", kind, ("predicate", "choice", "score"))


def _some(question: Json, name: str) -> list[Json]:
    found = params.objects(question, name)
    if not found:
        raise errors.missing(name)
    return found


def _share(dice: Dice) -> float:
    return round((1 + dice.below(998)) / 1000, 3)


def _shares(dice: Dice, count: int) -> list[float]:
    parts = [1 + dice.below(100) for _ in range(count)]
    return [round(part / sum(parts), 4) for part in parts]


HANDLERS: Handlers = (("createDecision", create),)
