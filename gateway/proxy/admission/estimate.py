"""How much a call takes of its limits before it is made: at most (`strict`), or about (`adaptive`). No I/O.

What is taken for granted is in `bounds.py`; what is learned, in `output.py`; why, in docs/reserving.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from random import getrandbits
from typing import Protocol

import msgspec

from gateway.limits import Reserve
from gateway.operations.table import Operation
from gateway.pricing.book import Book
from gateway.pricing.rates import MILLION, RateCards, TokenRates
from gateway.proxy.admission.bounds import (
    IMAGE_TOOL_MODEL,
    MEASURES,
    MOST_ANSWERS,
    MOST_AUDIO_BYTES,
    MOST_LOOKED_AT,
    TOOL_UNITS,
    WAYS,
    Assumed,
    Measure,
    Way,
    drawn,
    picture,
)  # fmt: skip
from gateway.proxy.admission.contents import TEXT, Contents, HostedTool, contents, hosted_tools, plainly
from gateway.proxy.admission.output import Inputs, Outputs
from gateway.proxy.admission.rare import line_for
from gateway.usage.asked import rough_text_bytes
from gateway.usage.kinds import KINDS, Kind
from gateway.values import FormFacts, HeadFacts, Quantities, Taking, UsageLine, Used

_PARTS_OF_A_LINE = 8  # of which each is rounded to the nearest nano-dollar when it is priced
_SOUND_BYTES = 1000  # of Base64 for a token of sound: 60 kbit/s
_ANY_TOOL = tuple(HostedTool(unit) for unit in TOOL_UNITS.values())


class Request(Protocol):
    """A request's body: see `body.outgoing`."""

    @property
    def model(self) -> str | None: ...
    @property
    def whole(self) -> bytes | bytearray | None: ...
    @property
    def head(self) -> HeadFacts: ...
    @property
    def length(self) -> int | None: ...
    @property
    def facts(self) -> FormFacts: ...


class Estimate(msgspec.Struct, frozen=True):
    """taking: what to reserve. input_tokens, output_tokens: of which its tokens are. text_bytes: of a body that is
    nothing but text, 0 of others: what tokens a byte are learned from. number: of answers. line: what it was priced as,
    of calls that are not counted in tokens.
    """

    taking: Taking
    input_tokens: int = 0
    output_tokens: int = 0
    text_bytes: int = 0
    number: int = 1
    line: UsageLine | None = None


class Unbounded(msgspec.Struct, frozen=True):
    """A call that nothing bounds, which `strict` refuses. reason: for people, after "because"."""

    reason: str


FREE = Estimate(Taking())
_NO_MODEL = Unbounded("its request does not name the model that it uses")
_ENDS_LATER = Unbounded("what it costs is known only when it has ended")
_UNKNOWN_PATH = Unbounded("the gateway does not know what its path does")
_NO_WINDOW = Unbounded("it is not known how much its model reads and writes at most")


class _Known(msgspec.Struct, frozen=True):
    measure: Measure
    way: Way
    kind: Kind
    category: str | None


class _Asked(msgspec.Struct, frozen=True):
    """What a request asks of a model. size: bytes of its body; text: of these, those of text, where they are told
    apart. calls: of hosted tools.
    """

    way: Way
    head: HeadFacts
    size: int
    text: int
    held: Contents
    stored: bool
    tools: tuple[HostedTool, ...]
    calls: int


