"""The official client's methods, and a way to see which of them the suites have called.

While they are tagged, each call says in X-Client-Request-Id which methods it came through: OpenAI's own header for such
notes, which the gateway passes on and the simulator writes into its book. So a call counts when it has arrived there,
and by how it was answered there. The methods themselves run as they are.
"""

import contextlib
import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import msgspec
from openai import AsyncOpenAI, OpenAI
from openai._resource import AsyncAPIResource, SyncAPIResource

from gateway.simulator.book import Record
from gateway.simulator.world import fingerprint

HEADER = "x-client-request-id"
_RESOURCES = (SyncAPIResource, AsyncAPIResource)


class Method(msgspec.Struct, frozen=True):
    """One public method. path: from the client to it, as in `chat.completions.create`. owner: the class that has it."""

    path: str
    owner: type
    name: str

    @property
    def function(self) -> Callable[..., Any]:
        found: Callable[..., Any] = vars(self.owner)[self.name]
        return found


def methods(resource: Any, path: str = "") -> Iterator[Method]:
    """What a resource and those below it can do; without a path those of a client."""
    kind = type(resource)
    if isinstance(resource, _RESOURCES):
        for name, function in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_"):
                owner = next(base for base in kind.__mro__ if vars(base).get(name) is function)
                yield Method(f"{path}.{name}", owner, name)
    for name in dir(kind):
        below = getattr(resource, name) if not name.startswith(("_", "with_")) else None
        if isinstance(below, _RESOURCES):
            yield from methods(below, f"{path}.{name}" if path else name)


def proxied_methods(client: OpenAI | AsyncOpenAI) -> dict[str, Method]:
    """All methods but the administrative ones, by path. What has two paths is there by its shorter one."""
    found: dict[tuple[type, str], Method] = {}
    for method in sorted(methods(client), key=lambda one: (len(one.path), one.path)):
        if not method.path.startswith("admin."):
            found.setdefault((method.owner, method.name), method)
    return {method.path: method for method in found.values()}


class Tags:
    """Makes calls say which methods they came through: with `who` in front, to tell one client from another."""

    def __init__(self, who: str, wanted: Mapping[str, Method]) -> None:
        self._who = who
        self._inside: ContextVar[tuple[str, ...]] = ContextVar("inside", default=())
        self.methods = wanted
        self._own = [(method, method.function) for method in wanted.values()]
        self._tagged = [(method, self._tag(method)) for method in wanted.values()]

    @contextlib.contextmanager
    def put_on(self) -> Iterator[None]:
        for method, function in self._tagged:
            setattr(method.owner, method.name, function)
        try:
            yield
        finally:
            for method, function in self._own:
                setattr(method.owner, method.name, function)

    def _tag(self, method: Method) -> Callable[..., Any]:
        function = method.function
        signature = inspect.signature(function)
        says = "extra_headers" in signature.parameters  # the others call methods that do

        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            given = signature.bind_partial(*args, **options)
            headers = dict(given.arguments.get("extra_headers") or {})
            who, *above = headers.get(HEADER, self._who).split(" ")
            names = tuple(dict.fromkeys((*above, *self._inside.get(), method.path)))
            if says and who == self._who:  # else a test says something of its own
                given.arguments["extra_headers"] = headers | {HEADER: " ".join((who, *names))}
            token = self._inside.set(names)
            try:
                answer = function(*given.args, **given.kwargs)
            finally:
                self._inside.reset(token)
            return self._awaited(answer, names) if inspect.iscoroutine(answer) else answer

        return call

    async def _awaited(self, answer: Awaitable[Any], names: tuple[str, ...]) -> Any:
        token = self._inside.set(names)
        try:
            return await answer
        finally:
            self._inside.reset(token)


class Arrived(msgspec.Struct, frozen=True):
    """The methods whose calls have arrived upstream. well: those of them that had an answer, whole and without error."""

    all: frozenset[str]
    well: frozenset[str]


def arrived(records: Iterable[Record], who: str, upstream_key: str) -> Arrived:
    """What the book says about the calls tagged by `who`. They came through a gateway if they came with its key."""
    ways: set[str] = set()
    well: set[str] = set()
    for record in records:
        given, *names = (record.client_request_id or "").split(" ")
        if given == who and record.key == fingerprint(upstream_key):
            ways.update(names)
            if record.ended == "complete" and record.status is not None and record.status < 300:
                well.update(names)
    return Arrived(frozenset(ways), frozenset(well))
