"""What is under way in a worker, for whoever must end it: timeouts, draining, revocation."""

from collections.abc import Iterable
from typing import Protocol

from gateway.errors import GatewayError


class Exchange(Protocol):
    """A relay or a WebSocket."""

    key: bytes  # digest of the key it runs under; empty for none

    def overdue(self, now: float, response_s: float, between_bytes_s: float) -> GatewayError | None: ...

    def fail(self, error: GatewayError) -> None:
        """Ends it, telling the client why where that is possible."""


class Exchanges:
    """All exchanges of a worker."""

    def __init__(self, response_s: float, between_bytes_s: float) -> None:
        self._open: set[Exchange] = set()
        self._response_s = response_s
        self._between_bytes_s = between_bytes_s

    def __len__(self) -> int:
        return len(self._open)

    def add(self, exchange: Exchange) -> None:
        self._open.add(exchange)

    def discard(self, exchange: Exchange) -> None:
        self._open.discard(exchange)

    def open_keys(self) -> set[bytes]:
        """The digests of all keys under which something runs."""
        return {exchange.key for exchange in self._open} - {b""}

    def sweep(self, now: float) -> None:
        """Ends what is overdue. now: the loop's time."""
        late = [(e, error) for e in self._open if (error := e.overdue(now, self._response_s, self._between_bytes_s))]
        for exchange, error in late:
            exchange.fail(error)

    def end_all(self, error: GatewayError) -> None:
        self._end(list(self._open), error)

    def end_of_key(self, key: bytes, error: GatewayError) -> int:
        """Ends what runs under a key; returns how many."""
        ended = [exchange for exchange in self._open if exchange.key == key]
        self._end(ended, error)
        return len(ended)

    @staticmethod
    def _end(exchanges: Iterable[Exchange], error: GatewayError) -> None:
        for exchange in exchanges:
            exchange.fail(error)
