"""Threads and their messages."""

from typing import Any

from gateway.simulator import errors, params
from gateway.simulator.book import Meta
from gateway.simulator.call import Call, Handlers, Json, JsonReply, Reply
from gateway.simulator.families import vector_stores
from gateway.simulator.store import Shelf
from gateway.simulator.world import World

ENDED = frozenset({"cancelled", "failed", "completed", "incomplete", "expired"})


def shelf(world: World) -> Shelf:
    return world.store.shelf("threads")


def messages(world: World, thread_id: str) -> Shelf:
    return world.store.shelf("messages", thread_id)


def active_run(world: World, thread_id: str) -> Json | None:
    """The run that locks a thread."""
    for run in world.store.shelf("runs", thread_id):
        if run["status"] not in ENDED:
            return run
    return None


def make(world: World, body: Json, call: Call) -> Json:
    """A thread out of what POST /threads takes. Raises ApiError."""
    value: Json = {
        "id": world.ids.make("thread_"),
        "object": "thread",
        "created_at": world.now(),
        "metadata": params.metadata(body),
        "tool_resources": vector_stores.resources(world, body, call),
    }
    add_all(world, value["id"], params.items(body, "messages"))
    shelf(world).add(value)
    return value


def _message(world: World, thread_id: str, body: Any) -> Json:
    if not isinstance(body, dict):
        raise errors.wrong_type("messages", "an object", body)
    content = params.need(body, "content")
    if not isinstance(content, str | list):
        raise errors.wrong_type("content", "one of a string or array of objects", content)
    return {
        "id": world.ids.make("msg_"),
        "object": "thread.message",
        "created_at": world.now(),
        "thread_id": thread_id,
        "status": "completed",
        "incomplete_details": None,
        "completed_at": world.now(),
        "incomplete_at": None,
        "role": params.choice(body, "role", ("user", "assistant"), "user"),
        "content": [text_block(content)] if isinstance(content, str) else [_block(part) for part in content],
        "assistant_id": None,
        "run_id": None,
        "attachments": params.items(body, "attachments"),
        "metadata": params.metadata(body),
    }


def add_all(world: World, thread_id: str, drafts: list[Any]) -> None:
    """Adds messages to a thread. Raises ApiError before any is added."""
    for made in [_message(world, thread_id, draft) for draft in drafts]:
        messages(world, thread_id).add(made)


def blank(world: World, run: Json) -> Json:
    """The message that a run is going to write."""
    value = _message(world, run["thread_id"], {"role": "assistant", "content": []})
    value |= {"status": "in_progress", "completed_at": None, "run_id": run["id"], "assistant_id": run["assistant_id"]}
    return value


def text_block(text: str) -> Json:
    return {"type": "text", "text": {"value": text, "annotations": []}}


def _block(part: Any) -> Json:
    if isinstance(part, dict) and part.get("type") == "text":
        return text_block(str(part.get("text", "")))
    if isinstance(part, dict) and part.get("type") in ("image_url", "image_file"):
        return part
    raise errors.wrong_value("content", part, ("text", "image_url", "image_file"))


async def create(world: World, call: Call) -> Reply:
    """POST /threads."""
    value = make(world, call.body, call)
    return JsonReply(value, Meta(object_id=value["id"]))


async def retrieve(world: World, call: Call) -> Reply:
    """GET /threads/{thread_id}."""
    return JsonReply(shelf(world).get(call.params["thread_id"]))


async def modify(world: World, call: Call) -> Reply:
    """POST /threads/{thread_id}."""
    value = shelf(world).get(call.params["thread_id"])
    if "metadata" in call.body:
        value["metadata"] = params.metadata(call.body)
    if "tool_resources" in call.body:
        value["tool_resources"] = vector_stores.resources(world, call.body, call)
    return JsonReply(value)


async def delete(world: World, call: Call) -> Reply:
    """DELETE /threads/{thread_id}."""
    value = shelf(world).remove(call.params["thread_id"])
    return JsonReply({"id": value["id"], "object": "thread.deleted", "deleted": True})


async def add_message(world: World, call: Call) -> Reply:
    """POST /threads/{thread_id}/messages."""
    thread = shelf(world).get(call.params["thread_id"])
    if (run := active_run(world, thread["id"])) is not None:
        raise errors.ApiError(400, f"Can't add messages to {thread['id']} while a run {run['id']} is active.")
    value = messages(world, thread["id"]).add(_message(world, thread["id"], call.body))
    return JsonReply(value, Meta(object_id=value["id"], parent=thread["id"]))


async def list_messages(world: World, call: Call) -> Reply:
    """GET /threads/{thread_id}/messages."""
    thread, run_id = shelf(world).get(call.params["thread_id"]), call.asked("run_id")
    shown = messages(world, thread["id"])
    return JsonReply(shown.page(call, where=lambda message: run_id is None or message["run_id"] == run_id))


async def get_message(world: World, call: Call) -> Reply:
    """GET /threads/{thread_id}/messages/{message_id}."""
    return JsonReply(_message_of(world, call))


async def modify_message(world: World, call: Call) -> Reply:
    """POST /threads/{thread_id}/messages/{message_id}."""
    value = _message_of(world, call)
    value["metadata"] = params.metadata(call.body)
    return JsonReply(value)


async def delete_message(world: World, call: Call) -> Reply:
    """DELETE /threads/{thread_id}/messages/{message_id}."""
    value = _message_of(world, call)
    messages(world, value["thread_id"]).remove(value["id"])
    return JsonReply({"id": value["id"], "object": "thread.message.deleted", "deleted": True})


def _message_of(world: World, call: Call) -> Json:
    thread = shelf(world).get(call.params["thread_id"])
    return messages(world, thread["id"]).get(call.params["message_id"])


HANDLERS: Handlers = (
    ("createThread", create),
    ("getThread", retrieve),
    ("modifyThread", modify),
    ("deleteThread", delete),
    ("createMessage", add_message),
    ("listMessages", list_messages),
    ("getMessage", get_message),
    ("modifyMessage", modify_message),
    ("deleteMessage", delete_message),
)
