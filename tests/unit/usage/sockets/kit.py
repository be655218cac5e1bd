"""A socket's meter and what it finds, without a socket."""

import base64
import json
from typing import Any

from gateway.usage.estimate import Densities
from gateway.usage.extract import rules_of
from gateway.usage.kinds import KINDS
from gateway.usage.lines import Attempt, lines_of
from gateway.usage.sockets.session import SESSIONS
from gateway.usage.sockets.turns import Finished
from gateway.values import Quantities, UsageLine


class Meter:
    """found: what has ended so far. The clock ticks with each message."""

    def __init__(self, operation: str) -> None:
        self.now = 1000.0
        self.session = SESSIONS[operation](lambda: self.now, rules_of(operation), KINDS[operation])
        self.found: list[Finished] = []

    def up(self, kind: str, **members: Any) -> None:
        self.now += 1
        self.found += self.session.up(encoded({"type": kind, **members}))

    def down(self, kind: str, **members: Any) -> None:
        self.now += 1
        self.found += self.session.down(encoded({"type": kind, "event_id": "event_1", **members}))

    def end(self) -> None:
        self.found += self.session.end()

    def lines(self, number: int = -1) -> list[UsageLine]:
        return lines(self.found[number])

    def line(self, number: int = -1) -> UsageLine:
        (line,) = self.lines(number)
        return line

    def used(self, number: int = -1) -> Quantities:
        return self.line(number).quantities


def lines(done: Finished) -> list[UsageLine]:
    if done.refused:
        return []
    attempt = Attempt(kind=done.kind, category=done.category, request_model=done.model)
    return list(lines_of(attempt, done.asked, done.answer, Densities()))


def encoded(message: Any) -> bytes:
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()


def sound(size: int) -> str:
    return base64.b64encode(bytes(size)).decode()
