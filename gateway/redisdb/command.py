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


class Call(msgspec.Struct, frozen=True):
    """A script with all of its arguments but the last one, packed once for all the calls that have these in common.

    before: the arguments, as they are in `head` already.
    """

    script: Script
    key: str
    before: tuple[Arg, ...]
    head: bytes

    @classmethod
    def of(cls, script: Script, key: str, *before: Arg) -> Self:
        """A call of a script that touches the slot of one key."""
        words = ("EVALSHA", script.sha1, 1, key, *before)
        _, _, packed = pack(words).partition(b"\r\n")
        return cls(script, key, before, b"*%d\r\n%b" % (len(words) + 1, packed))

    def packed(self, last: bytes) -> bytes:
        """The whole command, as it is sent."""
        return b"%b$%d\r\n%b\r\n" % (self.head, len(last), last)
