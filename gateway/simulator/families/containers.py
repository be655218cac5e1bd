"""Containers: a session each, and files in them."""

from pathlib import PurePosixPath

from gateway.simulator import params
from gateway.simulator.book import Meta, Quantities
from gateway.simulator.call import Call, FileReply, Handlers, Json, JsonReply, Reply
from gateway.simulator.families import files
from gateway.simulator.store import Shelf
from gateway.simulator.world import World

_LIFETIME_MIN = 20


def _shelf(world: World) -> Shelf:
    return world.store.shelf("containers")


async def create(world: World, call: Call) -> Reply:
    """POST /containers."""
    value: Json = {
        "id": world.ids.hexadecimal("cntr_", 48),
        "object": "container",
        "created_at": world.now(),
        "status": "running",
        "expires_after": params.mapping(call.body, "expires_after")
        or {"anchor": "last_active_at", "minutes": _LIFETIME_MIN},
        "last_active_at": world.now(),
        "memory_limit": params.choice(call.body, "memory_limit", ("1g", "4g", "16g", "64g"), "1g"),
        "name": params.need_text(call.body, "name"),
    }
    _shelf(world).add(value)
    return JsonReply(value, Meta(Quantities(sessions=1), object_id=value["id"]))


async def retrieve(world: World, call: Call) -> Reply:
    """GET /containers/{container_id}."""
    return JsonReply(_shelf(world).get(call.params["container_id"]))


async def list_all(world: World, call: Call) -> Reply:
    """GET /containers."""
    return JsonReply(_shelf(world).page(call))


async def delete(world: World, call: Call) -> Reply:
    """DELETE /containers/{container_id}."""
    value = _shelf(world).remove(call.params["container_id"])
    return JsonReply({"id": value["id"], "object": "container.deleted", "deleted": True})


def _files(world: World, call: Call) -> Shelf:
    return world.store.shelf("container_files", _shelf(world).get(call.params["container_id"])["id"])


async def create_file(world: World, call: Call) -> Reply:
    """POST /containers/{container_id}/files: uploaded, or a copy of a stored file."""
    shelf = _files(world, call)
    if file_id := params.text(call.body, "file_id"):
        source = files.shelf(world).get(file_id)
    else:
        upload = files.taken(call, "file")
        source = files.keep(world, upload.path, upload.filename, "user_data")
    value: Json = {
        "id": world.ids.hexadecimal("cfile_", 48),
        "object": "container.file",
        "created_at": world.now(),
        "bytes": source["bytes"],
        "container_id": call.params["container_id"],
        "path": f"/mnt/data/{source['filename']}",
        "source": "user",
    }
    world.store.shelf("container_sources", value["container_id"]).add({"id": value["id"], "file": source["id"]})
    return JsonReply(shelf.add(value), Meta(object_id=value["id"], parent=value["container_id"]))


async def get_file(world: World, call: Call) -> Reply:
    """GET /containers/{container_id}/files/{file_id}."""
    return JsonReply(_files(world, call).get(call.params["file_id"]))


async def list_files(world: World, call: Call) -> Reply:
    """GET /containers/{container_id}/files."""
    return JsonReply(_files(world, call).page(call))


async def delete_file(world: World, call: Call) -> Reply:
    """DELETE /containers/{container_id}/files/{file_id}."""
    value = _files(world, call).remove(call.params["file_id"])
    return JsonReply({"id": value["id"], "object": "container.file.deleted", "deleted": True})


async def content(world: World, call: Call) -> Reply:
    """GET /containers/{container_id}/files/{file_id}/content."""
    value = _files(world, call).get(call.params["file_id"])
    source = world.store.shelf("container_sources", value["container_id"]).get(value["id"])["file"]
    name = PurePosixPath(value["path"]).name
    return FileReply(files.path_of(world, files.shelf(world).get(source)["id"]), "application/octet-stream", name)


HANDLERS: Handlers = (
    ("CreateContainer", create),
    ("RetrieveContainer", retrieve),
    ("ListContainers", list_all),
    ("DeleteContainer", delete),
    ("CreateContainerFile", create_file),
    ("RetrieveContainerFile", get_file),
    ("ListContainerFiles", list_files),
    ("DeleteContainerFile", delete_file),
    ("RetrieveContainerFileContent", content),
)
