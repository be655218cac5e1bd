"""What a restricted key may do, by its scopes: `api.files.read`, `api.responses.write`, `api.model.request`.

A scope names an area, which is the first part of a path, and whether it may be read only or written, too. Cached
principals are believed: a scope that is taken away works at once for what is reserved, and else as soon as the worker
hears of it.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from gateway.errors import MISSING_SCOPES, GatewayError
from gateway.operations.table import Operation
from gateway.proxy.http.request import Request
from gateway.values import Principal

_ALL = ("api.all", "api.all.write")
_READS = frozenset({"GET", "HEAD"})
# Areas whose models answer at once, which one scope opens together.
_INFERENCE = frozenset({
    "chat", "completions", "responses", "decisions", "embeddings", "moderations", "images", "audio", "realtime", "live",
})  # fmt: skip
_REQUEST = ("api.model.request", "model.request")
# What opens an area besides its own scopes.
_READ_TOO: Mapping[str, tuple[str, ...]] = MappingProxyType({"models": ("api.model.read", "model.read")})
_FAMILIES: Mapping[str, str] = MappingProxyType({"uploads": "files"})


class Scopes:
    """Knows what each operation needs. One per worker."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._needed = {one.id: _of_operation(one) for one in operations if one.plane == "proxied"}

    def check(self, principal: Principal, operation: Operation | None, request: Request) -> None:
        """Raises GatewayError MISSING_SCOPES (401). operation: None for a path that the table does not know."""
        scopes = principal.scopes
        if not scopes:
            return
        if operation is not None:
            needed = self._needed[operation.id]
        else:
            area = request.target.path.strip("/").partition("/")[0].lower()
            needed = _needed(area, reads=request.method in _READS and not request.websocket)
        if needed.keys().isdisjoint(scopes):
            raise GatewayError(MISSING_SCOPES, scope=next(iter(needed))[:100])


def _of_operation(operation: Operation) -> Mapping[str, None]:
    area = operation.path.split("/")[1]
    reads = operation.method in _READS and "websocket" not in operation.body
    # What makes a model answer, or says what it would cost: it is billed, or names the model.
    asks = area in _INFERENCE and not reads and (operation.category is not None or bool(operation.model))
    return _needed(area, reads=reads, asks=asks)


def _needed(area: str, *, reads: bool, asks: bool = False) -> Mapping[str, None]:
    """The scopes of which one will do, in order; the first is what is missing if there is none."""
    areas = [area, _FAMILIES[area]] if area in _FAMILIES else [area]
    found = [f"api.{one}.write" for one in areas]
    if reads:
        found = [*(f"api.{one}.read" for one in areas), *_READ_TOO.get(area, ()), "api.all.read", *found]
    return dict.fromkeys((*found, *(_REQUEST if asks else ()), *_ALL))
