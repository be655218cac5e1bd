"""Takes in a request's body as far as the call needs it: whole if it is JSON, else only until its model is known."""

from collections.abc import Callable
from urllib.parse import unquote

from gateway.errors import BODY_TOO_LARGE, INVALID_JSON, UNSUPPORTED_ENCODING, GatewayError
from gateway.operations.matcher import params
from gateway.operations.table import Operation
from gateway.proxy.body.asking import Options, asks
from gateway.proxy.body.budget import Budget
from gateway.proxy.body.encoding import codings
from gateway.proxy.body.form import ModelSearch
from gateway.proxy.body.head import HeadDecoder
from gateway.proxy.body.outgoing import IN_BODY, NOWHERE, Place, Streamed, Whole
from gateway.proxy.body.read import Payload, decode_whole, find_model, read_whole
from gateway.proxy.body.tier import with_tier
from gateway.proxy.http.headers import joined
from gateway.proxy.http.request import Request
from gateway.proxy.http.target import model_in_query
from gateway.settings.model import Bodies
from gateway.values import HeadFacts

_MIB = 1024 * 1024
_TELL_IF_ASKED = frozenset({"createChatCompletion", "createCompletion"})  # whose streams report usage only then
_ENCODED = frozenset({b"content-encoding"})
_HEARD = frozenset({"createTranscription", "createTranslation"})  # whose audio is measured as it goes by
_UNCOUNTED = 4 * 1024  # a body that came with its head and is no longer than this is not worth a share of the budget

_AT_ONCE = frozenset({"json", "none"})

Taken = Whole | Streamed
Waiting = Callable[[], None]


