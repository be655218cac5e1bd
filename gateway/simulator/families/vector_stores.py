"""Vector stores, and the search in them. Their files are in `vector_store_files.py`.

Rules. A file uses as many bytes as it has. Search scores a passage by the share of the query's words that it has; a
passage is about 100 words.
"""

import re
from typing import Any

from gateway.simulator import errors, params
from gateway.simulator.book import Meta, Quantities
from gateway.simulator.call import Call, Handlers, Json, JsonReply, Reply
from gateway.simulator.families import files
from gateway.simulator.store import Shelf
from gateway.simulator.world import World

_DAY_S = 86_400
_PASSAGE_WORDS = 100
_SEARCHED_BYTES = 4 << 20
_DEFAULT_CHUNKS = ("static", 800, 400)


def shelf(world: World) -> Shelf:
    return world.store.shelf("vector_stores")


def files_of(world: World, store_id: str) -> Shelf:
    return world.store.shelf("vector_store_files", store_id)


def make(world: World, body: Json, call: Call) -> Json:
    """A vector store out of what POST /vector_stores takes; its files begin to be processed."""
    wanted = params.texts(body, "file_ids")
    for file_id in wanted:
        files.shelf(world).get(file_id)
    expiry = params.mapping(body, "expires_after") or None
    value: Json = {
        "id": world.ids.hexadecimal("vs_"),
        "object": "vector_store",
        "created_at": world.now(),
        "name": params.text(body, "name"),
        "usage_bytes": 0,
        "file_counts": {"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0, "total": 0},
        "status": "completed",
        "expires_after": expiry,
        "expires_at": _expires_at(world, expiry),
        "last_active_at": world.now(),
        "metadata": params.metadata(body),
    }
    shelf(world).add(value)
    for file_id in wanted:
        attach(world, value, {"file_id": file_id, "chunking_strategy": body.get("chunking_strategy")}, call)
    return value


def _expires_at(world: World, expiry: Json | None) -> int | None:
    if expiry is None:
        return None
    days = params.integer(expiry, "days", least=1, most=365)
    if days is None:
        raise errors.missing("expires_after.days")
    return world.now() + days * _DAY_S


def resources(world: World, body: Json, call: Call) -> Json | None:
    """`tool_resources` of assistants and threads: vector stores that are described there are made."""
    given = body.get("tool_resources")
    if not isinstance(given, dict):
        return given if given is None else {}
    found = {name: dict(value) for name, value in given.items() if isinstance(value, dict)}
    described = params.objects(found.get("file_search", {}), "vector_stores")
    if described:
        del found["file_search"]["vector_stores"]
        made = [make(world, description, call)["id"] for description in described]
        found["file_search"]["vector_store_ids"] = [*found["file_search"].get("vector_store_ids", ()), *made]
    return found


def attach(world: World, store: Json, body: Json, call: Call, batch: str | None = None) -> Json:
    """Puts a file into a vector store; it is processed in the background."""
    file = files.shelf(world).get(params.need_text(body, "file_id"))
    value: Json = {
        "id": file["id"],
        "object": "vector_store.file",
        "usage_bytes": 0,
        "created_at": world.now(),
        "vector_store_id": store["id"],
        "status": "in_progress",
        "last_error": None,
        "chunking_strategy": _chunking(body.get("chunking_strategy")),
        "attributes": params.mapping(body, "attributes"),
    }
    files_of(world, store["id"]).add(value)
    recount(world, store)
    world.start("vector store file", _process(world, store, value, fails=call.faults.fail))
    if batch is not None:
        world.store.shelf("batch_files", batch).add({"id": file["id"]})
    return value


async def _process(world: World, store: Json, value: Json, *, fails: bool) -> None:
    await world.step()
    if value["status"] == "in_progress":
        file = files.shelf(world).find(value["id"])
        if fails or file is None:
            error = {"code": "invalid_file", "message": "The file could not be parsed."}
            value |= {"status": "failed", "last_error": error}
        else:
            value |= {"status": "completed", "usage_bytes": file["bytes"]}
    recount(world, store)


def recount(world: World, store: Json) -> None:
    """Sums a store's files up."""
    counts = dict.fromkeys(store["file_counts"], 0)
    used = 0
    for file in files_of(world, store["id"]):
        counts[file["status"]] += 1
        counts["total"] += 1
        used += file["usage_bytes"]
    store |= {
        "file_counts": counts,
        "usage_bytes": used,
        "status": "in_progress" if counts["in_progress"] else "completed",
        "last_active_at": world.now(),
    }


def _chunking(given: Any) -> Json:
    if isinstance(given, dict) and given.get("type") == "static":
        return given
    kind, size, overlap = _DEFAULT_CHUNKS
    return {"type": kind, kind: {"max_chunk_size_tokens": size, "chunk_overlap_tokens": overlap}}


async def create(world: World, call: Call) -> Reply:
    """POST /vector_stores."""
    value = make(world, call.body, call)
    return JsonReply(value, Meta(_bytes(world, params.texts(call.body, "file_ids")), object_id=value["id"]))


def _bytes(world: World, file_ids: list[str]) -> Quantities:
    return Quantities(bytes=sum(files.shelf(world).get(file_id)["bytes"] for file_id in file_ids))


async def retrieve(world: World, call: Call) -> Reply:
    """GET /vector_stores/{vector_store_id}."""
    return JsonReply(shelf(world).get(call.params["vector_store_id"]))


async def list_all(world: World, call: Call) -> Reply:
    """GET /vector_stores."""
    return JsonReply(shelf(world).page(call))


async def modify(world: World, call: Call) -> Reply:
    """POST /vector_stores/{vector_store_id}."""
    value, body = shelf(world).get(call.params["vector_store_id"]), call.body
    if "name" in body:
        value["name"] = params.text(body, "name")
    if "metadata" in body:
        value["metadata"] = params.metadata(body)
    if "expires_after" in body:
        expiry = params.mapping(body, "expires_after") or None
        value |= {"expires_after": expiry, "expires_at": _expires_at(world, expiry)}
    return JsonReply(value)


async def delete(world: World, call: Call) -> Reply:
    """DELETE /vector_stores/{vector_store_id}."""
    value = shelf(world).remove(call.params["vector_store_id"])
    return JsonReply({"id": value["id"], "object": "vector_store.deleted", "deleted": True})


async def search(world: World, call: Call) -> Reply:
    """POST /vector_stores/{vector_store_id}/search."""
    store = shelf(world).get(call.params["vector_store_id"])
    query = params.need(call.body, "query")
    queries = [query] if isinstance(query, str) else query
    if not isinstance(queries, list):
        raise errors.wrong_type("query", "a string or an array", query)
    most = params.integer(call.body, "max_num_results", 10, least=1, most=50) or 10
    value: Json = {
        "object": "vector_store.search_results.page",
        "search_query": queries,
        "data": found(world, [store["id"]], " ".join(map(str, queries)), most),
        "has_more": False,
        "next_page": None,
    }
    return JsonReply(value, Meta(Quantities(file_searches=1), parent=store["id"]))


def found(world: World, store_ids: list[str], query: str, most: int) -> list[Json]:
    """The best passages for a query, best first."""
    wanted = set(re.findall(r"\w+", query.lower()))
    rows: list[Json] = []
    for store_id in store_ids:
        for attached in files_of(world, store_id):
            file = files.shelf(world).find(attached["id"])
            if file is None or attached["status"] != "completed":
                continue
            text = files.read(world, file["id"], _SEARCHED_BYTES).decode("utf-8", "replace").split()
            for start in range(0, len(text), _PASSAGE_WORDS):
                passage = " ".join(text[start : start + _PASSAGE_WORDS])
                share = len(wanted & set(re.findall(r"\w+", passage.lower()))) / max(1, len(wanted))
                rows.append(
                    {
                        "file_id": file["id"],
                        "filename": file["filename"],
                        "score": round(share, 4),
                        "attributes": attached["attributes"],
                        "content": [{"type": "text", "text": passage}],
                    }
                )
    return sorted(rows, key=lambda row: -row["score"])[:most]


HANDLERS: Handlers = (
    ("createVectorStore", create),
    ("getVectorStore", retrieve),
    ("listVectorStores", list_all),
    ("modifyVectorStore", modify),
    ("deleteVectorStore", delete),
    ("searchVectorStore", search),
)
