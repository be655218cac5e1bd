"""The Responses API over HTTP: answers in one piece, streamed, or in the background.

A background response, streamed or not, has its usage in the record of its job. Its events are kept, so that a stream
can be taken up again.
"""

import base64
from collections.abc import Iterator

from gateway.simulator import answers, errors, params
from gateway.simulator.book import NOTHING, Ended, Meta
from gateway.simulator.call import Call, Event, EventReply, Handlers, Json, JsonReply, Reply
from gateway.simulator.families import conversations, response_input, response_plan
from gateway.simulator.families.response_events import Script, contents
from gateway.simulator.families.response_plan import Plan
from gateway.simulator.families.tiers import served_tier
from gateway.simulator.store import page
from gateway.simulator.world import World, text_usage

_ENDED = frozenset({"completed", "failed", "incomplete", "cancelled"})
_COMPACTED_TOKENS = 160


def begin(world: World, call: Call, recent: dict[str, Json]) -> tuple[Plan, Script]:
    """Plans a response and its events. recent: see response_input.take. Raises ApiError."""
    plan = response_plan.make(world, call, response_input.take(world, call, recent))
    options = params.mapping(call.body, "stream_options")
    noise = params.flag(options, "include_obfuscation", default=True)
    return plan, Script(plan, chunks=call.faults.chunks, noise=noise, no_usage=call.faults.no_usage)


def memory(plan: Plan, value: Json) -> Json:
    """What is kept of a response, so that others can follow it."""
    return {"id": value["id"], "value": value, "input": plan.given.items, "earlier": plan.given.earlier}


def remember(world: World, plan: Plan, value: Json) -> Json:
    """Stores a finished response, if it wants that, and puts it into its conversation."""
    kept = memory(plan, value)
    if value["store"]:
        world.store.shelf("responses").add(kept)
    if value["conversation"]:
        conversations.append(world, value["conversation"]["id"], [*plan.given.items, *value["output"]])
    return kept


async def create(world: World, call: Call) -> Reply:
    """POST /responses."""
    body = call.body
    background, stream = params.flag(body, "background"), params.flag(body, "stream")
    if background and not params.flag(body, "store", default=True):
        raise errors.ApiError(400, "Background mode requires store to be true.", param="background")
    plan, script = begin(world, call, {})
    if background:
        return _background(world, call, plan, script, stream=stream)
    if stream:
        events = _live(world, plan, script)
        return EventReply(events, plan.meta, contents(plan, call.faults.chunks), end=b"", failure=script.failure)
    remember(world, plan, script.finish())
    return JsonReply(script.value, plan.meta)


def _live(world: World, plan: Plan, script: Script) -> Iterator[Event]:
    """Remembered only if it comes to its end."""
    yield from script.events()
    remember(world, plan, script.value)


def _background(world: World, call: Call, plan: Plan, script: Script, *, stream: bool) -> Reply:
    world.store.shelf("responses").add(memory(plan, script.value))
    events = _worked(world, call, plan, script)
    meta = Meta(NOTHING, plan.meta.model, plan.meta.tier, plan.meta.object_id, plan.meta.parent)
    if stream:
        return EventReply(
            events, meta, contents(plan, call.faults.chunks), end=b"", failure=script.failure, detached=True
        )
    shown = dict(script.value)
    world.start("background response", _drive(world, call, events))
    return JsonReply(shown, meta)


def _worked(world: World, call: Call, plan: Plan, script: Script) -> Iterator[Event]:
    """The events of a background response: kept as they are made; at the end its record."""
    started_at, usage = world.clock.wall(), plan.usage
    made: list[Event] = []
    world.store.shelf("response_events").add({"id": script.value["id"], "events": made})
    for event in script.events():
        made.append(event)
        yield event
        if script.value["status"] == "cancelled":
            usage = text_usage(plan.given.read, (plan.usage.cached_tokens, 0), script.tokens, script.reasoning)
            script.value["usage"] = response_plan.usage_object(usage)
            break
    meta = Meta(usage, plan.meta.model, plan.meta.tier, plan.meta.object_id, plan.meta.parent)
    ended: Ended = "error" if script.value["status"] == "failed" else "complete"
    world.note_job(call.entry, meta, ended=ended, started_at=started_at, faults=call.faults)
    if script.value["conversation"]:
        output = [*plan.given.items, *script.value["output"]]
        conversations.append(world, script.value["conversation"]["id"], output)


