"""Something for each argument that a method of the official client needs: for calls whose answer does not depend on it."""

import inspect
import re
from collections.abc import Mapping
from typing import Any

from tests.compat.methods import Method


def made_up(method: Method, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The arguments that a method cannot do without. known: what some of them have to be, by name."""
    parameters = inspect.signature(method.function).parameters
    needed = [name for name, one in parameters.items() if one.default is one.empty and name != "self"]
    found = {name: _value(name, str(parameters[name].annotation)) for name in needed}
    return found | {name: value for name, value in (known or {}).items() if name in needed}


def _value(name: str, kind: str) -> Any:
    if literal := re.search(r"Literal\['([\w.-]+)'", kind):
        return [literal[1]] if kind.startswith("List") else literal[1]
    if "NotificationChannel" in kind:
        return {"type": "email", "recipients": ["ops@example.com"]}
    if kind.startswith(("SequenceNotStr", "Iterable")):
        return ["one", "two"]
    if kind.startswith("Dict") or "Provider" in kind:
        return {"sub": "someone"}
    if kind == "FileTypes":
        return (f"{name}.bin", b"inside", "application/octet-stream")
    if re.search(r"Param$|_params\.", kind):
        return {"type": "one"}
    return 1_700_000_000 if kind == "int" else f"{name}_1"
