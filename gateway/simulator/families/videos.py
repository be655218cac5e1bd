"""Videos: jobs that complete in the background, and are billed by seconds then.

Rules. A new video, a remix and an edit bill their own seconds (a remix and an edit those of what they change), an
extension only what it adds, though its object names the whole. A second of video is 4 KiB.
"""

from typing import Any

from gateway.simulator import errors, params
from gateway.simulator.book import Ended, Meta, Quantities
from gateway.simulator.call import BytesReply, Call, Handlers, Json, JsonReply, Reply
from gateway.simulator.store import Shelf
from gateway.simulator.world import World

_SECONDS = ("4", "8", "12")
_SIZES = ("720x1280", "1280x720", "1024x1792", "1792x1024")
_LIFETIME_S = 3600
_BYTES_PER_SECOND = 4096
_HEAD = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"


def _shelf(world: World) -> Shelf:
    return world.store.shelf("videos")


async def create(world: World, call: Call) -> Reply:
    """POST /videos."""
    body = call.body
    params.need_text(body, "prompt")
    seconds = params.choice(body, "seconds", _SECONDS, "4")
    size = params.choice(body, "size", _SIZES, "720x1280")
    source = {"id": None, "model": params.model(call, "sora-2"), "size": size}
    return _started(world, call, source, seconds)


def _source(world: World, call: Call, field: Any) -> Json:
    """The video that is changed: a stored one; for an uploaded one, 4 seconds."""
    if isinstance(field, dict) and field.get("id"):
        return _shelf(world).get(str(field["id"]))
    if call.files.get("video"):
        return {"id": None, "model": "sora-2", "seconds": "4", "size": "720x1280"}
    raise errors.missing("video")


async def remix(world: World, call: Call) -> Reply:
    """POST /videos/{video_id}/remix."""
    params.need_text(call.body, "prompt")
    source = _shelf(world).get(call.params["video_id"])
    return _started(world, call, source, source["seconds"])


async def edit(world: World, call: Call) -> Reply:
    """POST /videos/edits."""
    params.need_text(call.body, "prompt")
    source = _source(world, call, call.body.get("video"))
    return _started(world, call, source, source["seconds"])


async def extend(world: World, call: Call) -> Reply:
    """POST /videos/extensions."""
    params.need_text(call.body, "prompt")
    source, added = _source(world, call, call.body.get("video")), params.choice(call.body, "seconds", _SECONDS, "4")
    return _started(world, call, source, added, before=int(source["seconds"]))


def _started(world: World, call: Call, source: Json, seconds: str, *, before: int = 0) -> Reply:
    """source: id, model and size of what is changed; for a new video, of what is wanted."""
    value: Json = {
        "id": world.ids.hexadecimal("video_", 48),
        "object": "video",
        "created_at": world.now(),
        "completed_at": None,
        "expires_at": None,
        "model": source["model"],
        "progress": 0,
        "prompt": call.body.get("prompt"),
        "remixed_from_video_id": source["id"],
        "seconds": str(before + int(seconds)),
        "size": source["size"],
        "status": "queued",
        "error": None,
    }
    _shelf(world).add(value)
    world.start("video", _work(world, call, value, int(seconds)))
    return JsonReply(value, Meta(model=source["model"], object_id=value["id"], parent=source["id"]))


async def _work(world: World, call: Call, value: Json, seconds: int) -> None:
    started_at = world.clock.wall()
    await world.step()
    value |= {"status": "in_progress", "progress": 50}
    await world.step()
    ended: Ended = "complete"
    usage = Quantities(seconds=float(seconds))
    if call.faults.fail or call.faults.expire:
        error = {"code": "server_error", "message": "The video could not be made."}
        value |= {"status": "failed", "error": error}
        ended, usage = "error", Quantities()
    else:
        done = {"completed_at": world.now(), "expires_at": world.now() + _LIFETIME_S}
        value |= {"status": "completed", "progress": 100} | done
    meta = Meta(usage, value["model"], object_id=value["id"])
    world.note_job(call.entry, meta, ended=ended, started_at=started_at, faults=call.faults)


async def retrieve(world: World, call: Call) -> Reply:
    """GET /videos/{video_id}."""
    return JsonReply(_shelf(world).get(call.params["video_id"]))


async def list_all(world: World, call: Call) -> Reply:
    """GET /videos."""
    return JsonReply(_shelf(world).page(call))


async def delete(world: World, call: Call) -> Reply:
    """DELETE /videos/{video_id}."""
    value = _shelf(world).remove(call.params["video_id"])
    return JsonReply({"id": value["id"], "object": "video.deleted", "deleted": True})


async def content(world: World, call: Call) -> Reply:
    """GET /videos/{video_id}/content."""
    value = _shelf(world).get(call.params["video_id"])
    if value["status"] != "completed":
        raise errors.ApiError(404, "Video is not ready yet.")
    if (call.asked("variant") or "video") != "video":
        return BytesReply(b"RIFF\x00\x00\x00\x00WEBP", "image/webp")
    return BytesReply(_HEAD.ljust(int(value["seconds"]) * _BYTES_PER_SECOND, b"\x00"), "video/mp4")


async def create_character(world: World, call: Call) -> Reply:
    """POST /videos/characters."""
    value: Json = {
        "id": world.ids.hexadecimal("char_"),
        "name": params.text(call.body, "name"),
        "created_at": world.now(),
    }
    return JsonReply(world.store.shelf("characters").add(value))


async def get_character(world: World, call: Call) -> Reply:
    """GET /videos/characters/{character_id}."""
    return JsonReply(world.store.shelf("characters").get(call.params["character_id"]))


HANDLERS: Handlers = (
    ("createVideo", create),
    ("CreateVideoRemix", remix),
    ("CreateVideoEdit", edit),
    ("CreateVideoExtend", extend),
    ("GetVideo", retrieve),
    ("ListVideos", list_all),
    ("DeleteVideo", delete),
    ("RetrieveVideoContent", content),
    ("CreateVideoCharacter", create_character),
    ("GetVideoCharacter", get_character),
)
