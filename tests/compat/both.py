"""The official client's two halves behind one face, so that each test is written once and run with both.

`as_async(OpenAI(...))` looks like an `AsyncOpenAI`: every call of the synchronous client runs in a thread, and what it
gives (pages, streams, stream helpers, sockets, raw responses) is seen the same way. Nothing of the client is replaced:
its own code makes the requests, reads the answers and raises the errors.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from types import TracebackType
from typing import Any, cast

import httpx2
from openai import AsyncOpenAI, BaseModel, OpenAI
from openai._base_client import BaseSyncPage
from openai._legacy_response import HttpxBinaryResponseContent, LegacyAPIResponse

# What both halves have in the same form.
_PLAIN = (
    BaseModel, LegacyAPIResponse, HttpxBinaryResponseContent, httpx2.Response, httpx2.Headers, httpx2.URL,
    str, bytes, int, float, dict, list, tuple, type(None),
)  # fmt: skip
_SAME = frozenset({"with_options", "copy", "has_next_page", "to_dict"})  # methods that both halves call alike
_END = object()


def as_async(client: OpenAI) -> AsyncOpenAI:
    """The synchronous client in the asynchronous one's form."""
    return cast("AsyncOpenAI", _Seen(client))


def _see(value: Any) -> Any:
    page = isinstance(value, BaseSyncPage)  # a model too, but one that makes requests
    return value if isinstance(value, _PLAIN) and not page else _Seen(value)


class _Seen:
    """Anything of the synchronous client: a resource, a stream, a helper, a socket."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value) or isinstance(value, _PLAIN):
            return _see(value)
        if name in _SAME:
            return lambda *args, **options: _see(value(*args, **options))
        return lambda *args, **options: _Call(lambda: value(*args, **options))

    async def __aiter__(self) -> AsyncIterator[Any]:
        iterator = iter(self._inner)
        while (item := await asyncio.to_thread(next, iterator, _END)) is not _END:
            yield _see(item)

    async def __aenter__(self) -> Any:
        return _see(await asyncio.to_thread(self._inner.__enter__))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._inner.__exit__, kind, error, trace)


class _Call:
    """A call that has not been made yet. Awaiting it makes it; so does iterating over it, or entering it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._entered: Any = None

    def __await__(self) -> Generator[Any, None, Any]:
        return self._made().__await__()

    async def _made(self) -> Any:
        return _see(await asyncio.to_thread(self._call))

    async def __aiter__(self) -> AsyncIterator[Any]:
        iterator = iter(await asyncio.to_thread(self._call))
        while (item := await asyncio.to_thread(next, iterator, _END)) is not _END:
            yield _see(item)

    async def __aenter__(self) -> Any:
        self._entered = await asyncio.to_thread(self._call)
        return _see(await asyncio.to_thread(self._entered.__enter__))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._entered.__exit__, kind, error, trace)
