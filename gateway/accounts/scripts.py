"""The Lua scripts of this room, put together from their files."""

from collections.abc import Awaitable, Sequence
from importlib import resources
from typing import Any, Protocol, Self

import msgspec

from gateway.redisdb.command import Arg, Call, Script


class Scripts(Protocol):
    """What runs scripts: `HotRedis` with its deadline, or `Client`."""

    def script(self, script: Script, keys: Sequence[str], args: Sequence[Arg] = ()) -> Awaitable[Any]: ...
    def run(self, call: Call, last: bytes) -> Awaitable[Any]: ...


COUNTING = ("windows", "records", "fields", "endings")  # what scripts build on that end reservations
WRITING = ("write", "reply")  # and what ends them


def load(name: str, *before: str, after: Sequence[str] = ()) -> Script:
    """The script `lua/{name}.lua`, behind the parts that it builds on and before those that end it."""
    folder = resources.files(__package__).joinpath("lua")
    parts = (folder.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in (*before, name, *after))
    return Script.of(name, "\n".join(parts))


class AccountScripts(msgspec.Struct, frozen=True):
    """Those that workers run: for `HotRedis(scripts=…)`, which loads them on every new connection."""

    reserve: Script
    settle: Script
    cancel: Script
    extend: Script
    sweep: Script

    @classmethod
    def load(cls) -> Self:
        return cls(
            reserve=load(
                "reserve",
                "windows",
                "records",
                after=("fields", "endings", "expired", "write", "reserve_again"),
            ),
            settle=load("settle", *COUNTING, after=WRITING),
            cancel=load("cancel", *COUNTING, after=WRITING),
            extend=load("extend", "windows"),
            sweep=load("sweep", *COUNTING, after=("expired", "write", "swept")),
        )

    @property
    def all(self) -> tuple[Script, ...]:
        return (self.reserve, self.settle, self.cancel, self.extend, self.sweep)
