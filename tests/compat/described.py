"""Which operations the suites have to call: the operation table's rows, with the source that each stands under."""

import re
from importlib import resources

import msgspec

from gateway.operations.table import FILE, Operation, load_operations

OLDEST = "2.3.0"  # the API description whose 110 operations are the gateway's first duty
_HEAD = re.compile(r"# [^:]+: (2\.3\.0|2026-08|SDK 3\.54)")


class Described(msgspec.Struct, frozen=True):
    """One operation, and where it comes from: `2.3.0`, `2026-08` or `SDK 3.54`."""

    operation: Operation
    source: str


def described() -> list[Described]:
    """All rows, in the table's order."""
    rows = {operation.id: operation for operation in load_operations()}
    found: list[Described] = []
    source = ""
    text = resources.files("gateway.operations").joinpath(FILE).read_text(encoding="utf-8")
    for line in text.splitlines():
        if head := _HEAD.fullmatch(line):
            source = head[1]
        elif line and not line.startswith("#"):
            found.append(Described(rows[line.split()[2]], source))
    return found


def proxied(source: str = OLDEST) -> list[Operation]:
    """The operations of the data plane that a source brought."""
    return [one.operation for one in described() if one.source == source and one.operation.plane == "proxied"]


def administrative(*sources: str) -> list[Operation]:
    """The administrative operations that the sources brought; without a name those of all."""
    return [
        one.operation
        for one in described()
        if one.operation.plane == "admin" and (not sources or one.source in sources)
    ]
