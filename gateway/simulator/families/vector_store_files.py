"""The files of vector stores, one by one and in batches."""

from gateway.simulator import errors, params
from gateway.simulator.book import Meta, Quantities
from gateway.simulator.call import Call, Handlers, Json, JsonReply, Reply
from gateway.simulator.families import files, vector_stores
from gateway.simulator.world import World

_MAX_BATCH = 2000
_PASSAGE_CHARACTERS = 2000


def _store(world: World, call: Call) -> Json:
    return vector_stores.shelf(world).get(call.params["vector_store_id"])


def _file(world: World, call: Call) -> Json:
    return vector_stores.files_of(world, _store(world, call)["id"]).get(call.params["file_id"])


async def create(world: World, call: Call) -> Reply:
    """POST /vector_stores/{vector_store_id}/files."""
    store = _store(world, call)
    value = vector_stores.attach(world, store, call.body, call)
    used = Quantities(bytes=files.shelf(world).get(value["id"])["bytes"])
    return JsonReply(value, Meta(used, object_id=value["id"], parent=store["id"]))


async def retrieve(world: World, call: Call) -> Reply:
    """GET /vector_stores/{vector_store_id}/files/{file_id}."""
    return JsonReply(_file(world, call))


async def update(world: World, call: Call) -> Reply:
    """POST /vector_stores/{vector_store_id}/files/{file_id}."""
    value = _file(world, call)
    value["attributes"] = params.mapping(call.body, "attributes")
    return JsonReply(value)


async def content(world: World, call: Call) -> Reply:
    """GET /vector_stores/{vector_store_id}/files/{file_id}/content."""
    text = files.read(world, _file(world, call)["id"]).decode("utf-8", "replace")
    starts = range(0, max(1, len(text)), _PASSAGE_CHARACTERS)
    data = [{"type": "text", "text": text[start : start + _PASSAGE_CHARACTERS]} for start in starts]
    page = {"object": "vector_store.file_content.page", "data": data, "has_more": False, "next_page": None}
    return JsonReply(page)


async def list_all(world: World, call: Call) -> Reply:
    """GET /vector_stores/{vector_store_id}/files."""
    wanted = call.asked("filter")
    shelf = vector_stores.files_of(world, _store(world, call)["id"])
    return JsonReply(shelf.page(call, where=lambda file: wanted is None or file["status"] == wanted))


async def delete(world: World, call: Call) -> Reply:
    """DELETE /vector_stores/{vector_store_id}/files/{file_id}: the file itself stays."""
    store, value = _store(world, call), _file(world, call)
    vector_stores.files_of(world, store["id"]).remove(value["id"])
    vector_stores.recount(world, store)
    return JsonReply({"id": value["id"], "object": "vector_store.file.deleted", "deleted": True})


async def create_batch(world: World, call: Call) -> Reply:
    """POST /vector_stores/{vector_store_id}/file_batches."""
    store, body = _store(world, call), call.body
    drafts = params.items(body, "files")
    if not drafts:
        shared = {name: body[name] for name in ("attributes", "chunking_strategy") if body.get(name)}
        drafts = [{"file_id": file_id} | shared for file_id in params.need_list(body, "file_ids")]
    if not 1 <= len(drafts) <= _MAX_BATCH:
        raise errors.ApiError(400, f"A batch has 1 to {_MAX_BATCH} files.", param="file_ids")
    known = [files.shelf(world).get(params.need_text(draft, "file_id")) for draft in drafts]
    batch: Json = {
        "id": world.ids.hexadecimal("vsfb_"),
        "object": "vector_store.file_batch",
        "created_at": world.now(),
        "vector_store_id": store["id"],
        "status": "in_progress",
    }
    world.store.shelf("vector_store_batches", store["id"]).add(batch)
    for draft in drafts:
        vector_stores.attach(world, store, draft, call, batch["id"])
    used = Quantities(bytes=sum(file["bytes"] for file in known))
    return JsonReply(_shown(world, batch), Meta(used, object_id=batch["id"], parent=store["id"]))


def _members(world: World, batch: Json) -> list[Json]:
    shelf = vector_stores.files_of(world, batch["vector_store_id"])
    found = (shelf.find(row["id"]) for row in world.store.shelf("batch_files", batch["id"]))
    return [file for file in found if file is not None]


def _shown(world: World, batch: Json) -> Json:
    """A batch as its files stand now."""
    members = _members(world, batch)
    counts = {
        status: sum(file["status"] == status for file in members)
        for status in ("in_progress", "completed", "failed", "cancelled")
    }
    if batch["status"] == "in_progress" and not counts["in_progress"]:
        batch["status"] = "completed"
    return batch | {"file_counts": counts | {"total": len(members)}}


def _batch(world: World, call: Call) -> Json:
    return world.store.shelf("vector_store_batches", _store(world, call)["id"]).get(call.params["batch_id"])


async def retrieve_batch(world: World, call: Call) -> Reply:
    """GET /vector_stores/{vector_store_id}/file_batches/{batch_id}."""
    return JsonReply(_shown(world, _batch(world, call)))


async def cancel_batch(world: World, call: Call) -> Reply:
    """POST /vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel."""
    batch = _batch(world, call)
    for file in _members(world, batch):
        if file["status"] == "in_progress":
            file["status"] = "cancelled"
    if batch["status"] == "in_progress":
        batch["status"] = "cancelled"
    vector_stores.recount(world, _store(world, call))
    return JsonReply(_shown(world, batch))


async def list_batch(world: World, call: Call) -> Reply:
    """GET /vector_stores/{vector_store_id}/file_batches/{batch_id}/files."""
    batch, wanted = _batch(world, call), call.asked("filter")
    members = {file["id"] for file in _members(world, batch)}
    shelf = vector_stores.files_of(world, batch["vector_store_id"])
    return JsonReply(
        shelf.page(call, where=lambda file: file["id"] in members and (wanted is None or file["status"] == wanted))
    )


HANDLERS: Handlers = (
    ("createVectorStoreFile", create),
    ("getVectorStoreFile", retrieve),
    ("updateVectorStoreFileAttributes", update),
    ("retrieveVectorStoreFileContent", content),
    ("listVectorStoreFiles", list_all),
    ("deleteVectorStoreFile", delete),
    ("createVectorStoreFileBatch", create_batch),
    ("getVectorStoreFileBatch", retrieve_batch),
    ("cancelVectorStoreFileBatch", cancel_batch),
    ("listFilesInVectorStoreBatch", list_batch),
)