class Intake:
    """Takes bodies in. One per worker."""

    def __init__(self, limits: Bodies, budget: Budget) -> None:
        self._json_limit = limits.json_mib * _MIB
        self._stream_limit = limits.stream_mib * _MIB
        self._hold = limits.form_search_mib * _MIB
        self._budget = budget
        self._decoder = HeadDecoder()

    def read_head(self, body: bytes) -> tuple[str | None, HeadFacts]:
        """The model that a JSON object names, and what bounds what it asks for. Raises GatewayError (400)."""
        model, _ = self._decoder.decode(body)
        return model, self._decoder.facts

    def at_once(self, request: Request, operation: Operation | None, payload: Payload) -> Taken | None:
        """As `take`, if that needs no waiting: there is no body, or it is JSON and came with the head. Else None."""
        if not payload.ended or body_kind(request, operation) not in _AT_ONCE:
            return None
        if not request.has_body:
            taken = Whole(request.target.raw, b"")
            taken.place, taken.model = named_in_target(request, operation)
            return taken
        if b"content-encoding" in request.headers.named:
            return None
        share = None
        if payload.total_bytes > _UNCOUNTED:
            if payload.total_bytes > self._json_limit:
                raise GatewayError(BODY_TOO_LARGE, limit=self._json_limit)
            share = self._budget.take_now(payload.total_bytes)
            if share is None:
                return None
        return self._read_head(Whole(request.target.raw, payload.read_nowait(), share), operation)

    async def take(self, request: Request, operation: Operation | None, payload: Payload, waiting: Waiting) -> Taken:
        """Raises GatewayError if the body is too large, cannot be read or is not what the operation takes.

        waiting: called before each wait for the client.
        """
        kind = body_kind(request, operation)
        if kind == "json":
            return await self._json(request, operation, payload, waiting)
        if kind == "form":
            return await self._form(request, operation, payload, waiting)
        return self.untouched(request, payload, waiting)

    def untouched(self, request: Request, payload: Payload, waiting: Waiting) -> Taken:
        """A body that is none of our business."""
        if not request.has_body:
            return Whole(request.target.raw, b"")
        limit = self._checked(request)
        return Streamed(request.target.raw, payload, length=request.length, limit=limit, waiting=waiting)

    def outgoing(self, taken: Taken, upstream_model: str | None, ask: bool) -> Taken:
        """The request under its model's name at an upstream; None: the client's own. ask: for its stream's usage."""
        return taken.outgoing(upstream_model, self._decoder, ask=ask)

    def say_tier(self, taken: Taken, tier: str) -> None:
        """Has a request ask for a service tier where it leaves that to its project."""
        if isinstance(taken, Whole):
            taken.say_tier(tier, self._decoder)

    def with_tier(self, body: bytes, tier: str) -> bytes:
        """The same of a JSON object by itself; as it was if there is no plain way."""
        return with_tier(body, tier, self._decoder) or body

    async def _json(self, request: Request, operation: Operation | None, payload: Payload, waiting: Waiting) -> Taken:
        limit, target = self._json_limit, request.target.raw
        undo = codings(joined(request.headers.raw, b"content-encoding"))
        whole: bytes | bytearray
        whole, share = await read_whole(payload, request.length, limit, self._budget, waiting)
        size = len(whole)
        if undo:
            whole, share = await decode_whole(whole, share, undo, limit, self._budget)
        body = Whole(target, whole, share)
        body.size = size
        if undo:
            body.dropped = _ENCODED
        return self._read_head(body, operation)

    def _read_head(self, body: Whole, operation: Operation | None) -> Whole:
        """Notes what the head says; of an operation that is not known, whatever can be read of it."""
        body.place = IN_BODY
        if not body.whole:
            return body  # several operations take an optional body
        decoder = self._decoder
        try:
            body.model, body.stream = decoder.decode(body.whole)
            body.end_user, body.head = decoder.end_user, decoder.facts
            if body.stream and operation is not None and operation.id in _TELL_IF_ASKED and not asks(decoder.options):
                body.options = decoder.options if decoder.has_options else Options.ABSENT
        except GatewayError as error:
            if operation is not None or error.kind is not INVALID_JSON:
                body.release()
                raise
        return body

    async def _form(self, request: Request, operation: Operation | None, payload: Payload, waiting: Waiting) -> Taken:
        limit = self._checked(request)
        if b"content-encoding" in request.headers.named:  # what it holds could not be seen
            raise GatewayError(UNSUPPORTED_ENCODING, encoding=joined(request.headers.raw, b"content-encoding")[:40])
        heard = operation is not None and operation.id in _HEARD
        search = ModelSearch(joined(request.headers.raw, b"content-type"), file=heard)
        held, share = await find_model(payload, search, self._hold, self._budget, waiting)
        return Streamed(
            request.target.raw,
            payload,
            length=request.length,
            limit=limit,
            waiting=waiting,
            held=held,
            share=share,
            search=search,
        )

    def _checked(self, request: Request) -> int:
        if request.length is not None and request.length > self._stream_limit:
            raise GatewayError(BODY_TOO_LARGE, limit=self._stream_limit)
        return self._stream_limit


def body_kind(request: Request, operation: Operation | None) -> str:
    """How a body is to be read: `none`, `json` (whole), `form` (until its model is known) or `stream`.

    An operation whose body names the model is read as one that does, whatever its Content-Type says: an upstream may
    not look at that either.
    """
    if not request.has_body:
        return "none"
    if operation is not None and len(operation.body) == 1 and "json" in operation.body:
        return "json"
    content_type = request.headers.named.get(b"content-type", b"").lower()
    if operation is not None and "form" in operation.model:
        return "json" if "json" in operation.body and not content_type.startswith(b"multipart/") else "form"
    return "json" if content_type.startswith(b"application/json") else "stream"


def named_in_target(request: Request, operation: Operation | None) -> tuple[Place, str | None]:
    """Where in the target a model stands, and which. Raises GatewayError DUPLICATE_MEMBER."""
    if operation is None or not operation.model:
        return NOWHERE, None
    target = request.target
    if "query" in operation.model:
        return Place("query"), model_in_query(target.raw)
    if "path" in operation.model:
        segment = operation.path.split("/").index("{model}")
        return Place("path", target.path, segment), unquote(params(operation, target.path)["model"])
    return NOWHERE, None
