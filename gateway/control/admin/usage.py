"""Usage, as OpenAI's `/organization/usage/*` report it: sums of the ledger by bucket, and by what is asked for."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Literal, cast, get_args

import msgspec
from msgspec import Meta
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked
from gateway.control.admin.routes import Route, reading
from gateway.control.admin.usage_pages import (
    PERMISSION,
    Inquiry,
    Several,
    Show,
    Timed,
    UsagePage,
    grouped_by,
    named,
    page_of_buckets,
)
from gateway.control.ledger.buckets import LENGTHS, USAGE_LIMITS, Bucket
from gateway.control.ledger.grains import usage_kept
from gateway.control.ledger.query import USAGE
from gateway.usage.fields import FIELDS, REQUESTS, TOKENS, Field, fields_of_tokens
from gateway.values import Quantities

PATH = "/organization/usage"
_ALL = 20  # names in `group_by`, also where one stands more than once
_HOUR_S = LENGTHS["1h"]

Project = Literal["project_id"]
Caller = Literal["project_id", "user_id", "api_key_id"]
Model = Literal[Caller, "model"]
Tokens = Literal[Model, "batch", "service_tier", "api_source"]
Image = Literal[Model, "size", "source"]
WebSearch = Literal[Model, "context_level", "api_source"]
FileSearch = Literal[Caller, "vector_store_id"]
Most = Meta(max_length=_ALL)


class ByProject(Timed, frozen=True):
    group_by: Annotated[tuple[Project, ...], Most] = ()


class _OfCallers(Timed, frozen=True):
    user_ids: Several = ()
    api_key_ids: Several = ()


class _OfModels(_OfCallers, frozen=True):
    models: Several = ()


class ByModel(_OfModels, frozen=True):
    group_by: Annotated[tuple[Model, ...], Most] = ()


class ByTokens(_OfModels, frozen=True):
    """batch: true for batches alone, false for all others."""

    batch: bool | None = None
    group_by: Annotated[tuple[Tokens, ...], Most] = ()


class ByImage(_OfModels, frozen=True):
    sources: tuple[Literal["image.generation", "image.edit", "image.variation"], ...] = ()
    sizes: Several = ()
    group_by: Annotated[tuple[Image, ...], Most] = ()


class ByWebSearch(_OfModels, frozen=True):
    context_levels: tuple[Literal["low", "medium", "high"], ...] = ()
    group_by: Annotated[tuple[WebSearch, ...], Most] = ()


class ByFileSearch(_OfCallers, frozen=True):
    vector_store_ids: Several = ()
    group_by: Annotated[tuple[FileSearch, ...], Most] = ()


class Endpoint(msgspec.Struct, frozen=True):
    """form: of its parameters. kind: what its results are called. names: what it groups by. requests: whether results
    count calls."""

    form: type[Timed]
    kind: str
    names: tuple[str, ...]
    requests: bool = True


# By the last part of their paths, which is the ledger's category.
ENDPOINTS: Mapping[str, Endpoint] = MappingProxyType({
    "completions": Endpoint(ByTokens, "completions", get_args(Tokens)),
    "decisions": Endpoint(ByTokens, "decisions", get_args(Tokens)),
    "embeddings": Endpoint(ByModel, "embeddings", get_args(Model)),
    "moderations": Endpoint(ByModel, "moderations", get_args(Model)),
    "images": Endpoint(ByImage, "images", get_args(Image)),
    "audio_speeches": Endpoint(ByModel, "audio_speeches", get_args(Model)),
    "audio_transcriptions": Endpoint(ByModel, "audio_transcriptions", get_args(Model)),
    "vector_stores": Endpoint(ByProject, "vector_stores", get_args(Project), requests=False),
    "code_interpreter_sessions": Endpoint(
        ByProject, "code_interpreter_sessions", get_args(Project), requests=False
    ),
    "web_search_calls": Endpoint(ByWebSearch, "web_searches", get_args(WebSearch)),
    "file_search_calls": Endpoint(ByFileSearch, "file_searches", get_args(FileSearch), requests=False),
})  # fmt: skip

BYTES = "usage_bytes"
Fields = Callable[[Sequence[int]], dict[str, int]]


class _Reader(msgspec.Struct, frozen=True):
    """columns: the quantities of a category. read: from these to what a result says."""

    columns: Sequence[str]
    read: Fields


def routes() -> tuple[Route, ...]:
    return tuple(reading(f"{PATH}/{name}", PERMISSION, _usage_of(name), own=True) for name in ENDPOINTS)


def _usage_of(category: str) -> Callable[[Asked, AsyncConnection], Awaitable[UsagePage]]:
    endpoint, reader = ENDPOINTS[category], _reader(category)

    async def usage(asked: Asked, connection: AsyncConnection) -> UsagePage:
        query = asked.query(endpoint.form)
        show = _shown(endpoint, reader.read, query, asked.now)
        kept, quantities = usage_kept(asked.house.settings.ledger, asked.now), ("requests", *reader.columns)
        inquiry = Inquiry(USAGE, kept, USAGE_LIMITS, quantities, show, only={"category": (category,)})
        return await page_of_buckets(asked, connection, query, inquiry)

    return usage


def _shown(endpoint: Endpoint, read: Fields, query: Any, now: int) -> Show:
    kind = f"organization.usage.{endpoint.kind}.result"
    groups, first = named(endpoint.names, query), len(grouped_by(query)) + 1

    def results(bucket: Bucket, rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
        found = []
        for row in rows:
            values = row[first + 1 :]
            if not any(row[first:]):
                continue  # what was there was taken back
            result = {"object": kind, **read(values), **groups(row[1:first])}
            if endpoint.requests:
                result[REQUESTS] = row[first]
            if BYTES in result:
                result[BYTES] = round(result[BYTES] / _hours(bucket, now))
            found.append(result)
        return found

    return results


def _hours(bucket: Bucket, now: int) -> int:
    """How many hours of it have begun. Bytes are sampled once in each: their sum is bytes times hours."""
    return max(1, -(-(min(bucket.end, now) - bucket.start) // _HOUR_S))


def _reader(category: str) -> _Reader:
    fields = FIELDS.get(category)
    if fields is None:
        return _Reader(("bytes",), lambda values: {BYTES: values[0]})
    if fields is FIELDS["completions"]:
        return _Reader(TOKENS, fields_of_tokens)
    columns = _columns(fields)

    def read(values: Sequence[int]) -> dict[str, int]:
        used = Quantities(**dict(zip(columns, values, strict=True)))
        return {name: round(field(used)) for name, field in fields.items()}

    return _Reader(columns, read)


class _Noting:
    """In the place of quantities, to see which of them are looked at."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __getattr__(self, name: str) -> int:
        self.names.add(name)
        return 0


def _columns(fields: Mapping[str, Field]) -> list[str]:
    """The quantities that fields are made from."""
    noting = _Noting()
    for field in fields.values():
        field(cast("Quantities", noting))
    return [name for name in Quantities.__struct_fields__ if name in noting.names]
