"""A call's body, and the request as one upstream gets it: the bytes that came, but for a model with another name."""

import re
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import quote, unquote_plus

import msgspec

from gateway.errors import INVALID_FORM, INVALID_JSON, GatewayError
from gateway.proxy.body.asking import Options, Splice, splice
from gateway.proxy.body.budget import Share
from gateway.proxy.body.form import ModelSearch
from gateway.proxy.body.head import HeadDecoder
from gateway.proxy.body.read import Payload, stream
from gateway.proxy.body.tier import with_tier
from gateway.values import FormFacts, HeadFacts

NOTHING: frozenset[bytes] = frozenset()
_ANY_CODING = frozenset({b"accept-encoding"})  # a compressed stream could not be edited
_NO_FACTS = FormFacts()
_NOTHING_SAID = HeadFacts()
_MODEL_MEMBER = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*("(?:[^"\\]|\\.)*")')
_CANDIDATES = 10_000  # places that look like the model's, of which one is
_WRITE_STEP = 256 * 1024


class Connection(Protocol):
    def write(self, data: bytes | bytearray | memoryview) -> None: ...
    async def drain(self) -> None: ...


class Place:
    """Where in a request its model stands: `body`, `query`, `path` (the segment of that number), or nowhere."""

    __slots__ = ("path", "segment", "where")

    def __init__(self, where: str = "", path: str = "", segment: int = 0) -> None:
        self.where = where
        self.path = path  # decoded, below /v1
        self.segment = segment


NOWHERE = Place()
IN_BODY = Place("body")


class Whole:
    """A request whose body is in memory, or that has none.

    model: None if it names none. size: bytes of the body as the client sent it. share: of the budget; `release` gives
    it back, once nobody needs the body any more. end_user: as the client names its own user. options: its stream
    options, where the gateway may ask for the stream's usage; else Options.NOT_OURS. head: of a JSON body.
    """

    # Defaults stand in the class: one of these is made for each request.
    model: str | None = None
    stream = False
    dropped = NOTHING
    fed = False
    complete = True
    place = NOWHERE
    end_user = ""
    head = _NOTHING_SAID
    facts = _NO_FACTS
    options: Any = Options.NOT_OURS
    _splice: Splice | None = None
    _named: str | None = None  # what it calls the model now, where that is not the client's name for it

    def __init__(self, target: str, whole: bytes | bytearray, share: Share | None = None) -> None:
        self.target = self._target = target
        self.whole: bytes | bytearray | None = whole
        self.size = len(whole)
        self._share = share

    @property
    def length(self) -> int:
        return len(self.whole or b"")

    @property
    def askable(self) -> bool:
        """Whether the gateway may ask for the stream's usage in the client's place."""
        return self.options is not Options.NOT_OURS

    @property
    def asked(self) -> bool:
        """Whether it does ask, as it stands now."""
        return self._splice is not None

    def outgoing(self, upstream_model: str | None, decoder: HeadDecoder, *, ask: bool) -> "Whole":
        """The request with the model's name at an upstream, None for the client's own. ask: for the stream's usage."""
        renamed = self.model is not None and (upstream_model or self.model) != (self._named or self.model)
        if self._splice is not None and (renamed or not ask):
            self.whole = self._splice.undone(self.whole or b"")
            self._splice = None
            self.dropped -= _ANY_CODING
        if renamed and self.model is not None:
            wanted = upstream_model or self.model
            self._rename(self._named or self.model, wanted, decoder)
            self._named = wanted
        if ask and self._splice is None and self.askable and self.whole:
            self._splice = splice(self.whole, self.options, decoder)
            if self._splice is not None:
                self.whole = self._splice.done(self.whole)
                self.dropped |= _ANY_CODING
        return self

    def say_tier(self, tier: str, decoder: HeadDecoder) -> None:
        """Asks for a service tier from now on, where the client left that open. For before the first `outgoing`."""
        changed = with_tier(self.whole or b"", tier, decoder)
        if changed is not None:
            self.whole = changed
            self.head = msgspec.structs.replace(self.head, service_tier=tier)

    def _rename(self, now: str, wanted: str, decoder: HeadDecoder) -> None:
        place = self.place
        if place.where == "body":
            self.whole = with_model(self.whole or b"", now, wanted, decoder)
        elif wanted == self.model:
            self.target = self._target
        elif place.where == "query":
            self.target = query_with_model(self._target, wanted)
        elif place.where == "path":
            self.target = path_with_model(self._target, place, wanted)

    async def feed(self, _connection: Connection, **_options: bool) -> None:
        raise AssertionError("a whole body is sent with its head")

    def release(self) -> None:
        self.whole = b""
        if self._share is not None:
            self._share.release()


