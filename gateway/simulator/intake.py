"""Reading requests: who calls, and what the body says. Files go to disk as they arrive."""

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs

import msgspec
from aiohttp import BodyPartReader, hdrs, web

from gateway.simulator import errors
from gateway.simulator.book import Entry
from gateway.simulator.call import Json, Upload
from gateway.simulator.world import World

MAX_JSON_BYTES = 256 << 20
MAX_FIELD_BYTES = 8 << 20
_PIECE_BYTES = 1 << 18
_SOCKET_KEY = "openai-insecure-api-key."
_NESTED = re.compile(r"(\w+)\[(\w+)\]")
_decode = msgspec.json.Decoder().decode


def read_key(headers: Mapping[str, str]) -> str | None:
    """The upstream key: Bearer, a Basic password, or a browser's WebSocket subprotocol."""
    scheme, _, value = headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer" and value:
        return value
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value).decode().partition(":")[2] or None
        except (binascii.Error, ValueError):
            return None
    for protocol in headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").split(","):
        if protocol.strip().startswith(_SOCKET_KEY):
            return protocol.strip().removeprefix(_SOCKET_KEY)
    return None


def read_query(request: web.BaseRequest) -> dict[str, list[str]]:
    """`include[]=a&include[]=b` and `include=a&include=b` → {"include": ["a", "b"]}."""
    if not (text := request.rel_url.raw_query_string):
        return {}
    found: dict[str, list[str]] = {}
    for name, values in parse_qs(text, keep_blank_values=True).items():
        found.setdefault(name.removesuffix("[]"), []).extend(values)
    return found


class Body(msgspec.Struct, frozen=True):
    """A body, read: an object, and the files that came with it (by field)."""

    value: Json
    files: dict[str, list[Upload]]


async def read_body(world: World, request: web.BaseRequest, entry: Entry) -> Body:
    """Raises ApiError for a body that cannot be read."""
    if not request.can_read_body:
        return Body({}, {})
    kind = request.content_type
    if kind == "multipart/form-data":
        return await _form(world, request, entry)
    data = await request.read()
    entry.bytes_received = len(data)
    if kind == "application/sdp":
        return Body({"sdp": data.decode("utf-8", "replace")}, {})
    if not data:
        return Body({}, {})
    try:
        value = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.bad_json(str(error)) from None
    if not isinstance(value, dict):
        raise errors.bad_json("The body is not an object.")
    return Body(value, {})


async def _form(world: World, request: web.BaseRequest, entry: Entry) -> Body:
    value: Json = {}
    files: dict[str, list[Upload]] = {}
    body = Body(value, files)
    try:
        reader = await request.multipart()
        async for part in reader:
            if not isinstance(part, BodyPartReader):
                raise errors.bad_json("Nested multipart bodies are not supported.")
            name = (part.name or "").removesuffix("[]")
            if part.filename is not None:
                upload = await _file(world, part)
                entry.bytes_received += upload.size
                files.setdefault(name, []).append(upload)
            else:
                text = (await part.read(decode=True)).decode("utf-8", "replace")
                entry.bytes_received += len(text)
                _put(value, part.name or "", text)
    except ValueError as error:
        discard(body)
        raise errors.bad_json(f"The multipart body is wrong: {error}") from None
    except BaseException:
        discard(body)
        raise
    return body


def _put(value: Json, name: str, text: str) -> None:
    """`tags[]` collects a list, `expires_after[anchor]` a member of an object."""
    if name.endswith("[]"):
        value.setdefault(name[:-2], []).append(text)
    elif (nested := _NESTED.fullmatch(name)) is not None:
        value.setdefault(nested[1], {})[nested[2]] = int(text) if text.isdigit() else text
    else:
        value[name] = text


async def _file(world: World, part: BodyPartReader) -> Upload:
    path = world.data / "incoming" / world.ids.make("part-")
    size = 0
    with path.open("wb") as out:
        while piece := await part.read_chunk(_PIECE_BYTES):
            out.write(piece)
            size += len(piece)
    kind = part.headers.get(hdrs.CONTENT_TYPE, "application/octet-stream")
    return Upload(path, Path(part.filename or "file").name, kind, size)


def discard(body: Body) -> None:
    """Removes the files that no handler has taken."""
    for uploads in body.files.values():
        for upload in uploads:
            upload.path.unlink(missing_ok=True)
