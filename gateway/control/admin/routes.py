"""How a noun says what it serves: method, path, permission, and the function that does it."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked
from gateway.control.registry.changes import Change

Read = Callable[[Asked, AsyncConnection], Awaitable[Any]]
Write = Callable[[Asked, Change], Awaitable[Any]]

_PROJECT = "project_id"


class Route(msgspec.Struct, frozen=True):
    """path: without /v1, `{names}` stand for ids. permission: see caller.py. One of read and write is there: in a
    transaction of its own, or in a change. own: API keys may ask it too, if the path names none but themselves and
    their project. judges: names of ids that its noun checks in their stead.
    """

    method: str
    path: str
    permission: str
    read: Read | None = None
    write: Write | None = None
    own: bool = False
    judges: tuple[str, ...] = ()


def reading(
    path: str, permission: str, read: Read, *, own: bool = False, judges: tuple[str, ...] = ()
) -> Route:  # fmt: skip
    return Route("GET", path, f"{permission}.read", read=read, own=own, judges=judges)


def changing(method: str, path: str, permission: str, write: Write) -> Route:
    return Route(method, path, f"{permission}.write", write=write)


class Match(msgspec.Struct, frozen=True):
    """A route that was found, and the ids of the path."""

    route: Route
    ids: Mapping[str, str]

    @property
    def project_id(self) -> str | None:
        return self.ids.get(_PROJECT)


class Routes:
    """All routes."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._by_length: dict[int, list[tuple[list[str], Route]]] = {}
        for route in routes:
            words = _words(route.path)
            self._by_length.setdefault(len(words), []).append((words, route))

    def match(self, method: str, path: str) -> Match | None:
        """path: as it came, without /v1 and query."""
        return next((match for match in self._on(path) if match.route.method == method), None)

    def methods(self, path: str) -> list[str]:
        """Those that a path takes; none: there is no such path."""
        return sorted({match.route.method for match in self._on(path)})

    def _on(self, path: str) -> Iterable[Match]:
        asked = [unquote(word) for word in _words(path)]
        found = []
        for words, route in self._by_length.get(len(asked), ()):
            ids = _ids(words, asked)
            if ids is not None:
                found.append((sum(word.startswith("{") for word in words), Match(route, ids)))
        found.sort(key=lambda one: one[0])  # a word of its own goes before an id that has it
        fewest = found[0][0] if found else 0
        return [match for ids, match in found if ids == fewest]


def _words(path: str) -> list[str]:
    return path.strip("/").split("/")


def _ids(words: list[str], asked: list[str]) -> dict[str, str] | None:
    ids = {}
    for word, value in zip(words, asked, strict=True):
        if word.startswith("{"):
            if not value:
                return None
            ids[word[1:-1]] = value
        elif word != value:
            return None
    return ids
