"""Limits and budgets. Until the Admission issue everything is admitted and nothing is counted; the places are here."""

import msgspec

from gateway.operations.table import Operation
from gateway.values import Principal


class Reservation(msgspec.Struct, frozen=True):
    """What was taken before a call, to be given back or charged after it."""


OPEN = Reservation()


class Admission:
    """Admits calls before they reach an upstream, and settles them afterwards."""

    def reserve(self, _principal: Principal, _operation: Operation | None, _model: str | None) -> Reservation:
        return OPEN

    def settle(self, _reservation: Reservation) -> None:
        return
