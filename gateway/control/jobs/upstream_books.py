"""Reads what an upstream says itself was used of it on a day, and what that costs: OpenAI's organization usage API."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any

import aiohttp
import msgspec

from gateway.control.jobs.upstream_session import session_for, why
from gateway.control.ledger.comparison import (
    COSTS,
    NANO_USD,
    WITHOUT_MODELS,
    Place,
    Theirs,
    fields_of,
    place_of,
    subject_of,
)
from gateway.errors import without_keys
from gateway.settings.model import Upstream, UpstreamReconciliation
from gateway.usage.fields import FIELDS

DAY_S = 86_400
_ONE_S, _ALL_S = 30.0, 300.0
_PAUSES_S = (1.0, 4.0, 16.0)  # between tries
_LONGEST_PAUSE_S = 60.0  # whatever the upstream asks for
_MOST_PAGES = 100
_NANO = 1_000_000_000
_LARGEST = 2**62
_LONGEST_MESSAGE = 300
_PROJECTS, _KEYS = "project_ids[]", "api_key_ids[]"
# What can be filtered by projects alone; all else by keys, too.
_BY_PROJECT = frozenset({"code_interpreter_sessions"})
_PATHS = MappingProxyType({category: f"usage/{category}" for category in FIELDS} | {COSTS: "costs"})
Pause = Callable[[float], Awaitable[object]]


class BooksError(Exception):
    """They cannot be read. The message is for people, without a key."""


class _RetryError(Exception):
    """It may go better in a moment. wait_s: how long the upstream asks to wait; None if it does not."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class _NotServedError(Exception):
    """The upstream has no such endpoint."""


class Read(msgspec.Struct, frozen=True):
    """left_out: what could not be read, with the reason."""

    theirs: Theirs
    left_out: tuple[str, ...]


class _Bucket(msgspec.Struct):
    """OpenAI's API description calls results `result`, its examples and its API `results`."""

    start_time: int
    results: list[dict[str, Any]] | None = None
    result: list[dict[str, Any]] | None = None


class _Page(msgspec.Struct):
    data: list[_Bucket]
    next_page: str | None = None


class _Error(msgspec.Struct):
    message: str = ""


class _Refusal(msgspec.Struct):
    error: _Error


class UpstreamBooks:
    """Of one upstream. pause: waits so many seconds before something is tried again."""

    def __init__(self, upstream: Upstream, asked: UpstreamReconciliation, pause: Pause = asyncio.sleep) -> None:
        self._upstream = upstream
        self._asked = asked
        self._pause = pause

    async def of_day(self, begin: int) -> Read:
        """begin: of the day, in seconds since 1970 UTC. Raises BooksError."""
        try:
            async with asyncio.timeout(_ALL_S), self._session() as session:
                return await self._read(session, begin)
        except TimeoutError:
            raise BooksError(f"it takes longer than {_ALL_S:.0f} s") from None
        except (OSError, ssl.SSLError) as error:
            raise BooksError(f"a certificate or key cannot be read: {error}") from None

    def _session(self) -> aiohttp.ClientSession:
        headers = {name: value.reveal() for name, value in self._upstream.headers.items()}
        headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        headers["Authorization"] = f"Bearer {self._asked.admin_key.reveal()}"
        return session_for(self._upstream, headers, _ONE_S)

    async def _read(self, session: aiohttp.ClientSession, begin: int) -> Read:
        numbers: dict[Place, int] = {}
        fields: dict[str, frozenset[str]] = {}
        left_out: list[str] = []
        for category in _PATHS:
            if category in _BY_PROJECT and self._asked.api_key_ids and not self._asked.project_ids:
                left_out.append(f"{category}: cannot be asked for by key")
                continue
            try:
                results = await self._results(session, category, begin)
            except _NotServedError:
                left_out.append(f"{category}: the upstream does not serve it")
                continue
            if category == COSTS and not results:
                left_out.append(f"{category}: the upstream shows none")
                continue
            fields[category] = _fields_in(category, results)
            for place, number in _numbers_in(category, results):
                numbers[place] = numbers.get(place, 0) + number
        if not fields:
            raise BooksError("it serves none of OpenAI's usage endpoints (404)")
        return Read(Theirs(numbers, fields), tuple(left_out))

    async def _results(self, session: aiohttp.ClientSession, category: str, begin: int) -> list[dict[str, Any]]:
        """All of a day, over all pages. Raises BooksError, _NotServedError."""
        query = [*self._query(category), ("start_time", str(begin)), ("end_time", str(begin + DAY_S))]
        found: list[dict[str, Any]] = []
        page: str | None = None
        for _ in range(_MOST_PAGES):
            answer = await self._page(session, category, query + ([("page", page)] if page is not None else []))
            for bucket in answer.data:
                if begin <= bucket.start_time < begin + DAY_S:
                    found += bucket.results or bucket.result or ()
            page = answer.next_page
            if page is None:
                return found
        raise BooksError(f"{_PATHS[category]}: it has more than {_MOST_PAGES} pages")

    def _query(self, category: str) -> Iterator[tuple[str, str]]:
        yield "bucket_width", "1d"
        if category == COSTS:
            yield "group_by[]", "line_item"
        elif category not in WITHOUT_MODELS:
            yield "group_by[]", "model"
        for project_id in self._asked.project_ids:
            yield _PROJECTS, project_id
        if category not in _BY_PROJECT:
            for key_id in self._asked.api_key_ids:
                yield _KEYS, key_id

    async def _page(self, session: aiohttp.ClientSession, category: str, query: list[tuple[str, str]]) -> _Page:
        """One page, asked for again while that may help. Raises BooksError, _NotServedError."""
        url = f"{self._upstream.base_url.rstrip('/')}/organization/{_PATHS[category]}"
        for pause_s in (*_PAUSES_S, None):
            try:
                return await _once(session, url, query)
            except _RetryError as error:
                if pause_s is None:
                    raise BooksError(f"{_PATHS[category]}: {error}, {len(_PAUSES_S) + 1} times in a row") from None
                asked_s = error.wait_s if error.wait_s is not None else pause_s
            await self._pause(min(asked_s, _LONGEST_PAUSE_S))
        raise AssertionError("the last attempt returns or raises")


