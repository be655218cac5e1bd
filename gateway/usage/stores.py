"""Vector stores that go by: what answers say of their sizes. Pure.

Storage is not used by calls, so it is not in their answers as usage. The ledger remembers each store that was seen, and
charges its owner by the hour.
"""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from gateway.usage.kinds import Kind
from gateway.usage.rules import Rule
from gateway.values import SeenStore

LIST = "listVectorStores"
CREATE = "createVectorStore"
SEEN = Kind("unknown")
RULES = (
    Rule(
        (
            CREATE, LIST, "getVectorStore", "modifyVectorStore", "deleteVectorStore", "createVectorStoreFile",
            "deleteVectorStoreFile", "createVectorStoreFileBatch", "cancelVectorStoreFileBatch",
        ),
        "reference: The vector store object, The vector store file object, The vector store files batch object",
        stores=True,
    ),
)  # fmt: skip
OPERATIONS: Mapping[str, tuple[Rule, ...]] = MappingProxyType(dict.fromkeys(RULES[0].operations, RULES))

_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_PATH = re.compile(r"/vector_stores/([A-Za-z0-9_-]{1,100})(?:/|$)")
_LARGEST = 1 << 53


class _Object(msgspec.Struct):
    object: Any = None
    id: Any = None
    usage_bytes: Any = None
    status: Any = None
    vector_store_id: Any = None
    data: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Object).decode
_decode_list = msgspec.json.Decoder(list[_Object]).decode


def stores_of(body: bytes | bytearray | memoryview) -> list[SeenStore]:
    """What an answer says of stores. One whose id only the call's path tells has none: see `named_in`. Never raises."""
    try:
        found = _decode(body)
        objects = _decode_list(found.data) if found.object == "list" and found.data else [found]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []
    return list(_seen(objects))


def named_in(path: str) -> str:
    """The id of the store that a path names; empty if it names none."""
    found = _PATH.search(path)
    return found[1] if found is not None else ""


def _seen(objects: list[_Object]) -> Iterator[SeenStore]:
    for one in objects:
        match one.object:
            case "vector_store" if _is_id(one.id):
                size = one.usage_bytes if _is_size(one.usage_bytes) else None
                changing = size is None or one.status == "in_progress"
                yield SeenStore(id=one.id, bytes=size, changing=changing, gone=one.status == "expired")
            case "vector_store.deleted" if _is_id(one.id):
                yield SeenStore(id=one.id, gone=True)
            case "vector_store.file" | "vector_store.file_batch" | "vector_store.files_batch":
                if _is_id(one.vector_store_id):
                    yield SeenStore(id=one.vector_store_id, changing=True)
            case "vector_store.file.deleted":
                yield SeenStore(id="", changing=True)


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST
