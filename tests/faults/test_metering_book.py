"""Thousands of mixed calls through a whole gateway: its usage events, their prices, and what the upstream says that it
served. What was reported is equal to the token; what had to be estimated is near, never nothing, and explained."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from fractions import Fraction

import aiohttp
import msgspec
import pytest

from gateway.simulator import catalog
from gateway.simulator.book import Record
from gateway.values import Quantities, UsageEvent, UsageLine
from tests.fakes.bills import bill
from tests.fakes.booked import MAIN, TEXTS, TOOLS, booked
from tests.fakes.events import KEYS
from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import KEY
from tests.fakes.kept_events import events_so_far
from tests.fakes.measuring import Measured, Size
from tests.fakes.mixed_calls import Ask, Callers, Mix, Outcome
from tests.fakes.redis_servers import VALKEY, Server, StartServer
from tests.unit.simulator.kit import Simulation

pytestmark = [pytest.mark.proof, pytest.mark.timeout(1500)]
NEAR = 0.15
LONG = (
    150  # tokens of a text from which on it alone must be near (prose of 100 strays by 5 %); of shorter ones, the sum
)
MANY = 300  # estimates, from which on those that rest on means must be near
AT_ONCE = 24


class Served(msgspec.Struct, frozen=True):
    """A call from all sides. record: the last that the upstream has of it."""

    ask: Ask
    outcome: Outcome
    record: Record
    event: UsageEvent

    @property
    def reported(self) -> bool:
        return any(line.source == "reported" for line in self.event.lines)


class Run(msgspec.Struct, frozen=True):
    asks: list[Ask]
    outcomes: Mapping[str, Outcome]
    records: list[Record]
    events: list[UsageEvent]
    took_s: float

    def served(self) -> list[Served]:
        """The calls, each with its one event. Fails if that is not so."""
        events = Counter(event.id for event in self.events)
        assert max(events.values()) == 1, "an event came twice"
        by_id = {event.id: event for event in self.events}
        records = {str(record.incoming_request_id): record for record in self.records}
        assert by_id.keys() == records.keys(), by_id.keys() ^ records.keys()
        of_call = {str(record.client_request_id): record for record in records.values()}
        assert len(of_call) == len(records), "a call was sent under two ids"
        assert of_call.keys() == {ask.name for ask in self.asks}
        return [self._of(ask, of_call[ask.name], by_id) for ask in self.asks]

    def _of(self, ask: Ask, record: Record, events: Mapping[str, UsageEvent]) -> Served:
        return Served(ask, self.outcomes[ask.name], record, events[str(record.incoming_request_id)])


async def run(asks: list[Ask], simulator_url: str, start: StartGateway, server: Server) -> Run:
    """Makes the calls, ends the gateway, and reads what it left in Redis and what the upstream has in its book."""
    gateway = start(redis={"url": server.url, "prefix": KEYS.prefix})
    timeout = aiohttp.ClientTimeout(total=60)
    connector = aiohttp.TCPConnector(limit=AT_ONCE * 2)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        book = Simulation(simulator_url, session)
        before = len(await book.records())
        callers = Callers(gateway.base_url, KEY, session)
        began = time.perf_counter()
        await callers.run(asks, AT_ONCE)
        took_s = time.perf_counter() - began
        assert await asyncio.to_thread(gateway.stop) == 0
        records = await book.records(before)
    events = await asyncio.to_thread(events_so_far, server, gateway)
    return Run(asks, callers.outcomes, records, events, took_s)


async def test_events_are_what_was_served(
    simulator_url: str, start_gateway: StartGateway, start_server: StartServer, size: Size, measured: Measured
) -> None:
    asks = Mix(seed=4).asks(size(small=300, full=5000))
    found = await run(asks, simulator_url, start_gateway, start_server(VALKEY, "--appendonly", "yes"))
    served = found.served()
    for one in served:
        check_refused(one)
        check_reported(one)
        check_flagged(one)
        check_price(one)
    check_mix(served)
    note_shares(found, served, measured)
    check_estimates(served, measured)


def check_refused(one: Served) -> None:
    """A refusal costs nothing and is known as one; whatever else an upstream was sent does cost something."""
    if one.record.status is not None and one.record.status >= 400:
        assert one.ask.ends == "refused", one
        assert (one.event.status, one.event.lines) == (one.record.status, ()), one
    else:
        assert one.event.lines, one
        for line in one.event.lines:
            assert line.quantities != Quantities(), one
        if one.record.operation in TEXTS and not (one.ask.stream and not one.record.output_tokens_sent):
            assert one.event.lines[0].quantities.output_tokens, one


def check_reported(one: Served) -> None:
    """Whatever the upstream said of its usage is in the event, to the token, and under the right names."""
    if one.record.ended == "complete":
        assert one.reported == one.record.usage_sent, one
    if not one.reported:
        return
    record, lines = one.record, one.event.lines
    assert {line.category: line.quantities for line in lines} == booked(record), one
    assert len(lines) == len(booked(record)), one
    for line in lines:
        assert line.source == "reported", one
        assert line.request_model == (record.request_model or ""), one
        if line.category == "images" and record.operation == "createResponse":
            assert line.response_model == "gpt-image-1.5", one  # the tool's own
        else:
            assert line.response_model == (record.response_model if names_its_model(one) else ""), one
        if record.operation in {"createChatCompletion", "createResponse"}:
            assert line.service_tier == record.service_tier, one
        else:
            assert line.service_tier == "", one


def check_price(one: Served) -> None:
    """What each line costs, by what the book says that it used, and by others' reckoning.

    A line's price is the sum of its items, each rounded half up to a nano-dollar: so it is off by half of one for each
    item at most, and not at all where nothing has to be rounded.
    """
    truth = booked(one.record) if one.reported else {}
    for line in one.event.lines:
        exact = bill(line, truth.get(str(line.category), line.quantities), one.event.at_us / 1e6)
        assert line.nano_usd is not None, one
        assert line.nano_usd == sum(cost.nano_usd for cost in line.costs), one
        assert abs(line.nano_usd - exact) <= Fraction(len(line.costs), 2), (line, float(exact))
        if len(line.costs) == 1:
            assert line.nano_usd == (exact + Fraction(1, 2)).__floor__(), (line, float(exact))


def check_mix(served: Iterable[Served]) -> None:
    """The calls are as mixed as they are meant to be: nothing above holds for want of an example."""
    lines = [line for one in served for line in one.event.lines]
    used = [line.quantities for line in lines if line.source == "reported"]
    assert {line.service_tier for line in lines} == {"", "default", "flex", "priority"}
    assert {line.category for line in lines} >= {*MAIN.values(), *TOOLS}
    for kind in (
        "cached_tokens",
        "cache_write_tokens",
        "reasoning_tokens",
        "input_audio_tokens",
        "output_audio_tokens",
    ):
        assert any(getattr(each, kind) for each in used), kind


def names_its_model(one: Served) -> bool:
    """Of the answers that report usage, those of images and audio do not say which model made them."""
    return one.record.operation in {*TEXTS, "createEmbedding", "createModeration"}


def check_flagged(one: Served) -> None:
    """Each estimate has a reason: the client left, the upstream broke off, or such answers never tell."""
    if not one.event.lines or one.reported:
        return
    if one.record.ended in {"client_left", "cut"}:
        assert one.ask.ends in {"leaves", "cut"}, one
        assert one.event.ended in {"client_left", "cut", "complete"}, one
        return
    assert one.record.ended == "complete", one
    assert not one.record.usage_sent, one
    assert silent(one), one


def silent(one: Served) -> bool:
    """Whether such an answer never tells what was used."""
    form = one.ask.fields.get("response_format", "json")
    model = one.record.response_model or ""
    return (
        one.record.operation in {"createModeration", "createTranslation"}
        or (one.record.operation == "createSpeech" and not one.record.stream)
        or (one.record.operation == "createImage" and model.startswith("dall-e"))
        or (one.record.operation == "createTranscription" and form in {"text", "srt", "vtt"})
    )


def note_shares(found: Run, served: list[Served], measured: Measured) -> None:
    total = len(served)
    flagged = [one for one in served if one.event.lines and not one.reported]
    silent = [one for one in flagged if one.ask.ends == "whole"]
    measured("calls", total, "calls")
    measured("calls a second", total / found.took_s, "1/s")
    for what, number in (
        ("streams", sum(one.record.stream or one.ask.stream for one in served)),
        ("clients that left", sum(one.event.ended == "client_left" for one in served)),
        ("cut by the upstream", sum(one.record.ended == "cut" for one in served)),
        ("refused", sum(not one.event.lines for one in served)),
        ("estimated because they ended early", len(flagged) - len(silent)),
        ("estimated because such answers report nothing", len(silent)),
    ):
        measured(what, 100 * number / total, "%")


class Guess(msgspec.Struct, frozen=True):
    """An estimate and between what the truth lies."""

    what: str
    guessed: int
    least: int
    most: int
    one: Served

    @property
    def deviation(self) -> float:
        if self.guessed > self.most:
            return self.guessed / max(1, self.most) - 1
        return min(0.0, self.guessed / max(1, self.least) - 1)


def check_estimates(served: Iterable[Served], measured: Measured) -> None:
    """Each estimate of a text that is long enough to have a usual length of tokens is near; so are all together.

    What cannot be seen is taken from the mean of other calls, so of that only a sum over many can be near.
    """
    guesses = [guess for one in served if one.event.lines and not one.reported for guess in guesses_of(one)]
    for side in ("input", "output"):
        mine = [guess for guess in guesses if guess.what == side]
        assert all(guess.guessed > 0 for guess in mine), [guess for guess in mine if not guess.guessed]
        seen = [guess for guess in mine if side == "input" or not hidden(guess.one)]
        worst = max((guess for guess in seen if guess.least >= LONG), key=lambda guess: abs(guess.deviation))
        long = sum(guess.least >= LONG for guess in seen)
        measured(f"{side} of {long} long estimates: worst", 100 * worst.deviation, "%", "<= 15 %")
        assert abs(worst.deviation) <= NEAR, worst
        for what, some in (("visible", seen), ("all", mine)):
            total = sum(guess.guessed for guess in some) / sum(guess.most for guess in some) - 1
            measured(f"{side} of {len(some)} estimates, {what}: total", 100 * total, "%", "<= 15 %")
            assert abs(total) <= NEAR or (some is mine and len(mine) < MANY), (side, what, total)


def hidden(one: Served) -> bool:
    """Whether part of the output cannot be seen while it is made: thoughts, or an answer that never came."""
    return catalog.reasons(one.record.response_model or "") or not (one.ask.stream or one.ask.ends == "whole")


def guesses_of(one: Served) -> Iterable[Guess]:
    line: UsageLine = one.event.lines[0]
    record, guessed = one.record, line.quantities
    truth = record.usage
    if truth.input_tokens:
        yield Guess("input", guessed.input_tokens, truth.input_tokens, truth.input_tokens, one)
    if not truth.output_tokens:
        return
    if one.ask.stream and record.ended != "complete":
        if record.output_tokens_sent:
            # What was sent and had not reached the client when one of them went may or may not count.
            yield Guess("output", guessed.output_tokens, one.outcome.written, record.output_tokens_sent, one)
    elif one.ask.ends == "whole":
        yield Guess("output", guessed.output_tokens, truth.output_tokens, truth.output_tokens, one)
