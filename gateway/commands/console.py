"""What commands say to people, and the statuses that they end with."""

import datetime as dt
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

FAILED = 1
USAGE_ERROR = 2  # a mistake in the call or in the settings


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say_json(answer: object) -> int:
    """An answer of the admin API as it is, for programs; returns the status."""
    say(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
    return 0


def say_key(made: Mapping[str, Any]) -> int:
    """A key that was just made, which is shown only once; returns the status."""
    rows = [("name:", made["name"]), ("id:", made["id"]), ("expires:", day(made["expires_at"]))]
    say("\n".join(table(("key:", made["value"]), rows)))
    say("Keep the key: it is shown only here.")
    return 0


def day(seconds: int | None) -> str:
    """A time since 1970, or that there is none."""
    return "never" if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")


def moment(seconds: int) -> str:
    """A time since 1970, to the second."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with aligned columns. What a terminal might take for more than text is shown as a question mark."""
    shown = [["".join(c if c.isprintable() else "?" for c in cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]


def complain(text: str, status: int = FAILED) -> int:
    """One line about what went wrong; returns the status."""
    sys.stderr.write(f"gateway: {text}\n")
    return status


def complain_of_settings(error: Exception) -> int:
    """A line for each mistake, which names file and place; returns the status."""
    sys.stderr.write(f"{error}\n")
    return USAGE_ERROR
