"""Every usage endpoint and costs, each width and each combination of `group_by`, against events counted one by one."""

import itertools
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlencode

import msgspec
import pytest

from gateway.control.admin.asked import Asked, House, read_pairs
from gateway.control.admin.caller import EVERYTHING, Caller, Grant
from gateway.control.admin.costs import Name
from gateway.control.admin.nouns import all_routes
from gateway.control.admin.routes import Routes
from gateway.control.admin.usage import ENDPOINTS
from tests.fakes.admin_api import settings_of
from tests.fakes.ledger import Ledger, ledger
from tests.fakes.measuring import Size
from tests.fakes.raw_usage import DAY_S, HOUR_S, MINUTE_S, NOW, Asking, Raw, buckets_of, made_up
from tests.fakes.redis_servers import Server

EVENTS = 500
CATEGORIES = (*ENDPOINTS, None)
# Filters that an endpoint takes because it groups by what they name, and some values.
VALUES = {
    "project_id": ("proj_1", "proj_2", "proj_none"),
    "user_id": ("user_1", "user_2"),
    "api_key_id": ("key_1", "key_3"),
    "model": ("gpt-a", "gpt-b-2026"),
    "size": ("1024x1024", "512x512"),
    "source": ("image.generation", "image.edit"),
    "context_level": ("low", "high"),
    "vector_store_id": ("vs_1", "vs_2"),
    "line_item": ("gpt-a, input_tokens", "gpt-b, storage"),
}
SPANS = {"1m": (3 * HOUR_S, 70 * MINUTE_S), "1h": (5 * DAY_S, 30 * HOUR_S), "1d": (6 * DAY_S, 6 * DAY_S)}
LIMITS = {"1m": (17, 90), "1h": (7, 40), "1d": (2, 7)}


Answers = Callable[[str], Awaitable[Any]]


@pytest.fixture
async def book(valkey: Server, registry_url: str) -> AsyncIterator[Ledger]:
    async with ledger(valkey, registry_url) as made:
        yield made


def answers(book: Ledger, folder: Path) -> Answers:
    """`await ask("/organization/…?…")`: what the admin API answers, without its door."""
    routes, house = Routes(all_routes()), House(settings_of(folder), (), nothing_spent)
    caller = Caller("operator", "operator", (Grant(EVERYTHING),))

    async def ask(path: str) -> Any:
        path, _, query = path.partition("?")
        match = routes.match("GET", path)
        assert match is not None
        assert match.route.read is not None
        async with book.database.transaction() as connection:
            page = await match.route.read(Asked(house, caller, {}, read_pairs(query), b"", NOW), connection)
        return msgspec.to_builtins(page)

    return ask


async def nothing_spent(_subjects: Sequence[str]) -> None:
    return None


def names_of(category: str | None) -> tuple[str, ...]:
    return ENDPOINTS[category].names if category is not None else get_args(Name)


def askings(category: str | None, draw: random.Random) -> Iterator[Asking]:
    """Each combination of width and `group_by`, at times and with filters that are drawn."""
    names = names_of(category)
    combinations = [some for n in range(len(names) + 1) for some in itertools.combinations(names, n)]
    for width, group_by in itertools.product(("1m", "1h", "1d") if category else ("1d",), combinations):
        back, length = SPANS[width]
        start = NOW - draw.randrange(back)
        filters = {
            f"{name}s": draw.sample(VALUES[name], draw.randint(1, 2))
            for name in names
            if name in VALUES and draw.random() < 0.15
        }
        batch = draw.choice((None, None, True, False)) if "batch" in names else None
        yield Asking(category, width, start, start + draw.randint(1, length), group_by, filters, batch)


def parameters(asking: Asking, draw: random.Random) -> str:
    """In one of the four spellings of lists."""
    spelling = draw.randrange(4)
    pairs: list[tuple[str, str]] = [("start_time", str(asking.start)), ("end_time", str(asking.end))]
    pairs.append(("bucket_width", asking.width))
    for name, values in {**asking.filters, "group_by": draw.sample(asking.group_by, len(asking.group_by))}.items():
        if spelling == 3 and values:
            pairs.append((name, ",".join(values)))
        else:
            pairs += [(f"{name}{('', '[]', f'[{n}]', '')[spelling]}", value) for n, value in enumerate(values)]
    if asking.batch is not None:
        pairs.append(("batch", str(asking.batch).lower()))
    return urlencode(pairs)


async def answered(ask: Answers, asking: Asking, draw: random.Random) -> list[Any]:
    """All buckets, as the cookbook collects them: page after page, until there is no next one."""
    path = f"/organization/usage/{asking.category}" if asking.category else "/organization/costs"
    said, page = f"{path}?{parameters(asking, draw)}&limit={draw.randint(*LIMITS[asking.width])}", ""
    found: list[Any] = []
    while True:
        answer = await ask(said + page)
        assert answer["object"] == "page"
        found += answer["data"]
        assert answer["has_more"] == (answer["next_page"] is not None)
        if answer["next_page"] is None:
            return found
        page = "&" + urlencode({"page": answer["next_page"]})


def told(results: Sequence[dict[str, Any]]) -> Counter[str]:
    """In no order, without what is null."""
    said = [{name: value for name, value in one.items() if value is not None} for one in results]
    return Counter(json.dumps(one, sort_keys=True) for one in said)


@pytest.mark.proof
@pytest.mark.timeout(600)
async def test_every_combination(book: Ledger, tmp_path: Path, size: Size) -> None:
    """In CI each kind of database has an eighth of them, not the same one."""
    share, first = size(small=8, full=1), book.database.url.get_backend_name() == "sqlite"
    events = made_up(EVENTS, seed=11)
    await book.folded(*events)
    raw, ask, draw, results = Raw(events), answers(book, tmp_path), random.Random(3), 0
    every = [asking for category in CATEGORIES for asking in askings(category, draw)]
    assert len(every) > 1_200
    for asking in every[first % share :: share]:
        buckets = await answered(ask, asking, draw)
        assert [(one["start_time"], one["end_time"]) for one in buckets] == buckets_of(asking), asking
        for bucket, wanted in zip(buckets, raw.expected(asking), strict=True):
            assert told(bucket["results"]) == told(wanted), (asking, bucket)
            results += len(wanted)
    assert results > 5_000 / share