class Estimator:
    """Estimates calls, and learns from those that were reported. One per worker."""

    def __init__(self, book: Book, operations: Iterable[Operation], assumed: Assumed) -> None:
        self._book = book
        self._rates = RateCards(book)
        self._assumed = assumed
        self._outputs = Outputs()
        self._inputs = Inputs(assumed.tokens_a_byte)
        self._flat = Estimate(Taking(nano_usd=assumed.flat_nano_usd))
        self._known: Mapping[str, _Known] = {
            one.id: _Known(MEASURES[kind.basis], WAYS.get(one.id, Way()), kind, one.category)
            for one in operations
            if (kind := KINDS.get(one.id)) is not None and one.plane == "proxied"
        }

    def estimate(
        self,
        mode: Reserve,
        operation: Operation | None,
        request: Request,
        *,
        method: str,
        key_id: str,
        models: Sequence[str],
        at: float,
        tier: str = "",
    ) -> Estimate | Unbounded:
        """What a call takes. operation: None for a path that is not known. models: as the route's upstreams call the
        one that is asked for, at least one unless none is; the dearest counts. at: seconds since 1970, for the prices.
        tier: the service tier that is sent in the client's place, empty for none.

        FREE is what costs nothing. Unbounded is for `strict` only.
        """
        strict = mode == "strict"
        if operation is None:
            if method != "POST":
                return FREE
            return _UNKNOWN_PATH if strict else self._flat
        known = self._known.get(operation.id)
        if known is None:
            return FREE
        if known.measure == "tokens":
            return self._tokens(known, key_id, request, models, at, tier, strict=strict)
        if known.measure == "line":
            return self._line(known, request, models, at, strict=strict)
        return _ENDS_LATER if strict else self._flat

    def settled(self, key_id: str, estimate: Estimate, used: Used) -> None:
        """A call reported its usage."""
        model = used.model
        if self._outputs.knows(key_id, model) and getrandbits(2):  # then one in four is enough
            return
        size = estimate.text_bytes
        if size:
            self._inputs.learn(model, size, used.input_tokens)
        if used.output_tokens:
            self._outputs.learn(key_id, model, used.output_tokens // estimate.number)

    def provisional(self, estimate: Estimate, operation: Operation, model: str) -> UsageLine:
        """The line that stands for a call of which nothing was heard any more. model: as the client named it."""
        if estimate.line is not None:
            return msgspec.structs.replace(estimate.line, nano_usd=estimate.taking.nano_usd)
        return UsageLine(
            category=operation.category,
            request_model=model,
            source="estimated",
            quantities=Quantities(input_tokens=estimate.input_tokens, output_tokens=estimate.output_tokens),
            nano_usd=estimate.taking.nano_usd,
        )

    def _tokens(  # noqa: PLR0917
        self, known: _Known, key_id: str, request: Request, models: Sequence[str], at: float, tier: str, *, strict: bool
    ) -> Estimate | Unbounded:
        if not models:
            return _NO_MODEL if strict else self._flat
        if not tier:
            tier = request.head.service_tier
            if not tier or tier == "auto":
                tier = self._assumed.tier
        most: Estimate | None = None
        asked: _Asked | None = None
        for model in models:
            rates = self._rates.of(model, tier, known.category, at)
            if asked is None:
                asked = self._asked(known.way, request, sounds=rates.sounds, strict=strict)
            made = self._bounded(asked, model, rates, at) if strict else self._usual(asked, key_id, model, rates, at)
            if isinstance(made, Unbounded):
                return made
            if most is None or made.taking.nano_usd > most.taking.nano_usd:
                most = made
        assert most is not None
        return most

    def _asked(self, way: Way, request: Request, *, sounds: bool, strict: bool) -> _Asked:
        head, body = request.head, request.whole
        if body is None:
            size = self._size(request)
            return _Asked(way, head, size, size, TEXT, way.stored, (), 0)
        held = contents(plainly(body) if strict else body, sounds=sounds)
        size = len(body)
        tools: tuple[HostedTool, ...] = ()
        if head.tools:
            tools = hosted_tools(head.tools, body, strict=strict)
        if head.searches:
            tools = (*tools, HostedTool("web_search"))
        if strict and (head.template or way.loops):
            tools = _ANY_TOOL
        calls = 0
        if tools:
            calls = self._assumed.tool_calls if head.tool_calls is None else head.tool_calls
        text = size if held is TEXT or strict else rough_text_bytes(body)
        return _Asked(way, head, size, text, held, head.stored or way.stored or held.referenced, tools, calls)

    def _bounded(self, asked: _Asked, model: str, rates: TokenRates, at: float) -> Estimate | Unbounded:
        """At most: a token for each byte, or as much as the model reads, once for each turn that tools may lead to."""
        way, head = asked.way, asked.head
        window = rates.window or self._assumed.window
        held, turns = asked.held, asked.calls + 1
        if asked.stored or held.files or asked.calls:
            if not window:
                return _NO_WINDOW
            read = window * turns
        else:
            read = asked.size if way.several or not window else min(asked.size, window)
        if held.images:
            # Not a part of the window: what some models count for a picture is more than they read.
            read += turns * held.images * picture(model).most
        number = written = 0
        if way.writes:
            number = _number(way, head, MOST_ANSWERS)
            limit = _limit(way, head)
            most = rates.output or window
            if limit is None:
                if not most:
                    return _NO_WINDOW
                limit = most * turns
            written = number * limit
        step = rates.step(read)
        dearest = step.most_media if held is not TEXT or asked.stored else step.most_input
        nano_usd = -(-(read * dearest + written * step.most_output) // MILLION)
        if nano_usd:
            nano_usd += _PARTS_OF_A_LINE
        if asked.calls:
            nano_usd += asked.calls * max(self._tool_price(tool, rates, at, strict=True) for tool in asked.tools)
        return Estimate(Taking(tokens=read + written, nano_usd=nano_usd), read, written, 0, max(number, 1))

    def _usual(self, asked: _Asked, key_id: str, model: str, rates: TokenRates, at: float) -> Estimate:
        """About: by what was learned of the model, and of the key's answers."""
        way, head, size = asked.way, asked.head, asked.size
        read = int(asked.text * self._inputs.ratio(model)) + 1
        read = min(read, size)
        plain = asked.held is TEXT and not asked.stored and not asked.calls
        if not plain:
            read += self._besides(asked)
        window = rates.window or self._assumed.window
        if window and read > window and not way.several:
            read = window
        if not plain and asked.held.images:
            tokens = picture(model)
            read += asked.held.low * tokens.low + (asked.held.images - asked.held.low) * tokens.usual
        number = written = 0
        if way.writes:
            number = _number(way, head, 1)
            each = self._outputs.p95(key_id, model)
            if each is None:
                each = self._assumed.output
            limit = _limit(way, head)
            if limit is None:
                limit = rates.output or window or each
            each = min(each, limit)
            written = number * each
        step = rates.step(read) if rates.above else rates.steps[0]
        dear, spoken = (step.most_media, step.most_output) if way.sounds else (step.input, step.output)
        nano_usd = -(-(read * dear + written * spoken) // MILLION)
        if asked.calls:
            tools = asked.tools[: asked.calls]
            nano_usd += sum(self._tool_price(tool, rates, at, strict=False) for tool in tools)
        taking = Taking(1, read + written, 0, 0, 0, nano_usd)
        return Estimate(taking, read, written, size if plain else 0, number or 1)

    def _besides(self, asked: _Asked) -> int:
        """Tokens of what a request has besides its text, but for pictures."""
        assumed, held = self._assumed, asked.held
        read = held.files * assumed.file + (assumed.stored if asked.stored and not asked.way.told else 0)
        read += assumed.tool * min(asked.calls, len(asked.tools))
        return read + (asked.size - asked.text) // _SOUND_BYTES if held.sounds else read

    def _tool_price(self, tool: HostedTool, rates: TokenRates, at: float, *, strict: bool) -> int:
        """nano-USD of one call of a hosted tool, besides the tokens that the model reads of it."""
        match tool.unit:
            case "web_search":
                return rates.web_search
            case "file_search":
                return rates.file_search
            case "session":
                return rates.session
            case "image":
                model = tool.model or IMAGE_TOOL_MODEL
                step = self._rates.of(model, "", "images", at).steps[-1 if strict else 0]
                tokens = drawn(model, "", "")[strict]
                read = MOST_LOOKED_AT * step.most_media if strict else 0
                return -(-(tokens * step.most_output + read) // MILLION)
            case _:
                return 0

    def _size(self, request: Request) -> int:
        length = request.length
        return self._assumed.stream_bytes if length is None else length

    def _line(self, known: _Known, request: Request, models: Sequence[str], at: float, *, strict: bool) -> Estimate:
        """What is not counted in tokens, or rarely asked for: a line as it may be reported, at the book's price."""
        size = self._size(request)
        if known.kind.basis == "audio" and request.length is None:
            size = min(size, MOST_AUDIO_BYTES)
        most: Estimate | None = None
        for model in models or ("",):
            line = line_for(known.kind, known.category, model, request, size, strict=strict)
            card = self._book.card(line, at)
            used = line.quantities
            # What is not priced in tokens has none that count, but where nothing is reported an estimate names some.
            counted = strict or "tokens" in card.measures
            tokens = used.input_tokens + used.output_tokens if counted else 0
            nano_usd = self._book.price(line, at).nano_usd
            taking = Taking(
                tokens=tokens,
                images=used.images,
                audio_bytes=size if known.kind.basis == "audio" else 0,
                nano_usd=nano_usd,
            )
            if most is None or nano_usd > most.taking.nano_usd:
                most = Estimate(taking, used.input_tokens, used.output_tokens, 0, max(1, used.images), line)
        assert most is not None
        return most


def _number(way: Way, head: HeadFacts, unsaid: int) -> int:
    """How many answers are made. unsaid: of what nobody can read."""
    if not way.numbered:
        return 1
    number = head.number if head.number is not None else unsaid
    return number * head.prompts if way.several else number


def _limit(way: Way, head: HeadFacts) -> int | None:
    """The longest that an answer may be by its request, the larger one where it says two."""
    limit: int | None = None
    for name in way.limits:
        said: int | None = getattr(head, name)
        if said is not None and (limit is None or said > limit):
            limit = said
    return limit
