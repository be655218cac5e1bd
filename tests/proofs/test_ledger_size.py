"""Ten million events of a month in a SQLite file: how fast they are folded, how large it gets, how fast it answers."""

from pathlib import Path

import pytest

from gateway.accounts.usage_stream import pack
from gateway.pricing.book import make_book
from gateway.settings.model import Prices
from tests.fakes.many_events import BEGINS, DAYS, many_events
from tests.fakes.measuring import Measured, Size
from tests.fakes.redis_servers import Server
from tests.proofs.ledger_size import answers, folded

pytestmark = [pytest.mark.proof, pytest.mark.timeout(3600)]


async def test_a_month_in_sqlite(
    sqlite_url: str, valkey: Server, tmp_path: Path, size: Size, measured: Measured
) -> None:
    count, least = size(small=4_000, full=10_000_000), size(small=50, full=5_000)
    await folded(sqlite_url, count, measured, least=least)
    await answers(valkey, sqlite_url, tmp_path, measured)


def test_the_events_are_what_workers_send() -> None:
    """Byte for byte, and priced by the book."""
    book, entries = make_book(Prices()), list(many_events(3_000))
    events = [entry.event() for entry in entries]
    assert [pack(event).json for event in events] == [entry.json for entry in entries]
    assert [event.at_us for event in events] == sorted(event.at_us for event in events)
    assert {event.at_us // 86_400_000_000 - BEGINS // 86_400 for event in events} == {*range(DAYS)}
    assert len({event.id for event in events}) == len({entry.id for entry in entries}) == 3_000
    assert {event.category for event in events} == {"completions", "embeddings", "images"}
    for event in events:
        priced = tuple(book.priced(line, event.at_us / 1e6)[0] for line in event.lines)
        assert priced == event.lines
    assert list(many_events(3_000)) == entries
