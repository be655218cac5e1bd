"""The organization's own usage and costs, as an admin key reads them: the book, summed up, at once.

The book knows no users. An API key's id is `key_` and what the book calls it. Costs are those that the options have
prices for. How many bytes vector stores hold is not in the book: their buckets are empty.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import msgspec

from gateway.operations.table import load_operations
from gateway.simulator import bill, errors
from gateway.simulator.book import Record
from gateway.simulator.call import Call, Handler, Handlers, Json, JsonReply, Reply
from gateway.simulator.world import World

_PAGE = "page_"
_AT_ONCE = 1000  # records
_NANO = 1_000_000_000
_WIDTHS = MappingProxyType({"1m": (60, 60, 1440), "1h": (3600, 24, 168), "1d": (86_400, 7, 31)})  # s, default, most
_COST_WIDTHS = MappingProxyType({"1d": (86_400, 7, 180)})
_MODELS = ("project_id", "user_id", "api_key_id", "model")
_CALLS = (*_MODELS, "batch", "service_tier", "api_source")
GROUPS = MappingProxyType(
    {
        "completions": _CALLS,
        "decisions": _CALLS,
        "embeddings": _MODELS,
        "moderations": _MODELS,
        "images": (*_MODELS, "size", "source"),
        "audio_speeches": _MODELS,
        "audio_transcriptions": _MODELS,
        "vector_stores": ("project_id",),
        "code_interpreter_sessions": ("project_id",),
        "web_search_calls": (*_MODELS, "context_level", "api_source"),
        "file_search_calls": ("project_id", "user_id", "api_key_id", "vector_store_id"),
    }
)
_COST_GROUPS = ("project_id", "line_item", "user_id", "api_key_id", "api_source")
_FILTERS = MappingProxyType(
    {
        "project_ids": "project_id",
        "user_ids": "user_id",
        "api_key_ids": "api_key_id",
        "models": "model",
        "sources": "source",
        "sizes": "size",
        "line_items": "line_item",
    }
)
_CATEGORIES = MappingProxyType({operation.id: operation.category for operation in load_operations()})
_OBJECTS = MappingProxyType({"web_search_calls": "web_searches", "file_search_calls": "file_searches"})


_Shown = Callable[[Mapping[str, float], Mapping[str, Any]], Json]
"""What of a result is not its dimensions, from its sums and its group."""


class _Part(msgspec.Struct, frozen=True):
    """What a record adds to a bucket. sums: the members of results that are added up."""

    at: float
    dimensions: Mapping[str, Any]
    sums: Mapping[str, float]


class _Asked(msgspec.Struct, frozen=True):
    """Times in seconds since 1970. wanted: of a dimension, the values that count."""

    begin: int
    end: int
    length: int
    limit: int
    group_by: tuple[str, ...]
    wanted: Mapping[str, tuple[str, ...]]


async def _usage(category: str, world: World, call: Call) -> Reply:
    """GET /organization/usage/{category}."""
    asked = _asked(world, call, _WIDTHS, GROUPS[category])
    parts: list[_Part] = []
    async for record in _records(world, asked):
        shares = bill.shares(record, _CATEGORIES, world.options.project)
        parts += (_Part(record.started_at, one.dimensions, one.fields) for one in shares if one.category == category)
    head = {"object": f"organization.usage.{_OBJECTS.get(category, category)}.result"}

    def shown(sums: Mapping[str, float], _: Mapping[str, Any]) -> Json:
        return head | {name: round(value) for name, value in sums.items()}

    return _page(asked, parts, shown, GROUPS[category])


async def _costs(world: World, call: Call) -> Reply:
    """GET /organization/costs."""
    asked = _asked(world, call, _COST_WIDTHS, _COST_GROUPS)
    parts: list[_Part] = []
    async for record in _records(world, asked):
        common = {"project_id": world.options.project, "api_key_id": bill.key_id(record)}
        for charge in bill.charges(record, world.options.prices):
            dimensions = common | {"line_item": charge.item}
            sums = {"nano_usd": charge.nano_usd, "quantity": charge.quantity}
            parts.append(_Part(record.started_at, dimensions, sums))

    def shown(sums: Mapping[str, float], group: Mapping[str, Any]) -> Json:
        amount = {"value": sums["nano_usd"] / _NANO, "currency": "usd"}
        _, of, unit = group.get("line_item", "").rpartition(", ")
        quantity = {"quantity": sums["quantity"] if of else None, "quantity_unit": bill.UNITS[unit] if of else None}
        return {"object": "organization.costs.result", "amount": amount, **quantity}

    return _page(asked, parts, shown, _COST_GROUPS)


async def _records(world: World, asked: _Asked) -> AsyncIterator[Record]:
    """Those of what can be on the page."""
    decode = msgspec.json.Decoder(Record).decode
    cursor, more = 0, True
    while more:
        page = world.book.since(cursor, _AT_ONCE)
        for raw in page.data:
            record = decode(raw)
            if asked.begin <= record.started_at < asked.end:
                yield record
        cursor, more = page.next, page.more
        await world.breathe()


def _asked(world: World, call: Call, widths: Mapping[str, tuple[int, int, int]], groups: tuple[str, ...]) -> _Asked:
    width = call.asked("bucket_width") or "1d"
    if width not in widths:
        raise errors.wrong_value("bucket_width", width, tuple(widths))
    length, usual, most = widths[width]
    limit = _number(call, "limit", usual)
    if not 1 <= limit <= most:
        raise errors.too_small("limit", limit, 1) if limit < 1 else errors.too_large("limit", limit, most)
    if call.asked("start_time") is None:
        raise errors.missing("start_time")
    start = _number(call, "start_time", 0)
    page = call.asked("page")
    if page is not None and not page.removeprefix(_PAGE).isdigit():
        raise errors.wrong_value("page", page)
    group_by = tuple(dict.fromkeys(call.query.get("group_by", ())))
    for name in group_by:
        if name not in groups:
            raise errors.wrong_value("group_by", name, groups)
    wanted = {_FILTERS[name]: tuple(values) for name, values in call.query.items() if name in _FILTERS}
    if (batch := call.asked("batch")) is not None:
        wanted["batch"] = (batch,)
    now = world.now() + 1
    end = _number(call, "end_time", now + -now % length)
    begin = start - start % 60 if page is None else int(page.removeprefix(_PAGE))
    return _Asked(begin, end, length, limit, group_by, wanted)


def _number(call: Call, name: str, default: int) -> int:
    text = call.asked(name)
    if text is None:
        return default
    if not text.isdigit():
        raise errors.wrong_type(name, "an integer", text)
    return int(text)


def _page(asked: _Asked, parts: Iterable[_Part], shown: _Shown, groups: tuple[str, ...]) -> JsonReply:
    """One page of buckets. groups: the dimensions that results name, asked for or not."""
    counted = [part for part in parts if _is_wanted(part, asked)]
    buckets: list[Json] = []
    begin = asked.begin
    while begin < asked.end and len(buckets) < asked.limit:
        end = min(asked.end, begin - begin % asked.length + asked.length)
        inside = [part for part in counted if begin <= part.at < end]
        results = [
            {**shown(sums, group := dict(zip(asked.group_by, values, strict=True))), **dict.fromkeys(groups), **group}
            for values, sums in _grouped(inside, asked.group_by).items()
        ]
        buckets.append({"object": "bucket", "start_time": begin, "end_time": end, "results": results})
        begin = end
    more = begin < asked.end
    following = f"{_PAGE}{begin}" if more else None
    return JsonReply({"object": "page", "data": buckets, "has_more": more, "next_page": following})


def _is_wanted(part: _Part, asked: _Asked) -> bool:
    return all(_text(part.dimensions.get(name)) in values for name, values in asked.wanted.items())


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _grouped(parts: Iterable[_Part], group_by: tuple[str, ...]) -> dict[tuple[Any, ...], dict[str, float]]:
    found: dict[tuple[Any, ...], dict[str, float]] = {}
    for part in parts:
        sums = found.setdefault(tuple(part.dimensions.get(name) for name in group_by), {})
        for name, value in part.sums.items():
            sums[name] = sums.get(name, 0) + value
    return found


def _handlers() -> Iterable[tuple[str, Handler]]:
    """By operation, whose path says the category."""
    for operation in load_operations():
        _, _, category = operation.path.partition("/organization/usage/")
        if category in GROUPS:
            yield operation.id, partial(_usage, category)
    yield "usage-costs", _costs


HANDLERS: Handlers = tuple(_handlers())
