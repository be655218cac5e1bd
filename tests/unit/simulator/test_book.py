from pathlib import Path

import msgspec

from gateway.simulator.book import Book, Entry, Quantities, Record


def entry(book: Book, number: int) -> Entry:
    made = Entry(book.number(), f"req_{number}", "POST", "/v1/chat/completions", 1.0)
    made.status, made.operation = 200, "createChatCompletion"
    made.usage = Quantities(input_tokens=number, output_tokens=2)
    return made


def records(book: Book, since: int, limit: int) -> list[Record]:
    return [msgspec.json.decode(raw, type=Record) for raw in book.since(since, limit).data]


def test_records_are_numbered_as_they_end_and_read_from_a_cursor(tmp_path: Path) -> None:
    book = Book(tmp_path / "book")
    first, second, third = (entry(book, n) for n in range(3))
    for ended in (second, first):
        book.write(ended, 2.0)
    assert [(r.sequence, r.request, r.request_id) for r in records(book, 0, 10)] == [(1, 2, "req_1"), (2, 1, "req_0")]
    page = book.since(1, 1)
    assert (len(page.data), page.next, page.more, page.in_flight) == (1, 2, False, 1)
    book.write(third, 3.0)
    assert [r.request_id for r in records(book, 2, 10)] == ["req_2"]
    assert book.since(3, 10).data == []
    assert book.since(99, 10).next == 3
    book.close()


def test_pages_of_many_records_lose_none(tmp_path: Path) -> None:
    book = Book(tmp_path / "book")
    for n in range(5000):
        book.write(entry(book, n), 2.0)
    cursor, seen, more = 0, [], True
    while more:
        page = book.since(cursor, 700)
        seen += [msgspec.json.decode(raw, type=Record).sequence for raw in page.data]
        cursor, more = page.next, page.more
    assert seen == list(range(1, 5001))
    book.close()


def test_stats_add_up_and_a_reset_forgets(tmp_path: Path) -> None:
    book = Book(tmp_path / "book")
    for n in range(4):
        made = entry(book, n)
        made.ended = "client_left" if n == 3 else "complete"
        book.write(made, 2.0)
    stats = book.stats()
    assert stats["ended"] == {"complete": 3, "client_left": 1}
    assert stats["usage"] == Quantities(input_tokens=6, output_tokens=8)
    book.number()
    book.reset()
    assert (len(book), book.requests, book.in_flight, book.since(0, 10).data) == (0, 0, 1, [])
    book.close()


def test_quantities_add_by_unit() -> None:
    total = Quantities(input_tokens=3, seconds=1.5) + Quantities(input_tokens=4, images=2)
    assert total == Quantities(input_tokens=7, seconds=1.5, images=2)
    assert Quantities(input_tokens=3, output_tokens=4).total_tokens == 7
