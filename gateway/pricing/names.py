"""From a model's name to its entry, as genai-prices finds it: the first entry that matches, in the file's order."""

import datetime as dt
import re
from collections.abc import Callable, Iterable

from gateway.pricing.tables import Entry

_COMPACT_DATE = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


class Names:
    """All names of all entries. `find` is pure, and takes microseconds: callers keep what it gives."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = tuple(entries)
        self._whole: dict[str, int] = {}
        self._tests: list[tuple[int, Callable[[str], object]]] = []
        for number, entry in enumerate(self._entries):
            match = entry.match
            for name in match.equals:
                self._whole.setdefault(name, number)
            patterns = [re.escape(text) for text in match.contains] + list(match.regex)
            patterns += ["^" + re.escape(text) for text in match.starts_with]
            self._tests += [(number, re.compile(pattern).search) for pattern in patterns]

    def find(self, name: str) -> Entry | None:
        """The entry of a name in any case; a date may be written -20251211 as well as -2025-12-11."""
        name = name.lower()
        number = self._number(name)
        if number is None:
            number = self._number(_COMPACT_DATE.sub(_with_dashes, name))
        return None if number is None else self._entries[number]

    def _number(self, name: str) -> int | None:
        whole = self._whole.get(name, len(self._entries))
        number = next((number for number, test in self._tests if number < whole and test(name)), whole)
        return number if number < len(self._entries) else None


def _with_dashes(found: re.Match[str]) -> str:
    year, month, day = (int(part) for part in found.groups())
    try:
        return f"-{dt.date(year, month, day).isoformat()}"
    except ValueError:
        return found[0]