class Streamed:
    """A request whose body goes by. held: its beginning, which was read already, to find the model."""

    __slots__ = (
        "_declared", "_held", "_limit", "_name", "_payload", "_search", "_share", "_waiting", "complete", "dropped",
        "end_user", "fed", "head", "model", "size", "stream", "target", "whole",
    )  # fmt: skip

    def __init__(
        self,
        target: str,
        payload: Payload,
        *,
        length: int | None,
        limit: int,
        waiting: Callable[[], None],
        held: bytes | bytearray = b"",
        share: Share | None = None,
        search: ModelSearch | None = None,
    ) -> None:
        self.target = target
        self.whole: bytes | bytearray | None = None
        self.dropped = NOTHING
        self.fed = False
        self.complete = False  # all of it has been sent
        self.end_user = ""
        self.head = _NOTHING_SAID
        self.size = 0
        self.model = search.model if search is not None else None
        self.stream = False
        self._declared = length
        self._payload = payload
        self._limit = limit
        self._waiting = waiting
        self._held: bytes | bytearray = held
        self._share = share
        self._search = search
        self._name: bytes | None = None  # what stands in place of the client's name for the model

    @property
    def length(self) -> int | None:
        if self._declared is None or self._name is None or self._search is None:
            return self._declared
        start, end = self._search.span
        return self._declared + len(self._name) - (end - start)

    @property
    def facts(self) -> FormFacts:
        """What the form told by now, all of it once `feed` has returned; nothing if the body is no form."""
        return self._search.facts() if self._search is not None else _NO_FACTS

    @property
    def askable(self) -> bool:
        return False

    @property
    def asked(self) -> bool:
        return False

    def outgoing(self, upstream_model: str | None, _decoder: HeadDecoder, *, ask: bool) -> "Streamed":  # noqa: ARG002
        """The same with the model's name at an upstream, put where the search found the model."""
        self._name = None
        if upstream_model is not None and self._search is not None and self.model not in {None, upstream_model}:
            start, end = self._search.span
            if self._held[start:end] != (self.model or "").encode():
                raise GatewayError(INVALID_FORM, reason="its field 'model' could not be read plainly")
            self._name = upstream_model.encode()
        return self

    async def feed(self, connection: Connection, *, chunked: bool) -> None:
        """Writes the body as it comes. Raises GatewayError if it is too large, ambiguous or does not come."""
        self.fed = True

        async def write(data: bytes | bytearray | memoryview) -> None:
            if chunked:
                connection.write(b"%x\r\n" % len(data))
            connection.write(data)
            if chunked:
                connection.write(b"\r\n")
            await connection.drain()

        self.size = len(self._held)
        for piece in self._pieces():
            await write(piece)
        self.release()

        async def pass_on(data: bytes) -> None:
            self.size += len(data)
            await write(data)

        await stream(self._payload, pass_on, self._limit - self.size, self._waiting, self._search)
        if chunked:
            connection.write(b"0\r\n\r\n")
        self.complete = True

    def _pieces(self) -> list[memoryview]:
        """What is held, renamed, in pieces of which no writer has to copy much."""
        view = memoryview(self._held)
        parts = [view]
        if self._name is not None and self._search is not None:
            start, end = self._search.span
            parts = [view[:start], memoryview(self._name), view[end:]]
        return [part[at : at + _WRITE_STEP] for part in parts for at in range(0, len(part), _WRITE_STEP)]

    def release(self) -> None:
        self._held = b""
        if self._share is not None:
            self._share.release()


def with_model(body: bytes | bytearray, now: str, wanted: str, decoder: HeadDecoder) -> bytes:
    """A JSON body with another model, everything else byte for byte. `body` has been decoded before, with `now`.

    Raises GatewayError INVALID_JSON if the member cannot be found, which takes an escaped spelling of its name.
    """
    spans = [
        found.span(1) for _, found in zip(range(_CANDIDATES), _MODEL_MEMBER.finditer(body), strict=False)
        if _says(found[1], now)
    ]  # fmt: skip
    span = _right_one(body, spans, now, decoder)
    if span is not None:
        view = memoryview(body)
        changed = b"".join((view[: span[0]], msgspec.json.encode(wanted), view[span[1] :]))
        if decoder.decode(changed)[0] == wanted:
            return changed
    raise GatewayError(INVALID_JSON, reason="its member 'model' could not be read plainly", param="model")


def _says(text: bytes, model: str) -> bool:
    try:
        said: str = msgspec.json.decode(text, type=str)
    except msgspec.DecodeError:
        return False
    return said == model


def _right_one(
    body: bytes | bytearray, spans: list[tuple[int, int]], now: str, decoder: HeadDecoder
) -> tuple[int, int] | None:
    """Which of the places is the model's own, and not a deeper member's: the one after whose change the head says
    something else. Halving the places takes a few looks at the body, however many there are."""
    if len(spans) <= 1 or not now:
        return spans[0] if spans and now else None
    changed = bytearray(body)
    other = b"y" if now.startswith("x") else b"x"
    while len(spans) > 1:
        half = spans[: len(spans) // 2]
        for start, end in half:
            changed[start + 1 : end - 1] = other * (end - start - 2)
        among = decoder.decode(changed)[0] != now
        for start, end in half:
            changed[start:end] = body[start:end]
        spans = half if among else spans[len(half) :]
    return spans[0]


def query_with_model(target: str, model: str) -> str:
    """A target whose `?model=` names another model."""
    path, mark, query = target.partition("?")
    parts = [
        f"model={quote(model, safe='')}" if unquote_plus(part.partition("=")[0]) == "model" else part
        for part in query.split("&")
    ]
    return path + mark + "&".join(parts)


def path_with_model(target: str, place: Place, model: str) -> str:
    """A target in whose path another model stands."""
    path, mark, query = target.partition("?")
    segments = path.split("/")
    decoded = place.path.split("/")
    if len(segments) != len(decoded):  # slashes were encoded
        segments = [quote(segment, safe="") for segment in decoded]
    segments[place.segment] = quote(model, safe="")
    return "/".join(segments) + mark + query
