"""What a request says of the tools that its answer used, and the answer does not.

OpenAI's usage API groups web searches by the context they were allowed, and file searches by vector store. Both are in
the request: in `tools` of a response, or in the path of a search by hand. A container that a request names is a session
of its own since it was made, and not once more in each response that uses it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from gateway.values import UsageLine

_WEB, _FILES, _SESSIONS = "web_search_calls", "file_search_calls", "code_interpreter_sessions"
_LEVELS = frozenset({"low", "medium", "high"})
_DEFAULT_LEVEL = "medium"  # package: types/responses/web_search_tool.py
_LONGEST_ID = 64


class ToolsAsked(msgspec.Struct, frozen=True):
    """context_level: of searches on the web; vector_store_id: of the store that files are searched in. Empty where the
    request does not tell, or names several stores. containers: that were there before."""

    context_level: str = ""
    vector_store_id: str = ""
    containers: frozenset[str] = frozenset()


class _Body(msgspec.Struct):
    tools: Any = None


_decode = msgspec.json.Decoder(_Body).decode


def of_tools(lines: Sequence[UsageLine]) -> bool:
    """Whether any of these depends on what the request says."""
    return any(line.category in {_WEB, _FILES, _SESSIONS} for line in lines)


def of_json(body: bytes | bytearray) -> ToolsAsked:
    """Nothing is raised."""
    try:
        tools = _decode(body).tools
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ToolsAsked()
    level, stores, containers = "", set[str](), set[str]()
    for tool in tools if isinstance(tools, list) else ():
        kind = tool.get("type") if isinstance(tool, dict) else None
        if not isinstance(kind, str):
            continue
        if kind.startswith("web_search") and not level:
            size = tool.get("search_context_size")
            level = size if isinstance(size, str) and size in _LEVELS else _DEFAULT_LEVEL
        elif kind == "file_search":
            ids = tool.get("vector_store_ids")
            stores.update(one for one in (ids if isinstance(ids, list) else ()) if isinstance(one, str))
        elif kind == "code_interpreter" and isinstance(container := tool.get("container"), str):
            containers.add(container)
    return ToolsAsked(level, _only(stores), frozenset(containers))


def of_path(path: str) -> ToolsAsked:
    """Of a search by hand: `/v1/vector_stores/{id}/search`."""
    _, _, below = path.partition("/vector_stores/")
    return ToolsAsked(vector_store_id=_only({below.partition("/")[0]}))


def completed(lines: Sequence[UsageLine], asked: ToolsAsked) -> Iterator[UsageLine]:
    """The lines, those of searches with where they looked, and without sessions that had begun before."""
    for line in lines:
        if line.category == _WEB:
            yield msgspec.structs.replace(line, context_level=asked.context_level)
        elif line.category == _FILES:
            yield msgspec.structs.replace(line, vector_store_id=asked.vector_store_id)
        elif line.category != _SESSIONS or line.object_id not in asked.containers:
            yield line


def _only(ids: set[str]) -> str:
    one = next(iter(ids)) if len(ids) == 1 else ""
    return one if len(one) <= _LONGEST_ID else ""