async def _drive(world: World, call: Call, events: Iterator[Event]) -> None:
    pace_s = call.faults.pace_s or 0.0
    await world.step()
    for i, event in enumerate(events):
        if event.name == "response.in_progress":
            await world.step()
        elif event.tokens and pace_s:
            await world.pause(pace_s)
        elif i % 32 == 0:
            await world.breathe()


async def retrieve(world: World, call: Call) -> Reply:
    """GET /responses/{response_id}: the object, or with `stream=true` its events after `starting_after`."""
    kept = response_input.kept(world, call.params["response_id"])
    if call.asked("stream") != "true":
        return JsonReply(kept["value"])
    if not kept["value"]["background"]:
        message = "Only responses that were created with background=true can be streamed again."
        raise errors.ApiError(400, message, param="stream")
    while kept["value"]["status"] not in _ENDED:
        await world.pause(0.01)
    after = params.integer({"starting_after": call.asked("starting_after")}, "starting_after", -1) or 0
    made = world.store.shelf("response_events").get(kept["id"])["events"]
    return EventReply(iter(made[after + 1 :]), Meta(object_id=kept["id"]), end=b"")


async def delete(world: World, call: Call) -> Reply:
    """DELETE /responses/{response_id}."""
    kept = world.store.shelf("responses").remove(call.params["response_id"])
    return JsonReply({"id": kept["id"], "object": "response", "deleted": True})


async def cancel(world: World, call: Call) -> Reply:
    """POST /responses/{response_id}/cancel: of background responses."""
    value = response_input.kept(world, call.params["response_id"])["value"]
    if not value["background"]:
        raise errors.ApiError(400, "Only responses created with background=true can be cancelled.")
    if value["status"] not in _ENDED:
        value["status"] = "cancelled"
    return JsonReply(value)


async def list_input(world: World, call: Call) -> Reply:
    """GET /responses/{response_id}/input_items."""
    kept = response_input.kept(world, call.params["response_id"])
    return JsonReply(page(kept["input"], call))


async def count_input(world: World, call: Call) -> Reply:
    """POST /responses/input_tokens: counted, not billed."""
    given = response_input.take(world, call, {})
    return JsonReply({"object": "response.input_tokens", "input_tokens": given.read.tokens})


async def compact(world: World, call: Call) -> Reply:
    """POST /responses/compact: the input as one item. Rule: it has 160 tokens, and never more than the input."""
    model = params.model(call)
    given = response_input.take(world, call, {})
    size = min(_COMPACTED_TOKENS, given.read.tokens)
    text = world.prose.text(answers.seed_of(model, given.read.text), size)
    usage = text_usage(given.read, world.cached(call, given.read), size, 0)
    item = {
        "id": world.ids.hexadecimal("cmp_", 48),
        "type": "compaction",
        "encrypted_content": base64.b64encode(text.encode()).decode(),
    }
    value: Json = {
        "id": world.ids.hexadecimal("resp_", 48),
        "object": "response.compaction",
        "created_at": call.seen_at,
        "output": [item],
        "usage": response_plan.usage_object(usage),
    }
    return JsonReply(value, Meta(usage, model, served_tier(call.body), value["id"]))


HANDLERS: Handlers = (
    ("createResponse", create),
    ("getResponse", retrieve),
    ("deleteResponse", delete),
    ("cancelResponse", cancel),
    ("listInputItems", list_input),
    ("Getinputtokencounts", count_input),
    ("Compactconversation", compact),
)
