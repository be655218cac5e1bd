"""Uploads: large files in parts, put together on disk."""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

from gateway.simulator import errors, params
from gateway.simulator.book import Meta, Quantities
from gateway.simulator.call import Call, Handlers, Json, JsonReply, Reply
from gateway.simulator.families import files
from gateway.simulator.store import Shelf
from gateway.simulator.world import World

MAX_PART_BYTES = 64 << 20
MAX_BYTES = 8 << 30
_LIFETIME_S = 3600
_PIECE_BYTES = 1 << 20


def _shelf(world: World) -> Shelf:
    return world.store.shelf("uploads")


async def create(world: World, call: Call) -> Reply:
    """POST /uploads."""
    body = call.body
    purpose = params.need_text(body, "purpose")
    if purpose not in files.PURPOSES:
        raise errors.wrong_value("purpose", purpose, files.PURPOSES)
    params.need_text(body, "mime_type")
    size = params.integer(body, "bytes", least=0, most=MAX_BYTES)
    if size is None:
        raise errors.missing("bytes")
    value: Json = {
        "id": world.ids.make("upload_"),
        "object": "upload",
        "bytes": size,
        "created_at": world.now(),
        "filename": params.need_text(body, "filename"),
        "purpose": purpose,
        "status": "pending",
        "expires_at": world.now() + _LIFETIME_S,
    }
    return JsonReply(_shelf(world).add(value), Meta(object_id=value["id"]))


async def add_part(world: World, call: Call) -> Reply:
    """POST /uploads/{upload_id}/parts."""
    upload = _pending(world, call)
    data = files.taken(call, "data")
    if data.size > MAX_PART_BYTES:
        raise errors.ApiError(400, f"Upload part is too large: at most {MAX_PART_BYTES} bytes.", param="data")
    value: Json = {
        "id": world.ids.make("part_"),
        "object": "upload.part",
        "created_at": world.now(),
        "upload_id": upload["id"],
    }
    data.path.replace(files.path_of(world, value["id"]))
    world.store.shelf("parts", upload["id"]).add(value)
    return JsonReply(value, Meta(Quantities(bytes=data.size), object_id=value["id"], parent=upload["id"]))


async def complete(world: World, call: Call) -> Reply:
    """POST /uploads/{upload_id}/complete."""
    upload = _pending(world, call)
    parts = world.store.shelf("parts", upload["id"])
    chosen = [parts.get(part_id)["id"] for part_id in params.need_list(call.body, "part_ids")]
    paths = [files.path_of(world, part_id) for part_id in chosen]
    size = sum(path.stat().st_size for path in paths)
    if size != upload["bytes"]:
        raise errors.ApiError(
            400, f"Upload has {size} bytes, but {upload['bytes']} were announced when it was created.", param="part_ids"
        )
    whole = world.data / "incoming" / upload["id"]
    digest = await asyncio.to_thread(_join, paths, whole)
    if (wanted := params.text(call.body, "md5")) and wanted != digest:
        whole.unlink()
        raise errors.ApiError(400, "The MD5 checksum does not match the uploaded bytes.", param="md5")
    file = files.keep(world, whole, upload["filename"], upload["purpose"])
    _forget_parts(world, upload)
    upload |= {"status": "completed", "file": file}
    return JsonReply(upload, Meta(object_id=file["id"], parent=upload["id"]))


async def cancel(world: World, call: Call) -> Reply:
    """POST /uploads/{upload_id}/cancel."""
    upload = _pending(world, call)
    _forget_parts(world, upload)
    upload["status"] = "cancelled"
    return JsonReply(upload)


def _pending(world: World, call: Call) -> Json:
    upload = _shelf(world).get(call.params["upload_id"])
    if upload["status"] == "pending" and world.now() > upload["expires_at"]:
        upload["status"] = "expired"
    if upload["status"] != "pending":
        raise errors.ApiError(400, f"Upload is {upload['status']} and can no longer be changed.")
    return upload


def _forget_parts(world: World, upload: Json) -> None:
    parts = world.store.shelf("parts", upload["id"])
    for part in parts:
        parts.remove(part["id"])


def _join(parts: Sequence[Path], whole: Path) -> str:
    """Puts parts together and returns the MD5 of it all. In a thread: it may be gigabytes."""
    digest = hashlib.md5(usedforsecurity=False)
    with whole.open("wb") as out:
        for part in parts:
            with part.open("rb") as source:
                while piece := source.read(_PIECE_BYTES):
                    digest.update(piece)
                    out.write(piece)
    return digest.hexdigest()


HANDLERS: Handlers = (
    ("createUpload", create),
    ("addUploadPart", add_part),
    ("completeUpload", complete),
    ("cancelUpload", cancel),
)
