"""Stored objects: shelves of JSON objects in the order in which they were made, with OpenAI's paging."""

from collections.abc import Callable, Iterator
from types import MappingProxyType

from gateway.simulator import errors
from gateway.simulator.call import Call, Json

# What OpenAI says about an id that it does not know, by kind of object.
_UNKNOWN = MappingProxyType(
    {
        "files": "No such File object: {id}",
        "uploads": "No such Upload object: {id}",
        "batches": "No batch found with id '{id}'.",
        "assistants": "No assistant found with id '{id}'.",
        "threads": "No thread found with id '{id}'.",
        "messages": "No message found with id '{id}'.",
        "runs": "No run found with id '{id}'.",
        "steps": "No run step found with id '{id}'.",
        "vector_stores": "No vector store found with id '{id}'.",
        "vector_store_files": "No file found with id '{id}' in vector store.",
        "vector_store_batches": "No file batch found with id '{id}'.",
        "jobs": "Could not find fine tune: {id}",
        "responses": "Response with id '{id}' not found.",
        "conversations": "Conversation with id '{id}' not found.",
        "chats": "Chat completion with id '{id}' not found.",
        "videos": "Video with id '{id}' not found.",
        "containers": "Container with id '{id}' not found.",
    }
)


# Kinds whose objects may be large: fewer are kept.
_MOST = MappingProxyType({"responses": 5_000, "chats": 5_000, "response_events": 200})


class Shelf:
    """Objects of one kind. `dropped` is told of kind and object of all that go, asked for or crowded out."""

    def __init__(self, kind: str, most: int, dropped: Callable[[str, Json], None]) -> None:
        self._kind, self._most, self._dropped = kind, most, dropped
        self._objects: dict[str, Json] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Json]:
        """All objects, oldest first. Safe against changes meanwhile."""
        return iter(list(self._objects.values()))

    def __contains__(self, object_id: object) -> bool:
        return object_id in self._objects

    def add(self, value: Json) -> Json:
        """Keeps an object under its id; beyond the shelf's size the oldest goes."""
        self._objects[value["id"]] = value
        if len(self._objects) > self._most:
            self.remove(next(iter(self._objects)))
        return value

    def get(self, object_id: str) -> Json:
        """Raises ApiError 404."""
        found = self._objects.get(object_id)
        if found is None:
            raise self.unknown(object_id)
        return found

    def find(self, object_id: object) -> Json | None:
        return self._objects.get(object_id) if isinstance(object_id, str) else None

    def remove(self, object_id: str) -> Json:
        """Raises ApiError 404."""
        gone = self.get(object_id)
        del self._objects[object_id]
        self._dropped(self._kind, gone)
        return gone

    def unknown(self, object_id: str) -> errors.ApiError:
        pattern = _UNKNOWN.get(self._kind, "No object found with id '{id}'.")
        param = "id" if self._kind == "files" else None
        return errors.ApiError(404, pattern.format(id=object_id), param=param)

    def page(
        self,
        call: Call,
        *,
        where: Callable[[Json], bool] | None = None,
        default: int = 20,
        most: int = 100,
        order: str = "desc",
        shown: Callable[[Json], Json] | None = None,
    ) -> Json:
        """The list that `limit`, `order`, `after` and `before` ask for. Raises ApiError for wrong ones."""
        found = [value for value in self._objects.values() if where is None or where(value)]
        return page(found, call, default=default, most=most, order=order, shown=shown)


def page(
    objects: list[Json],
    call: Call,
    *,
    default: int = 20,
    most: int = 100,
    order: str = "desc",
    shown: Callable[[Json], Json] | None = None,
) -> Json:
    """A list object out of all objects, oldest first."""
    asked = call.asked("order") or order
    if asked not in {"asc", "desc"}:
        raise errors.wrong_value("order", asked, ("asc", "desc"))
    limit = _limit(call.asked("limit"), default, most)
    rows = objects[::-1] if asked == "desc" else objects
    if (after := call.asked("after")) is not None:
        rows = rows[_position(rows, after, "after") + 1 :]
    backwards = (before := call.asked("before")) is not None and after is None
    if before is not None:
        rows = rows[: _position(rows, before, "before")]
    part = rows[-limit:] if backwards else rows[:limit]
    data = [shown(value) for value in part] if shown is not None else part
    return {
        "object": "list",
        "data": data,
        "first_id": part[0]["id"] if part else None,
        "last_id": part[-1]["id"] if part else None,
        "has_more": len(rows) > len(part),
    }


def _limit(text: str | None, default: int, most: int) -> int:
    if text is None:
        return default
    if not text.lstrip("-").isdigit():
        raise errors.wrong_type("limit", "an integer", text)
    if int(text) < 1:
        raise errors.too_small("limit", int(text), 1)
    if int(text) > most:
        raise errors.too_large("limit", int(text), most)
    return int(text)


def _position(rows: list[Json], object_id: str, param: str) -> int:
    for i, value in enumerate(rows):
        if value["id"] == object_id:
            return i
    raise errors.ApiError(400, f"Invalid '{param}': no object with id '{object_id}' in this list.", param=param)


class Store:
    """All shelves: one for each kind, or for each kind and parent (the messages of a thread). What is below an object
    goes with it."""

    def __init__(self, most: int, dropped: Callable[[str, Json], None]) -> None:
        self._most, self._told = most, dropped
        self._shelves: dict[tuple[str, str], Shelf] = {}
        self._children: dict[str, set[str]] = {}

    def shelf(self, kind: str, parent: str = "") -> Shelf:
        shelf = self._shelves.get((kind, parent))
        if shelf is None:
            shelf = self._shelves[kind, parent] = Shelf(
                kind, min(self._most, _MOST.get(kind, self._most)), self._dropped
            )
            if parent:
                self._children.setdefault(parent, set()).add(kind)
        return shelf

    def _dropped(self, kind: str, value: Json) -> None:
        self._told(kind, value)
        for below in self._children.pop(value["id"], ()):
            for child in self._shelves.pop((below, value["id"])):
                self._dropped(below, child)

    def clear(self) -> None:
        for (kind, _), shelf in self._shelves.items():
            for value in shelf:
                self._told(kind, value)
        self._shelves.clear()
        self._children.clear()