async def _once(session: aiohttp.ClientSession, url: str, query: list[tuple[str, str]]) -> _Page:
    """Raises BooksError, _RetryError, _NotServedError. A redirect is not followed: the key is for this host alone."""
    try:
        async with session.get(url, params=query, allow_redirects=False) as response:
            return _understood(response.status, await response.read(), response.headers.get("Retry-After"))
    except (TimeoutError, aiohttp.ClientError) as error:
        raise _RetryError(why(error, _ONE_S)) from None


def _understood(status: int, body: bytes, retry_after: str | None) -> _Page:
    """The page. Raises BooksError, _RetryError, _NotServedError."""
    if status == 404:
        raise _NotServedError
    if status == 429 or status >= 500:
        wait_s = float(retry_after) if retry_after is not None and retry_after.isdecimal() else None
        raise _RetryError(f"it answers {status}", wait_s)
    if status in {401, 403}:
        raise BooksError(f"it refuses the admin key ({status}){_message(body)}")
    if status != 200:
        raise BooksError(f"it answers {status}{_message(body)}")
    try:
        return msgspec.json.decode(body, type=_Page)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise BooksError("its answer is not one of OpenAI's usage API") from None


def _message(body: bytes) -> str:
    """What an error says, for the end of a sentence."""
    try:
        said = msgspec.json.decode(body, type=_Refusal).error.message
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    return f": {without_keys(said)[:_LONGEST_MESSAGE]}"


def _fields_in(category: str, results: list[dict[str, Any]]) -> frozenset[str]:
    """What can be compared."""
    wanted = fields_of(category)
    if category == COSTS or not results:
        return wanted
    return frozenset(name for name in wanted if any(_number(result.get(name)) is not None for result in results))


def _numbers_in(category: str, results: list[dict[str, Any]]) -> Iterator[tuple[Place, int]]:
    for result in results:
        if category == COSTS:
            yield place_of(COSTS, subject_of(_text(result.get("line_item"))), NANO_USD), _nano_usd(result)
            continue
        model = "" if category in WITHOUT_MODELS else _text(result.get("model"))
        for name in fields_of(category):
            if (number := _number(result.get(name))) is not None:
                yield place_of(category, model, name), _whole(number)


def _nano_usd(result: dict[str, Any]) -> int:
    """OpenAI writes dollars as a number; some who speak its API write them as text."""
    amount = result.get("amount")
    value = amount.get("value") if isinstance(amount, dict) else None
    try:
        return _whole(Decimal(str(value)) * _NANO)
    except InvalidOperation:
        raise BooksError("costs: an amount is not a number") from None


def _whole(value: float | Decimal) -> int:
    if not -_LARGEST < value < _LARGEST:
        raise BooksError("a number of its usage is too large")
    return round(value)


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
