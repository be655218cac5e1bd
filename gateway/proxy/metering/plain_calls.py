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
from gateway.proxy.metering.counters import CounterKey, PlainUse, UsageCounters
from gateway.usage.plain import Plain
from gateway.values import Checked, Principal, Quantities, Tried, UsageEvent, UsageLine, Used

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
    """What calls of a key, operation, models, tier and outcome have in common. attempt: the beginning of
    its JSON, behind which come milliseconds. json: of the event, behind that and up to the quantities; checked: the
    limits in it. uncounted: what its calls used since the last flush. rates: None until they are asked for; always:
    whether they hold at any time and length.
    """

    __slots__ = ("always", "attempt", "checked", "counted", "json", "principal", "rates", "sheet", "uncounted")

    def __init__(  # noqa: PLR0917
        self,
        principal: Principal,
        checked: tuple[Checked, ...],
        attempt: bytes,
        json: bytes,
        sheet: Sheet,
        counted: CounterKey,
    ) -> None:
        self.principal = principal
        self.checked = checked
        self.attempt = attempt
        self.json = json
        self.sheet = sheet
        self.always = not sheet.starts and not sheet.above
        self.counted = counted
        self.rates: _Rates | None = None
        self.uncounted: list[PlainUse] = []

    def rates_at(self, at: float, read: int) -> _Rates | None:
        """The rates at a time (seconds since 1970), of a call that read so many tokens; None if it is not so simple."""
        card = self.sheet.card(at, read)
        if self.rates is None or self.rates.card is not card:
            self.rates = _rates(card)
        return self.rates


class PlainCalls:
    """Makes, counts and delivers such events. One per worker."""

    def __init__(self, book: Book, counters: UsageCounters, deliver: Callable[[Packed], None]) -> None:
        self._book = book
        self._counters = counters
        self._deliver = deliver
        self._forms: dict[_Key, _Form] = {}
        self._uncounted: list[_Form] = []

    def settle(self, call: CallMeter, short: Plain, ended: str, at_us: int) -> Used | None:
        """What a call used that ended so, which is on its way; None if it has to go the long way. at_us: µs since 1970,
        when it was admitted."""
        usage = short.usage
        read, written, cached, thought = usage.prompt_tokens, usage.completion_tokens, 0, 0
        if usage.prompt_tokens_details is not None or usage.completion_tokens_details is not None:
            if (details := _details(short)) is None:
                return None
            cached, thought = details
        seen, principal = call.seen, call.principal
        if seen.rare:
            return None
        key = (
            principal.key_id, call.plan.operation, seen.model, seen.upstream, seen.upstream_model, short.model,
            short.service_tier, call.status, ended, seen.stream, seen.attempts,
        )  # fmt: skip
        form = self._forms.get(key)
        try:
            if form is None or form.principal is not principal or form.checked is not seen.checked:
                form = self._made(key, call, short)
            rates = form.rates if form.always else None
            if rates is None and (rates := form.rates_at(at_us / 1e6, read)) is None:
                return None
            begun = b'{"id":"%b","at_us":%d,"reserved":%b,%b%d,%b]],%b' % (
                seen.request_id.encode(), at_us, _encode(seen.taking), form.attempt,
                (seen.head_at - seen.sent_at) * 1000, _encode(seen.upstream_request_id), form.json,
            )  # fmt: skip
            ends = b',"object_id":%b}]' % _encode(short.id) if short.id else b"}]"
            if call.end_user:
                ends += b',"end_user":%b' % _encode(call.end_user)
        except UnicodeEncodeError:  # half a surrogate pair in a text: it cannot be delivered, which the long way says
            return None
        if read and written and not cached and not thought:
            nano_usd, json = _plainest(rates, read, written, begun, ends)
        else:
            nano_usd, json = _used(rates, (read, cached, written, thought), begun, ends)
        tokens = read + written
        uncounted = form.uncounted
        if not uncounted:
            self._uncounted.append(form)
        uncounted.append((read, cached, written, thought, nano_usd))
        self._deliver(
            Packed(seen.request_id, principal.organization_id, at_us // _MINUTE_US, json, nano_usd, tokens, 0)
        )
        return Used(tokens, nano_usd, seen.upstream_model or seen.model, read, written)

    def flush(self) -> None:
        """Counts what has come since the last time."""
        forms, self._uncounted = self._uncounted, []
        for form in forms:
            uses, form.uncounted = form.uncounted, []
            self._counters.count_plain(form.counted, uses)

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
            limits=seen.checked,
        )
        attempt = Tried(seen.attempts, seen.upstream, call.status)
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
        json = b'%b,"lines":[{%b"quantities":' % (
            head[len(begins) : -1],
            written[1:-1] + b"," if len(written) > len(b"{}") else b"",
        )
        begun = b'"attempts":[%b' % _encode(attempt)[: -len(b'0,""]')]
        form = _Form(principal, seen.checked, begun, json, self._book.sheet(line), self._counters.key_of(line, event))
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


def _details(short: Plain) -> tuple[int, int] | None:
    """Tokens read from a cache, and written for reasoning; None if there are others than of text."""
    read, written = short.usage.prompt_tokens_details, short.usage.completion_tokens_details
    cached = thought = 0
    if read is not None:
        if read.audio_tokens or read.image_tokens or read.cache_write_tokens:
            return None
        cached = read.cached_tokens or 0
    if written is not None:
        if written.audio_tokens or written.image_tokens:
            return None
        thought = written.reasoning_tokens or 0
    return cached, thought


def _plainest(rates: _Rates, read: int, written: int, begun: bytes, ends: bytes) -> tuple[int, bytes]:
    """As `_used`, of what most calls use."""
    one, other = rates.read, rates.written
    for_read, for_written = charge(read, one.rate, one.per), charge(written, other.rate, other.per)
    nano_usd = for_read + for_written
    return nano_usd, b'%b{"input_tokens":%d,"output_tokens":%d},"nano_usd":%d,"costs":[%b%d,%d],%b%d,%d]]%b}' % (
        begun, read, written, nano_usd, one.piece, read, for_read, other.piece, written, for_written, ends,
    )  # fmt: skip


def _used(rates: _Rates, tokens: tuple[int, int, int, int], begun: bytes, ends: bytes) -> tuple[int, bytes]:
    """nano-USD, and the event. tokens: read, of these cached, written, of these for reasoning."""
    read, cached, written, thought = tokens
    total, costs = 0, []
    # What was not cached is less than nothing if the upstream contradicts itself.
    for number, one in ((read - cached, rates.read), (cached, rates.cached), (written, rates.written)):
        if number > 0:
            nano_usd = charge(number, one.rate, one.per)
            total += nano_usd
            costs.append(b"%b%d,%d]" % (one.piece, number, nano_usd))
    used = Quantities(input_tokens=read, cached_tokens=cached, output_tokens=written, reasoning_tokens=thought)
    return total, b'%b%b,"nano_usd":%d,"costs":[%b]%b}' % (begun, _encode(used), total, b",".join(costs), ends)
