"""Stored chat completions: those that were created with `store: true`."""

from gateway.simulator import params
from gateway.simulator.call import Call, Handlers, Json, JsonReply, Reply
from gateway.simulator.store import Shelf, page
from gateway.simulator.world import World


def _shelf(world: World) -> Shelf:
    return world.store.shelf("chats")


def keep(world: World, body: Json, value: Json) -> None:
    """Stores a completion with the request that it answers."""
    messages = [{"id": f"{value['id']}-{i}"} | message for i, message in enumerate(body["messages"])]
    shown = value | {"metadata": params.metadata(body), "request_id": None}
    _shelf(world).add({"id": value["id"], "value": shown, "messages": messages})


async def list_all(world: World, call: Call) -> Reply:
    """GET /chat/completions."""
    model = call.asked("model")
    return JsonReply(
        _shelf(world).page(
            call,
            where=lambda kept: model is None or kept["value"]["model"] == model,
            order="asc",
            shown=lambda kept: kept["value"],
        )
    )


async def retrieve(world: World, call: Call) -> Reply:
    """GET /chat/completions/{completion_id}."""
    return JsonReply(_shelf(world).get(call.params["completion_id"])["value"])


async def update(world: World, call: Call) -> Reply:
    """POST /chat/completions/{completion_id}."""
    value: Json = _shelf(world).get(call.params["completion_id"])["value"]
    value["metadata"] = params.metadata(call.body)
    return JsonReply(value)


async def delete(world: World, call: Call) -> Reply:
    """DELETE /chat/completions/{completion_id}."""
    kept = _shelf(world).remove(call.params["completion_id"])
    return JsonReply({"object": "chat.completion.deleted", "id": kept["id"], "deleted": True})


async def messages(world: World, call: Call) -> Reply:
    """GET /chat/completions/{completion_id}/messages."""
    return JsonReply(page(_shelf(world).get(call.params["completion_id"])["messages"], call, order="asc"))


HANDLERS: Handlers = (
    ("listChatCompletions", list_all),
    ("getChatCompletion", retrieve),
    ("updateChatCompletion", update),
    ("deleteChatCompletion", delete),
    ("getChatCompletionMessages", messages),
)
