"""What may pass at all, whatever its cost: known operations, unknown paths, ways around the meter."""

from collections.abc import Callable, Iterable
from typing import Protocol

from gateway.errors import INVALID_URL, MODEL_WITHOUT_PRICE, UNMETERED_OPERATION, GatewayError
from gateway.operations.matcher import Matcher
from gateway.operations.table import Operation, load_operations
from gateway.proxy.admission.scopes import Scopes
from gateway.proxy.http.request import Request
from gateway.proxy.http.visit import Observation
from gateway.settings.model import Settings
from gateway.telemetry.metrics import Metrics
from gateway.usage.kinds import KINDS

_SECRETS = "/client_secrets"  # whatever they are for: they open upstream sessions that pass the gateway by


class Served(Protocol):
    """A place where a call may be served: see `upstream.router.Attempt`."""

    @property
    def upstream_model(self) -> str | None: ...


class Permitted:
    """Finds a request's operation and refuses what the settings do not let through."""

    def __init__(self, settings: Settings, metrics: Metrics, refuses: Callable[[str], bool]) -> None:
        """refuses: whether a model is not to be called, because nobody knows what it costs."""
        self._refuses = refuses
        self._priced_only = settings.prices.unknown_model == "refuse"
        operations = load_operations()
        self._matcher = Matcher(operations)
        self.scopes = Scopes(operations)
        # Those that nothing speaks against and that have no parameter in their path: most calls.
        self._simple: dict[tuple[str, str], Operation] = {
            (one.method, one.path): one for one in operations if "{" not in one.path and "unmetered" not in one.flags
        }
        self._forward_unknown = settings.unknown_paths == "forward"
        self._allow_unmetered = settings.allow_unmetered
        self._unknown = metrics.counter("gateway_unknown_paths_total")

    def operation(self, request: Request, seen: Observation) -> Operation | None:
        """The operation, None for a path that the table does not know.

        Raises GatewayError UNMETERED_OPERATION (403), or INVALID_URL (404) if unknown paths are denied.
        """
        path = request.target.path
        operation = self._simple.get((request.method, path))
        if operation is not None:
            seen.operation = operation.id
            return operation
        operation = self._matcher.match(request.method, path)
        unmetered = operation is not None and "unmetered" in operation.flags
        if operation is None or "{" in operation.path:
            # An upstream may be more generous than the table; what it would take for an operation is treated as one.
            plain = path.rstrip("/").lower()
            generous = self._matcher.match(request.method, plain)
            unmetered |= plain.endswith(_SECRETS) or (generous is not None and "unmetered" in generous.flags)
            operation = operation or generous
        if unmetered and not self._allow_unmetered:
            seen.operation = operation.id if operation is not None else seen.operation
            raise GatewayError(UNMETERED_OPERATION, method=request.method, path="/v1" + path)
        if operation is None:
            self._unknown.add()
            if not self._forward_unknown:
                raise GatewayError(INVALID_URL, method=request.method, path="/v1" + path)
            return None
        seen.operation = operation.id
        return operation

    def priced(self, operation: Operation | None, model: str | None, attempts: Iterable[Served]) -> None:
        """Raises GatewayError MODEL_WITHOUT_PRICE (403) for a call that costs nobody knows what, if settings say so."""
        if not self._priced_only or model is None or (operation is not None and operation.id not in KINDS):
            return
        if any(self._refuses(attempt.upstream_model or model) for attempt in attempts):
            raise GatewayError(MODEL_WITHOUT_PRICE, param="model", model=model[:200])
