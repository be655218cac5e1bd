"""Records of refusals on their way into the database: each once; over both databases and a real Valkey."""

from collections.abc import AsyncIterator

import msgspec
import pytest
import structlog
from sqlalchemy import select

from gateway.accounts.refusals import Refusal, Refusals
from gateway.control.jobs import refused as module
from gateway.control.jobs.refused import Refused
from gateway.control.sql.ledger_tables import usage_refusals
from tests.fakes.events import AT_US, KEYS, MINUTE, ORG
from tests.fakes.ledger import DAY_S, Ledger, ledger
from tests.fakes.redis_servers import Server


@pytest.fixture
async def book(valkey: Server, registry_url: str) -> AsyncIterator[Ledger]:
    async with ledger(valkey, registry_url) as made:
        yield made


def refusal(number: int, *, at_us: int = AT_US) -> Refusal:
    return Refusal(
        at_us=at_us, organization_id=ORG, project_id="proj_1", user_id="user_1", key_id=f"key_{number}",
        limit="spend.day", scope="key", subject="key_1", request_id=f"req_{number}", value=5, used=4, wanted=2,
    )  # fmt: skip


def job_of(book: Ledger, keep_s: int = 7 * DAY_S) -> Refused:
    return Refused(Refusals(book.client, KEYS), ORG, book.database, book.clock, structlog.get_logger(), keep_s)


async def came(book: Ledger, *refusals: Refusal) -> None:
    await Refusals(book.client, KEYS).append(refusals)


async def kept(book: Ledger) -> list[tuple[str, int, Refusal]]:
    """Request id, minute and record, in order."""
    columns = usage_refusals.c
    query = select(columns.request_id, columns.at, columns.refusal).order_by(columns.request_id)
    async with book.database.transaction() as connection:
        rows = list(await connection.execute(query))
    return [(id_, at, msgspec.json.decode(body, type=Refusal)) for id_, at, body in rows]


async def test_each_is_kept_once(monkeypatch: pytest.MonkeyPatch, book: Ledger) -> None:
    monkeypatch.setattr(module, "_MOST", 2)
    job, other = job_of(book), job_of(book)
    assert await job.take() == 0
    some = [refusal(number) for number in range(5)]
    await came(book, *some)
    assert await job.take() == 5
    assert await job.take() == 0
    await came(book, refusal(5))
    assert await other.take() == 6, "another one reads all of it"
    assert await job.take() == 1
    assert await kept(book) == [(f"req_{n}", MINUTE, refusal(n)) for n in range(6)]


async def test_what_is_too_old_is_left(book: Ledger) -> None:
    book.clock.advance(DAY_S + AT_US / 1e6 - book.clock.wall())
    await came(book, refusal(1, at_us=AT_US - 1), refusal(2))
    assert await job_of(book, keep_s=DAY_S).take() == 2
    assert [id_ for id_, _, _ in await kept(book)] == ["req_2"]


async def test_what_cannot_be_read_keeps_nobody_back(book: Ledger) -> None:
    await book.client.execute("XADD", KEYS.refusals(ORG), "*", "r", b"\xff")
    await book.client.execute("XADD", KEYS.refusals(ORG), "*", "r", b'{"at_us":1}')
    await came(book, refusal(1))
    assert await job_of(book).take() == 3
    assert [id_ for id_, _, _ in await kept(book)] == ["req_1"]


async def test_another_stream_is_read_from_its_beginning(book: Ledger) -> None:
    """Redis was emptied, and its clock has gone back."""
    job = job_of(book)
    await came(book, refusal(1))
    assert await job.take() == 1
    await book.client.execute("DEL", KEYS.refusals(ORG))
    assert await job.take() == 0
    await book.client.execute("XADD", KEYS.refusals(ORG), "5-1", "r", msgspec.json.encode(refusal(2)))
    assert await job.take() == 1
    assert [id_ for id_, _, _ in await kept(book)] == ["req_1", "req_2"]
