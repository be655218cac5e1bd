"""House rules that no linter knows: size of files and functions, and no state in modules."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE = 400
MAX_FUNCTION = 60
CODE = (".py", ".lua", ".js", ".mjs")
# What a module may compute once and keep: values that nobody can change, or that are made to be shared.
FROZEN_CALLS = {
    "frozenset", "tuple", "MappingProxyType", "compile", "TypeVar", "ParamSpec", "NewType", "getLogger", "get_logger",
    "Decoder", "Encoder", "Path", "Struct", "namedtuple", "Secret", "encode", "join", "timedelta", "Limits",
}  # fmt: skip


def sources() -> Iterator[Path]:
    for folder in ("gateway", "tests", ".ci"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in CODE and "node_modules" not in path.parts and "__pycache__" not in path.parts:
                yield path


def functions_too_long(tree: ast.AST) -> Iterator[tuple[int, str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION:
                yield node.lineno, node.name, length


def called_name(call: ast.Call) -> str:
    target = call.func
    return target.attr if isinstance(target, ast.Attribute) else target.id if isinstance(target, ast.Name) else "?"


def mutable(value: ast.expr) -> bool:
    """Whether a module-level value can be changed later."""
    if isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp | ast.GeneratorExp):
        return True
    if isinstance(value, ast.Call):
        name = called_name(value)
        return name not in FROZEN_CALLS and not name[:1].isupper()
    return False


def module_state(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names, value = [ast.unparse(t) for t in node.targets], node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            names, value = [ast.unparse(node.target)], node.value
        else:
            continue
        if names != ["__all__"] and mutable(value):
            yield node.lineno, names[0]
    for inner in ast.walk(tree):
        if isinstance(inner, ast.Global):
            yield inner.lineno, f"global {', '.join(inner.names)}"


def main() -> int:
    complaints: list[str] = []
    for path in sources():
        text = path.read_text()
        name = path.relative_to(ROOT)
        lines = text.count("\n")
        if lines > MAX_FILE:
            complaints.append(f"{name}: {lines} lines; a file has at most {MAX_FILE}")
        if path.suffix != ".py":
            continue
        tree = ast.parse(text)
        for line, function, length in functions_too_long(tree):
            complaints.append(f"{name}:{line}: {function} has {length} lines; a function has at most {MAX_FUNCTION}")
        if name.parts[0] == "gateway":
            for line, variable in module_state(tree):
                complaints.append(f"{name}:{line}: {variable} is state in a module; pass it, or make it frozen")
    print("\n".join(complaints) or "sizes and module state: ok")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
