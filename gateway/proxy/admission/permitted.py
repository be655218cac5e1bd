"""What may pass at all, whatever its cost: known operations, unknown paths, ways around the meter."""

from gateway.errors import INVALID_URL, UNMETERED_OPERATION, GatewayError
from gateway.operations.matcher import Matcher
from gateway.operations.table import Operation, load_operations
from gateway.proxy.http.request import Request
from gateway.proxy.http.visit import Observation
from gateway.settings.model import Settings
from gateway.telemetry.metrics import Metrics

_SECRETS = "/client_secrets"  # whatever they are for: they open upstream sessions that pass the gateway by


class Permitted:
    """Finds a request's operation and refuses what the settings do not let through."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._matcher = Matcher(load_operations())
        self._forward_unknown = settings.unknown_paths == "forward"
        self._allow_unmetered = settings.allow_unmetered
        self._unknown = metrics.counter("gateway_unknown_paths_total")

    def operation(self, request: Request, seen: Observation) -> Operation | None:
        """The operation, None for a path that the table does not know.

        Raises GatewayError UNMETERED_OPERATION (403), or INVALID_URL (404) if unknown paths are denied.
        """
        path = request.target.path
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
