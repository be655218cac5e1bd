"""From a request to the operation that serves it: the operation table, and the simulator's own paths."""

from collections.abc import Container, Iterable
from urllib.parse import unquote

import msgspec

from gateway.operations.matcher import Matcher, params
from gateway.operations.table import Operation

PREFIX = "/v1"


class Route(msgspec.Struct, frozen=True):
    """An operation and the parameters of its path, decoded."""

    operation: Operation
    params: dict[str, str]

    @property
    def is_socket(self) -> bool:
        return "websocket" in self.operation.body


class Routes:
    """Finds routes, of the data plane and `admin`: ids of the operations that a control plane asks its upstream for."""

    def __init__(self, operations: Iterable[Operation], admin: Container[str] = ()) -> None:
        self._matcher = Matcher(one for one in operations if one.plane == "proxied" or one.id in admin)

    def find(self, method: str, raw_path: str) -> Route | None:
        """raw_path: as in the request line, without query."""
        path, _, _ = raw_path.partition("?")
        if not path.startswith(PREFIX):
            return None
        path = path[len(PREFIX) :]
        operation = self._matcher.match(method, path)
        if operation is None:
            return None
        found = params(operation, path) if "{" in operation.path else {}
        return Route(operation, {name: unquote(value) for name, value in found.items()} if found else found)
