"""Golden calls through a real worker, their answers in pieces of many sizes: the client's bytes and the usage event."""

import msgspec
import pytest

from tests.fakes.golden_calls import Case, cases, operations, shown
from tests.fakes.upstream import upstream
from tests.fakes.wire import soon, until
from tests.fakes.worker import Client, CutError, Gateway, gateway

ALL = [case for operation in operations() for case in cases(operation)]


@pytest.mark.parametrize("case", ALL, ids=lambda case: f"{case.operation}-{case.name}")
async def test_a_golden_call(case: Case) -> None:
    async with upstream() as up, gateway(up, allow_unmetered=True) as gw:
        for pieces in case.chunkings():
            up.script = case.script(pieces)
            gw.events.clear()
            client = await gw.connect()
            client.send(case.request())
            await received(case, client, gw)
            check(case, gw)


async def received(case: Case, client: Client, gw: Gateway) -> None:
    """Plays the client's part, and looks at what it gets."""
    before, wanted = len(gw.captured.lines), case.got()
    if case.ends == "left":
        await client.head()
        got = b""
        while len(got) < len(wanted):
            got += await soon(client.chunked())
        client.close()
    elif case.ends == "unanswered":
        assert (await client.response()).status == 502
        got = b""
    elif case.ends == "cut":
        with pytest.raises(CutError) as cut:
            await client.response()
        got = cut.value.body[: len(wanted)]  # an error event may follow
    else:
        answer = await client.response()
        coding = (
            b"" if case.client and case.stream else case.encoding.encode()
        )  # what is edited is not compressed any more
        assert (answer.status, answer.header(b"content-encoding")) == (case.status, coding or None)
        got = answer.body
    assert got == wanted
    await until(lambda: len(gw.captured.lines) > before)
    client.close()


def check(case: Case, gw: Gateway) -> None:
    assert len(gw.events) == case.events
    if not gw.events:
        return
    (event,) = gw.events
    assert (event.operation, event.category) == ("" if case.operation == "unknown" else case.operation, case.category)
    assert event.id == gw.access[-1]["request_id"]
    assert event.ended == {"whole": "complete", "left": "client_left", "cut": "cut", "unanswered": "cut"}[case.ends]
    assert event.status == (0 if case.ends == "unanswered" else case.status)
    assert event.pending == case.pending
    assert shown(event) == case.lines, msgspec.json.encode(shown(event)).decode()
    for line in event.lines:
        assert line.nano_usd is not None
        assert line.nano_usd == sum(cost.nano_usd for cost in line.costs)
