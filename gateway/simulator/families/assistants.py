"""Assistants."""

from gateway.simulator import params
from gateway.simulator.book import Meta
from gateway.simulator.call import Call, Handlers, Json, JsonReply, Reply
from gateway.simulator.families import vector_stores
from gateway.simulator.store import Shelf
from gateway.simulator.world import World

_COPIED = ("name", "description", "instructions", "temperature", "top_p", "response_format", "reasoning_effort")


def shelf(world: World) -> Shelf:
    return world.store.shelf("assistants")


async def create(world: World, call: Call) -> Reply:
    """POST /assistants."""
    body = call.body
    value: Json = {
        "id": world.ids.make("asst_"),
        "object": "assistant",
        "created_at": world.now(),
        "name": None,
        "description": None,
        "model": params.model(call),
        "instructions": None,
        "tools": params.typed(body, "tools"),
        "tool_resources": vector_stores.resources(world, body, call),
        "metadata": params.metadata(body),
        "temperature": 1.0,
        "top_p": 1.0,
        "response_format": "auto",
    }
    params.text(body, "reasoning_effort")
    value |= {name: body[name] for name in _COPIED if body.get(name) is not None}
    return JsonReply(shelf(world).add(value), Meta(object_id=value["id"]))


async def retrieve(world: World, call: Call) -> Reply:
    """GET /assistants/{assistant_id}."""
    return JsonReply(shelf(world).get(call.params["assistant_id"]))


async def list_all(world: World, call: Call) -> Reply:
    """GET /assistants."""
    return JsonReply(shelf(world).page(call))


async def modify(world: World, call: Call) -> Reply:
    """POST /assistants/{assistant_id}."""
    value, body = shelf(world).get(call.params["assistant_id"]), call.body
    params.typed(body, "tools")
    value |= {name: body[name] for name in (*_COPIED, "model", "tools") if name in body}
    if "metadata" in body:
        value["metadata"] = params.metadata(body)
    if "tool_resources" in body:
        value["tool_resources"] = vector_stores.resources(world, body, call)
    return JsonReply(value)


async def delete(world: World, call: Call) -> Reply:
    """DELETE /assistants/{assistant_id}."""
    value = shelf(world).remove(call.params["assistant_id"])
    return JsonReply({"id": value["id"], "object": "assistant.deleted", "deleted": True})


HANDLERS: Handlers = (
    ("createAssistant", create),
    ("getAssistant", retrieve),
    ("listAssistants", list_all),
    ("modifyAssistant", modify),
    ("deleteAssistant", delete),
)
