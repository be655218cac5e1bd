"""Conversations: lists of items that responses read and write."""

from gateway.simulator import errors, params
from gateway.simulator.book import Meta
from gateway.simulator.call import Call, Handlers, Json, JsonReply, Reply
from gateway.simulator.families import response_input
from gateway.simulator.store import Shelf, page
from gateway.simulator.world import World

_MOST_AT_ONCE = 20


def _shelf(world: World) -> Shelf:
    return world.store.shelf("conversations")


def append(world: World, conversation_id: str, items: list[Json]) -> None:
    """Adds items to a conversation, unless it has been deleted meanwhile."""
    if conversation_id in _shelf(world):
        shelf = world.store.shelf("conversation_items", conversation_id)
        for item in items:
            shelf.add(item)


async def create(world: World, call: Call) -> Reply:
    """POST /conversations."""
    items = response_input.normalised(world, call.body.get("items"))
    value: Json = {
        "id": world.ids.hexadecimal("conv_", 48),
        "object": "conversation",
        "created_at": world.now(),
        "metadata": params.metadata(call.body),
    }
    _shelf(world).add(value)
    append(world, value["id"], items)
    return JsonReply(value, Meta(object_id=value["id"]))


async def retrieve(world: World, call: Call) -> Reply:
    """GET /conversations/{conversation_id}."""
    return JsonReply(_shelf(world).get(call.params["conversation_id"]))


async def update(world: World, call: Call) -> Reply:
    """POST /conversations/{conversation_id}."""
    value = _shelf(world).get(call.params["conversation_id"])
    value["metadata"] = params.metadata(call.body)
    return JsonReply(value)


async def delete(world: World, call: Call) -> Reply:
    """DELETE /conversations/{conversation_id}."""
    value = _shelf(world).remove(call.params["conversation_id"])
    return JsonReply({"id": value["id"], "object": "conversation.deleted", "deleted": True})


def _items(world: World, call: Call) -> Shelf:
    return world.store.shelf("conversation_items", _shelf(world).get(call.params["conversation_id"])["id"])


async def add_items(world: World, call: Call) -> Reply:
    """POST /conversations/{conversation_id}/items."""
    shelf, given = _items(world, call), params.need_list(call.body, "items")
    if len(given) > _MOST_AT_ONCE:
        raise errors.ApiError(400, f"At most {_MOST_AT_ONCE} items at a time.", param="items")
    items = [shelf.add(item) for item in response_input.normalised(world, given)]
    return JsonReply(page(items, Call("", {}, call.entry, seen_at=call.seen_at), order="asc"))


async def list_items(world: World, call: Call) -> Reply:
    """GET /conversations/{conversation_id}/items."""
    return JsonReply(_items(world, call).page(call))


async def get_item(world: World, call: Call) -> Reply:
    """GET /conversations/{conversation_id}/items/{item_id}."""
    return JsonReply(_items(world, call).get(call.params["item_id"]))


async def delete_item(world: World, call: Call) -> Reply:
    """DELETE /conversations/{conversation_id}/items/{item_id}."""
    _items(world, call).remove(call.params["item_id"])
    return JsonReply(_shelf(world).get(call.params["conversation_id"]))


HANDLERS: Handlers = (
    ("createConversation", create),
    ("getConversation", retrieve),
    ("updateConversation", update),
    ("deleteConversation", delete),
    ("createConversationItems", add_items),
    ("listConversationItems", list_items),
    ("getConversationItem", get_item),
    ("deleteConversationItem", delete_item),
)
