"""Events of calls that report plainly, as most do: what they have in common is priced and written once.

The long way (`meter.py`) makes lines, prices and an event, and the outbox JSON of them. Here the JSON is put together
from pieces that are ready. `tests/unit/proxy/metering/test_plain_calls.py` holds the two against each other.
"""

from collections.abc import Callable

import msgspec

from gateway.accounts.usage_stream import Packed
from gateway.pricing.book import Book
from gateway.pricing.sheet import Card, Sheet
from gateway.pricing.units import UnitName, charge
from gateway.proxy.metering.call import CallMeter
from gateway.proxy.metering.counters import CounterKey, UsageCounters
from gateway.usage.plain import Plain
from gateway.values import Principal, Quantities, UsageEvent, UsageLine, Used

_MOST_FORMS = 4096  # of keys, models and outcomes; models may come from clients
_MINUTE_US = 60_000_000
_encode = msgspec.json.Encoder().encode
_Key = tuple[str, str, str, str, str, str | None, str | None, int, str, bool, int]


class _Rate(msgspec.Struct, frozen=True):
    """Of one unit. piece: the beginning of its cost in JSON."""

    rate: int
    per: int
    piece: bytes


class _Rates(msgspec.Struct, frozen=True):
    """What tokens cost by a card of the price book."""

    card: Card
    read: _Rate
    cached: _Rate
    written: _Rate


class _Form:
    """What calls of a key, operation, models, tier and outcome have in common. head, line: of the JSON."""

    __slots__ = ("counted", "head", "line", "principal", "rates", "sheet")

    def __init__(self, principal: Principal, head: bytes, line: bytes, sheet: Sheet, counted: CounterKey) -> None:
        self.principal = principal
        self.head = head
        self.line = line
        self.sheet = sheet
        self.counted = counted
        self.rates: _Rates | None = None


class PlainCalls:
    """Makes, counts and delivers such events. One per worker."""

    def __init__(self, book: Book, counters: UsageCounters, deliver: Callable[[Packed], None]) -> None:
        self._book = book
        self._counters = counters
        self._deliver = deliver
        self._forms: dict[_Key, _Form] = {}

    def settle(self, call: CallMeter, short: Plain, ended: str, at_us: int) -> Used | None:
        """What a call used that ended so, which is on its way; None if it has to go the long way. at_us: µs since 1970,
        when it was admitted."""
        usage = short.usage
        read, written, cached, thought = usage.prompt_tokens, usage.completion_tokens, 0, 0
        if (of_read := usage.prompt_tokens_details) is not None:
            if of_read.audio_tokens or of_read.image_tokens or of_read.cache_write_tokens:
                return None
            cached = of_read.cached_tokens or 0
        if (of_written := usage.completion_tokens_details) is not None:
            if of_written.audio_tokens or of_written.image_tokens:
                return None
            thought = of_written.reasoning_tokens or 0
        seen, principal = call.seen, call.principal
        key = (
            principal.key_id, call.plan.operation, seen.model, seen.upstream, seen.upstream_model, short.model,
            short.service_tier, call.status, ended, seen.stream, seen.attempts,
        )  # fmt: skip
        form = self._forms.get(key)
        try:
            if form is None or form.principal is not principal:
                form = self._made(key, call, short)
            rates = form.rates
            card = form.sheet.card(at_us / 1e6, read)
            if rates is None or rates.card is not card:
                rates = form.rates = _rates(card)
                if rates is None:
                    return None
            nano_usd, costs = _cost(rates, read - cached if cached else read, cached, written)
            json = b'{"id":"%b","at_us":%d,%b%b"lines":[{%b"quantities":{%b}%b,"nano_usd":%d,"costs":[%b]}]}' % (
                seen.request_id.encode(), at_us, form.head,
                b'"end_user":%b,' % _encode(call.end_user) if call.end_user else b"",
                form.line, _quantities(read, cached, written, thought),
                b',"object_id":%b' % _encode(short.id) if short.id else b"", nano_usd, costs,
            )  # fmt: skip
        except UnicodeEncodeError:  # half a surrogate pair in a text: it cannot be delivered, which the long way says
            return None
        tokens = read + written
        self._counters.count_plain(form.counted, read, cached, written, thought, nano_usd)
        self._deliver(
            Packed(seen.request_id, principal.organization_id, at_us // _MINUTE_US, json, nano_usd, tokens, 0)
        )
        return Used(tokens, nano_usd, seen.upstream_model or seen.model, read, written)

    def _made(self, key: _Key, call: CallMeter, short: Plain) -> _Form:
        seen, plan, principal = call.seen, call.plan, call.principal
        event = UsageEvent(
            id="",
            at_us=0,
            organization_id=principal.organization_id,
            project_id=principal.project_id,
            user_id=principal.user_id,
            key_id=principal.key_id,
            operation=plan.operation,
            category=plan.category,
            status=call.status,
            ended=key[8],
            stream=seen.stream,
        )
        line = UsageLine(
            attempt=max(1, seen.attempts),
            upstream=seen.upstream,
            category=plan.category,
            request_model=seen.model,
            upstream_model=seen.upstream_model,
            response_model=short.model or "",
            service_tier=(short.service_tier or "").lower(),
            batch=plan.kind.batch,
        )
        begins = b'{"id":"","at_us":0,'
        head, written = _encode(event), _encode(line)
        assert head.startswith(begins)
        form = _Form(
            principal,
            head[len(begins) : -1] + b",",
            written[1:-1] + b"," if len(written) > len(b"{}") else b"",
            self._book.sheet(line),
            self._counters.key_of(line, event),
        )
        if len(self._forms) >= _MOST_FORMS:
            self._forms.clear()
        self._forms[key] = form
        return form


def _rates(card: Card) -> _Rates | None:
    """None if tokens are not all that a line is priced by, or if a rate is not known, which has to be said."""
    units: tuple[UnitName, ...] = ("input_tokens", "cached_tokens", "output_tokens")
    cells = [card.cells[unit] for unit in units]
    if card.sized or "tokens" not in card.measures or not all(cell.known for cell in cells):
        return None
    made = [
        _Rate(cell.rate, cell.per, b'[%b,"%b",' % (_encode(cell.item), unit.encode()))
        for unit, cell in zip(units, cells, strict=True)
    ]
    return _Rates(card, *made)


def _cost(rates: _Rates, read: int, cached: int, written: int) -> tuple[int, bytes]:
    """nano-USD, and the costs as JSON. read: what was not cached, less than none if the upstream contradicts itself."""
    total, costs = 0, []
    for number, one in ((read, rates.read), (cached, rates.cached), (written, rates.written)):
        if number > 0:
            nano_usd = charge(number, one.rate, one.per)
            total += nano_usd
            costs.append(b"%b%d,%d]" % (one.piece, number, nano_usd))
    return total, b",".join(costs)


def _quantities(read: int, cached: int, written: int, thought: int) -> bytes:
    """As JSON, without braces."""
    if read and written and not cached and not thought:  # most have these two
        return b'"input_tokens":%d,"output_tokens":%d' % (read, written)
    used = Quantities(input_tokens=read, cached_tokens=cached, output_tokens=written, reasoning_tokens=thought)
    return _encode(used)[1:-1]
