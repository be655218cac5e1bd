"""What is sent to Redis: arguments, scripts, packed commands."""

import hashlib
from collections.abc import Callable
from typing import Self

import hiredis
import msgspec

Arg = bytes | str | int
"""What an argument of a command may be."""

# hiredis' stub says that a command has exactly one argument, and nothing of the result.
pack: Callable[[tuple[Arg, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]


class Script(msgspec.Struct, frozen=True):
    """Source that runs on the server in one step, called by its hash."""

    name: str  # for people and metrics
    source: str
    sha1: str  # of the source, in hex: the server's name for it

    @classmethod
    def of(cls, name: str, source: str) -> Self:
        return cls(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
