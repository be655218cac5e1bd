"""What no family serves: plausible objects, kept by path.

POST to a collection makes an object out of the body, with an id, `object` and `created_at`; GET lists and retrieves,
POST to an object updates it, DELETE removes it; POST to something below an object (`.../pause`) answers with the
object. Nothing of it has usage.
"""

import re
from collections.abc import Iterable

from gateway.operations.table import Operation
from gateway.simulator.book import Meta
from gateway.simulator.call import BytesReply, Call, Handler, Handlers, Json, JsonReply, Reply
from gateway.simulator.store import Shelf
from gateway.simulator.world import World


def handlers(operations: Iterable[Operation], known: Iterable[str]) -> Handlers:
    """Handlers for all operations of the data plane that have none and are no sockets."""
    rows = [operation for operation in operations if operation.plane == "proxied" and "websocket" not in operation.body]
    collections = {row.path[: at.start()] for row in rows for at in re.finditer("/{", row.path)}
    collections |= {row.path for row in rows if row.method == "GET" and not row.path.endswith("}")}
    served = frozenset(known)
    return tuple(
        (row.id, _handler(row.method, row.path, is_collection=row.path in collections))
        for row in rows
        if row.id not in served
    )


def _handler(method: str, template: str, *, is_collection: bool) -> Handler:
    if template.endswith("}"):
        return _one(method)
    if method == "GET":
        return _content if template.endswith("/content") else _list
    return _create if is_collection or template.count("/") == 1 else _act


def _parts(call: Call) -> tuple[str, str]:
    """The collection's path and the id in it."""
    collection, _, object_id = call.entry.path.removeprefix("/v1").rpartition("/")
    return collection, object_id


def _shelf(world: World, collection: str) -> Shelf:
    return world.store.shelf("generic", collection)


def _kind(collection: str) -> str:
    return collection.rpartition("/")[2].removesuffix("s")


async def _create(world: World, call: Call) -> Reply:
    collection = call.entry.path.removeprefix("/v1").rstrip("/")
    kind = _kind(collection)
    head: Json = {"id": world.ids.hexadecimal(f"{kind}_"), "object": kind, "created_at": world.now()}
    value = _shelf(world, collection).add(call.body | head)
    return JsonReply(value, Meta(object_id=value["id"]))


async def _list(world: World, call: Call) -> Reply:
    return JsonReply(_shelf(world, call.entry.path.removeprefix("/v1")).page(call))


async def _content(world: World, call: Call) -> Reply:
    return BytesReply(world.prose.text(len(call.entry.path), 40).encode(), "application/octet-stream")


async def _act(world: World, call: Call) -> Reply:
    """`POST .../{id}/pause`, and what has no object: `POST /fine_tuning/alpha/graders/run`."""
    above, _ = _parts(call)
    collection, _, object_id = above.rpartition("/")
    found = _shelf(world, collection).find(object_id)
    return JsonReply(found if found is not None else {"object": _kind(call.entry.path)} | call.body)


def _one(method: str) -> Handler:
    async def answer(world: World, call: Call) -> Reply:
        collection, object_id = _parts(call)
        shelf = _shelf(world, collection)
        if method == "DELETE":
            value = shelf.remove(object_id)
            return JsonReply({"id": value["id"], "object": f"{value['object']}.deleted", "deleted": True})
        value = shelf.get(object_id)
        if method == "POST":
            value |= {name: member for name, member in call.body.items() if name not in {"id", "object", "created_at"}}
        return JsonReply(value)

    return answer
