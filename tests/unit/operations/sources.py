"""What OpenAI itself says its operations are: its API descriptions, and the sources of its Python SDK.

Both give `Known` by shape: "POST /threads/{}/runs", the method and the template without the parameters' names.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import openai
import yaml

OLDER, NEWER, SDK = "2.3.0", "2026-08", "SDK 3.54"
DESCRIPTIONS = Path(__file__).resolve().parents[4] / "shared" / "spec"
_KINDS = {"application/json": "json", "multipart/form-data": "multipart", "application/sdp": "sdp"}
_CALLS = {
    "self._get": "GET", "self._get_api_list": "GET", "self._post": "POST", "self._put": "PUT",
    "self._patch": "PATCH", "self._delete": "DELETE",
}  # fmt: skip
_BINARY = "HttpxBinaryResponseContent"


class Known(msgspec.Struct, frozen=True):
    """One operation as its source has it; empty or False for what it does not say.

    body: kinds of request body. model: whether the body's own member `model` is in its schema or signature.
    """

    path: str
    id: str = ""
    body: frozenset[str] = frozenset()
    model: bool = False
    stream: bool = False
    binary: bool = False
    admin: bool = False


def shape(method: str, path: str) -> str:
    return f"{method} {re.sub(r'{[^}]*}', '{}', path)}"


def described(version: str) -> dict[str, Known]:
    """The operations of an API description. Twins that differ in `?beta=true` alone are left out."""
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with (DESCRIPTIONS / f"openai-{version}.yaml").open() as file:
        document = yaml.load(file, Loader=loader)
    return {
        shape(method.upper(), path): _described(document, path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if "?" not in path
    }


def _described(document: Any, path: str, operation: Any) -> Known:
    content = _resolved(document, operation.get("requestBody", {})).get("content", {})
    answers = [_resolved(document, answer).get("content", {}) for answer in operation["responses"].values()]
    return Known(
        path=path,
        id=operation["operationId"],
        body=frozenset(_KINDS[kind] for kind in content),
        model=any("model" in _members(document, kind.get("schema", {})) for kind in content.values()),
        stream=any("text/event-stream" in answer for answer in answers),
    )


def _resolved(document: Any, value: Any) -> Any:
    while "$ref" in value:
        steps, value = value["$ref"].split("/")[1:], document
        for step in steps:
            value = value[step]
    return value


def _members(document: Any, schema: Any) -> set[str]:
    """The members of an object's schema and of all its variants."""
    schema = _resolved(document, schema)
    variants = [variant for key in ("allOf", "oneOf", "anyOf") for variant in schema.get(key, [])]
    return set(schema.get("properties", {})).union(*(_members(document, variant) for variant in variants))


def sdk_calls() -> dict[str, Known]:
    """Every call of the SDK's resources over HTTP; what several methods do, as `?beta=true` twins, is united."""
    calls: dict[str, Known] = {}
    for function in _functions():
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in _CALLS:
                key, known = _sdk_call(function, node)
                calls[key] = _united(calls.get(key, known), known)
    return calls


def sdk_sockets() -> frozenset[str]:
    """The paths of the SDK's WebSockets: each connection's `_prepare_url` appends its own to the base URL."""
    return frozenset(
        text
        for function in _functions()
        if function.name == "_prepare_url"
        for node in ast.walk(function)
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
        for text in [node.value if isinstance(node.value, str) else node.value.decode()]
        if len(text) > 1 and text.startswith("/")
    )


def _functions() -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for file in sorted((Path(openai.__file__).parent / "resources").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node


def _sdk_call(function: ast.FunctionDef | ast.AsyncFunctionDef, call: ast.Call) -> tuple[str, Known]:
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    method = ast.literal_eval(given["method"]).upper() if "method" in given else _CALLS[ast.unparse(call.func)]
    path = call.args[0]
    if isinstance(path, ast.Call):  # path_template("/files/{file_id}", file_id=file_id)
        path = path.args[0]
    template = str(ast.literal_eval(path)).partition("?")[0]
    kind = "multipart" if "files" in given else "json"
    parameters = [argument.arg for argument in function.args.args + function.args.kwonlyargs]
    return shape(method, template), Known(
        path=template,
        body=frozenset({kind} if "body" in given else ()) | frozenset({"sdp"} if "content" in given else ()),
        model="body" in given and "model" in parameters,
        stream="stream" in given,
        binary=_BINARY in given.get("cast_to", "") and "application/sdp" not in ast.unparse(function),
        admin="admin_api_key_auth" in given.get("options", ""),
    )


def _united(one: Known, other: Known) -> Known:
    return Known(
        path=one.path,
        body=one.body | other.body,
        model=one.model or other.model,
        stream=one.stream or other.stream,
        binary=one.binary or other.binary,
        admin=one.admin or other.admin,
    )
