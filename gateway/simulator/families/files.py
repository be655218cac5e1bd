"""Files: really stored, streamed to disk and back. Other families keep theirs through `keep`."""

from collections.abc import Iterable
from pathlib import Path

from gateway.simulator import errors, params
from gateway.simulator.book import Meta, Quantities
from gateway.simulator.call import Call, FileReply, Handlers, Json, JsonReply, Reply, Upload
from gateway.simulator.store import Shelf
from gateway.simulator.world import World

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")


def shelf(world: World) -> Shelf:
    return world.store.shelf("files")


def path_of(world: World, file_id: str) -> Path:
    """Where a file's bytes are."""
    return world.data / "files" / file_id


def taken(call: Call, field: str) -> Upload:
    """The one uploaded file in a field of the form. Raises ApiError."""
    uploads = call.files.get(field)
    if not uploads:
        raise errors.missing(field)
    return uploads[0]


def keep(world: World, source: Path | Iterable[bytes], filename: str, purpose: str, body: Json | None = None) -> Json:
    """Makes a file object, out of a file on disk (which is moved) or of pieces. body: may have `expires_after`."""
    file_id = world.ids.make("file-", 22)
    path = path_of(world, file_id)
    if isinstance(source, Path):
        source.replace(path)
    else:
        with path.open("wb") as out:
            for piece in source:
                out.write(piece)
    value: Json = {
        "id": file_id,
        "object": "file",
        "bytes": path.stat().st_size,
        "created_at": world.now(),
        "filename": filename,
        "purpose": purpose,
        "status": "processed",
    }
    if expiry := params.mapping(body or {}, "expires_after"):
        value["expires_at"] = value["created_at"] + (params.integer(expiry, "seconds", 3600, least=3600) or 0)
    return shelf(world).add(value)


def read(world: World, file_id: str, most: int = 64 << 20) -> bytes:
    """A file's bytes, at most the first `most`. Raises ApiError for an unknown file."""
    shelf(world).get(file_id)
    with path_of(world, file_id).open("rb") as source:
        return source.read(most)


async def create(world: World, call: Call) -> Reply:
    """POST /files."""
    purpose = params.need_text(call.body, "purpose")
    if purpose not in PURPOSES:
        raise errors.wrong_value("purpose", purpose, PURPOSES)
    upload = taken(call, "file")
    value = keep(world, upload.path, upload.filename, purpose, call.body)
    return JsonReply(value, Meta(Quantities(bytes=value["bytes"]), object_id=value["id"]))


async def list_all(world: World, call: Call) -> Reply:
    """GET /files."""
    purpose = call.asked("purpose")
    return JsonReply(
        shelf(world).page(
            call, where=lambda file: purpose is None or file["purpose"] == purpose, default=10_000, most=10_000
        )
    )


async def retrieve(world: World, call: Call) -> Reply:
    """GET /files/{file_id}."""
    return JsonReply(shelf(world).get(call.params["file_id"]))


async def delete(world: World, call: Call) -> Reply:
    """DELETE /files/{file_id}."""
    value = shelf(world).remove(call.params["file_id"])
    return JsonReply({"id": value["id"], "object": "file", "deleted": True})


async def download(world: World, call: Call) -> Reply:
    """GET /files/{file_id}/content."""
    value = shelf(world).get(call.params["file_id"])
    return FileReply(path_of(world, value["id"]), "application/octet-stream", value["filename"])


HANDLERS: Handlers = (
    ("createFile", create),
    ("listFiles", list_all),
    ("retrieveFile", retrieve),
    ("deleteFile", delete),
    ("downloadFile", download),
)
