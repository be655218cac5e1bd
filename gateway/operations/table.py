"""The table of OpenAI's operations: `operations.tsv`, read strictly into frozen rows.

The file's head says what each column means and where its rows come from; `tests/unit/operations/test_spec.py` holds it
against OpenAI's API descriptions and the official SDK.
"""

import re
from collections.abc import Iterator
from importlib import resources
from typing import Literal

import msgspec

Method = Literal["GET", "POST", "DELETE"]
Plane = Literal["proxied", "admin"]
Body = Literal["json", "multipart", "binary", "sdp", "websocket"]
ModelPlace = Literal["body", "form", "query", "path"]
Flag = Literal["stream", "binary", "deferred", "stored", "unmetered"]
# The last part of a path of OpenAI's usage API, /organization/usage/{category}.
Category = Literal[
    "completions",
    "embeddings",
    "moderations",
    "images",
    "audio_speeches",
    "audio_transcriptions",
    "vector_stores",
    "code_interpreter_sessions",
    "web_search_calls",
    "file_search_calls",
    "decisions",
]

FILE = "operations.tsv"
COLUMNS = ("method", "path", "id", "plane", "category", "body", "model", "flags")
ADMIN_PREFIXES = ("/organization", "/projects")

_TEMPLATE = re.compile(r"(/([a-z0-9_]+|\{[a-z0-9_]+\}))+")
_PARAMETER = re.compile(r"\{([a-z0-9_]+)\}")


class Operation(msgspec.Struct, frozen=True):
    """One operation of the API below /v1, for instance POST /threads/{thread_id}/runs.

    path: template with a leading slash, `{name}` for one segment. id: unique, OpenAI's operationId where it has one.
    category: None where a call creates no usage, or usage without a category (costs only, or told by the body).
    body: empty for none; several where the client chooses by its Content-Type, as JSON or multipart for images/edits.
    model: where the request's model name stands, empty for nowhere in reach; several follow the body: `body` is the
    member `model` of a JSON body, `form` the field of a multipart one, `query` `?model=`, `path` the `{model}` of path.
    flags: what else a gateway must know, see the file's head.
    """

    method: Method
    path: str
    id: str
    plane: Plane
    category: Category | None
    body: frozenset[Body]
    model: frozenset[ModelPlace]
    flags: frozenset[Flag]


class TableError(ValueError):
    """The table is wrong; the message starts with file and line."""


def load_operations() -> tuple[Operation, ...]:
    """All operations, in the file's order. Raises TableError; a few milliseconds, for a start."""
    return parse_operations(resources.files(__package__).joinpath(FILE).read_text(encoding="utf-8"))


def parse_operations(text: str) -> tuple[Operation, ...]:
    """The rows of a table's text. Raises TableError for the first line that is wrong."""
    operations: list[Operation] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            operation = _row(line.split())
        except (ValueError, msgspec.ValidationError) as error:
            raise TableError(f"{FILE}:{number}: {error}") from error
        for key in (operation.id, f"{operation.method} {_PARAMETER.sub('{}', operation.path)}"):
            if seen.setdefault(key, number) != number:
                raise TableError(f"{FILE}:{number}: {key} stands in line {seen[key]} already")
        operations.append(operation)
    return tuple(operations)


def _row(cells: list[str]) -> Operation:
    if len(cells) != len(COLUMNS):
        raise ValueError(f"{len(cells)} columns instead of {len(COLUMNS)}: {' '.join(COLUMNS)}")
    row: dict[str, object] = dict(zip(COLUMNS, cells, strict=True))
    row["category"] = None if row["category"] == "-" else row["category"]
    for column, separator, nothing in (("body", "|", "none"), ("model", "|", "-"), ("flags", ",", "-")):
        cell = str(row[column])
        row[column] = [] if cell == nothing else cell.split(separator)
    operation = msgspec.convert(row, Operation)
    for complaint in _complaints(operation):
        raise ValueError(complaint)
    return operation


def _complaints(operation: Operation) -> Iterator[str]:
    """What is wrong with a row whose cells are right, each by itself."""
    path, body, model = operation.path, operation.body, operation.model
    if not _TEMPLATE.fullmatch(path):
        yield f"{path} is not a path template"
    names = _PARAMETER.findall(path)
    if len(set(names)) != len(names):
        yield f"{path} has two parameters of one name"
    admin = path.startswith(tuple(f"{prefix}/" for prefix in ADMIN_PREFIXES)) or path in ADMIN_PREFIXES
    if admin != (operation.plane == "admin"):
        yield f"{path} is of the other plane: all of {' and '.join(ADMIN_PREFIXES)} is admin, nothing else"
    if admin and operation.category is not None:
        yield "an admin operation has no category"
    if "websocket" in body and (operation.method != "GET" or len(body) > 1):
        yield "a websocket is a GET and nothing else"
    if ("path" in model) != ("model" in names):
        yield "model is `path` exactly if the path has {model}"
    if ("body" in model and "json" not in body) or ("form" in model and "multipart" not in body):
        yield f"model {'|'.join(sorted(model))} does not go with body {'|'.join(sorted(body)) or 'none'}"
