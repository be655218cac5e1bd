from typing import Any

import pytest

from gateway.simulator.book import Entry
from gateway.simulator.call import Call, Json
from gateway.simulator.errors import ApiError
from gateway.simulator.store import Shelf, Store

IDS = ["a", "b", "c", "d", "e"]


def query(**params: str) -> Call:
    entry = Entry(1, "req_1", "GET", "/v1/files", 0.0)
    return Call("listFiles", {}, entry, seen_at=0, query={name: [value] for name, value in params.items()})


def filled(store: Store) -> Shelf:
    shelf = store.shelf("files")
    for object_id in IDS:
        shelf.add({"id": object_id})
    return shelf


def store_and_dropped(most: int = 100) -> tuple[Store, list[tuple[str, str]]]:
    dropped: list[tuple[str, str]] = []

    def told(kind: str, value: Json) -> None:
        dropped.append((kind, value["id"]))

    return Store(most, told), dropped


@pytest.mark.parametrize(
    ("params", "found", "more"),
    [
        ({}, "edcba", False),
        ({"order": "asc"}, "abcde", False),
        ({"limit": "2"}, "ed", True),
        ({"limit": "2", "after": "d"}, "cb", True),
        ({"limit": "2", "after": "b"}, "a", False),
        ({"order": "asc", "after": "c"}, "de", False),
        ({"order": "asc", "before": "d"}, "abc", False),
        ({"order": "asc", "before": "d", "limit": "2"}, "bc", True),
        ({"order": "asc", "after": "a", "before": "d"}, "bc", False),
    ],
)
def test_pages(params: dict[str, str], found: str, more: bool) -> None:
    page = filled(store_and_dropped()[0]).page(query(**params))
    assert "".join(row["id"] for row in page["data"]) == found
    assert (page["object"], page["has_more"]) == ("list", more)
    assert (page["first_id"], page["last_id"]) == (found[0], found[-1])


def test_an_empty_page() -> None:
    page = store_and_dropped()[0].shelf("files").page(query())
    assert page == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize("params", [{"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"order": "up"}, {"after": "z"}])
def test_wrong_pages(params: Any) -> None:
    with pytest.raises(ApiError) as caught:
        filled(store_and_dropped()[0]).page(query(**params))
    assert (caught.value.status, caught.value.param) == (400, next(iter(params)))


def test_unknown_ids_are_404_in_openais_words() -> None:
    with pytest.raises(ApiError, match="No such File object: x") as caught:
        store_and_dropped()[0].shelf("files").get("x")
    assert caught.value.status == 404


def test_the_oldest_go_first_and_take_along_what_is_below_them() -> None:
    store, dropped = store_and_dropped(most=2)
    for thread in ("t1", "t2"):
        store.shelf("threads").add({"id": thread})
        store.shelf("runs", thread).add({"id": f"run of {thread}"})
        store.shelf("steps", f"run of {thread}").add({"id": f"step of {thread}"})
    store.shelf("threads").add({"id": "t3"})
    assert dropped == [("threads", "t1"), ("runs", "run of t1"), ("steps", "step of t1")]
    assert len(store.shelf("runs", "t1")) == 0
    assert len(store.shelf("runs", "t2")) == 1
    store.clear()
    assert {kind for kind, _ in dropped[3:]} == {"threads", "runs", "steps"}
