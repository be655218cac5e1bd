"""`gateway usage export`: usage or costs as CSV or JSON lines, with the numbers of the admin API."""

import argparse
import csv
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO, get_args
from urllib.parse import urlencode

import msgspec

from gateway.commands.asking import Api, AskError, asking
from gateway.commands.console import USAGE_ERROR, complain, say
from gateway.commands.progress import Progress
from gateway.control.admin import costs
from gateway.control.admin.usage import BYTES, ENDPOINTS, PATH
from gateway.control.ledger.buckets import COSTS_LIMITS, USAGE_LIMITS
from gateway.usage.fields import FIELDS, REQUESTS

Write = Callable[[dict[str, Any]], None]
_TIME = ("start_time", "end_time", "object")
_OF_COSTS = ("amount_value", "amount_currency", "quantity", "quantity_unit")

# What there is to ask, by its path: the names that it groups by.
_USAGE: Mapping[str, Sequence[str]] = MappingProxyType({f"{PATH}/{name}": one.names for name, one in ENDPOINTS.items()})
_COSTS: Mapping[str, Sequence[str]] = MappingProxyType({costs.PATH: get_args(costs.Name)})


class _Export(msgspec.Struct, frozen=True):
    """start, end: seconds since 1970; end: None for now. asked: by path, what its results are grouped by."""

    start: int
    end: int | None
    width: str
    limit: int
    asked: Mapping[str, Sequence[str]]
    columns: Sequence[str]


def usage(options: argparse.Namespace) -> int:
    return asking(options, lambda api: _export(api, options))


def _export(api: Api, options: argparse.Namespace) -> int:
    export = _planned(options)
    try:
        with _opened(options.output) as file:
            write = _csv(file, export.columns) if options.format == "csv" else _json_lines(file)
            quiet = options.output is None and sys.stdout.isatty()  # the rows themselves are there to see
            for row in _rows(api, export, Progress("exporting", quiet=quiet)):
                write(row)
    except OSError as error:
        return complain(f"{options.output or 'standard output'}: {error.strerror}")
    if options.output is not None:
        say(f"written to {options.output}")
    return 0


def _planned(options: argparse.Namespace) -> _Export:
    """Raises AskError for what does not go together."""
    if options.to is not None and options.to <= options.from_:
        raise AskError("--to: it has to be after --from", USAGE_ERROR)
    if options.costs and (options.width != "1d" or options.category):
        raise AskError("--costs: there are costs of days only, and of all categories together", USAGE_ERROR)
    known = _COSTS if options.costs else _USAGE
    if options.category and options.category not in ENDPOINTS:
        raise AskError(f"--category: expected {', '.join(ENDPOINTS)}, got {options.category!r}", USAGE_ERROR)
    if options.category:
        known = {path: known[path] for path in known if path.rpartition("/")[2] == options.category}
    by = list(dict.fromkeys(name for names in options.group_by for name in names.split(",")))
    for name in by:
        if not any(name in names for names in known.values()):
            every = sorted({name for names in known.values() for name in names})
            raise AskError(f"--group-by: expected {', '.join(every)}, got {name!r}", USAGE_ERROR)
    asked = {path: [name for name in by if name in names] for path, names in known.items()}
    fields = [*_OF_COSTS] if options.costs else _fields(path.rpartition("/")[2] for path in asked)
    limits = COSTS_LIMITS if options.costs else USAGE_LIMITS
    end = int(options.to) if options.to is not None else None
    limit = limits[options.width].most
    return _Export(int(options.from_), end, options.width, limit, asked, [*_TIME, *by, *fields])


def _fields(categories: Iterator[str]) -> list[str]:
    """What results of these say."""
    found: dict[str, None] = {}
    for category in categories:
        found.update(dict.fromkeys(FIELDS.get(category, (BYTES,))))
    return [*found, REQUESTS]


def _rows(api: Api, export: _Export, progress: Progress) -> Iterator[dict[str, Any]]:
    """A row for each result, with the time of its bucket."""
    try:
        for number, (path, by) in enumerate(export.asked.items()):
            for bucket, part in _buckets(api, path, by, export):
                progress.show((number + part) / len(export.asked))
                time = {"start_time": bucket["start_time"], "end_time": bucket["end_time"]}
                for result in bucket["results"]:
                    yield {**time, **result}
    finally:
        progress.end()


def _buckets(api: Api, path: str, by: Sequence[str], export: _Export) -> Iterator[tuple[dict[str, Any], float]]:
    """Each with how much of the time is over by then."""
    asked = {"start_time": export.start, "bucket_width": export.width, "limit": export.limit, "group_by[]": by}
    if export.end is not None:
        asked["end_time"] = export.end
    page: str | None = None
    while True:
        answer = api.ask("GET", f"{path}?{urlencode(asked | ({'page': page} if page else {}), doseq=True)}")
        page = answer["next_page"]
        for number, bucket in enumerate(answer["data"], 1):
            end = export.end or (bucket["end_time"] if page is None else None)
            over = bucket["end_time"] - export.start
            yield bucket, over / (end - export.start) if end else number / len(answer["data"])
        if page is None:
            return


@contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    """A file takes its place once it is whole."""
    if output is None:
        yield sys.stdout
        return
    unfinished = output.with_name(f"{output.name}.part")
    try:
        with unfinished.open("w", encoding="utf-8", newline="") as file:
            yield file
        os.replace(unfinished, output)  # noqa: PTH105 - as one step
    finally:
        unfinished.unlink(missing_ok=True)


def _json_lines(file: TextIO) -> Write:
    """A result as the API has it."""

    def write(row: dict[str, Any]) -> None:
        file.write(msgspec.json.encode(row).decode() + "\n")

    return write


def _csv(file: TextIO, columns: Sequence[str]) -> Write:
    """A column for each thing that results say, empty where one does not."""
    rows = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
    rows.writeheader()

    def write(row: dict[str, Any]) -> None:
        amount = {f"amount_{name}": value for name, value in row.get("amount", {}).items()}
        said = {name: str(value).lower() if isinstance(value, bool) else value for name, value in row.items()}
        rows.writerow(said | amount)

    return write
