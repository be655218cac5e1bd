"""Requests as the estimator gets them, made from bodies by the real decoder, and one estimator with the real prices."""

from typing import Any, cast

import msgspec

from gateway.limits import Reserve
from gateway.operations.table import load_operations
from gateway.pricing.book import Book, make_book
from gateway.proxy.admission.bounds import Assumed
from gateway.proxy.admission.estimate import Estimate, Estimator, Unbounded
from gateway.proxy.body.head import HeadDecoder
from gateway.proxy.body.outgoing import Streamed, Whole
from gateway.proxy.body.read import Payload
from gateway.settings.model import Prices
from gateway.values import UsageLine

AT = 1_795_000_000.0  # November 2026


def json_request(body: bytes | dict[str, Any]) -> Whole:
    whole = Whole("/v1/x", body if isinstance(body, bytes) else msgspec.json.encode(body))
    decoder = HeadDecoder()
    if whole.whole:
        whole.model, whole.stream = decoder.decode(whole.whole)
        whole.head = decoder.facts
    return whole


def form_request(length: int | None, model: str | None) -> Streamed:
    """A form of which nothing has gone by but its model."""
    made = Streamed("/v1/x", cast("Payload", None), length=length, limit=1 << 30, waiting=lambda: None)
    made.model = model
    return made


class Estimating:
    """An estimator with less to say."""

    def __init__(self, assumed: Assumed | None = None, book: Book | None = None) -> None:
        operations = load_operations()
        self.operations = {one.id: one for one in operations}
        self.book = book or make_book(Prices())
        self.estimator = Estimator(self.book, operations, assumed or Assumed())

    def ask(
        self,
        mode: Reserve,
        operation: str,
        request: Whole | Streamed | dict[str, Any] | bytes,
        *models: str,
        key: str = "key_1",
        method: str = "POST",
    ) -> Estimate | Unbounded:
        """models: of the upstreams; none is the request's own."""
        made = request if isinstance(request, Whole | Streamed) else json_request(request)
        return self.estimator.estimate(
            mode,
            self.operations.get(operation),
            made,
            method=method,
            key_id=key,
            models=models or ((made.model,) if made.model else ()),
            at=AT,
        )

    def bounded(self, mode: Reserve, operation: str, request: Any, *models: str, key: str = "key_1") -> Estimate:
        made = self.ask(mode, operation, request, *models, key=key)
        assert isinstance(made, Estimate), made
        return made

    def price(self, line: UsageLine) -> int:
        return self.book.price(line, AT).nano_usd
