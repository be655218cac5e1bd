"""Two sizes of one test, and its measurements: a pytest plugin.

`.ci/run` takes the small sizes, `.ci/proof` the full ones (`--full`): the same code. What a test measures is shown at the
end of the run with the size it was measured at, and written to a file with `--measured FILE`.

What measures, or looks at many processes at once, is marked `alone`: `./test` runs all else first, two at a time.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest


class Size(Protocol):
    """`size(small=3, full=20)` is the one that this run asks for."""

    def __call__(self, *, small: int, full: int) -> int: ...


class Measured(Protocol):
    """`measured("restart", 0.8, "s", limit="< 2 s")` notes a number."""

    def __call__(self, what: str, value: float, unit: str, limit: str = "") -> None: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="full sizes, as the issues ask for; takes hours")
    parser.addoption("--measured", metavar="FILE", help="write measurements there, as JSON lines")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = []


_ALONE = frozenset({"compat", "faults", "proofs"})  # folders; the compat suites add up what they have called


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What has two sizes is a proof: `.ci/proof` finds proofs by their mark, and must not pass one over."""
    for item in items:
        if "measured" in getattr(item, "fixturenames", ()) or not _ALONE.isdisjoint(item.path.parts):
            item.add_marker("alone")
        given = getattr(getattr(item, "callspec", None), "params", {})  # a parameter may be called so, too
        sized = "size" in getattr(item, "fixturenames", ()) and "size" not in given
        if sized and item.get_closest_marker("proof") is None:
            raise pytest.UsageError(f"{item.nodeid} has two sizes and is not marked as a proof")


_ROWS = pytest.StashKey[list[dict[str, object]]]()


@pytest.fixture
def size(request: pytest.FixtureRequest) -> Size:
    full_size = bool(request.config.getoption("--full"))

    def choose(*, small: int, full: int) -> int:
        return full if full_size else small

    return choose


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[..., None]:
    rows = request.config.stash[_ROWS]
    full = bool(request.config.getoption("--full"))

    def note(what: str, value: float, unit: str, limit: str = "") -> None:
        rows.append(
            {
                "test": request.node.nodeid,
                "what": what,
                "value": round(value, 4),
                "unit": unit,
                "limit": limit,
                "full": full,
            }
        )

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash[_ROWS]
    if rows:
        terminalreporter.section("measured")
        for row in rows:
            size_name = "full size" if row["full"] else "small size"
            limit = f"   ({row['limit']})" if row["limit"] else ""
            terminalreporter.write_line(f"{row['what']}: {row['value']:g} {row['unit']}{limit}   [{size_name}]")


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--measured")
    if path:
        Path(path).write_text("".join(json.dumps(row) + "\n" for row in session.config.stash[_ROWS]))
